"""Prints READY, and at each SIGWINCH the window size that the kernel has: (rows, cols, xpixels, ypixels)."""
import fcntl
import os
import signal
import struct
import termios


def tell(*_):
    os.write(1, str(struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))).encode())


signal.signal(signal.SIGWINCH, tell)
os.write(1, b'READY')
while True:
    signal.pause()
