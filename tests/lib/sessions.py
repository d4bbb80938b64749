"""Sessions for the tests of issue 5: nine screen programs, how to drive them, and clients that see a screen."""
import os
import select
import time

from harness import Client, TIMEOUT, hello
from screens import Model

ROWS, COLS = 24, 80
OTHER_ROWS, OTHER_COLS = 30, 100
BUDGET = 0.3 * TIMEOUT / 10         # issue 5: a late client's screen is right within 300 ms
QUIET = 0.06                        # nothing for so long: the program has drawn what it wanted to draw
class Watcher:
    """A socket with a screen behind it; one that is not `aware` says nothing of its size (as nc does). A `lazy` one
    draws what came when somebody looks."""
    def __init__(self, address, size=(ROWS, COLS), aware=True, reply=None, lazy=False):
        self.drawn, self.got, self.pending, self.open = Model(*size, reply=reply), b'', [], True
        self.lazy, self.undrawn = lazy, b''
        self.mirrors = []               # models that are fed what comes from now on
        self.client = Client(address, hello(*size) if aware else b'')
        self.began = time.monotonic()

    def fileno(self):
        return self.client.sock.fileno()

    def take(self):
        data = self.client.sock.recv(1 << 20)
        self.open = bool(data)
        self.pending.append(data)

    def draw(self):
        data, self.pending = b''.join(self.pending), []
        self.got += data
        self.undrawn += data
        if not self.lazy:
            self.look()

    def look(self):
        data, self.undrawn = self.undrawn, b''
        for model in [self.drawn, *self.mirrors]:
            model.feed(data)
        return self.drawn

    @property
    def model(self):
        return self.look() if self.undrawn else self.drawn

    def read_until(self, true, what='the output'):
        """Takes and draws until `true()` holds, whether more is coming or not."""
        end = time.monotonic() + TIMEOUT
        while not true():
            left = end - time.monotonic()
            assert left > 0 and select.select([self], [], [], left)[0] and self.open, \
                f'{what} did not come; the last bytes are {self.got[-200:]!r}'
            self.take()
            self.draw()

    def send(self, data):
        self.client.send(data)

    def close(self):
        self.client.close()


def read_quiet(watchers, end, quiet=QUIET):
    """Takes what comes to any of them until nothing has come for `quiet` seconds or it is `end`; draws it then.
    Gives back whether it became quiet."""
    last = time.monotonic()
    while True:
        left = min(last + quiet, end) - time.monotonic()
        ready = select.select([w for w in watchers if w.open], [], [], max(left, 0))[0]
        for watcher in ready:
            watcher.take()
        if ready:
            last = time.monotonic()
        if not ready and left <= 0 or time.monotonic() > end:
            break
    for watcher in watchers:
        watcher.draw()
    return time.monotonic() < end


def wait_for(watchers, true, what):
    """Reads until `true()` holds and everything is quiet."""
    end = time.monotonic() + TIMEOUT
    while True:
        quiet = read_quiet(watchers, end)
        if true() and quiet:
            return
        assert time.monotonic() < end, f'{what} did not come; the first sees\n{watchers[0].model.screen.text()}'


class Session:
    """A screen program under a shim, with two clients that were always there: one of each size."""
    def __init__(self, pty, name, argv, *options, flood=0):
        self.pty, home = pty, pty.path('home')
        os.makedirs(home, exist_ok=True)
        with open(os.path.join(home, 'text'), 'w', encoding='ascii') as f:
            f.writelines(f'line {i} of a text file, with some words\n' for i in range(1, 1001))
        env = {'PATH': os.environ['PATH'], 'HOME': home, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8', 'PS1': '$ ',
               'SHELL': '/bin/sh', 'MANROFFOPT': '', 'LESSHISTFILE': '-'}
        wait = 'while read line; do [ "$line" = go ] && break; echo READY $line; done; '
        start = wait + f'cd {home}; ' + (f'seq {flood}; ' if flood else '') + 'exec "$0" "$@"'
        self.shim = pty.shim(*options, '-s', f'{COLS}x{ROWS}', '-r', name + '.cast', pty.path(name + '.sock'),
                             'sh', '-c', start, *argv, env=env)
        self.always = self.come()
        self.wide = self.come((OTHER_ROWS, OTHER_COLS), aware=False, lazy=True)
        self.reference = [self.always, self.wide]
        for number, one in enumerate(self.reference):       # whoever sees the answer to its own line is attached
            one.send(f'{number}\r'.encode())
            wait_for([one], lambda one=one, number=number: f'READY {number}' in one.model.screen.text(), 'READY')
        self.always.send(b'go\r')

    def come(self, size=(ROWS, COLS), aware=True, lazy=False):
        watcher = Watcher(self.shim.address, size, aware, lazy=lazy)
        return self.pty.keep(watcher, watcher.close)

    def drive(self, keys, awaited):
        """Types, and waits until `awaited` is on the screen of the client that was always there, and quiet is."""
        seen = len(self.always.got)
        if keys:
            self.always.send(keys)
        wait_for(self.reference, lambda: len(self.always.got) > seen and awaited in self.always.model.screen.text(),
                 repr(awaited))


