#!/usr/bin/python3
"""bench - how fast the shim is, beside the least that can be done with a terminal and beside its peers.

    make bench                                     every case, about 12 minutes; nothing else should run meanwhile
    tests/bench/bench.py --quick                   about a minute, for a first look: autogroups (see below) stay on
    tests/bench/bench.py --cases throughput,echo --only shim,bare,tmux --rounds 5 --json out.json --svg plot.svg

Standard library only. The programs beside this file are compiled into build/bench/: `load` runs on the terminal under
test and writes text, `clients` reads and compares it, `bare` reads a terminal and does no more than it must (the
yardstick), `micro` measures the shim's functions alone, `spin` keeps a core awake. Peers are taken from PATH; those not
installed are left out.

Two conditions. In a virtual machine a core that goes idle takes some 50 us to wake; whatever reads a terminal sleeps
once for every 4 KiB, so all of them crawl alike, whatever they cost. With a spinner of class SCHED_IDLE on each core,
which any other task preempts at once, the cores stay awake, and throughput and latency are the programs' own. (At once
only in the same group: sched(7), autogroup, gives each session its equal share of a core, whatever class its tasks are
of. So that is off meanwhile, which takes root; a daemon would get half a core beside a spinner, and every byte typed
could wait for a tick.) CPU seconds are steady without spinners. A machine of metal behaves as with them. Tables say
which condition they are from.

Every job of a case runs once a round (those that are no yardstick in every third), and each round begins with another
job, so that the machine's drift cancels; figures are medians, ratios are taken within a round. CPU and memory are the
tool's own processes, without its clients, the program and the kernel's workers; CPU is per GiB of output, not of what
is delivered.
"""
import argparse
import atexit
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import plot

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TOOLS = os.path.join(ROOT, 'build', 'bench')
LOAD, BARE, CLIENTS, SPIN, MICRO = (os.path.join(TOOLS, n) for n in ('load', 'bare', 'clients', 'spin', 'micro'))
BLOCK, END = 256 << 10, len('@@END@@\r\n')       # as in common.hpp
SEND = 60 << 10                                  # bytes of the bare loop of sends: as much as a turn of the shim
CURVE = {1: 32, 3: 32, 10: 32, 30: 32, 100: 16, 300: 8, 1000: 8}  # clients: MiB to each
RARELY = 3                                       # of so many rounds who is no yardstick runs in one
AUTOGROUP = '/proc/sys/kernel/sched_autogroup_enabled'
CONDITIONS = ON, OFF = 'spinners', 'no spinners'
THROUGHPUT_SECONDS = {ON: 270, OFF: 80}          # most of the 12 minutes
ENV = {k: v for k, v in os.environ.items() if k not in ('TMUX', 'STY', 'SHIM_ADDRESS')}
ENV.update(LANG='C.UTF-8', LC_ALL='C.UTF-8', TERM='xterm-256color', SHELL='/bin/sh')
TEMP = tempfile.mkdtemp(prefix='bench.')
SESSIONS = []                                    # to be ended when we are interrupted


# --- what is compared -------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Contestant:
    """kind: how its clients come (none, tcp, shim, dtach, conmon: sockets; pty: its own `client` command on a terminal;
    fg: it runs in the foreground of a terminal, its one client). start(place, command): the argv that runs command.
    exact: its clients get the terminal's bytes as they are. most: clients it can serve here. yardstick: for such a one
    there is a target, it runs in every round."""
    name: str
    kind: str
    start: object
    client: object = None
    oneshot: object = None                       # start and attach in one, for the time to the first byte
    exact: bool = True
    records: bool = False
    slow: bool = False
    yardstick: bool = False
    most: int = 1000
    cases: str = 'throughput curve echo first idle memory'

    def __post_init__(self):
        self.most = {'none': 0, 'fg': 1}.get(self.kind, self.most)

    def blocks(self, mib):
        return max(1, int(mib * 4 / (16 if self.slow else 1)))

    def takes(self, case, clients=0):
        return case in self.cases.split() and clients <= self.most


def shell(command):
    return 'exec ' + shlex.join(command)


