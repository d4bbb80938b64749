#!/usr/bin/env python3
"""How long a late client waits for its screen, what the others notice, and what it costs: prints a table of targets
(issue 20's) and what was measured.

speed.py [MB]: size of the long sessions, 1 GiB if none is given (some minutes). By hand, on a quiet machine. A paint's
time is from the connection to its last byte, or to live bytes behind it."""
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from harness import SHIM, Client, cpu_seconds, hello
from told import helpers

KB, MB, TURNS = 1000, 1000 * 1000, 7
STEP = 40 * MB              # printed before each of the attaches to a long session that pauses: more than is read ahead
SHOWN = 200 * KB            # more than a paint with its history: who has so much sees live bytes
PLAIN = '2026-11-25 05:%02d:%02d.%03d INFO worker-%d: request %06d took %d ms, path /a/b\n'
COLOURED = ('\x1b[2m2026-11-25 05:%02d:%02d.%03d\x1b[m \x1b[32mINFO\x1b[m worker-%d: request %06d took \x1b[1m%d ms\x1b[m, '
            'path /a/b\n')
CHINESE = '%02d:%02d.%03d 天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏 %d %06d %d 閏餘成歲律呂調陽\n'
PROGRAM = '''
import os, sys
block, size, flood = open(sys.argv[1], 'rb').read(), int(sys.argv[2]), sys.argv[3] == 'flood'
def put(size):
    while size > 0:
        view = memoryview(block)[:size]
        size -= len(view)
        while view:
            view = view[os.write(1, view[:65536]):]
put(size)
open(sys.argv[1] + '.done', 'w')
while flood:
    os.write(1, block[:65536])
while True:
    for byte in os.read(0, 100):
        if byte == 43:
            put(int(sys.argv[4]))
            open(sys.argv[1] + '.done', 'w')
'''


