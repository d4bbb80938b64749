#!/usr/bin/python3
"""make soak: one session for many minutes, with random clients, resizes, pastes, floods and stops.

    soak.py [MINUTES [SEED]]          10 minutes, a seed from the clock

One client is attached all the time and writes what it gets to a file. At the end the recording must hold exactly those
bytes, every other pipe that was there for a while must have got exactly its part of them, and the shim must have the
descriptors that it began with and no more memory than after the first tenth of the time. Then fifty clients of all kinds
come and go for up to a minute with a recording, without one, and with a full disk (lib/crowd.py). Ends with 0 and lines
of figures, or with 1 and what was wrong.
"""
import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
from common import NO_WINDOW
from crowd import crowd
from harness import ATTACH, RECORD, TIMEOUT, Client, Pty, goodbye, hello, wait_until
from told import MIB, Told, descriptors, resident

BUDGET = 150 * MIB         # bytes of output a minute, on average: the disk has to hold them thrice
GUESTS = 24                # clients at most, besides the one that stays


class Saver(threading.Thread):
    """Reads a client into a file, as fast as it can or with pauses, until it is told to stop or the end comes."""
    def __init__(self, client, path, pause=0.0):
        super().__init__(daemon=True)
        self.client, self.path, self.pause = client, path, pause
        self.size, self.leaving, self.tail = 0, False, b''
        self.client.sock.settimeout(0.2)
        self.start()

    def run(self):
        with open(self.path, 'wb') as file:
            self.keep(file, self.client.buffer)
            while not self.leaving:
                try:
                    data = self.client.sock.recv(1 << 18)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                self.keep(file, data)
                if self.pause:
                    select.select([], [], [], random.random() * self.pause)

    def keep(self, file, data):
        file.write(data)
        self.size += len(data)
        self.tail = (self.tail + data)[-5:]