def contestants(options):
    def shim(*flags):
        return lambda at, command: [options.shim, *(at.fill(f) for f in flags), str(at.port), *command]

    def bare(*flags):
        return lambda at, command: [BARE, *(at.fill(f) for f in flags), '--', *command]

    def dtach(at, how):
        return ['dtach', how, at.socket, '-E', '-z', '-r', 'none']

    def abduco(at, how):
        return ['abduco', how, at.socket]

    def tmux(at):
        return ['tmux', '-S', at.socket, '-f', TEMP + '/tmux.conf']

    def screen(at):
        return ['screen', '-U', '-c', TEMP + '/screenrc']

    def script(*flags):
        return lambda at, command: ['script', '-q', '-c', shell(command), *(at.fill(f) for f in flags)]

    def conmon(at, command):                     # with the runtime below, which makes terminal and child
        with open(at.dir + '/command.json', 'w', encoding='utf-8') as f:
            json.dump(command, f)
        return ['conmon', '--api-version', '1', '-c', at.name, '-n', at.name, '-u', at.name, '-r', TEMP + '/runtime',
                '-b', at.dir, '-p', at.dir + '/pid', '-l', 'k8s-file:' + at.recording, '--exit-dir', at.dir,
                '--full-attach', '--no-sync-log', '-t']

    recorder = 'throughput recording'
    return [c for c in [
        Contestant('shim', 'shim', shim('-r', '{recording}'), records=True, yardstick=True,
                   cases='throughput curve echo first idle memory recording'),
        Contestant('shim -n', 'shim', shim('-n'), yardstick=True, cases='throughput curve first'),
        Contestant('bare', 'none', bare(), yardstick=True, cases='throughput idle'),
        Contestant('bare, recording', 'none', bare('-j', '{recording}'), records=True, cases='throughput recording'),
        Contestant('bare, sending', 'tcp', bare('-p', '{port}'), yardstick=True, cases='echo first'),
        Contestant('bare, sending, batching', 'tcp', bare('-b', '65536', '-p', '{port}'), yardstick=True,
                   cases='throughput curve'),
        Contestant('dtach', 'pty', lambda at, c: dtach(at, '-n') + c, client=lambda at: dtach(at, '-a'),
                   oneshot=lambda at, c: dtach(at, '-c') + c, most=10),
        Contestant('dtach (socket)', 'dtach', lambda at, c: dtach(at, '-n') + c, most=300, cases='curve memory'),
        Contestant('abduco', 'pty', lambda at, c: abduco(at, '-n') + c, client=lambda at: abduco(at, '-a'),
                   oneshot=lambda at, c: abduco(at, '-c') + c, most=10),
        Contestant('tmux', 'pty', lambda at, c: [*tmux(at), 'new-session', '-d', '-x', '80', '-y', '24', shell(c)],
                   client=lambda at: [*tmux(at), 'attach'], oneshot=lambda at, c: [*tmux(at), 'new-session', shell(c)],
                   exact=False, slow=True, most=10),
        Contestant('screen', 'pty', lambda at, c: [*screen(at), '-dmS', at.name, *c],
                   client=lambda at: [*screen(at), '-x', at.name], exact=False, slow=True, most=10,
                   oneshot=lambda at, c: [*screen(at), '-S', at.name, *c]),
        Contestant('conmon', 'conmon', conmon, records=True, yardstick=True, most=100,
                   cases='throughput curve echo idle memory'),
        Contestant('script', 'fg', script('-O', '{recording}'), records=True, cases=recorder + ' first'),
        Contestant('ttyrec', 'fg', lambda at, c: ['ttyrec', '-e', shell(c), at.recording],
                   records=True, cases=recorder),
        Contestant('asciinema', 'fg', lambda at, c: ['asciinema', 'rec', '-q', '-c', shell(c), at.recording],
                   records=True, slow=True, cases=recorder)] if shutil.which(c.start(Place(), ['true'])[0])]


RUNTIME = '''#!/usr/bin/python3 -S
"""The OCI runtime that conmon asks for a container: a terminal, a child on it, and its master sent to conmon."""
import array, fcntl, json, os, socket, sys, termios, time
if 'create' not in sys.argv:
    sys.exit(0)
def option(name):
    return sys.argv[sys.argv.index(name) + 1]
(master, slave), parent, pid = os.openpty(), os.getpid(), os.fork()
if pid == 0:
    with open(option('--bundle') + '/command.json') as f:
        command = json.load(f)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(slave, stream)
    os.closerange(3, 256)
    while os.getppid() == parent:                # until conmon has adopted us
        time.sleep(0.002)
    os.execv(command[0], command)
console = socket.socket(socket.AF_UNIX)
console.connect(option('--console-socket'))
console.sendmsg([b'/dev/ptmx'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [master]))])
with open(option('--pid-file'), 'w') as f:
    f.write(str(pid))
'''


# --- processes --------------------------------------------------------------------------------------------------------

class Place:
    """What a tool gets for one run: a name, a folder, a port, paths in it."""
    count = 0

    def __init__(self):
        Place.count += 1
        self.name = f'bench{os.getpid()}-{Place.count}'
        self.dir = f'{TEMP}/{Place.count}'
        self.socket, self.recording, self.control = (f'{self.dir}/{n}' for n in ('socket', 'recording', 'control'))
        os.mkdir(self.dir)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]

    def fill(self, text):
        return text.format(port=self.port, recording=self.recording)


def read_file(path, default=''):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            return f.read()
    except OSError:
        return default


def read_link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ''


def born(pid):
    """When a process began (to know it again); None when it is gone or a zombie."""
    fields = read_file(f'/proc/{pid}/stat').rpartition(')')[2].split()
    return fields[19] if fields and fields[0] not in 'ZX' else None


def tasks(pid):
    try:
        return [f'/proc/{pid}/task/{t}' for t in os.listdir(f'/proc/{pid}/task')]
    except OSError:
        return []


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not (value := true()) and time.monotonic() < end:
        time.sleep(0.002)
    return value


def switch_autogroup(to):
    """sched(7)'s autogroups, on ('1') or off ('0'). Gives how they were: '0' in a kernel that has none."""
    try:
        with open(AUTOGROUP, encoding='ascii') as f:
            before = f.read().strip()
        if before != to:
            with open(AUTOGROUP, 'w', encoding='ascii') as f:
                f.write(to)
        return before
    except FileNotFoundError:
        return '0'


