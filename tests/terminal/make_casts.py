#!/usr/bin/env python3
"""Records the programs of the differential tests: make_casts.py FOLDER [NAME...]

Each runs on a pseudoterminal of 80x24, is typed to and resized, and what it prints becomes FOLDER/NAME.cast (asciicast
v2 as section 4 of the contract has it). What it asks its terminal is answered as xterm would. The tests use the
recordings in tests/casts/terminal, which this script made; they are made anew only to add to them."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from driven import PROGRAMS, environment, prepare
from record_tools import event, header, output

QUIET, LONGEST = 0.25, 5.0
ANSWERS = (
    (rb'\x1b\[0?c', b'\x1b[?62;22c'), (rb'\x1b\[>0?c', b'\x1b[>41;370;0c'), (rb'\x1b\[6n', b'\x1b[1;1R'),
    (rb'\x1b\[5n', b'\x1b[0n'), (rb'\x1b\](1[01]);\?(?:\x07|\x1b\\)', b'\x1b]%s;rgb:1212/3434/5656\x1b\\'),
    (rb'\x1b\[\?(\d+)\$p', b'\x1b[?%s;2$y'))


def record(folder, name):
    argv, steps = PROGRAMS[name]
    with tempfile.TemporaryDirectory(prefix='casts-') as home:
        prepare(home)
        env = environment(home)
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(home)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
            os.execvpe(argv[0], argv, env)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
        began, lines = time.monotonic(), [header(2, 80, 24)]
        for step in [b'', *steps]:
            if isinstance(step, tuple):
                fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('4H', *step, 0, 0))
                lines.append(event(time.monotonic() - began, 'r', '%dx%d' % step[::-1]))
            else:
                os.write(fd, step)
            if not read(fd, began, lines):
                break
        else:
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGKILL)
            print(f'{name}: does not end by itself', file=sys.stderr)
        os.close(fd)
        os.waitpid(pid, 0)
    with open(os.path.join(folder, name + '.cast'), 'w', encoding='utf-8') as f:
        f.writelines(lines)


def read(fd, began, lines):
    """Takes what the program prints until it is quiet; False when it has ended."""
    end, kept = time.monotonic() + LONGEST, b''
    while time.monotonic() < end and select.select([fd], [], [], QUIET if lines[1:] else 1.5)[0]:
        try:
            data = os.read(fd, 4096)
        except OSError:
            data = b''
        if not data:
            return False
        for question, answer in ANSWERS:
            for found in re.finditer(question, data):
                os.write(fd, answer % found.groups() if found.groups() else answer)
        data, kept = kept + data, b''
        cut = re.search(rb'(?:[\xc0-\xff]|[\xe0-\xff][\x80-\xbf]|[\xf0-\xff][\x80-\xbf]{2})$', data)
        if cut:  # half a character waits for its other half
            data, kept = data[: cut.start()], cut[0]
        data = data.replace(b'\x1b[?40h', b'')  # what lets vttest make the window 132 columns wide
        if data:
            lines.append(output(time.monotonic() - began, data))
    return True


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    for name in sys.argv[2:] or PROGRAMS:
        record(sys.argv[1], name)
        print(name, os.path.getsize(os.path.join(sys.argv[1], name + '.cast')), flush=True)


main()
