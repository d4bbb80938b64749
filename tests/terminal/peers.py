#!/usr/bin/env python3
"""What a late client sees, measured for this program and its peers: prints the Markdown table of the README.

peers.py --notice: what an attach makes the program notice, and what is there after vim's `:q!`.
peers.py [PROGRAM...]: each program starts after 1 MB of output and is driven to each of its states
(lib/sessions.py) by a client on a terminal of 80x24 that was there from the start, and then another comes on a
terminal of its own: once with the same size, and once, in a session where one of 100x30 was there from the start too,
with that size. One second later (the tests ask the shim for 300 ms, on any machine; the peers get the time they want)
its screen is compared with that of the client of its size that was always there. A number is the share of equal cells
(character and attributes) in percent, the mean over all states; `*` where in some state the cursor or a mode (mouse,
paste, keys, alternate screen) is not right. It takes a quarter of an hour.
"""
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from harness import ATTACH, SHIM
from screens import Model, equal_percent
from sessions import PROGRAMS

FLOOD = 160_000           # lines of `seq`: 1 MB before the program starts, more than any history of lines keeps


class Terminal:
    """A command on a terminal of its own, drawn by the model."""
    def __init__(self, argv, env, size=(24, 80)):
        self.model, self.pending = Model(*size), []
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('4H', *size, 0, 0))

    def fileno(self):
        return self.fd

    def take(self):
        try:
            self.pending.append(os.read(self.fd, 1 << 16))
        except OSError:                         # the other end is closed
            pass

    def draw(self):
        data, self.pending = b''.join(self.pending), []
        self.model.feed(data)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def read(terminals, seconds, quiet=None, true=lambda: True):
    """Reads for `seconds`, or until nothing has come for `quiet` seconds and `true()` holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready = select.select(terminals, [], [], min(quiet or 1, max(0, end - time.monotonic())))[0]
        for terminal in ready:
            terminal.take()
        if quiet and not ready:
            for terminal in terminals:
                terminal.draw()
            if true():
                return True
    for terminal in terminals:
        terminal.draw()
    return not quiet


class Peer:
    """How to start a session, and how to attach to it; `folder` is its own."""
    def __init__(self, folder, env):
        self.folder, self.env, self.sock = folder, env, os.path.join(folder, 'sock')

    def run(self, *argv):
        subprocess.run(argv, env=self.env, cwd=self.folder, check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)

    def stop(self):
        """Ends what was started: each peer knows how."""


class Ours(Peer):
    name = '`attach`'

    def start(self, argv):
        out = subprocess.run([SHIM, '-s', '80x24', self.sock, *argv], env=self.env, cwd=self.folder, check=True,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        self.pid = int(out.split('pid ')[1].split(',')[0])

    def attach(self):
        return [ATTACH, '-q', self.sock]

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)


class Dtach(Peer):
    name = '`dtach -r winch`'

    def start(self, argv):
        self.run('dtach', '-n', self.sock, '-r', 'winch', *argv)
        found = subprocess.run(['pgrep', '-f', f'dtach -n {self.sock}'], check=True, capture_output=True, text=True)
        self.pid = int(found.stdout.split()[0])

    def attach(self):
        return ['dtach', '-a', self.sock, '-r', 'winch']

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)


class Tmux(Peer):
    name = '`tmux`'

    def tmux(self, *argv):
        return ['tmux', '-S', self.sock, '-f', '/dev/null', *argv]

    def start(self, argv):
        self.run(*self.tmux('new-session', '-d', '-x', '80', '-y', '24', '-s', 'x', *argv))
        self.run(*self.tmux('set', '-g', 'status', 'off'))
        self.run(*self.tmux('set', '-g', 'mouse', 'off'))

    def attach(self):
        return self.tmux('attach', '-t', 'x')

    def stop(self):
        self.run(*self.tmux('kill-server'))


class Screen(Peer):
    name = '`screen -x`'

    def start(self, argv):
        self.session = f'late-{os.getpid()}-{time.monotonic_ns()}'
        os.chmod(self.folder, 0o700)
        self.env = dict(self.env, SCREENDIR=self.folder)
        with open(os.path.join(self.folder, 'rc'), 'w', encoding='ascii') as f:
            f.write('startup_message off\ndefscrollback 0\naltscreen on\nvbell off\ndefutf8 on\n')
        self.run('screen', '-U', '-c', os.path.join(self.folder, 'rc'), '-dmS', self.session, *argv)

    def attach(self):
        return ['screen', '-U', '-c', os.path.join(self.folder, 'rc'), '-x', self.session]

    def stop(self):
        self.run('screen', '-S', self.session, '-X', 'quit')


def what_works(terminal):
    """What the user notices besides the picture: the cursor, and what keys, mouse and paste send."""
    state = terminal.model.screen.state()
    modes = {1, 6, 7, 25, 9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004} & set(state['private'])
    return state['cursor'], modes, state['alternate'], state['keypad']


def measure(kind, name, other):
    """(mean percent, whether cursor and modes were right everywhere) of one program under one peer."""
    folder = tempfile.mkdtemp(prefix='late-peers-')
    with open(os.path.join(folder, 'text'), 'w', encoding='ascii') as f:
        f.writelines(f'line {i} of a text file, with some words\n' for i in range(1, 1001))
    env = {'PATH': os.environ['PATH'], 'HOME': folder, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8',
           'SHELL': '/bin/sh', 'LESSHISTFILE': '-', 'USER': os.environ.get('USER', 'root')}
    argv, states = PROGRAMS[name]
    peer, terminals, shares, right = kind(folder, env), [], [], True
    try:
        start = f'stty -echo; read go; stty echo; cd {folder}; export "PS1=$ "; seq {FLOOD}; exec "$0" "$@"'
        peer.start(['sh', '-c', start, *argv])
        time.sleep(0.3)
        if other:
            terminals = [Terminal(peer.attach(), peer.env, (30, 100))]
            read(terminals, 2, 0.3)
        always, size = (terminals[0], (30, 100)) if other else (None, (24, 80))
        terminals.insert(0, Terminal(peer.attach(), peer.env, (24, 80)))
        always = always or terminals[0]
        read(terminals, 2, 0.3)
        os.write(terminals[0].fd, b'\r')
        for state, keys, awaited in states:
            if keys:
                os.write(terminals[0].fd, keys)
            if not read(terminals, 10, 0.2, lambda: any(awaited in t.model.screen.text() for t in terminals)):
                print(f'{kind.name}, {name}, {state}: {awaited!r} did not come', file=sys.stderr)
                continue
            late = Terminal(peer.attach(), peer.env, size)
            read([*terminals, late], 1.0)
            shares.append(equal_percent(always.model, late.model))
            right = right and what_works(always) == what_works(late)
            late.end()
            read(terminals, 2, 0.2)
            os.kill(terminals[0].pid, signal.SIGWINCH)          # so that dtach is told this size again
            read(terminals, 2, 0.2)
    finally:
        for terminal in terminals:
            terminal.end()
        peer.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return (sum(shares) / len(shares) if shares else 0.0), right and len(shares) == len(states)


def environment(folder):
    return {'PATH': os.environ['PATH'], 'HOME': folder, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8'}


def notice(kind):
    """What a program notices of three attaches at its size, and of one at another: its log (programs/listener.py)."""
    folder = tempfile.mkdtemp(prefix='late-peers-')
    env = environment(folder)
    log, fifo = os.path.join(folder, 'log'), os.path.join(folder, 'fifo')
    os.mkfifo(fifo)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'programs', 'listener.py')
    peer = kind(folder, env)
    peer.start(['/usr/bin/python3', '-SE', script, log, fifo])
    first = Terminal(peer.attach(), peer.env)
    counts = []
    try:
        read([first], 3, 1.0)
        for size, times in (((24, 80), 3), ((30, 100), 1)):
            with open(log, encoding='ascii') as f:
                before = len(f.readlines())
            for _ in range(times):
                late = Terminal(peer.attach(), peer.env, size)
                read([first, late], 2, 1.0)
                late.end()
                if times > 1:
                    read([first], 2, 1.0)
            with open(log, encoding='ascii') as f:
                counts.append([line.split()[0] + ' ' + line.split()[1][:12] for line in f.readlines()[before:]])
    finally:
        first.end()
        peer.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return counts


def after_quit(kind):
    """bash, a line, vim and a hundred pages, detached, attached again, `:q!`: what is on the screen then."""
    folder = tempfile.mkdtemp(prefix='late-peers-')
    with open(os.path.join(folder, 'text'), 'w', encoding='ascii') as f:
        f.writelines(f'line {i} of a text file, with some words\n' for i in range(1, 3001))
    env = environment(folder)
    peer = kind(folder, env)
    peer.start(['sh', '-c', f'cd {folder}; export "PS1=$ "; exec bash --norc --noprofile -i'])
    terminals = [Terminal(peer.attach(), peer.env)]
    try:
        read(terminals, 2, 0.5)
        for keys in (b'echo IMPORTANT\r', b'vim.tiny -u NONE text\r', *[b'\x06'] * 100):
            os.write(terminals[0].fd, keys)
            read(terminals, 1, 0.1)
        terminals.pop().end()
        terminals.append(Terminal(peer.attach(), peer.env))
        read(terminals, 2, 0.5)
        os.write(terminals[0].fd, b':q!\r')
        read(terminals, 2, 0.5)
        screen = terminals[0].model.screen
        return [row for row in screen.text().split('\n') if row.strip()], screen.cursor.y
    finally:
        for terminal in terminals:
            terminal.end()
        peer.stop()
        shutil.rmtree(folder, ignore_errors=True)


def tell_notice(peers):
    """The second table: what an attach makes the program notice, and the shell's screen after vim."""
    print('| | 3 attaches at the same size | one at 100x30 | after `:q!` |\n| --- | --- | --- | --- |')
    for kind in peers:
        same, other = notice(kind)
        rows, cursor = after_quit(kind)
        noticed = ', '.join(same) or 'nothing', ', '.join(other) or 'nothing'
        print(f'| {kind.name} | {noticed[0]} | {noticed[1]} | {rows[:6]}, cursor in row {cursor} |', flush=True)


def main():
    peers = [Ours, Dtach, Tmux, Screen]
    if sys.argv[1:] == ['--notice']:
        tell_notice(peers)
        return
    wanted = sys.argv[1:] or list(PROGRAMS)
    print('| program | ' + ' | '.join(f'{p.name} | other size' for p in peers) + ' |')
    print('| --- |' + ' --- | --- |' * len(peers))
    for name in wanted:
        cells = []
        for kind in peers:
            for other in (False, True):
                share, right = measure(kind, name, other)
                cells.append('%.1f' % share + ('' if right else ' \\*'))
        print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


main()