class Spinners:
    """One on each core, and no autogroups, as long as the `with` lasts; none in the other condition."""
    autogroup = '0'                              # as it was before: clean_up() sees to it, too
    leave_autogroup = False                      # a first look changes nothing of the machine

    def __init__(self, condition=ON):
        self.cores = os.sched_getaffinity(0) if condition == ON else []
        self.running = []

    def __enter__(self):
        if not self.cores:
            return
        try:
            if not Spinners.leave_autogroup:
                Spinners.autogroup = switch_autogroup('0')
        except OSError as error:                 # not root, or a container's /proc/sys, which is for reading alone
            print(f'bench: {error}: the spinners take their share of the cores', file=sys.stderr)
        for core in self.cores:
            spinner = subprocess.Popen([SPIN])
            self.running.append(spinner)
            os.sched_setaffinity(spinner.pid, {core})
            os.sched_setscheduler(spinner.pid, os.SCHED_IDLE, os.sched_param(0))

    def __exit__(self, *_):
        for spinner in self.running:
            spinner.kill()
            spinner.wait()
        restore_autogroup()


def restore_autogroup():
    if Spinners.autogroup == '1':
        switch_autogroup('1')
        Spinners.autogroup = '0'


class Lines:
    """Lines from a descriptor, each waited for with a limit."""
    def __init__(self, fd):
        self.fd, self.buffer = fd, b''

    def expect(self, word, seconds):
        """The numbers on the next line that begins with `word`."""
        end = time.monotonic() + seconds
        while True:
            line, found, rest = self.buffer.partition(b'\n')
            if found:
                self.buffer = rest
                first, *numbers = line.decode().split()
                if first == word:
                    return [int(n) for n in numbers]
                continue
            ready = select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self.fd, 65536) if ready else b''
            if not data:
                raise RuntimeError(f'no "{word}" ' + ('before the end' if ready else f'in {seconds} s'))
            self.buffer += data


