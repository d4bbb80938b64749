"""Eight screen programs, how to drive them, and clients that see a screen."""
import os
import select
import time

from harness import Client, TIMEOUT, hello
from screens import Model

ROWS, COLS = 24, 80
QUIET = 0.06                        # nothing for so long: the program has drawn what it wanted to draw


class Watcher:
    """A socket with a screen behind it; one that is not `aware` says nothing of its size (as nc does)."""
    def __init__(self, address, size=(ROWS, COLS), aware=True, reply=None):
        self.model, self.got, self.pending, self.open = Model(*size, reply=reply), b'', [], True
        self.client = Client(address, hello(*size) if aware else b'')

    def fileno(self):
        return self.client.sock.fileno()

    def take(self):
        data = self.client.sock.recv(1 << 20)
        self.open = bool(data)
        self.pending.append(data)

    def draw(self):
        data, self.pending = b''.join(self.pending), []
        self.got += data
        self.model.feed(data)

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
    """A screen program under a shim, with a client that was always there."""
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
        self.always = pty.keep(Watcher(self.shim.address), lambda: self.always.close())
        self.always.send(b'0\r')               # whoever sees the answer to its own line is attached
        wait_for([self.always], lambda: 'READY 0' in self.always.model.screen.text(), 'READY')
        self.always.send(b'go\r')

    def drive(self, keys, awaited):
        """Types, and waits until `awaited` is on the screen of the client that was always there, and quiet is."""
        seen = len(self.always.got)
        if keys:
            self.always.send(keys)
        wait_for([self.always], lambda: len(self.always.got) > seen and awaited in self.always.model.screen.text(),
                 repr(awaited))


# name: (argv, what is typed, and the text to wait for each time; first what the program shows at its start)
PROGRAMS = {
    'bash': (['bash', '--norc', '--noprofile', '-i'], [
        (b'', '$'), (b'seq 30\recho half typed \xe4\xb8\xad\xe6\x96\x87 text\x1bOD\x1bOD', 'half typed')]),
    'vim.tiny': (['vim.tiny', '-u', 'NONE', '--cmd', 'set mouse=a nocp', 'text'], [
        (b'', 'line 20 of'), (b'100Gohello \xc3\xa4\xc3\xb6\xc3\xbc', 'hello äöü')]),
    'less': (['less', '-i', 'text'], [(b'', 'line 20 of'), (b'100g\x1bOB', 'line 110 of')]),
    'top': (['top', '-d', '100'], [(b'', 'PID'), (b'f', 'Fields Management')]),
    'htop': (['htop', '-d', '100'], [(b'', 'F10'), (b't', 'F10')]),
    'nano': (['nano', '-m', 'text'], [(b'', 'line 10 of'), (b'hello \xc3\xa4', 'hello ä')]),
    'mc': (['mc', '-u', '-x', '.', '/usr/share/man/man1'], [(b'', 'UP--DIR'), (b'\x1b9\r', 'File listing')]),
    'dialog': (['dialog', '--menu', 'pick', '15', '40', '5', '1', 'one', '2', 'two', '3', 'three'], [
        (b'', 'three'), (b'\x1bOB', 'three')])}
