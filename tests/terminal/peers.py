#!/usr/bin/env python3
"""What an attach makes the program notice, and what is there after vim's `:q!`, of this program and its peers: prints a
Markdown table, for the README. peers.py --notice"""
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
from screens import Model


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


def main():
    print('| | 3 attaches at the same size | one at 100x30 | after `:q!` |\n| --- | --- | --- | --- |')
    for kind in (Ours, Dtach, Tmux, Screen):
        same, other = notice(kind)
        rows, cursor = after_quit(kind)
        noticed = ', '.join(same) or 'nothing', ', '.join(other) or 'nothing'
        print(f'| {kind.name} | {noticed[0]} | {noticed[1]} | {rows[:6]}, cursor in row {cursor} |', flush=True)


main()
