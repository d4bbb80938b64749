#!/usr/bin/python3
"""make soak: fifty clients of all kinds come and go for many minutes, with a recording, without one, with a full disk.

    soak.py [MINUTES [SEED]]          10 minutes, a seed from the clock

A minute each by turns (lib/crowd.py): every pipe must have got exactly its part of the output, every terminal shows the
same, the recording holds every byte, and the shim has the descriptors that it began with. Ends with 0 and lines of figures,
or with 1 and what was wrong.
"""
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
from crowd import crowd
from harness import Pty


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    recordings = ['recorded', 'not recorded', *(['full disk'] if os.geteuid() == 0 else [])]
    print(f'soak: {minutes:g} minutes, seed {seed}', flush=True)
    end, turn = time.monotonic() + minutes * 60, 0
    while (left := end - time.monotonic()) > 0 or turn < len(recordings):
        folder = tempfile.mkdtemp(prefix='soak')
        pty = Pty(folder)
        try:
            print('soak:', crowd(pty, recordings[turn % len(recordings)], max(5, min(left, 60)), seed + turn), flush=True)
        finally:
            pty.end()
            shutil.rmtree(folder, ignore_errors=True)
        turn += 1


if __name__ == '__main__':
    main()
