"""Measures how fast `record` reads: tests/bench/record_speed.py [MEGABYTES]. A script to run, not a test.

Makes a recording of that size (200 MB) of what sessions print (text, colours, wide characters; a second one with
bytes that are no UTF-8), and prints MB of recording a second of processor time, the best of three, for every command,
beside cat(1) and beside the least that any reader must do (tests/programs/scan.cpp). Issue 4 wants 300 MB/s of
`cat` and `convert -t raw`, or 80 % of that least.
"""
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from harness import BUILD, RECORD, ROOT
from record_tools import V2, output

COMMANDS = [['cat'], ['convert', '-t', 'raw'], ['convert', '-t', 'v2'], ['convert', '-t', 'v3'],
            ['convert', '-t', 'ttyrec'],
            ['convert', '-t', 'txt'], ['info'], ['play', '-s', '1000']]


def make(path, megabytes, bad_bytes):
    """A recording of so many megabytes: blocks of lines as a shell, a compiler and an editor print them."""
    dice, lines = random.Random(1), []
    for _ in range(400):
        text = b''.join(dice.choice([b'make[1]: Entering directory\r\n', b'\x1b[1;32m  OK \x1b[0m',
                                     b'drwxr-xr-x 2 root root 4096\r\n',
                                     'caf\u00e9 \u4f60\u597d '.encode(), b'-rw-r--r-- 1 user user 1234 file.txt\r\n',
                                     b'"quoted" \\ back\t'])
                        for _ in range(dice.randint(1, 200)))
        lines.append(output(0, text + b'\xff' if bad_bytes else text).replace('[0.000000', '[\0').encode())
    block, size, now = b''.join(lines), 0, 0.0
    with open(path, 'wb') as f:
        f.write(V2.encode())
        while size < megabytes * 1000000:
            now += 0.001
            size += f.write(block.replace(b'\0', b'%.6f' % now))
    return size


def speed(argv, size):
    """Bytes of recording a second of processor time (so that other programs do not count), the best of three runs."""
    best = 1e9
    for _ in range(3):
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as run:
            _, status, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
        assert run.returncode == 0, (argv, run.returncode)
        best = min(best, used.ru_utime + used.ru_stime)
    return size / best


def main():
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    scan = os.path.join(BUILD, 'scan')
    source = os.path.join(ROOT, 'tests', 'programs', 'scan.cpp')
    subprocess.run([os.environ.get('CXX', 'c++'), '-std=c++20', '-O2', '-o', scan, source], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, bad_bytes in (('text', False), ('text and bytes that are no UTF-8', True)):
            path = os.path.join(folder, 'x.cast')
            size = make(path, megabytes, bad_bytes)
            print(f'{name}: {size / 1e6:.0f} MB')
            for argv in [['cat', path], [scan, path], *([RECORD, *command, path] for command in COMMANDS)]:
                shown = ' '.join([os.path.basename(argv[0]), *argv[1:-1]])
                print(f'  {shown:26} {speed(argv, size) / 1e6:7.0f} MB/s', flush=True)


main()