class Session:
    """A program that prints `size` bytes of a text, then goes on for ever, or waits for a `+` and prints some more. What
    is typed is echoed."""
    def __init__(self, size, *options, text=COLOURED, flood=False):
        self.folder = tempfile.mkdtemp(prefix='speed-')
        path = os.path.join(self.folder, 'text')
        with open(path, 'w', encoding='utf-8') as f:
            f.writelines(text % (n // 60 % 60, n % 60, n % 1000, n % 16, n, n % 700) for n in range(5000))
        self.sock, self.done = os.path.join(self.folder, 'sock'), path + '.done'
        argv = [SHIM, '-s', '80x24', *options, self.sock, '/usr/bin/python3', '-SEc', PROGRAM, path, str(size),
                'flood' if flood else '', str(STEP)]
        said = subprocess.run(argv, cwd=self.folder, check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL).stdout
        self.pid = int(said.split('pid ')[1].split(',')[0])
        self.wait()

    def wait(self):
        while not os.path.exists(self.done):
            time.sleep(0.005)
        os.unlink(self.done)

    def more(self):
        client = Client(self.sock, hello(0, 0))
        client.send(b'+\n')
        client.close()
        self.wait()

    def program(self):
        with open(f'/proc/{self.pid}/task/{self.pid}/children', encoding='ascii') as f:
            return int(f.read().split()[0])

    def helper(self):
        """The pid of `record serve`, or None."""
        return next(iter(helpers(self, self.program())), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGTERM)
        while os.path.exists(f'/proc/{self.pid}'):
            time.sleep(0.05)
        subprocess.run(['rm', '-rf', self.folder], check=True)


def painted(sock, quiet=0.3):
    """Seconds until the last byte of a paint has come, and its length."""
    began = time.monotonic()
    client = Client(sock, hello(24, 80))
    last, size = began, 0
    while select.select([client.sock], [], [], quiet if size else 20)[0]:
        data = client.sock.recv(1 << 20)
        assert data, 'closed'
        size += len(data)
        last = time.monotonic()
    client.close()
    return last - began, size


def first_live(sock):
    """Seconds until there is a paint and live bytes behind it."""
    began, size = time.monotonic(), 0
    client = Client(sock, hello(24, 80), timeout=60)
    while size < SHOWN:
        data = client.sock.recv(1 << 20)
        assert data, 'closed'
        size += len(data)
    client.close()
    return time.monotonic() - began


def crowd(session, count):
    """Seconds until `count` clients have begun to be painted and are no more behind; and the echoes of one who types, in
    milliseconds, from the first paint on."""
    typist = Client(session.sock, hello(0, 0))
    typist.send(b'x\n')
    while not typist.sock.recv(1 << 20).endswith(b'x\r\n'):
        pass
    began = last = time.monotonic()
    clients = [Client(session.sock, hello(24, 80)) for _ in range(count)]
    got, echoes, typed = {client.sock: 0 for client in clients}, [], None
    while not all(got.values()) or time.monotonic() < last + 0.3:
        assert time.monotonic() < began + 60, f'{sum(not n for n in got.values())} of {count} got nothing'
        if typed is None and any(got.values()):
            typist.send(b'x\n')
            typed = time.monotonic()
        for sock in select.select([typist.sock, *got], [], [], 0.1)[0]:
            data = sock.recv(1 << 20)
            assert data, f'closed after {time.monotonic() - began:.1f} s, with {got.get(sock)} bytes'
            if sock is typist.sock:
                echoes.append((time.monotonic() - typed) * 1000)
                typed = None
            elif len(data) > 1000 or not got[sock]:     # (the rest are echoes)
                got[sock] += len(data)
                last = time.monotonic()
    for client in (typist, *clients):
        client.close()
    return last - began, sorted(echoes)[int(len(echoes) * 0.99)]


def status(pid, field='VmRSS'):
    """MB of memory, from /proc; 0 when there is no such process."""
    try:
        with open(f'/proc/{pid}/status', encoding='ascii') as f:
            return next((int(line.split()[1]) for line in f if line.startswith(field + ':')), 0) * 1024 / MB
    except OSError:
        return 0


def row(what, measured, target, unit):
    """`measured`: values, of which the median counts and the worst is told too."""
    value, worst = statistics.median(measured), max(measured)
    shown = f'{value:.3g}' + (f' ({worst:.3g})' if len(measured) > 1 else '')
    print(f"| {what} | {target} {unit} | {shown} {unit} | {'yes' if value <= target else 'no'} |", flush=True)


def measure_short(size, first_target, second_target, *options):
    first, second = [], []
    for _ in range(TURNS):
        with Session(size, *options) as session:
            time.sleep(0.2)
            first.append(painted(session.sock)[0] * 1000)
            second.append(painted(session.sock)[0] * 1000)
    what = ' '.join([f'late attach, {size / MB:.1f} MB', *options])
    row(what, first, first_target, 'ms')
    row('... the second', second, second_target, 'ms')


def measure_long(size, name, text, target, *options):
    """One session that pauses (after more than is read ahead, each time) and one that does not."""
    with Session(size, *options, text=text) as session:
        times = []
        for _ in range(TURNS):
            session.more()
            times.append(painted(session.sock)[0])
        row(' '.join([f'late attach to {size / MB:.0f} MB, {name}', *options]), times, target, 's')
    with Session(size, *options, text=text, flood=True) as session:
        row('... in a flood', [first_live(session.sock) for _ in range(TURNS)], target, 's')


def measure_crowds(*options):
    for count, target in ((40, 0.6), (200, 0.8)):
        took, echo = [], []
        for _ in range(3):
            with Session(180 << 20, *options) as session:
                try:
                    seconds, milliseconds = crowd(session, count)
                except AssertionError as why:
                    print(why, file=sys.stderr)
                    seconds = milliseconds = float('inf')
                took.append(seconds)
                echo.append(milliseconds)
        row(' '.join([f'{count} at once behind 180 MiB', *options]), took, target, 's')
        row('... who types meanwhile waits (p99)', echo, 5, 'ms')


def measure_cost(size):
    """Of a session that nobody comes to late."""
    with Session(size, text=PLAIN) as session:
        row(f"shim's CPU for {size / MB:.0f} MB, plain", [cpu_seconds(session.pid)], 8.5 * size / (1 << 30), 's')
        helper = session.helper()
        row("... and the helper's", [cpu_seconds(helper) if helper else 0], 4 * size / (1 << 30), 's')
        painted(session.sock)
        row("the shim's memory", [status(session.pid)], 3.2, 'MB')
        row("the helper's, with 64K of history at 80x24", [status(session.helper())], 6, 'MB')


def main():
    size = int(float(sys.argv[1]) * MB) if len(sys.argv) > 1 else 1 << 30
    print('Median (worst).\n\n| what | target | measured | met |\n| --- | --- | --- | --- |', flush=True)
    for options in ((), ('-n',)):
        measure_short(100 * KB, 6, 6, *options)
        measure_short(5 * MB, 40, 6, *options)
        measure_crowds(*options)
        for name, text, target in (('plain', PLAIN, 0.15), ('coloured', COLOURED, 0.5), ('Chinese', CHINESE, 0.5)):
            measure_long(size, name, text, target, *options)
    measure_cost(size)


main()
