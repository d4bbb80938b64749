"""Fifty clients of all kinds that come and go at random beside a flood: for test_past.py some seconds, for `make soak` a
minute each, with a recording, without one, and with a disk that is full for a while."""
import base64
import json
import os
import random
import select
import time

from common import NO_WINDOW
from harness import RECORD, TIMEOUT, alive, goodbye, hello
from told import MIB, Told, descriptors, helpers, pattern, same, small_disk, until_calm

COUNT, MOST = 50, 160 * MIB         # clients at a time; bytes of output
AGAIN, RESET = b'\x18\x1b\\', b'\x1bc'
HELLO = hello(24, 80)
PIPES = {'pipe': NO_WINDOW, 'slow pipe': NO_WINDOW}
TERMINALS = {'window': HELLO, 'slow window': HELLO, 'nc': b'', 'slow nc': b'', 'watcher': hello(0, 0, 1),
             'slow watcher': hello(0, 0, 1), 'viewer': b'', 'half': HELLO, 'late': b''}
OTHERS = {'dead': HELLO, 'dead pipe': NO_WINDOW, 'push': hello(0, 0, 2) + b'typed\n', 'teller': hello(0, 0, 4)}
KINDS = {**PIPES, **TERMINALS, **OTHERS}
STATES = (b'\x1b[?1049h', b'\x1b[4;20r\x1b[20;1H', b'\x1b[1;44m', b'\x1b[?25l', b'\x1b[5;5Hdrawn\x1b[24;1H', b'\x1b(0')


class Visitor:
    """`data` is all that a pipe has got; of a terminal's, what its screen depends on."""
    def __init__(self, pty, shim, kind, stays):
        self.client = pty.client(shim.view if kind == 'viewer' else shim.address, KINDS[kind])
        self.sock, self.kind, self.stays, self.ended = self.client.sock, kind, stays, False
        self.hurries = False     # at the end a slow one takes what it has missed, however much
        self.data, self.due, self.hello_due = bytearray(), 0.0, time.monotonic() + 0.4
        if kind in ('half', 'push'):
            self.client.half_close()

    def wants(self, now):
        return not self.ended and not self.kind.startswith('dead') and now >= self.due

    def take(self, now):
        try:
            got = self.sock.recv(1 << 16 if self.kind.startswith('slow') else 1 << 18)
        except ConnectionResetError:
            got = b''
        self.ended = not got
        self.data += got
        if self.kind.startswith('slow'):
            self.due = now + 0.05 * (not self.hurries)
        if self.kind in TERMINALS:
            del self.data[:max(self.data.rfind(RESET), self.data.rfind(AGAIN), 0)]


