"""Logs every byte that it reads and every window size that it is told, and prints what comes through a FIFO.

listener.py LOG FIFO: prints READY when the terminal is raw; the log has one line an event: `input HEX`,
`size ROWSxCOLS` (at the start and at each SIGWINCH). The program ends with status 0 when the FIFO is closed for good
after a byte 0xFF came through it.
"""
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty


def size():
    rows, cols = struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, b'\0' * 8))[:2]
    return f'size {rows}x{cols}\n'.encode()


def main():
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)                      # one byte a signal: none is lost while another is looked at
    signal.signal(signal.SIGWINCH, lambda *_: None)
    tty.setraw(0)
    fifo = os.open(sys.argv[2], os.O_RDWR)
    os.write(1, b'READY')
    os.write(log, size())
    while True:
        ready = select.select([0, told, fifo], [], [])[0]
        if told in ready:
            for _ in os.read(told, 100):
                os.write(log, size())
        if 0 in ready:
            os.write(log, b'input ' + os.read(0, 4096).hex().encode() + b'\n')
        if fifo in ready:
            data = os.read(fifo, 65536)
            while data and data[:1] != b'\xff':
                data = data[os.write(1, data):]
            if data:
                sys.exit(0)


main()
