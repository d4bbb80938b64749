#!/usr/bin/env python3
"""How long a late client waits for its screen, and what the others notice: prints a table.

speed.py [SIZE...]: sizes of the recordings in MB (100 KB, 5 MB and 1 GiB if none is given; the last takes minutes). By
hand, on a quiet machine. A paint's time is from the connection to its last byte."""
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


def paint_alone(recording):
    """Seconds of `record paint`, and the most memory that it had, in MiB."""
    began = time.monotonic()
    process = subprocess.Popen([RECORD, 'paint', recording], stdout=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return time.monotonic() - began, usage.ru_maxrss / 1024


def measure(size):
    """The rows of a session of that size that has paused."""
    session = Session(size)
    try:
        time.sleep(2.5 if size > 16 * MB else 0.3)
        times = sorted(painted(session.sock)[0] for _ in range(7))
        print(
            f'| late attach, {size / MB:.1f} MB, median (most) of 7 '
            f'| {times[3] * 1000:.0f} ({times[-1] * 1000:.0f}) ms |'
        )
        took, memory = paint_alone(session.recording)
        rate = f'{took * 1000:.0f} ms, {size / MB / took:.0f} MB/s, {memory:.1f} MiB'
        print(f'| `record paint` of it alone | {rate} |', flush=True)
        if size == 5 * MB:
            took, echo, count, left = many(session.sock, 200)
            print(f'| 200 clients at once, {left} not painted | {took:.2f} s |')
            print(f"| a live client's echo meanwhile, p99 of {count} | {echo:.1f} ms |", flush=True)
    finally:
        session.end()


def measure_flood(size):
    """... and of one whose program goes on printing."""
    session = Session(size, flood=True)
    try:
        times = sorted(first_line_in_flood(session.sock) for _ in range(3))
        print(
            f'| late attach in a flood after {size / MB:.0f} MB, median (most) of 3 '
            f'| {times[1]:.1f} ({times[-1]:.1f}) s |'
        )
    finally:
        session.end()


def main():
    sizes = [float(n) * MB for n in sys.argv[1:]] or [100 * KB, 5 * MB, 1 << 30]
    print('| what | measured |\n| --- | --- |')
    for size in map(int, sizes):
        measure(size)
    measure_flood(int(sizes[-1]))


main()