class Helper:
    """A running `clients` or `bare`, driven over its standard streams."""
    def __init__(self, argv):
        self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV,
                                        stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0)
        self.lines = Lines(self.process.stdout.fileno())

    def say(self, line):
        self.process.stdin.write(line.encode() + b'\n')

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Session:
    """A started tool, the load on its terminal, and its clients: `count` that drain, or one `instead`."""
    def __init__(self, contestant, load, count=0, blocks=0, instead=None):
        self.contestant, self.blocks, self.at = contestant, blocks, Place()
        self.root = self.clients = self.connection = None
        self.pids, self.daemon, self.own = {}, 0, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.at.control)
        self.listener.listen(1)
        self.listener.settimeout(10)
        SESSIONS.append(self)
        try:
            self._start([LOAD, self.at.control, *(str(a) for a in load)], count, instead)
        except BaseException:
            self.stop()
            raise

    def _start(self, command, count, instead):
        kind, at = self.contestant.kind, self.at
        sockets = {'tcp': at.port, 'shim': at.port, 'dtach': at.socket, 'conmon': at.dir + '/attach'}
        self.target = f'{kind}:{sockets[kind]}' if kind in sockets else 'pty'
        argv = self.contestant.start(at, command)
        if instead and instead[0] == 'first':
            oneshot = self.contestant.oneshot
            self.clients = Helper([CLIENTS, 'first', self.target, *(oneshot(at, command) if oneshot else argv)])
        elif kind == 'fg':                       # without a client its output goes to /dev/null
            quiet = [] if count else ['sh', '-c', 'exec "$@" >/dev/null', 'sh']
            self.clients = self._drain(max(count, 1), quiet + argv)
        else:
            self.root = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=at.dir, env=ENV,
                                         stderr=subprocess.DEVNULL, start_new_session=True)
        self._meet_load()
        if self.clients:
            return
        own = self.contestant.client(at) if self.contestant.client else []
        if count:
            self.clients = self._drain(count, own)
        elif instead:
            self.clients = Helper([CLIENTS, instead[0], self.target, *instead[1:], *own])

    def _drain(self, count, own):
        how = 'exact' if self.contestant.exact else 'marker'
        before = self._sockets()
        helper = Helper([CLIENTS, 'drain', self.target, count, self.blocks, how, *own])
        if self.contestant.kind != 'fg':
            helper.lines.expect('connected', 20)
            if not self.contestant.client and not wait_until(lambda: len(self._sockets() - before) >= count, 10):
                raise RuntimeError('not all clients were let in')
        return helper

    def _sockets(self):
        folder = f'/proc/{self.daemon}/fd/'
        files = os.listdir(folder) if self.daemon else []
        return {link for link in (read_link(folder + f) for f in files) if link.startswith('socket:')}

    def _meet_load(self):
        self.connection, _ = self.listener.accept()
        self.load = Lines(self.connection.fileno())
        program, self.daemon = self.load.expect('ready', 10)
        children = [int(p) for t in tasks(self.daemon) for p in read_file(t + '/children').split()]
        self.own = [self.daemon, *(p for p in children if p != program)]
        if self.root and self.root.poll() is None and self.root.pid not in self.own:
            self.own.append(self.root.pid)
        self.pids = {p: born(p) for p in [*self.own, program]}

    def arm(self):
        """From now on what clients get counts. What an attaching draws has some time to pass before."""
        time.sleep(0.1 if self.contestant.exact else 0.4)
        self.clients.say('arm')
        self.clients.lines.expect('armed', 10)

    def go(self, how='g'):
        self.connection.sendall(how.encode())

    def cpu(self):
        """Nanoseconds that the tool's own processes have used."""
        return sum(int(read_file(t + '/schedstat', '0').split()[0]) for p in self.own for t in tasks(p))

    def switches(self):
        return sum(int(n) for p in self.own for t in tasks(p)
                   for n in re.findall(r'ctxt_switches:\s+(\d+)', read_file(t + '/status')))

    def memory(self, what):
        """KiB resident (Rss) or with what is shared divided (Pss)."""
        return sum(int(n) for p in self.own
                   for n in re.findall(rf'^{what}:\s+(\d+)', read_file(f'/proc/{p}/smaps_rollup'), re.M))

    def stop(self):
        if self.connection:
            self.connection.close()
        self.listener.close()
        if self.clients:
            self.clients.close()
        if self.root and self.root.poll() is None and self.root.pid not in self.pids:
            self.pids[self.root.pid] = born(self.root.pid)

        def gone():
            if self.root:
                self.root.poll()
            return not [p for p, birth in self.pids.items() if birth and born(p) == birth]
        wait_until(gone, 0.05)
        for number, seconds in ((signal.SIGTERM, 1), (signal.SIGKILL, 3)):
            for pid, birth in self.pids.items():
                if birth and born(pid) == birth:
                    os.kill(pid, number)
            if wait_until(gone, seconds):
                break
        if self.root:
            self.root.wait()
        SESSIONS.remove(self)
        shutil.rmtree(self.at.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# --- single measurements ----------------------------------------------------------------------------------------------

def run_load(contestant, mode, count, blocks):
    """The load writes it all and every client gets it: MiB/s of output, CPU, what was lost."""
    want = blocks * BLOCK + END
    with Session(contestant, ['write', mode, blocks, 4096], count, blocks) as s:
        if count:
            s.arm()
        before = s.cpu()
        s.go()
        begin, end = s.load.expect('done', 60)
        result = {}
        if count:
            s.clients.say('finish')
            delivered, last, complete, wrong, _ = s.clients.lines.expect('report', 60)
            end = max(end, last)
            result['delivered'] = delivered / 2**20 / ((end - begin) / 1e9)
            if not contestant.exact:
                result['lost'] = '' if complete == count else 'the end is not shown'
            elif complete != count or wrong:
                result['lost'] = f'{100 - 100 * delivered / want / count:.0f} %'
                if wrong:
                    result['lost'] += f', {wrong} of {count} clients see other bytes'
        mib = want / 2**20
        result.update(mibs=mib / ((end - begin) / 1e9), cpu=(s.cpu() - before) / 1e9 / (mib / 1024))
        if contestant.records and not count:
            result['size'] = os.path.getsize(s.at.recording) / want
        return result


def run_sends(count, blocks):
    """No terminal: a loop of sends of the same chunks to as many sockets."""
    at = Place()
    sender = Helper([BARE, '-s', at.port, count, blocks, SEND])
    clients = None
    try:
        clients = Helper([CLIENTS, 'drain', f'tcp:{at.port}', count, blocks, 'exact'])
        clients.lines.expect('connected', 20)
        clients.say('arm')
        clients.lines.expect('armed', 10)
        sender.say('go')
        begin, _, cpu = sender.lines.expect('done', 60)
        clients.say('finish')
        delivered, last, complete, wrong, _ = clients.lines.expect('report', 60)
        seconds = (last - begin) / 1e9
        return {'delivered': delivered / 2**20 / seconds, 'mibs': blocks / 4 / seconds,
                'cpu': cpu / 1e9 / (blocks / 4096), 'lost': '' if complete == count and not wrong else 'incomplete'}
    finally:
        for helper in (clients, sender):
            if helper:
                helper.close()


def echo(contestant, others, samples):
    probe = ['echo', samples, 1000]
    with Session(contestant, ['echo'], others, instead=probe) as s:
        helper = s.clients
        if others:
            own = contestant.client(s.at) if contestant.client else []
            helper = Helper([CLIENTS, probe[0], s.target, *probe[1:], *own])
        try:
            p50, p99, most, lost = helper.lines.expect('echo', 30)
        finally:
            if others:
                helper.close()
        return {'p50': p50 / 1e3, 'p99': p99 / 1e3, 'most': most / 1e3, 'lost': f'{lost} bytes' if lost else ''}


def first_byte(contestant):
    with Session(contestant, ['beacon'], instead=['first']) as s:
        return {'ms': s.clients.lines.expect('first', 10)[0] / 1e6}


def idle_all(group, seconds):
    """All of them idle at the same time, each with a client: wake-ups of each in so many seconds."""
    sessions, result = [], {}
    try:
        for c in group:
            sessions.append(Session(c, ['echo'], min(1, c.most)))
        time.sleep(1)
        before = [(s.switches(), s.cpu()) for s in sessions]
        time.sleep(seconds)
        for s, (switches, cpu) in zip(sessions, before):
            result[s.contestant.name] = [{'switches': s.switches() - switches, 'ms': (s.cpu() - cpu) / 1e6, 'round': 0}]
    finally:
        for s in sessions:
            s.stop()
    return result


def memory(contestant, count):
    blocks = 16                                  # 4 MiB: every page of a buffer has been used
    with Session(contestant, ['write', 'raw', blocks, 4096], count, blocks) as s:
        s.arm()
        s.go()
        s.load.expect('done', 60)
        s.clients.say('finish')
        s.clients.lines.expect('report', 60)
        return {'rss': s.memory('Rss'), 'pss': s.memory('Pss')}


def recording(contestant, blocks):
    """The load writes and exits; the clock stops when the tool has ended, its recording complete."""
    with Session(contestant, ['write', 'raw', blocks, 4096]) as s:
        gone = os.pidfd_open(s.daemon)
        s.go('x')
        ended = select.select([gone], [], [], 60)[0]
        now = time.monotonic_ns()
        os.close(gone)
        if not ended:
            raise RuntimeError('did not end')
        begin, _ = s.load.expect('done', 1)
        written = blocks * BLOCK + END
        return {'mibs': written / 2**20 / ((now - begin) / 1e9), 'size': os.path.getsize(s.at.recording) / written}


def make_recording(shim_contestant, mib, path):
    with Session(shim_contestant, ['write', 'raw', mib * 4, 4096]) as s:
        s.go('x')
        wait_until(lambda: not born(s.daemon), 60)
        shutil.copyfile(s.at.recording, path)


def replay(argv, path, mib, expected):
    """Runs argv (its output in a file beside the recording): MB of recording and of text a second of CPU; whether the
    bytes are the expected ones, where some are."""
    out = path + '.out'
    with open(out, 'wb') as f:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([a.format(path=path, out=path + '.raw') for a in argv], stdout=f, stderr=subprocess.DEVNULL,
                       check=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    written = path + '.raw' if os.path.exists(path + '.raw') else out
    with open(written, 'rb') as f:
        exact = not expected or hashlib.file_digest(f, 'sha256').hexdigest() == expected
    for name in (out, path + '.raw'):
        if os.path.exists(name):
            os.unlink(name)
    return {'mbs': os.path.getsize(path) / 1e6 / seconds, 'cpu': seconds / (mib / 1024),
            'lost': '' if exact else 'not the bytes that were written'}


# --- rounds and tables ------------------------------------------------------------------------------------------------

def attempt(work, *arguments):
    start = time.monotonic()
    try:
        result = work(*arguments)
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        result = {'error': f'{type(e).__name__}: {e}'[:100]}
    return result | {'took': time.monotonic() - start}


def rounds(count, jobs, seconds, rarely=()):
    """Every job once a round, each round beginning with another one; but those of the names `rarely` only in some.
    Fewer rounds where so many would take longer than `seconds`. {key: [result, with the number of its round]}"""
    results, start = {key: [] for key, *_ in jobs}, time.monotonic()
    for i in range(count):
        if i and (time.monotonic() - start) / i * (i + 1) > seconds:
            print(f'bench: {i} rounds, not {count}: they take long here', file=sys.stderr)
            break
        turn = i * len(jobs) // count
        for key, work, *arguments in jobs[turn:] + jobs[:turn]:
            if i % RARELY and (key[0] if isinstance(key, tuple) else key) in rarely:
                continue
            if sys.stderr.isatty():
                print(f'\r\033[K round {i + 1}/{count}: {name_of(key)}', end='', file=sys.stderr, flush=True)
            results[key].append(attempt(work, *arguments) | {'round': i})
    if sys.stderr.isatty():
        print('\r\033[K', end='', file=sys.stderr, flush=True)
    return results


def rare(everyone):
    return [c.name for c in everyone if not c.yardstick]


def few(o):
    """Rounds of the cases whose figures hardly vary."""
    return (o.rounds + RARELY - 1) // RARELY


def name_of(key):
    return ' / '.join(map(str, key)) if isinstance(key, tuple) else key


def number(value):
    return f'{value:.2f}' if abs(value) < 10 else f'{value:.1f}' if abs(value) < 100 else f'{value:.0f}'


def median(results, key):
    values = values_of(results, key)
    return number(statistics.median(values)) if values else ''


def values_of(results, key):
    return [r[key] for r in results if r.get(key) is not None]


def range_of(values):
    """Median (least-most)."""
    if not values:
        return ''
    if len(values) == 1 or min(values) == max(values):
        return number(values[0])
    return f'{number(statistics.median(values))} ({number(min(values))}-{number(max(values))})'


def spread(results, key):
    return range_of(values_of(results, key))


def ratios(results, base, key):
    """Of each round in which there is both."""
    others = {b['round']: b[key] for b in base or [] if b.get(key)}
    return [r[key] / others[r['round']] for r in results if r.get(key) is not None and r['round'] in others]


def compare(results, base, key):
    return range_of(ratios(results, base, key))


def faults(results):
    found = [r.get('error') or r.get('lost') for r in results]
    bad = [f for f in found if f]
    return f'{len(bad)} of {len(found)} runs: {bad[-1]}' if bad else ''


def pivot(results, names, columns, show):
    """A row for each name, a cell for each column; and what was lost, cells with a star."""
    rows, lost = [], []
    for name in names:
        keys = [(name, *(column if isinstance(column, tuple) else (column,))) for column in columns]
        runs = [results.get(key, []) for key in keys]
        if any(runs):
            rows.append([name, *(show(r) + ' *' * bool(faults(r)) if r else '' for r in runs)])
        lost += [f'* {name_of(key)}: {faults(r)}' for key, r in zip(keys, runs) if faults(r)]
    return rows, lost or ['Nobody lost a byte.']


def table(title, note, head, rows, notes=()):
    lines = ['', f'### {title}', '', note, '']
    lines += ['| ' + ' | '.join(map(str, row)) + ' |' for row in (head, ['---'] * len(head), *rows)]
    print('\n'.join(lines + ['', *notes] * bool(notes)), flush=True)


# --- cases ------------------------------------------------------------------------------------------------------------

def case_throughput(everyone, o):
    """Without spinners only those with whom there is something to compare."""
    results = {}
    for condition in CONDITIONS:
        jobs = [((c.name, mode, n, condition), run_load, c, mode, n, c.blocks(o.mib / (2 if n > 1 else 1)))
                for mode in ('raw', 'cooked') for n in (0, 1, 8)
                for c in everyone if c.takes('throughput', n) and (c.yardstick or condition == ON)]
        with Spinners(condition):
            found = rounds(o.rounds if condition == ON else few(o), jobs, THROUGHPUT_SECONDS[condition], rare(everyone))
        results |= found
        throughput_table(condition, everyone, found)
    return results


def throughput_table(condition, everyone, found):
    columns = [(mode, n, condition) for mode in ('raw', 'cooked') for n in (0, 1, 8)]
    rows, lost = pivot(found, [c.name for c in everyone], columns,
                       lambda r: f"{median(r, 'mibs')} ({median(r, 'cpu')})")
    table(f'Throughput, {condition}', 'MiB/s, in brackets CPU s/GiB: a program writes text to a raw or a cooked '
          'terminal, until every client (0, 1, 8) has everything. shim records unless -n; so do script, ttyrec, '
          'asciinema, conmon. bare only reads the terminal.',
          ['', *(f'{mode}, {n}' for mode, n, _ in columns)], rows, lost)


def case_curve(everyone, o):
    points = {n: max(1, mib // o.shrink) for n, mib in CURVE.items() if not o.quick or n in (1, 10, 100, 1000)}
    jobs = [(('loop of sends', n), run_sends, n, mib * 4) for n, mib in points.items()]
    jobs += [((c.name, n), run_load, c, 'raw', n, c.blocks(mib))
             for c in everyone for n, mib in points.items() if c.takes('curve', n)]
    with Spinners():
        results = rounds(few(o), jobs, 130, rare(everyone))
    names = ['loop of sends', *(c.name for c in everyone)]
    rows, lost = pivot(results, names, points, lambda r: median(r, 'delivered'))
    table('Many clients, spinners', 'MiB/s that all clients together get, raw terminal. The loop sends '
          f'{SEND >> 10} KiB to each by turns, blocking, without a terminal.', ['clients:', *points], rows, lost)
    return results


def case_echo(everyone, o):
    results = {}
    for condition in CONDITIONS:
        with Spinners(condition):
            results |= rounds(o.rounds if condition == ON else few(o), [
                ((c.name, n, condition), echo, c, n, o.samples) for n in (0, 8) for c in everyone
                if c.takes('echo', n + 1) and (condition == ON or c.name in ('shim', 'bare, sending'))
            ], 90 if condition == ON else 20, rare(everyone) + ['conmon'])
    table('Echo', 'A typed byte every millisecond, until the program has written it back and the client has it; '
          'microseconds.', ['', 'other clients', 'cores', 'p50', 'p99', 'most', 'lost'],
          [[*key, *(spread(r, q) for q in ('p50', 'p99', 'most')), faults(r)] for key, r in results.items()])
    return results


def case_first(everyone, o):
    with Spinners():
        results = rounds(o.rounds, [(c.name, first_byte, c) for c in everyone if c.takes('first', 1)], 20)
    table('Start, spinners', 'From the start of the tool until a client sees the first byte of the program.',
          ['', 'ms', 'ratio to `bare, sending`', ''],
          [[key, spread(r, 'ms'), compare(r, results.get('bare, sending'), 'ms'), faults(r)]
           for key, r in results.items()])
    return results


def case_idle(everyone, o):
    results = idle_all([c for c in everyone if c.takes('idle')], o.idle)
    table('Idle, no spinners', f'{o.idle} s without anything to do, one client attached.',
          ['', 'context switches', 'CPU ms'],
          [[key, spread(r, 'switches'), spread(r, 'ms')] for key, r in results.items()])
    return results


def case_memory(everyone, o):
    results = rounds(1, [((c.name, n), memory, c, n) for c in everyone for n in (1, 200) if c.takes('memory', n)], 20)

    def each(name):
        one, many = (results.get((name, n), [{}])[0].get('rss') for n in (1, 200))
        return number((many - one) / 199) if one and many else ''
    table('Memory', 'Of the tool, after 4 MiB of output, KiB.',
          ['', 'clients', 'resident', 'proportional', 'for each further client', ''],
          [[*key, spread(r, 'rss'), spread(r, 'pss'), each(key[0]) if key[1] > 1 else '', faults(r)]
           for key, r in results.items()])
    return results


def case_recording(everyone, o):
    with Spinners():
        jobs = [(c.name, recording, c, c.blocks(o.mib)) for c in everyone if c.takes('recording')]
        results = rounds(few(o), jobs, 15)
    table('Recording, spinners', 'No clients; until the tool has ended and its recording is complete. Ratio: of size, '
          'to `bare, recording`.',
          ['', 'MiB/s', 'bytes a byte', 'ratio', ''],
          [[key, spread(r, 'mibs'), spread(r, 'size'), compare(r, results.get('bare, recording'), 'size'), faults(r)]
           for key, r in results.items()])
    return results


def case_replay(everyone, o):
    shim = next((c for c in everyone if c.name == 'shim'), None)
    if not shim:
        return {}
    path, record = TEMP + '/replay.cast', os.path.join(os.path.dirname(o.shim), 'record')
    make_recording(shim, o.mib, path)
    block = subprocess.run([CLIENTS, 'text'], stdout=subprocess.PIPE, check=True).stdout
    expected = hashlib.sha256(block * (o.mib * 4) + b'@@END@@\r\n').hexdigest()
    convert = [record, 'convert', '-t', 'raw', '-o', '{out}', '{path}']
    jobs = [('record cat', replay, [record, 'cat', '{path}'], path, o.mib, expected),
            ('record convert -t raw', replay, convert, path, o.mib, expected),
            ('record paint', replay, [record, 'paint', '{path}'], path, o.mib, '')]
    results = rounds(few(o), jobs, 20)
    os.unlink(path)
    table('Reading recordings', f'A recording of {o.mib} MiB of text; CPU time.',
          ['', 'MB of recording a second', 's/GiB of text', ''],
          [[key, spread(r, 'mbs'), spread(r, 'cpu'), faults(r)] for key, r in results.items()])
    return results


def case_micro(_, o):
    if not os.path.exists(MICRO):
        return {}
    results = {}
    for i in range(few(o)):
        run = subprocess.run([MICRO], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        for name, kind, ns in (line.split() for line in run.stdout.splitlines()):
            results.setdefault((name, kind), []).append({'ns': float(ns), 'round': i})
    table("The shim's functions alone", 'In pieces of 4,095 bytes; nanoseconds of CPU a byte of text.',
          ['', 'text', 'ns'], [[*key, spread(r, 'ns')] for key, r in results.items()])
    return results


# What issue 14 asks for: (what, case, key of the shim's figure, field, at least or at most, key to divide by).
TARGETS = [
    *((f'recording, {mode}, clients: {n}: throughput, to `{base}`', 'throughput', ('shim', mode, n, ON), 'mibs', '>=',
       goal, (base, mode, m, ON))
      for mode, n, goal, base, m in (('raw', 0, 0.95, 'bare', 0), ('raw', 1, 0.95, 'bare', 0),
                                     ('raw', 8, 0.9, 'bare, sending, batching', 8),
                                     ('cooked', 0, 0.9, 'bare', 0), ('cooked', 1, 0.85, 'bare', 0),
                                     ('cooked', 8, 0.9, 'bare, sending, batching', 8))),
    *((f'recording, raw, clients: {n}: CPU s/GiB without spinners, to conmon', 'throughput', ('shim', 'raw', n, OFF),
       'cpu', '<=', goal, ('conmon', 'raw', n, OFF)) for n, goal in ((0, 0.9), (1, 0.9), (8, 0.8))),
    *((f'-n, raw, clients: {n}: throughput, to recording', 'throughput', ('shim -n', 'raw', n, ON), 'mibs', '>=', 1.0,
       ('shim', 'raw', n, ON)) for n in (0, 1, 8)),
    *((f'-n, raw, clients: {n}: CPU without spinners, to recording', 'throughput', ('shim -n', 'raw', n, OFF), 'cpu',
       '<=', 1.0, ('shim', 'raw', n, OFF)) for n in (0, 1, 8)),
    ('encoder, coloured log text, ns a byte', 'micro', ('encoder', 'terminal'), 'ns', '<=', 0.7, None),
    *((f'clients: {n}: delivered, to `bare, sending, batching`', 'curve', ('shim', n), 'delivered', '>=', 1.0,
       ('bare, sending, batching', n)) for n in (100, 1000)),
    *((f'echo alone: {q}, to `bare, sending`', 'echo', ('shim', 0, ON), q, '<=', 1.05, ('bare, sending', 0, ON))
      for q in ('p50', 'p99')),
    ('echo with 8 others: p50, to `bare, sending`', 'echo', ('shim', 8, ON), 'p50', '<=', 1.09,
     ('bare, sending', 8, ON)),
    ('start to first byte, to `bare, sending`', 'first', 'shim', 'ms', '<=', 1.2, 'bare, sending'),
    ('idle: context switches', 'idle', 'shim', 'switches', '<=', 0, None),
    *((f'resident, clients: {n}, KiB', 'memory', ('shim', n), 'rss', '<=', 3300, None) for n in (1, 200)),
    ('recording: size, to `bare, recording`', 'recording', 'shim', 'size', '<=', 1.02, 'bare, recording'),
    *((f'{name}, MB/s', 'replay', name, 'mbs', '>=', 300, None) for name in ('record cat', 'record convert -t raw'))]


def show_targets(found):
    """Those whose cases have been run."""
    rows = []
    for what, case, key, field, sense, goal, base in TARGETS:
        ours, theirs = (found.get(case, {}).get(k, []) for k in (key, base))
        values = ratios(ours, theirs, field) if base else values_of(ours, field)
        if values:
            value = statistics.median(values)
            met = value >= goal if sense == '>=' else value <= goal
            rows.append([what, f'{sense} {goal}', range_of(values), len(values), 'yes' if met else 'no'])
    head = ['what', 'target', 'here', 'rounds', 'met']
    table('Targets', 'Median (least-most); of ratios within a round.', head, rows)
    return [dict(zip(head, row)) for row in rows]


CASES = {name[5:]: f for name, f in globals().items() if name.startswith('case_')}


# --- the whole --------------------------------------------------------------------------------------------------------

def build(cases):
    """Compiles what is older than its sources. micro depends on names inside of shim.cpp: the rest goes on without."""
    os.makedirs(TOOLS, exist_ok=True)
    shared = [os.path.join(HERE, 'common.hpp')]
    for program in (LOAD, BARE, CLIENTS, SPIN, *([MICRO] if 'micro' in cases else [])):
        source = os.path.join(HERE, os.path.basename(program) + '.cpp')
        sources = [source, *shared, *([os.path.join(ROOT, 'shim.cpp')] if program == MICRO else [])]
        if os.path.exists(program) and os.path.getmtime(program) > max(map(os.path.getmtime, sources)):
            continue
        compiler = [os.environ.get('CXX', 'c++'), '-std=c++20', '-O2']
        done = subprocess.run([*compiler, '-o', program, source, '-lutil'], check=program != MICRO)
        if done.returncode != 0:
            print('bench: micro cannot be compiled: left out', file=sys.stderr)
            if os.path.exists(program):
                os.unlink(program)


def machine():
    model = re.search(r'^model name\s*:\s*(.*)$', read_file('/proc/cpuinfo'), re.M)
    return {'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M UTC'), 'cpus': os.cpu_count(),
            'cpu': model[1] if model else platform.machine(), 'kernel': f'{platform.system()} {platform.release()}',
            'load': os.getloadavg()[0]}


def save(path, results):
    if path:
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(results, f, indent=1)


def clean_up():
    restore_autogroup()
    for session in SESSIONS[:]:
        session.stop()
    shutil.rmtree(TEMP, ignore_errors=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arg = parser.add_argument
    arg('--shim', default=os.path.join(ROOT, 'build', 'shim'), help='the shim to measure, with record beside it')
    arg('--cases', default=','.join(CASES), help='some of: %(default)s')
    arg('--only', default='', help='contestants, by name, with commas; `bare` is always among them')
    arg('--rounds', type=int, help='default: 7, quick: 1')
    arg('--quick', action='store_true', help='one round of less of everything, with the autogroups as they are')
    arg('--json', help='write every single result there')
    arg('--svg', help='write a plot of throughput against the number of clients there')
    o = parser.parse_args()
    o.rounds = o.rounds or (1 if o.quick else 7)
    o.mib, o.samples, o.idle, o.shrink = (16, 400, 2, 16) if o.quick else (48, 1000, 10, 1)
    o.cases = o.cases.split(',')
    if unknown := set(o.cases) - set(CASES):
        parser.error('no such case: ' + ', '.join(unknown))
    return o


def main():
    o = parse_arguments()
    atexit.register(clean_up)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    Spinners.leave_autogroup = o.quick
    build(o.cases)
    settings = {'runtime': RUNTIME, 'tmux.conf': 'set -g status off\n',
                'screenrc': 'startup_message off\nvbell off\ndefutf8 on\n'}
    for name, text in settings.items():
        with open(f'{TEMP}/{name}', 'w', encoding='utf-8') as f:
            f.write(text)
    os.chmod(TEMP + '/runtime', 0o755)
    os.mkdir(TEMP + '/S', 0o700)
    ENV.update(HOME=TEMP, SCREENDIR=TEMP + '/S')
    wanted = [name.strip() for name in re.split(r',(?! )', o.only)] if o.only else []
    everyone = [c for c in contestants(o) if not wanted or c.name in wanted or c.name == 'bare']
    host = machine()
    print(f"{host['cpus']} x {host['cpu']}, {host['kernel']}, {host['date']}, rounds: {o.rounds}, "
          f"load before: {host['load']:.2f}\n'spinners': a task of class SCHED_IDLE on each core kept it awake (a core "
          "that goes idle in a virtual machine takes some 50 us to wake); 'no spinners': not.")
    results, tables = {'machine': host}, {}
    for name in o.cases:
        start = time.monotonic()
        found = tables[name] = CASES[name](everyone, o)
        print(f'bench: {name}: {time.monotonic() - start:.0f} s', file=sys.stderr)
        results[name] = {name_of(key): r for key, r in found.items()}
        save(o.json, results)
        if o.svg and name == 'curve':
            with open(o.svg, 'w', encoding='utf-8') as f:
                f.write(plot.draw(found, f"{host['cpus']} x {host['cpu']}, {host['kernel']}, {host['date'][:10]}"))
    results['targets'] = show_targets(tables)
    save(o.json, results)


if __name__ == '__main__':
    main()
