"""The test's side of programs/listener.py: a session whose program logs all input and all sizes."""
import os
import select

from common import program
from harness import wait_until
from sessions import Watcher


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

    def watch(self, pty, aware=False, size=(24, 80), reply=None):
        """A client with a screen: raw, unless `aware`."""
        watcher = Watcher(self.shim.address, size, aware, reply)
        return pty.keep(watcher, watcher.close)


def listen(pty, *options):
    """A session, and a raw client that was always there and answers nothing. (The history tells it READY; where the
    session has none, something is printed until it sees that.)"""
    listener = Listener(pty, *options)
    always = listener.watch(pty)
    while b'READY' not in always.got:
        if select.select([always], [], [], 0.2)[0]:
            always.take()
            always.draw()
        else:
            listener.print(b'READY')
    return listener, always
