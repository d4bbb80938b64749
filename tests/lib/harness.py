"""The harness of the test suite: starts the three programs as a user would and talks to them from outside.

Every wait has a time-out, every program gets a free port (address `0`) or a socket path of its own, and whatever a
test starts is ended by pid when the test ends (the `pty` fixture of conftest.py).
"""
import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time

import pexpect
import pytest

from screens import Model

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('PTYME_BUILD', os.path.join(ROOT, 'build')))
SHIM, ATTACH, RECORD = (os.path.join(BUILD, name) for name in ('shim', 'attach', 'record'))
PYTHON = '/usr/bin/python3'
KIND = os.path.basename(os.path.normpath(BUILD))                # 'build', or the name of another kind of build
STATIC, PORTABLE = 'static' in KIND, 'portable' in KIND         # make STATIC=1, PORTABLE=1
TIMEOUT = 20 if 'sanitize' in KIND else 10       # seconds; generous: it is only reached when something is wrong
READY = re.compile(r'^shim: listening on (?P<address>.+?), pid (?P<pid>\d+), '
                   r'(?:recording (?P<recording>.+?)|not recording)(?:, viewers on (?P<view>.+))?$')


def needs(feature, loss):
    """Marks a test of what a build with PORTABLE=1 cannot have. `feature` is one of those that the sources name under
    'What not every system has' (tests/test_project.py looks), `loss` what is said there of a system without it."""
    return pytest.mark.skipif(PORTABLE, reason=f'without {feature} {loss}')


needs_peer_user = needs('SO_PEERCRED', 'nobody tells whose the other end of a Unix-domain socket is')
needs_tcp_owner = needs('sock_diag', 'nobody tells the shim whose the other end of a TCP connection is')
needs_listener_user = needs('sock_diag', 'nobody tells attach who listens at a port')
needs_handlers = needs('/proc', 'nobody tells which signals the program has a handler for')
needs_peer_state = needs('sock_diag', 'a client at a port that is gone is noticed when something is sent to it')
needs_utf8_input = needs('IUTF8', 'Backspace takes away a byte, not a character')
needs_queue = needs('SIOCOUTQ', 'nobody tells how much the kernel still has for the other end')


def wait_until(true, timeout=TIMEOUT, what='the condition'):
    """Polls `true` every few milliseconds until it holds; gives back what it gave. Only for states that no
    descriptor tells (a process is gone, a file has grown); anything that can be read is read instead."""
    end = time.monotonic() + timeout
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'{what} did not come within {timeout} s')
        select.select([], [], [], 0.005)


def stat_fields(pid):
    """/proc/PID/stat from the state on: state, ppid, pgrp, session, tty_nr, tpgid, … (proc(5))."""
    with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as f:
        return f.read().rpartition(')')[2].split()


def alive(pid):
    """Whether `pid` is a process and not a zombie."""
    try:
        return stat_fields(pid)[0] not in 'ZX'
    except OSError:
        return False


def cpu_seconds(pid):
    """User and system time that the process has used."""
    return sum(map(int, stat_fields(pid)[11:13])) / os.sysconf('SC_CLK_TCK')


def children(pid):
    """The pids of the live children of `pid` (the program that a shim runs, and its `record` helpers)."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
        return [int(p) for p in f.read().split()]


def hello(rows, cols, xpixels=0, ypixels=0):
    """rlogin's window-change message (RFC 1282)."""
    return b'\xff\xffss' + struct.pack('!4H', rows, cols, xpixels, ypixels)


def goodbye(status):
    return b'\xff\xffxx' + bytes([status])


