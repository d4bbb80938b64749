"""Sessions for the tests of late clients: what each client's terminal has got, as steps for oracles.py."""
import os
import select
import time

from driven import environment, prepare
from harness import Client, TIMEOUT, hello
from oracles import differences, text_of

ROWS, COLS = 24, 80
QUIET = 0.15  # nothing for so long: the program has drawn what it wanted to draw
LEFTOVERS = b'what the user did before\r\n' * 9 + b'$ attach somewhere'


class Screen:
    """A client that keeps what it gets: `steps`, bytes and sizes in order, `size` the one that it has."""

    def __init__(self, address, size=(ROWS, COLS), first=None, steps=()):
        self.size, self.steps, self.open, self.count = size, list(steps), True, 0
        self.client = Client(address, hello(*size) if first is None else first)
        self.began = time.monotonic()

    def fileno(self):
        return self.client.sock.fileno()

    def take(self):
        try:
            data = self.client.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b''
        self.open = bool(data)
        self.count += len(data)
        if self.steps and isinstance(self.steps[-1], bytes):
            self.steps[-1] += data
        else:
            self.steps.append(data)

    @property
    def got(self):
        return b''.join(step for step in self.steps if isinstance(step, bytes))

    def state(self, oracle, deep=True):
        return oracle.state(self.steps, self.size, deep=deep)

    def pulled(self, at, size):
        """What it would be like had its user made the window as large as `size` when it had got `at` bytes."""
        return Pulled([self.got[:at], size, self.got[at:]], self.size)

    def text(self, oracle):
        return '\n'.join(text_of(self.state(oracle, deep=False)['cells']))

    def send(self, data):
        self.client.send(data)

    def close(self):
        self.client.close()


class Pulled:
    """Steps, and the size of the terminal that they begin in."""

    def __init__(self, steps, size):
        self.steps, self.size = steps, size

    def state(self, oracle):
        return oracle.state(self.steps, self.size)


def take_ready(screens, seconds):
    """Takes what comes first to any of them, within so many seconds. Whether anything has."""
    ready = select.select([screen for screen in screens if screen.open], [], [], max(seconds, 0))[0]
    for screen in ready:
        screen.take()
    return bool(ready)


def read_quiet(screens, end, quiet=QUIET):
    """Takes what comes to any of them until nothing has come for `quiet` seconds, or it is `end`. Whether it is."""
    last = time.monotonic()
    while True:
        left = min(last + quiet, end) - time.monotonic()
        if take_ready(screens, left):
            last = time.monotonic()
        elif left <= 0:
            return time.monotonic() < end


class Session:
    """A shell under a shim with a client that is there from the first byte: `always`."""

    def __init__(
        self, pty, oracle, *options, flood=0, argv=('bash', '--norc', '--noprofile', '-i'), name='late', env=None):
        self.pty, self.oracle, home = pty, oracle, pty.path('home')
        if not os.path.exists(home):
            os.makedirs(home)
            prepare(home)
        start = f'cd {home}; ' + (f'seq {flood}; ' if flood else '') + 'exec "$0" "$@"'
        self.shim = pty.shim(
            '-w', '-s', f'{COLS}x{ROWS}', '-r', name + '.cast', *options, pty.path(name + '.sock'), 'sh', '-c', start,
            *argv, env={**environment(home), **(env or {})})
        self.late = []
        self.always = pty.keep(Screen(self.shim.address), lambda: self.always.close())
        self.quiet(lambda: self.always.count)

    def everyone(self):
        return [self.always, *self.late]

    def quiet(self, true=lambda: True, what='the output'):
        """Reads until `true()` holds and all is quiet."""
        end = time.monotonic() + TIMEOUT
        while not (read_quiet(self.everyone(), end) and true()):
            assert time.monotonic() < end, f'{what} did not come; the screen shows\n{self.always.text(self.oracle)}'

    def type(self, keys, awaited=None):
        """Types and waits until it is quiet, with `awaited` (text) on the screen if that is given."""
        seen = self.always.count
        self.always.send(keys)
        self.quiet(
            lambda: self.always.count > seen and (not awaited or awaited in self.always.text(self.oracle)),
            awaited or keys)

    def come(self, size=(ROWS, COLS), **options):
        late = Screen(self.shim.address, size, **options)
        late.always_had = self.always.count
        self.pty.keep(late, late.close)
        self.late.append(late)
        return late

    def leave(self, late):
        late.close()
        self.late.remove(late)

    def wrong(self, oracle, late, seconds=2.0, ignored=()):
        """What the late client's terminal shows differently, after `seconds` at most, as a list of sentences."""
        end = time.monotonic() + seconds
        while True:
            read_quiet(self.everyone(), end)
            same = self.always if late.size == self.always.size else self.always.pulled(late.always_had, late.size)
            found = differences(late.state(oracle), same.state(oracle), ('answers', 'scrolled', *ignored))
            if not found or time.monotonic() > end:
                return found
