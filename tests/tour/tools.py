"""What the lessons use: the modules behind the system calls, and a few helpers. Every wait has a time-out."""
import array  # noqa: F401
import base64  # noqa: F401
import contextlib
import errno  # noqa: F401
import fcntl
import json  # noqa: F401
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys  # noqa: F401
import termios
import time
import tty  # noqa: F401

_TIMEOUT = 20          # seconds; generous: only reached when something is wrong
_SEQUENCE = re.compile(rb'''\x1b(?: \[ [0-?]* [ -/]* (?:[@-~]|$)                   # CSI, a control sequence
                                | \] [^\x07\x1b]* (?:\x07|\x1b\\|$)              # OSC, a string
                                | [ -/]* (?:[0-Z\\^-~]|$)                        # any other
                                | \x03 )                                        # xterm's way out of Tektronix mode
                            | [\x00-\x08\x0e-\x1a]''', re.X)                     # a control that shows nothing
_started, _children, _clients = [], [], []


def until(true, what='this'):
    """Waits until `true()` holds. Only for what no descriptor tells (a process is gone)."""
    end = time.monotonic() + _TIMEOUT
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f'{what} did not come')
        select.select([], [], [], 0.01)


def read(fd, wanted):
    """Reads from `fd`, a descriptor or socket, until `wanted` (bytes) has come; gives all that came."""
    fd = fd if isinstance(fd, int) else fd.fileno()
    return _read_until(fd, lambda got: wanted in got, wanted)


def _read_until(fd, enough, wanted, got=b''):
    end = time.monotonic() + _TIMEOUT
    while not enough(got):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError(f'{wanted} did not come, but {got[-300:]}')
        piece = os.read(fd, 1 << 16)
        if not piece:
            raise EOFError(f'{wanted} did not come, but {got[-300:]}')
        got += piece
    return got


def nothing_at(fd):
    """Whether nothing can be read there for a tenth of a second."""
    return not select.select([fd], [], [], 0.1)[0]


def start_child(function):
    """Calls `function` in a process of its own (fork). It gets one argument, which is print to us. Gives the child's
    pid and the descriptor to read from what it tells; an OSError that it raises is told too."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function(lambda *words: os.write(writer, (' '.join(map(str, words)) + '\n').encode()))
        except OSError as error:
            os.write(writer, f'{type(error).__name__}: {error}\n'.encode())
        finally:
            os._exit(0)
    os.close(writer)
    _children.append(pid)
    return pid, reader


def in_child(function):
    """Calls `function` in a process of its own, shows what it tells, and waits for its end."""
    pid, reader = start_child(function)
    with os.fdopen(reader) as told:
        print(told.read(), end='')
    end_child(pid)


def end_child(pid, number=0):
    """Sends it a signal, if one is given, and waits for its end; gives its exit status, or minus the signal."""
    os.kill(pid, number)
    _children.remove(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tty_of_me():
    """The device number of this process's controlling terminal, 0 when there is none: proc(5), stat."""
    with open('/proc/self/stat', encoding='ascii') as file:
        return int(file.read().rpartition(')')[2].split()[4])


def hello(rows, columns):
    """The first message of a client of the shim: its window, or 0, 0 for none (lesson 15)."""
    return b'\xff\xffss' + struct.pack('!4H', rows, columns, 0, 0)


def connect(address, first=b''):
    """A client that is nothing but a socket (at a path, or a port), as soon as a shim listens there; it sends `first` at
    once."""
    client = socket.socket(socket.AF_INET if isinstance(address, int) else socket.AF_UNIX)
    address = ('127.0.0.1', address) if isinstance(address, int) else address
    client.settimeout(_TIMEOUT)
    until(lambda: client.connect_ex(address) == 0, f'somebody who listens at {address}')
    client.sendall(first)
    _clients.append(client)
    return client


def screen(recording):
    """What record says is on the screen at the end of that recording, also while it grows."""
    return subprocess.run(['record', 'screen', recording], capture_output=True, text=True, check=True).stdout


def all_of(client):
    """All that comes until the other side closes the connection."""
    got = b''
    with contextlib.suppress(ConnectionResetError):
        for piece in iter(lambda: client.recv(1 << 16), b''):
            got += piece
    return got


class terminal:
    """Somebody at a terminal: `command` runs on a pseudoterminal of its own, and we hold its master."""
    def __init__(self, command, rows=24, cols=80):
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        self.resize(rows, cols)
        self.pid = os.fork()
        if self.pid == 0:
            os.login_tty(slave)                    # lesson 3 does by hand what this does
            os.execvp('sh', ['sh', '-c', f'exec {command}'])
        os.close(slave)
        self.output, self.shown = b'', 0         # bytes; characters of it that were shown
        self.status = None
        _started.append(self)

    def type(self, keys):
        """Types these keys."""
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def see(self, wanted):
        """Looks until `wanted` is there, and shows what is new up to it, without colours and the like."""
        self.output = _read_until(self.master, lambda got: wanted in _text(got)[self.shown:], wanted, self.output)
        text = _text(self.output)
        end = text.index(wanted, self.shown) + len(wanted)
        print(text[self.shown:end].strip('\n'))
        self.shown = end

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('4H', rows, cols, 0, 0))

    def end(self):
        """Waits for the program's end; gives its exit status."""
        if self.status is None:
            _take_rest(self.master)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.master)
        return self.status


def _text(output):
    """What a terminal's output says, without its escape sequences (and the beginning of one that was cut)."""
    return _SEQUENCE.sub(b'', output).decode(errors='ignore').replace('\r\n', '\n').replace('\r', '')


def _take_rest(master):
    """Reads a terminal until its last user has gone: see lesson 7 for what ends this loop."""
    end = time.monotonic() + _TIMEOUT
    while select.select([master], [], [], max(0, end - time.monotonic()))[0]:
        try:
            os.read(master, 1 << 16)
        except OSError:
            return
    raise TimeoutError('the program goes on')


def state(pid):
    """R runs, S sleeps, T is stopped, Z is dead and not waited for: proc(5), stat."""
    with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as file:
        return file.read().rpartition(')')[2].split()[0]


def alive(pid):
    """Whether there is such a process, and no zombie."""
    try:
        return state(pid) not in 'ZX'
    except OSError:
        return False


def children(pid):
    """The pids of its children."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        return [int(child) for child in file.read().split()]


def end_shim(pid):
    """Ends the shim `pid` as it wants to be ended, and waits for that; then by force."""
    programs = children(pid) if alive(pid) else []
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        try:
            until(lambda: not alive(pid))
        except TimeoutError:
            continue
    for program in programs:
        if alive(program):
            os.kill(program, signal.SIGKILL)


def end_all():
    """Ends the clients, children and terminals that a lesson has left."""
    for client in _clients:
        client.close()
    for pid in list(_children):
        end_child(pid, signal.SIGKILL)
    for one in _started:
        if one.status is None:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
            os.close(one.master)
    _started.clear()
