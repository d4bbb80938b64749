"""Grows a recording as a shim does: holds a POSIX record lock on FILE and appends what it is told to.

    writer.py FILE [no-lock]

With `no-lock` as another program does. Prints READY once the file is open and the lock held. Standard input: a length in decimal, a newline, so many bytes to append; each is
answered by WRITTEN. At the end of its input it leaves, and the kernel drops the lock (fcntl(2)).
"""
import fcntl
import os
import sys


def main():
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    if sys.argv[2:] != ['no-lock']:
        fcntl.lockf(fd, fcntl.LOCK_EX)
    print('READY', flush=True)
    while True:
        length = sys.stdin.buffer.readline()
        if not length:
            return
        os.write(fd, sys.stdin.buffer.read(int(length)))
        print('WRITTEN', flush=True)


main()