class Guest:
    """A client that comes for a while; `start` is the place in the output from which on it must have every byte."""
    def __init__(self, soak, number):
        self.soak, self.path = soak, soak.pty.path(f'guest{number}')
        self.kind = soak.choose.choice(('raw', 'aware', 'half', 'slow', 'lazy', 'dead', 'viewer', 'attach'))
        self.process = self.saver = None
        if self.kind == 'attach':
            with open(self.path, 'wb') as out:
                self.process = soak.pty.background(ATTACH, '-r', soak.told.shim.address, stdout=out,
                                                   stderr=subprocess.DEVNULL)
            mark = soak.mark_seen(lambda mark: wait_until(lambda: mark in soak.file_bytes(self.path), 1))
            self.start = soak.told.written - len(mark)
            self.skip = soak.file_bytes(self.path).index(mark)
            return
        self.client = soak.pty.client(soak.told.shim.view if self.kind == 'viewer' else soak.told.shim.address,
                                      {'raw': b'', 'viewer': b'', 'aware': hello(24, 80)}.get(self.kind, NO_WINDOW))
        soak.mark_seen(lambda mark: self.client.read_until(mark, 1))
        self.start, self.skip = soak.told.written, 0
        if self.kind == 'half':
            self.client.half_close()
        if self.kind != 'dead':
            self.saver = Saver(self.client, self.path, {'slow': 0.005, 'lazy': 0.5}.get(self.kind, 0))

    def can_type(self):
        return self.kind in ('raw', 'aware', 'slow', 'lazy')

    def leave(self, how):
        """Goes; what it got must stand in the file of the client that stays, at its place."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(TIMEOUT)
        elif self.saver:
            self.saver.leaving = True
            self.saver.join(TIMEOUT)
            assert not self.saver.is_alive()
        if not self.process:
            if how == 'reset':
                self.client.reset()
            else:
                self.client.close()
        if os.path.exists(self.path) and self.kind not in ('raw', 'viewer', 'aware'):   # terminals may be painted
            self.soak.compare(self.path, self.skip, self.start)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Soak:
    """The session, the client that stays, the guests, and what happens to them."""
    def __init__(self, pty, seed):
        self.pty, self.choose = pty, random.Random(seed)
        self.told = Told(pty, '-H', 'none', '-v', pty.path('view'), pty.path('sock'))
        client = pty.client(self.told.shim.address, NO_WINDOW)
        self.typist = pty.client(self.told.shim.address, hello(24, 80))
        self.marks, self.guests, self.count, self.done = 0, [], 0, {}
        self.mark_seen(lambda mark: client.read_until(mark, 1))
        self.begin = self.told.written
        self.always, self.flooded = Saver(client, pty.path('always')), 0
        Saver(self.typist, '/dev/null')
        self.descriptors, self.memory = descriptors(self.told.shim.pid), None

    @staticmethod
    def file_bytes(path):
        with open(path, 'rb') as file:
            return file.read()

    def mark(self):
        """Something that the program prints and that does not come again."""
        self.marks += 1
        mark = b'<soak %d>\n' % self.marks
        self.told.tell('print', mark.hex())
        return mark

    def mark_seen(self, seen):
        """Prints marks until one has been seen: who has only just come may miss the first (--history none)."""
        for _ in range(TIMEOUT):
            mark = self.mark()
            try:
                seen(mark)
                return mark
            except AssertionError:
                pass
        raise AssertionError('a client sees nothing of the output')

    def caught_up(self):
        """Waits until the client that stays has all that has been printed."""
        wait_until(lambda: self.begin + self.always.size == self.told.written, TIMEOUT * 6, 'the last byte')

    def compare(self, path, skip, start):
        """Asserts that a guest's file is the output from `start` on."""
        self.caught_up()
        at = start - self.begin
        wait_until(lambda: os.path.getsize(self.pty.path('always')) >= self.always.size - (1 << 20), TIMEOUT)
        with open(path, 'rb') as guest, open(self.pty.path('always'), 'rb') as always:
            guest.seek(skip)
            always.seek(at)
            while True:
                data = guest.read(1 << 20)
                wanted = always.read(len(data))
                if data[:len(wanted)] != wanted:
                    raise AssertionError(f'{path}: other bytes than the output after {always.tell() - len(wanted)}')
                if not data or len(wanted) < len(data):
                    return

    # What may happen.

    def flood(self):
        size = int(2 ** self.choose.uniform(8, 25))
        self.flooded += size
        self.told.tell('flood', size)

    def binary(self):
        data = self.choose.randbytes(self.choose.randrange(1, 20000))
        data += ('ä€😀' * self.choose.randrange(1, 500)).encode()[self.choose.randrange(9):]
        self.told.tell('print', (data[:-self.choose.randrange(1, 4)] + b'\x1b[6n\x1b[?1049h\x1b[2J').hex())

    def paste(self):
        typists = [guest.client for guest in self.guests if guest.can_type()] + [self.typist]
        data = self.choose.randbytes(int(2 ** self.choose.uniform(1, 21))).replace(b'\xff', b'e')
        self.told.start('echo', len(data))
        writer = self.choose.choice(typists).sock.dup()
        writer.settimeout(TIMEOUT * 6)
        try:
            writer.sendall(data)
        finally:
            writer.close()
        assert self.told.answer() == 'done'

    def resize(self):
        aware = [guest.client for guest in self.guests if guest.kind == 'aware'] + [self.typist]
        self.choose.choice(aware).resize(self.choose.randrange(2, 60), self.choose.randrange(2, 200))

    def come(self):
        if len(self.guests) < GUESTS:
            self.count += 1
            self.guests.append(Guest(self, self.count))

    def go(self):
        if self.guests:
            guest = self.guests.pop(self.choose.randrange(len(self.guests)))
            guest.leave(self.choose.choice(('close', 'reset')))

    def rush(self):
        for _ in range(100):
            visitor = Client(self.told.shim.address, self.choose.choice((b'', hello(9, 9))))
            if self.choose.random() < 0.5:
                visitor.reset()
            visitor.close()

    def pause(self):
        os.kill(self.told.shim.pid, signal.SIGSTOP)
        select.select([], [], [], self.choose.random() / 5)
        os.kill(self.told.shim.pid, signal.SIGCONT)

    def marker(self):
        os.kill(self.told.shim.pid, signal.SIGUSR1)

    def idle(self):
        select.select([], [], [], self.choose.random())

    def run(self, minutes):
        end, began = time.monotonic() + minutes * 60, time.monotonic()
        actions = [self.flood] * 4 + [self.binary] * 4 + [self.paste] * 2 + [self.resize] * 3 + [self.come] * 4 + \
            [self.go] * 3 + [self.rush, self.pause, self.marker]
        while time.monotonic() < end:
            minutes_gone = (time.monotonic() - began) / 60
            action = self.choose.choice(actions)
            if action == self.flood and self.told.written > BUDGET * (minutes_gone + 0.1):
                action = self.idle
            action()
            self.told.printed.clear()
            if self.memory is None and minutes_gone > minutes / 10:      # the ring is full by now, buffers have grown
                self.memory = resident(self.told.shim.pid)
            self.done[action.__name__] = self.done.get(action.__name__, 0) + 1

    def finish(self):
        """The end of the session; gives the line of figures."""
        shim = self.told.shim
        for guest in list(self.guests):
            guest.leave('close')
        self.caught_up()
        self.caught_up()
        Client(shim.address).close()         # those who half-closed and left in silence are noticed when somebody comes
        wait_until(lambda: descriptors(shim.pid) <= self.descriptors + 1, TIMEOUT * 2, 'the descriptors of the beginning')
        grown = resident(shim.pid) - self.memory
        written = self.told.written
        self.told.start('exit', 3)
        self.always.join(TIMEOUT * 3)
        assert not self.always.is_alive() and self.always.tail == goodbye(3), self.always.tail
        shim.wait_gone()
        with open(self.pty.path('cat'), 'wb') as out:
            done = subprocess.run([RECORD, 'cat', '--from', str(self.begin), shim.recording], stdout=out, check=False)
        assert done.returncode == 0
        with open(self.pty.path('always'), 'r+b') as file:
            file.truncate(os.path.getsize(self.pty.path('always')) - 5)
        assert subprocess.run(['cmp', self.pty.path('cat'), self.pty.path('always')], check=False).returncode == 0
        assert os.path.getsize(self.pty.path('always')) == written - self.begin
        assert grown < MIB, f'the shim has grown by {grown} bytes'
        return (f'{written / MIB:.0f} MiB of output, {self.count} guests, memory +{grown >> 10} KiB; ' +
                ', '.join(f'{count} {name}' for name, count in sorted(self.done.items())))


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    folder = tempfile.mkdtemp(prefix='soak')
    pty = Pty(folder)
    print(f'soak: {minutes:g} minutes, seed {seed}', flush=True)
    try:
        soak = Soak(pty, seed)
        soak.run(minutes)
        print('soak: the recording equals what was seen;', soak.finish())
        for recording in ('recorded', 'not recorded', *(['full disk'] if os.geteuid() == 0 else [])):
            os.mkdir(pty.path(recording))
            here = Pty(pty.path(recording))
            pty.keep(here, here.end)
            print('soak:', crowd(here, recording, min(minutes, 1) * 60, seed), flush=True)
    finally:
        pty.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