# name: (argv, [(state, keys, text to wait for), ...]); the first state is what the program shows at its start
PROGRAMS = {
    'bash': (['bash', '--norc', '--noprofile', '-i'], [
        ('prompt', b'', '$'),
        ('mid-edit', b'seq 30\recho half typed \xe4\xb8\xad\xe6\x96\x87 text\x1bOD\x1bOD', 'half typed'),
        ('wrapped edit', b'\x05' + b' and more words' * 6, 'and more words and'),
        ('search', b'\x15\x12seq', 'reverse-i-search'),
        ('cleared', b'\x07\x15clear; echo new\r', 'new')]),
    'vim.tiny': (['vim.tiny', '-u', 'NONE', '--cmd', 'set mouse=a nocp', 'text'], [
        ('start', b'', 'line 20 of'),
        ('insert mode', b'100Gohello \xc3\xa4\xc3\xb6\xc3\xbc', 'hello äöü'),
        ('scrolled', b'\x1b500Gzt', 'line 520 of'),
        ('command line', b':set list\r:%s/half typed', ':%s/half typed')]),
    'less': (['less', '-i', 'text'], [
        ('start', b'', 'line 20 of'),
        ('scrolled', b'100g\x1bOB', 'line 110 of'),
        ('search', b'/words\r', 'line 110 of'),
        ('half a search', b'/some', '/some')]),
    'top': (['top', '-d', '100'], [
        ('start', b'', 'PID'),
        ('dialog', b'f', 'Fields Management'),
        ('colours', b'qz', 'PID')]),
    'htop': (['htop', '-d', '100'], [
        ('start', b'', 'F10'),
        ('tree', b't', 'F10'),
        ('dialog', b'\x1bOS' + b'abc', 'Filter: abc')]),
    'nano': (['nano', '-m', 'text'], [
        ('start', b'', 'line 10 of'),
        ('mid-edit', b'hello \xc3\xa4', 'hello ä'),
        ('scrolled', b'\x1b/', 'line 1000 of'),
        ('dialog', b'\x17some', 'Search: some')]),
    'mc': (['mc', '-u', '-x', '.', '/usr/share/man/man1'], [
        ('start', b'', 'UP--DIR'),
        ('menu', b'\x1b9\r', 'File listing'),
        ('dialog', b'\x1b\x1b\x1b7newdir', 'newdir'),
        ('scrolled', b'\x1b\x1b\t\x1b[6~\x1b[6~', 'UP--DIR')]),
    'man': (['man', 'ls'], [
        ('start', b'', 'list directory contents'),
        ('scrolled', b' ', 'line 24 '),
        ('search', b'/color\r', 'color')]),
    'dialog': (['sh', '-c', 'dialog --menu pick 15 40 5 1 one 2 two 3 three; dialog --inputbox name 10 40; '
                'dialog --textbox text 20 70'], [
        ('start', b'', 'three'),
        ('moved', b'\x1bOB', 'three'),
        ('input', b'\r', 'name'),
        ('mid-edit', b'abc', 'abc'),
        ('text box', b'\r', 'line 10 of'),
        ('scrolled', b'\x1b[6~\x1b[6~', 'line 40 of')])}