class Shim:
    """A shim that has started: what its readiness line said. `run` is the finished start command."""
    def __init__(self, run, cwd):
        self.run, self.cwd = run, cwd
        found = READY.match(run.stdout.rstrip('\n'))
        assert run.returncode == 0 and found, (run.returncode, run.stdout, run.stderr)
        self.address, self.view, self.pid = found['address'], found['view'], int(found['pid'])
        self.recording = found['recording'] and os.path.join(cwd, found['recording'])

    def program(self):
        """The pid of the program that the shim runs."""
        return wait_until(lambda: children(self.pid), what='the program')[0]

    def wait_gone(self, timeout=TIMEOUT):
        wait_until(lambda: not alive(self.pid), timeout, f'the end of shim {self.pid}')

    def stop(self):
        """SIGTERM, and SIGKILL to whatever is left (a test that wants the orderly end waits for it itself)."""
        if not alive(self.pid):
            return
        kids = children(self.pid)
        os.kill(self.pid, signal.SIGTERM)
        try:
            wait_until(lambda: not alive(self.pid), 8)
        except AssertionError:
            for pid in [*kids, self.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


class Client:
    """A raw client: a plain socket with time-outs on everything. `first` is sent on connecting (a hello, say)."""
    def __init__(self, address, first=b'', timeout=TIMEOUT, rcvbuf=None):
        self.timeout, self.buffer = timeout, b''
        if '/' in address:
            self.sock, target = socket.socket(socket.AF_UNIX), address
        else:
            host, port = address.rsplit(':', 1) if ':' in address else ('127.0.0.1', address)
            family = socket.AF_INET6 if host.startswith('[') else socket.AF_INET
            self.sock, target = socket.socket(family), (host.strip('[]'), int(port))
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if '/' in address:      # one that does not block is refused while the backlog is full: connect(2), EAGAIN
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', int(timeout), 0))
            self.sock.connect(target)
        self.sock.settimeout(timeout)
        if '/' not in address:
            self.sock.connect(target)
        if first:
            self.sock.sendall(first)

    def send(self, data):
        self.sock.sendall(data)

    def resize(self, rows, cols):
        self.send(hello(rows, cols))

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with a TCP reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def read_some(self):
        """What is there, b'' at the end of the connection; waits for one byte at least."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b''
        self.buffer += data
        return data

    def read_until(self, wanted, timeout=None):
        """Reads until `wanted` (bytes) is in what has come; gives back everything up to and with it."""
        end = time.monotonic() + (timeout or self.timeout)
        while wanted not in self.buffer:
            left = end - time.monotonic()
            assert left > 0, f'{wanted!r} did not come; got {self.buffer[-500:]!r}'
            self.sock.settimeout(left)
            try:
                assert self.read_some() or wanted in self.buffer, f'closed before {wanted!r}; got {self.buffer[-500:]!r}'
            except socket.timeout:
                raise AssertionError(f'{wanted!r} did not come; got {self.buffer[-500:]!r}') from None
        at = self.buffer.index(wanted) + len(wanted)
        out, self.buffer = self.buffer[:at], self.buffer[at:]
        return out

    def read_bytes(self, count):
        """Exactly `count` bytes."""
        parts, have = [self.buffer], len(self.buffer)
        self.buffer = b''
        self.sock.settimeout(self.timeout)
        while have < count:
            data = self.sock.recv(1 << 18)
            assert data, f'closed after {have} of {count} bytes'
            parts.append(data)
            have += len(data)
        whole = b''.join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def read_all(self):
        """Everything up to the end of the connection."""
        parts = [self.buffer]
        self.buffer = b''
        self.sock.settimeout(self.timeout)
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                break
            if not data:
                break
            parts.append(data)
        if PORTABLE:            # as programs do at the end; without SIOCOUTQ the shim waits 5 s for who does not
            with contextlib.suppress(OSError):
                self.half_close()
        return b''.join(parts)

    def nothing_comes(self, seconds=0.3):
        """True if nothing is readable for so long: for proving that something does NOT happen."""
        return not self.buffer and not select.select([self.sock], [], [], seconds)[0]


class Terminal:
    """A program on a pexpect pseudoterminal with a screen behind it (screens.py): what a user would see."""
    def __init__(self, argv, cwd=None, env=None, rows=24, cols=80):
        env = dict(os.environ if env is None else env, TERM='xterm-256color', LC_ALL='C.UTF-8')
        self.child = pexpect.spawn(argv[0], argv[1:], cwd=cwd, env=env, dimensions=(rows, cols), timeout=TIMEOUT)
        self.child.delaybeforesend = None
        self.stream = Model(rows, cols)
        self.screen = self.stream.screen
        self.output = b''

    def feed(self, timeout=0.05):
        """Takes what has come into the screen; False at the end of the program."""
        try:
            data = self.child.read_nonblocking(1 << 16, timeout)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.output += data
        self.stream.feed(data)
        return True

    def wait(self, true, timeout=TIMEOUT, what='the screen'):
        """Reads until `true(self)` holds."""
        end = time.monotonic() + timeout
        while not true(self):
            more = self.feed()
            if true(self):
                return self
            assert more and time.monotonic() < end, f'{what} did not come; the screen shows\n' + self.text()
        return self

    def wait_text(self, text, timeout=TIMEOUT):
        return self.wait(lambda t: text in t.text(), timeout, repr(text))

    def wait_output(self, data, timeout=TIMEOUT):
        return self.wait(lambda t: data in t.output, timeout, repr(data))

    def text(self):
        return self.screen.text() + '\n'

    def send(self, data):
        self.child.send(data)

    def resize(self, rows, cols):
        self.screen.resize(rows, cols)
        self.child.setwinsize(rows, cols)

    def exit_status(self, timeout=TIMEOUT):
        """Reads to the end and gives the exit status (128 + signal if one ended it)."""
        end = time.monotonic() + timeout
        while self.feed():
            assert time.monotonic() < end, 'the program did not end; the screen shows\n' + self.text()
        self.child.wait()
        return self.child.exitstatus if self.child.exitstatus is not None else 128 + self.child.signalstatus

    def ends(self, keys, status=0):
        """Types the keys by which the program ends, with that status."""
        self.send(keys)
        assert self.exit_status() == status

    def hang_up(self):
        """Closes the window: the master goes, and the kernel hangs the slave up (pty(7))."""
        process = self.child.ptyproc
        process.fileobj.close()
        process.closed, process.fd = True, -1

    def close(self):
        self.hang_up()
        if self.child.ptyproc.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.ptyproc.wait()


class Pty:
    """The fixture `pty`: starts things in the test's own folder and ends them with the test."""
    def __init__(self, folder):
        self.folder, self.started = str(folder), []

    def path(self, name):
        return os.path.join(self.folder, name)

    def read_bytes(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()

    def read(self, name):
        return self.read_bytes(name).decode()

    def write(self, name, data):
        """Makes the file of that name, of text or bytes."""
        with open(self.path(name), 'wb') as file:
            file.write(data if isinstance(data, bytes) else data.encode())

    def keep(self, thing, end):
        self.started.append(end)
        return thing

    def run(self, *argv, **options):
        """Runs a command to its end; text in and out unless text=False."""
        options = {'cwd': self.folder, 'timeout': TIMEOUT * 3, 'capture_output': True, 'text': True, **options}
        if 'input' not in options:
            options.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([str(a) for a in argv], check=False, **options)

    def shim(self, *argv, **options):
        """shim OPTION... ADDRESS PROGRAM...: starts it (or another `program`) and takes the readiness line."""
        shim = Shim(self.run(options.pop('program', SHIM), *argv, **options), options.get('cwd', self.folder))
        return self.keep(shim, shim.stop)

    def client(self, address, first=b'', **options):
        client = Client(address, first, **options)
        return self.keep(client, client.close)

    def terminal(self, *argv, **options):
        terminal = Terminal([str(a) for a in argv], **{'cwd': self.folder, **options})
        return self.keep(terminal, terminal.close)

    def shell(self):
        """An interactive bash at its prompt."""
        environment = dict(os.environ, PS1='prompt> ', HISTFILE='/dev/null')
        return self.terminal('bash', '--norc', '--noprofile', '-i', env=environment).wait_text('prompt>')

    def attach(self, *argv, **options):
        """attach OPTION... ADDRESS on a terminal of its own."""
        return self.terminal(ATTACH, *argv, **options)

    def background(self, *argv, **options):
        """A subprocess.Popen that is killed with the test."""
        options = {'cwd': self.folder, 'stdin': subprocess.DEVNULL, **options}
        process = subprocess.Popen([str(a) for a in argv], **options)  # pylint: disable=consider-using-with

        def end():
            if process.poll() is None:
                process.kill()
            process.wait()
        return self.keep(process, end)

    def end(self):
        for end in reversed(self.started):
            end()