class Crowd:
    def __init__(self, pty, options, seed):
        self.pty, self.dice, self.here, self.waiting, self.whole = pty, random.Random(seed), [], 0, bytearray()
        self.told = Told(pty, *options, '-v', pty.path('view'), pty.path('sock'))
        self.lossy, self.count = '-n' in options, 0
        self.pipe, self.window = self.come('pipe', 1e9), self.come('window', 1e9)
        self.told.meet_clients(self.pipe.client, self.window.client)
        self.before = descriptors(self.told.shim.pid)

    def come(self, kind, stays):
        self.here.append(Visitor(self.pty, self.told.shim, kind, time.monotonic() + stays))
        self.count += 1
        return self.here[-1]

    def start(self, word, data):
        self.whole += data if word == 'print' else pattern(data, self.told.flooded)
        self.told.flooded += 0 if word == 'print' else data
        self.told.start(word, data.hex() if word == 'print' else data)
        self.waiting += 1

    def turn(self):
        """Reads what there is, of everybody who wants some."""
        now = time.monotonic()
        wanting = {v.sock: v for v in self.here if v.wants(now)}
        for sock in select.select([*wanting, *([self.told.control] if self.waiting else [])], [], [], 0.02)[0]:
            if sock is self.told.control:
                self.waiting -= sock.recv(4096).count(b'\n')       # each line is an answer
            else:
                visitor = wanting[sock]
                visitor.take(now)
                assert not visitor.ended or visitor.kind in OTHERS or visitor.kind in PIPES and self.lossy \
                    or visitor.data.endswith(goodbye(3)), f'{visitor.kind}: closed'
        for late in self.here:
            if late.kind == 'late' and now > late.hello_due:
                late.client.send(HELLO)
                late.hello_due = now + 1e9

    def until(self, true, what):
        end = time.monotonic() + TIMEOUT * 6
        while not true():
            assert time.monotonic() < end, what()
            self.turn()

    def leave(self, visitor):
        self.here.remove(visitor)
        data = bytes(visitor.data)
        if visitor.kind in PIPES:
            self.check_pipe(visitor.kind, data)
        if visitor.ended and visitor.kind in ('push', 'teller'):
            assert data[:4] == {'push': b'\xff\xffok', 'teller': b'\xff\xfftt'}[visitor.kind], data
        (visitor.client.close if self.dice.random() < 0.5 else visitor.client.reset)()

    def screen(self, data):
        with open(self.pty.path('seen.cast'), 'w', encoding='ascii') as file:
            file.write('{"version": 2, "width": 80, "height": 24}\n')
            file.write(json.dumps([0, 'b', base64.b64encode(data).decode()]) + '\n[0, "o", ""]\n')
        run = self.pty.run(RECORD, 'screen', '-e', 'seen.cast', text=False)
        assert run.returncode == 0
        return run.stdout

    def check_pipe(self, kind, data):
        at = self.whole.find(data[:10_000])
        assert at >= 0, f'{kind}: begins with what was never printed: {data[:100]!r}'
        same(data, bytes(self.whole[at:at + len(data)]))

    def chunk(self, size):
        self.start('print', RESET + b''.join(self.dice.sample(STATES, 2)))
        self.start('flood', size)

    def stay(self, seconds, halfway=lambda: None):
        end = time.monotonic() + seconds
        self.whole += self.told.output()
        while (now := time.monotonic()) < end:
            if not self.waiting and len(self.whole) < MOST:
                self.chunk(self.dice.randrange(8 * MIB))
            if halfway and now > end - seconds / 2:
                halfway = halfway()
            if len(self.here) < COUNT:
                self.come(self.dice.choice(list(KINDS)), self.dice.expovariate(1))
            for visitor in [v for v in self.here if now > v.stays or v.ended]:
                self.leave(visitor)
            self.turn()

    def finish(self):
        """Everybody who is here sees the end, and the same."""
        self.until(lambda: not self.waiting, lambda: 'the flood does not end')
        self.chunk(3 * MIB // 2)
        for visitor in self.here:
            visitor.hurries = True
        for last in (b'\x1b(B\r\n<end>', b'\r\nlive'):
            self.start('print', last)
            self.until(lambda last=last: not [v for v in self.here if v.kind not in OTHERS and not v.ended
                                              and last[-4:] not in v.data[-9000:]],
                       lambda last=last: f'{last}: not seen by ' + str([(v.kind, bytes(v.data[-60:])) for v in self.here
                                                                       if last[-4:] not in v.data[-9000:]]))
        # As the model shows it: terminals differ about a wrap that is pending at a line feed, of which a flood has many.
        wanted = self.screen(self.window.data)
        for visitor in self.here:
            if visitor.kind in TERMINALS:
                same(self.screen(visitor.data), wanted)
        for visitor in [v for v in self.here if v not in (self.pipe, self.window)]:
            self.leave(visitor)
        shim, program = self.told.shim, self.told.shim.program()
        self.leave(self.come('pipe', 0))    # who half-closed and left in silence is noticed when somebody comes
        until_calm(lambda: descriptors(shim.pid) <= self.before + 1, 'the descriptors before, and a tail')
        helper = helpers(shim, program)
        assert len(helper) <= 1
        self.told.start('exit', 3)
        last = self.window if self.lossy else self.pipe    # a pipe may have lost bytes, and so its connection
        self.until(lambda: last.data.endswith(goodbye(3)), lambda: 'no goodbye')
        if not self.lossy:
            self.check_pipe('pipe', bytes(self.pipe.data[:-5]))
        shim.wait_gone(TIMEOUT * 3)
        until_calm(lambda: not [pid for pid in helper if alive(pid)], 'the end of the helper')


def crowd(pty, recording, seconds, seed):
    """Gives a line of figures."""
    options, halfway = {'recorded': ['-rcast'], 'not recorded': ['-n']}.get(recording), lambda: None
    if recording == 'full disk':
        disk = small_disk(pty, MOST * 2)
        filler = os.path.join(disk, 'filler')
        with open(filler, 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, MOST * 2 - 16 * MIB)
        options, halfway = ['-r', os.path.join(disk, 'cast')], lambda: os.unlink(filler)
    here = Crowd(pty, options, seed)
    here.lossy |= recording == 'full disk'
    here.stay(seconds, halfway)
    here.finish()
    return f'{recording}: {len(here.whole) // MIB} MiB, {here.count} clients'
