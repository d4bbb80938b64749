"""What the trust tests (issue 3) share: a program that does what the test tells it, and eyes on a process from outside
(/proc)."""
import json
import mmap
import os
import resource
import select
import shutil
import socket
import struct
import tempfile
import threading

import pytest

from common import NO_WINDOW
from harness import BUILD, PYTHON, RECORD, ROOT, SHIM, STATIC, TIMEOUT, Shim, children, wait_until

PROGRAMS = os.path.join(ROOT, 'tests', 'programs')
MIB = 1 << 20
RING = MIB                                        # section 2, 'Clients'
SLACK = 6 if 'sanitize' in BUILD else 1           # how much longer a sanitized program may take
NOBODY, DAEMON = 65534, 1                         # two users who are not root, on every Linux machine
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user or mount')


def pattern(size, start=0):
    """Bytes [start, start + size) of the stream that `flood` in programs/told.py prints."""
    filler = bytes(10 if i % 68 == 67 else 33 + i * 7 % 90 for i in range(4080))
    first, last = start // 4096, (start + size + 4095) // 4096
    whole = b''.join(b'%015d\n' % n + filler for n in range(first, last))
    return whole[start - first * 4096:][:size]


def same(got, wanted):
    """Asserts that two long strings are equal, and tells the first place where they are not (never the strings)."""
    if got == wanted:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    raise AssertionError(f'differ at {at} (lengths {len(got)}, wanted {len(wanted)}): '
                         f'{got[at:at + 60]!r}, wanted {wanted[at:at + 60]!r}')


class Told:
    """A shim whose program (programs/told.py) is told what to do over a socket outside of its terminal.

    `tell` waits for the answer, `start` does not (`answer` fetches it later); `written` is how many bytes the program
    has handed to its terminal so far, at any moment."""
    def __init__(self, pty, *argv, folder=None, shim=SHIM, **options):
        self.pty, folder = pty, folder or tempfile.mkdtemp(dir=pty.folder)
        path, script = os.path.join(folder, 'told'), os.path.join(folder, 'told.py')
        shutil.copy(os.path.join(PROGRAMS, 'told.py'), script)
        pty.write(path + '.count', bytes(8))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            for name in (path, path + '.count'):
                os.chmod(name, 0o777)
            run = pty.run(shim, *argv, PYTHON, '-S', script, path, **options)
            self.shim = Shim(run, options.get('cwd', pty.folder))
            pty.keep(self.shim, self.shim.stop)
            self.listener = listener.dup()
        with open(path + '.count', 'r+b') as count:
            self.count = mmap.mmap(count.fileno(), 8)
        self.control, self.printed, self.marks, self.flooded = None, [], 0, 0
        if '-w' not in argv:
            self.meet()

    def meet(self):
        """Waits for the program to be there (with --wait: after the first client)."""
        self.listener.settimeout(TIMEOUT)
        self.control = self.listener.accept()[0]
        self.control.settimeout(TIMEOUT * 2)
        self.listener.close()
        self.lines = self.control.makefile('r')
        assert self.answer() == 'ready'

    def start(self, *words):
        self.control.sendall(' '.join(str(w) for w in words).encode() + b'\n')

    def answer(self):
        return self.lines.readline().rstrip('\n')

    def tell(self, *words):
        self.start(*words)
        answer = self.answer()
        assert answer, f'the program ended instead of answering {words}'
        return answer

    def prints(self, data):
        """The program prints these bytes (and they are no part of the flood's pattern)."""
        self.printed.append(data)
        self.tell('print', data.hex())

    def flood(self, size, wait=True):
        """The program prints the next `size` bytes of the pattern; without `wait`, `answer()` comes at its end."""
        self.printed.append((self.flooded, size))
        self.flooded += size
        self.start('flood', size)
        if wait:
            assert self.answer() == str(self.flooded)

    def output(self):
        """Every byte that the program has printed so far (floods that were not waited for counted whole)."""
        return b''.join(p if isinstance(p, bytes) else pattern(p[1], p[0]) for p in self.printed)

    def meet_clients(self, *clients):
        """Returns when every client is attached and has read all there was up to now."""
        self.marks += 1
        mark = b'<met %d>\n' % self.marks
        self.prints(mark)
        for client in clients:
            client.read_until(mark)

    def clients(self, count, first=NO_WINDOW):
        """So many that are attached and have read all there was up to now."""
        clients = [self.pty.client(self.shim.address, first) for _ in range(count)]
        self.meet_clients(*clients)
        return clients

    def typed_until(self, end):
        """All that the program can read up to and with the bytes `end`."""
        return bytes.fromhex(self.tell('until', end.hex()))

    def typed_before(self, client, end=b'<end>\n'):
        """What reached the program before `client` types `end` now. A round trip: the shim has had a turn since. (The
        line's end makes it plain at once that this is no HTTP request, in which case nothing is held back.)"""
        client.send(end)
        typed = self.typed_until(end)
        return typed[:-len(end)]

    @property
    def written(self):
        return struct.unpack('=Q', self.count[:8])[0]


