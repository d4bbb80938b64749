"""Load (issue 3, item 5): a thousand clients, ten thousand visits; all are served and nothing is left behind."""
import os
import signal
import socket
import time

import pytest

from common import NO_WINDOW, Recording
from harness import BUILD, TIMEOUT, hello
from told import (MIB, SLACK, Drain, Told, compiled, descriptors, many_descriptors, pattern, resident, same,
                   until_calm)


@pytest.mark.parametrize('option, clients, size', [('-n', 1000, 16 * MIB), ('-rcast', 1000, 2 * MIB)])
def test_a_thousand_clients_are_served_every_byte(pty, option, clients, size):
    """A client is a position in one ring: a thousand cost the shim no memory to speak of, and each gets every byte."""
    many_descriptors()
    told = Told(pty, option, pty.path('sock'))
    before = resident(told.shim.pid)
    told.prints(b'go\n')
    pty.write('wanted', b'go\n' + pattern(size))
    crowd = pty.background(compiled(pty, 'load'), told.shim.address, clients, pty.path('wanted'), stdout=-1,
                           text=True)
    first = crowd.stdout.readline()
    assert first == 'READY\n', first
    told.flood(size, wait=False)
    report = crowd.communicate(timeout=90 * SLACK)[0]
    assert crowd.returncode == 0, report
    assert told.answer() == str(size)
    assert resident(told.shim.pid) - before < 4 * MIB * SLACK


@pytest.mark.parametrize('where, rounds', [('sock', 9000), ('0', 1000)])
def test_ten_thousand_visits_leave_nothing(pty, where, rounds):
    """Each visit connects, says hello or nothing, reads or does not, and goes, by close or by reset: afterwards the
    shim has the descriptors and the memory that it had before."""
    told = Told(pty, pty.path(where) if where == 'sock' else where)
    client = pty.client(told.shim.address, NO_WINDOW)
    told.prints(b'some history\n' * 1000)

    def visit(n):
        visitor = pty_client(told.shim.address)
        if n % 3 == 0:                       # a tenth of all are on a terminal, and painted
            visitor.sendall(hello(24, 80 + n % 7) if n % 10 == 0 else NO_WINDOW)
        if n % 15 == 0:
            assert visitor.recv(100)
        if n % 2 or where == '0':            # over TCP a reset leaves no TIME_WAIT behind
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        visitor.close()

    def settled():
        assert told.typed_before(client) == b''
        return descriptors(told.shim.pid)
    drain = Drain(client)
    before = settled()
    for n in range(rounds // 10):
        visit(n)
    until_calm(lambda: settled() == before, 'the number of descriptors before the first visits')
    memory, begun = resident(told.shim.pid), time.monotonic()
    for n in range(rounds):
        visit(n)
    assert time.monotonic() - begun < 15 * SLACK
    until_calm(lambda: settled() == before, 'the number of descriptors before')
    assert 'sanitize' in BUILD or resident(told.shim.pid) - memory < MIB // 2, 'ASan tells leaks itself, at the end'
    assert not drain.ended
    told.start('exit', 0)
    told.shim.wait_gone()
    same(Recording(told.shim.recording).output, told.output())


def pty_client(address):
    """A bare socket to the shim, for many of them."""
    if '/' in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        sock.connect(address)
        return sock
    host, port = address.rsplit(':', 1)
    return socket.create_connection((host, int(port)), TIMEOUT)


def test_many_events_do_not_grow_the_shim(pty):
    """A session of ten thousand resizes and markers and 64 MiB of output takes the memory of a short one."""
    told = Told(pty, pty.path('sock'))
    client = pty.client(told.shim.address, hello(24, 80))
    told.meet_clients(client)
    drain = Drain(client)
    told.flood(4 * MIB)
    before = resident(told.shim.pid)
    for n in range(10000):
        client.resize(24 + n % 5, 80)
        if n % 100 == 0:
            os.kill(told.shim.pid, signal.SIGUSR1)
    told.flood(60 * MIB)
    until_calm(lambda: len(drain.data) == 64 * MIB, 'every byte')
    same(bytes(drain.data), pattern(64 * MIB))
    assert told.typed_before(client) == b''
    assert resident(told.shim.pid) - before < MIB // 2 * SLACK
