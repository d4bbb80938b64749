#!/usr/bin/env python3
"""How long a late client waits for its screen, and what the others notice: prints a table of targets (issue 11's) and
what was measured.

speed.py [MB]: size of the long recording, 1 GiB if none is given (under three minutes). By hand, on a quiet machine. A
paint's time is from the connection to its last byte."""
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from harness import RECORD, SHIM, Client, hello

KB, MB = 1000, 1000 * 1000
LINE = (
    '\x1b[2m2026-11-25 05:%02d:%02d.%03d\x1b[m \x1b[%dm%s\x1b[m worker-%d: request %06d took \x1b[1m%d ms\x1b[m, '
    'path /a/b\n'
)
BLOCK = ''.join(
    LINE % (n // 60 % 60, n % 60, n % 1000, 31 + n % 6, ('INFO', 'WARN', 'DEBUG')[n % 3], n % 16, n, n % 700)
    for n in range(5000)
).encode()
PROGRAM = '''
import os, sys
block, size = open(sys.argv[1], 'rb').read(), int(sys.argv[2])
while size > 0:
    view = memoryview(block)[:size]
    size -= len(view)
    while view:
        view = view[os.write(1, view[:65536]):]
open(sys.argv[1] + '.done', 'w')
if sys.argv[3] == 'flood':
    while True:
        os.write(1, block[:65536])
os.read(0, 1)
while True:
    os.read(0, 100)
'''


class Session:
    def __init__(self, size, flood=False):
        self.folder = tempfile.mkdtemp(prefix='speed-')
        text = os.path.join(self.folder, 'text')
        with open(text, 'wb') as f:
            f.write(BLOCK)
        self.sock = os.path.join(self.folder, 'sock')
        argv = [
            SHIM,
            '-s',
            '80x24',
            self.sock,
            '/usr/bin/python3',
            '-SEc',
            PROGRAM,
            text,
            str(size),
            'flood' if flood else '',
        ]
        said = subprocess.run(
            argv, cwd=self.folder, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stdout
        self.pid = int(said.split('pid ')[1].split(',')[0])
        self.recording = os.path.join(self.folder, said.strip().rsplit('recording ', 1)[1])
        while not os.path.exists(text + '.done'):
            time.sleep(0.05)

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        while os.path.exists(f'/proc/{self.pid}'):
            time.sleep(0.05)
        subprocess.run(['rm', '-rf', self.folder], check=True)


def painted(sock, quiet=0.5):
    """Seconds until the last byte of a paint has come, and its length."""
    began = time.monotonic()
    client = Client(sock, hello(24, 80))
    last, size = began, 0
    while select.select([client.sock], [], [], quiet if size else 10)[0]:
        size += len(client.sock.recv(1 << 20))
        last = time.monotonic()
    client.close()
    return last - began, size


def first_line_in_flood(sock):
    """Seconds until there is a paint and live bytes behind it: more than a paint with its history can be."""
    began = time.monotonic()
    client = Client(sock, hello(24, 80), timeout=60)
    size = 0
    while size < 200 * KB:
        size += len(client.sock.recv(1 << 20))
    client.close()
    return time.monotonic() - began


def many(sock, count):
    """Seconds until `count` clients are painted, and the 99th percentile of a live client's echo meanwhile, in ms."""
    live = Client(sock, hello(24, 80))
    while select.select([live.sock], [], [], 0.5)[0]:
        live.sock.recv(1 << 20)
    size, echoes = painted(sock)[1], []
    began = time.monotonic()
    clients = [Client(sock, hello(24, 80)) for _ in range(count)]
    got = {client.sock: 0 for client in clients}
    waiting, typed = set(got), None
    while waiting and time.monotonic() < began + 60:
        if typed is None:
            live.send(b'x')
            typed = time.monotonic()
        for sock_ in select.select([live.sock, *waiting], [], [], 1)[0]:
            data = sock_.recv(1 << 20)
            if sock_ is live.sock:
                echoes.append(time.monotonic() - typed)
                typed = None
            else:
                got[sock_] += len(data)
                if got[sock_] >= size - 200 or not data:
                    waiting.discard(sock_)
    took = time.monotonic() - began
    for client in (live, *clients):
        client.close()
    return took, sorted(echoes)[int(len(echoes) * 0.99)] * 1000, len(echoes), len(waiting)


def status(pid, field):
    """MiB of memory, from /proc; 0 when the process is no more."""
    try:
        with open(f'/proc/{pid}/status', encoding='ascii') as f:
            return next((int(line.split()[1]) for line in f if line.startswith(field + ':')), 0) / 1024
    except OSError:
        return 0


def paint_alone(recording):
    """Processor seconds of `record paint`, and the most memory that it had, in MiB (what wait4 tells of that is true of
    the Python from before the exec too)."""
    process, most = subprocess.Popen([RECORD, 'paint', recording], stdout=subprocess.DEVNULL), 0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        most = max(most, status(process.pid, 'VmHWM'))
        time.sleep(0.002)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, most


def row(what, measured, target, unit, least=False):
    """`measured`: values, of which the median counts and the worst is told too."""
    values = sorted(measured, reverse=least)
    value, worst = values[len(values) // 2], values[-1]
    met = value >= target if least else value <= target
    shown = f'{value:.1f}' + (f' ({worst:.1f})' if len(values) > 1 else '')
    wanted = f"{'>=' if least else '<='} {target} {unit}"
    print(f"| {what} | {wanted} | {shown} {unit} | {'yes' if met else 'no'} |", flush=True)


def milliseconds(times):
    return [t * 1000 for t in times]


def measure_short(size, target, crowd=False):
    """A session that has printed a little and pauses."""
    session = Session(size)
    try:
        time.sleep(0.3)
        times = [painted(session.sock)[0] for _ in range(7)]
        row(f'late attach, {size / MB:.1f} MB', milliseconds(times), target, 'ms')
        if crowd:
            took, echo, count, left = many(session.sock, 200)
            row(f'200 clients at once, until painted ({left} were not)', [took], 4, 's')
            row(f"a live client's echo meanwhile, p99 of {count}", [echo], 20, 'ms')
    finally:
        session.end()


def measure_long(size):
    """... and much, with the model's speed and the memory for it. The first attach comes a second after the output has
    paused, when the keyframe is just being made; then one that comes later."""
    session = Session(size)
    try:
        time.sleep(1)
        first = painted(session.sock)[0]
        row(f'late attach, {size / MB:.0f} MB, 1 s after the output paused', milliseconds([first]), 300, 'ms')
        time.sleep(3)
        times = [painted(session.sock)[0] for _ in range(7)]
        row('... and some seconds later', milliseconds(times), 300, 'ms')
        took, memory = paint_alone(session.recording)
        row('model, coloured log text, decoding included', [size / MB / took], 200, 'MB/s', least=True)
        row('memory of `record paint`', [memory], 16, 'MiB')
        row('memory of the shim', [status(session.pid, 'VmRSS')], 4, 'MiB')
    finally:
        session.end()


def measure_flood(size):
    """... and of one whose program goes on printing."""
    session = Session(size, flood=True)
    try:
        times = [first_line_in_flood(session.sock) for _ in range(3)]
        row(f'late attach in a flood after {size / MB:.0f} MB', times, 2, 's')
    finally:
        session.end()


def main():
    size = int(float(sys.argv[1]) * MB) if len(sys.argv) > 1 else 1 << 30
    print('Median (worst).\n\n| what | target | measured | met |\n| --- | --- | --- | --- |', flush=True)
    measure_short(100 * KB, 10)
    measure_short(5 * MB, 60, crowd=True)
    measure_long(size)
    measure_flood(size)


main()