class Drain(threading.Thread):
    """Reads a client to its end, or to `size` bytes, beside the test; `data` is what has come so far. A slow one takes
    `step` bytes and then pauses, again and again."""
    def __init__(self, client, size=None, step=1 << 18, pause=0.0):
        super().__init__(daemon=True)
        self.client, self.size, self.data = client, size, bytearray(client.buffer)
        self.step, self.pause = step, pause
        self.ended, self.failed, client.buffer = False, None, b''
        self.start()

    def run(self):
        try:
            self.client.sock.settimeout(TIMEOUT * 3)
            while self.size is None or len(self.data) < self.size:
                got = self.client.sock.recv(self.step)
                if not got:
                    self.ended = True
                    return
                self.data += got
                if self.pause:
                    select.select([], [], [], self.pause)
        except OSError as error:
            self.failed, self.ended = error, True

    def wait(self, timeout=TIMEOUT * 3):
        self.join(timeout)
        assert not self.is_alive(), f'only {len(self.data)} of {self.size} bytes came'
        return bytes(self.data)


def resident(pid):
    """The bytes of memory that are the process's own (anonymous pages: not the programs' files)."""
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('RssAnon')) * 1024


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def helpers(shim, program):
    """The shim's children besides its program: the `record` processes that catch clients up."""
    return [pid for pid in children(shim.pid) if pid != program]


def compiled(pty, name, *flags):
    """Builds tests/programs/NAME.c into the test's folder with the system's C compiler."""
    out = pty.path(name)
    done = pty.run('cc', '-O2', '-Wall', '-Wextra', '-Werror', *flags, '-o', out, os.path.join(PROGRAMS, name + '.c'))
    assert done.returncode == 0, done.stderr
    return out


def faulty(pty):
    """The environment of a shim whose system calls fail when the test says so, and the saying: `fault('eio')`,
    `fault('eio', off=True)`, `fault('fork', 2)`. See programs/faults.c."""
    if STATIC:
        pytest.skip('a static program loads no library that could make its system calls fail')
    library, folder = compiled(pty, 'faults', '-shared', '-fPIC', '-ldl'), pty.path('wanted')
    os.mkdir(folder)

    def fault(name, value='', off=False):
        path = os.path.join(folder, name)
        if off:
            os.unlink(path)
        else:
            pty.write(path + '.new', str(value))
            os.rename(path + '.new', path)
    asan = os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'
    return {**os.environ, 'LD_PRELOAD': library, 'TRUST_FAULTS': folder, 'ASAN_OPTIONS': asan}, fault


def small_disk(pty, size):
    """A file system of its own of `size` bytes, gone with the test."""
    folder = pty.path('disk')
    os.mkdir(folder)
    done = pty.run('mount', '-t', 'tmpfs', '-o', f'size={size}', 'trust', folder)
    assert done.returncode == 0, done.stderr
    pty.keep(folder, lambda: pty.run('umount', '-l', folder))
    return folder


def open_folder(pty):
    """A folder that every user of the machine may enter and write to (pytest's own are its user's alone)."""
    folder = tempfile.mkdtemp(prefix='trust', dir='/tmp')
    pty.keep(folder, lambda: shutil.rmtree(folder, ignore_errors=True))
    os.chmod(folder, 0o1777)
    return folder


def programs_for_all(folder):
    """The shim, with its record beside it, copied to where another user can run it."""
    for program in (SHIM, RECORD):
        if os.path.exists(program):
            shutil.copy(program, folder)
    return os.path.join(folder, 'shim')


def as_user(uid):
    """subprocess options that run a command as that user, with nothing of root's left."""
    return {'user': uid, 'group': uid, 'extra_groups': []}


def stranger(pty, uid, address, *words, inside=()):
    """Runs programs/stranger.py as another user, `inside` a command that begins it elsewhere; its answer."""
    source = pty.read(os.path.join(PROGRAMS, 'stranger.py'))
    become = ['setpriv', f'--reuid={uid}', f'--regid={uid}', '--clear-groups']
    done = pty.run(*inside, *become, PYTHON, '-S', '-c', source, address, *words, cwd='/')
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def until_calm(true, what):
    """wait_until with this suite's longer limit, for states that come after a lot of work."""
    return wait_until(true, TIMEOUT * 2, what)


def many_descriptors():
    """Lets this process, and what it starts, have a few thousand descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5000 if hard == resource.RLIM_INFINITY else min(hard, 5000)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
