"""The test's side of programs/listener.py: a session whose program logs all input and all sizes."""
import os

from common import program
from harness import wait_until


class Listener:
    def __init__(self, pty, *options, address=None):
        self.log, self.fifo = pty.path('log'), pty.path('fifo')
        os.mkfifo(self.fifo)
        self.shim = pty.shim(*options, '-s', '80x24', '-r', 'listener.cast', address or pty.path('listener.sock'),
                             *program('listener.py', self.log, self.fifo))
        wait_until(lambda: os.path.exists(self.log) and self.events(), what='the program')
        self.pipe = os.open(self.fifo, os.O_WRONLY)
        pty.keep(self, lambda: os.close(self.pipe))

    def print(self, data):
        while data:                                 # (the program gives its terminal what one read of the FIFO gave)
            data = data[os.write(self.pipe, data):]

    def end(self):
        """Ends the program with status 0."""
        os.write(self.pipe, b'\xff')

    def events(self):
        with open(self.log, 'rb') as f:
            return f.read().decode('ascii').splitlines()

    def input(self):
        """Every byte that the program has read so far."""
        return bytes.fromhex(''.join(e.split()[1] for e in self.events() if e.startswith('input')))

    def sizes(self):
        """Every size that the program was told, in order: ['24x80', ...]."""
        return [e.split()[1] for e in self.events() if e.startswith('size')]
