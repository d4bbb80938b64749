"""Slow and dead clients (section 2, 'Clients'): who paces the program, who is caught up from the recording, who is let
go; and nobody loses a byte in silence."""
import os
import random
import select
import shutil
import time

import pytest

from common import NO_WINDOW, Recording
from harness import TIMEOUT, goodbye, hello, needs_queue
from told import (MIB, RING, SLACK, Drain, Told, descriptors, helpers, open_folder, pattern,
                   programs_for_all, resident, same, until_calm)

AHEAD = RING + MIB          # how far a paced program may run ahead: the ring, and what the kernel's buffers hold
ENDLESS = 1 << 40
HELLO = hello(24, 80)


def read_slowly(client, step, pause, seconds, see=lambda got: None):
    """Reads `step` bytes, waits `pause` seconds, and so on; after each step `see(bytes read so far)` is asked and may
    end it. Gives back what was read."""
    parts, got, end = [client.buffer], len(client.buffer), time.monotonic() + seconds
    client.buffer = b''
    while time.monotonic() < end:
        data = client.sock.recv(step)
        assert data, 'the shim closed the connection'
        parts.append(data)
        got += len(data)
        if see(got):
            break
        select.select([], [], [], pause)
    return b''.join(parts)


def test_recorded_program_is_paced_by_its_fastest_client(pty):
    """With a recording the program runs ahead of its fastest client by no more than the ring, while one that reads on,
    but slower, is left behind by more than that."""
    told = Told(pty, pty.path('sock'))
    fast, slow = told.clients(2)
    start = told.written
    told.start('flood', ENDLESS)
    lead, left_behind = [], Drain(slow, step=1 << 14, pause=0.02)
    got = read_slowly(fast, 1 << 16, 0.02, 2.5, lambda n: lead.append(told.written - start - n))
    assert max(lead) <= AHEAD
    assert len(got) > 2 * AHEAD, 'the slow client has held the fast one up'
    same(got, pattern(len(got)))
    so_far = bytes(left_behind.data)
    assert so_far
    same(so_far, pattern(len(so_far)))


def test_unrecorded_program_is_paced_by_its_slowest_client(pty):
    """Without a recording nobody could catch a slow client up, so the program waits for it as long as it reads."""
    told = Told(pty, '-n', pty.path('sock'))
    fast, slow = Drain(pty.client(told.shim.address, NO_WINDOW)), pty.client(told.shim.address, NO_WINDOW)
    told.meet_clients(slow)
    start = told.written
    told.start('flood', ENDLESS)
    lead = []
    got = read_slowly(slow, 1 << 16, 0.02, 2.5, lambda n: lead.append(told.written - start - n))
    assert max(lead) <= AHEAD
    assert len(got) > MIB
    same(got, pattern(len(got)))
    assert not fast.ended


@pytest.mark.parametrize('where, speed', [('0', 240000), pytest.param('sock', 100000, marks=needs_queue)])
def test_slow_client_that_reads_all_the_time_makes_progress(pty, where, speed):
    """A client behind a slow line takes its bytes out of the buffer all the time, though select(2) tells of room in it
    only every few seconds: it is not dead, so without a recording the program waits for it. (TCP on the loopback
    interface shows what was read in steps of half a window: slower than here, nothing can be seen for a second.)"""
    told = Told(pty, '-n', pty.path(where) if where == 'sock' else where)
    fast, slow = Drain(pty.client(told.shim.address, NO_WINDOW)), pty.client(told.shim.address, NO_WINDOW)
    told.meet_clients(slow)
    start = told.written
    told.start('flood', ENDLESS)
    lead = []
    got = read_slowly(slow, speed // 20, 0.05, 4, lambda n: lead.append(told.written - start - n))
    same(got, pattern(len(got)))
    assert max(lead) <= AHEAD and not fast.ended


@pytest.mark.parametrize('option', ['-n', '-rcast'])
@pytest.mark.parametrize('dead', [1, 5])
def test_dead_clients_hold_the_program_up_for_a_second_at_most(pty, option, dead):
    """A client that took nothing for 1 s paces nobody, and the seconds of several do not add up."""
    told = Told(pty, option, pty.path('sock'))
    told.clients(dead)
    begun = time.monotonic()
    told.flood(16 * MIB)
    assert time.monotonic() - begun < 3.5 + SLACK       # (five seconds, and the flood's own, if they added up)
    begun = time.monotonic()
    told.flood(4 * MIB)
    assert time.monotonic() - begun < 0.9 * SLACK, 'a dead client held it up a second time'


@pytest.mark.parametrize('option', ['-n', '-rcast'])
def test_viewers_never_hold_the_program_up(pty, option):
    """A viewer, by its address or because it has closed its sending side, paces nobody, though it reads nothing."""
    told = Told(pty, option, '-v', pty.path('view'), pty.path('sock'))
    typist, viewer, half = (pty.client(a) for a in (told.shim.address, told.shim.view, told.shim.address))
    half.half_close()
    told.meet_clients(viewer, half, typist)
    assert told.typed_before(typist) == b''      # a turn of the loop in which the half-close is seen
    drain = Drain(typist, 8 * MIB)
    begun = time.monotonic()
    told.flood(8 * MIB)
    same(drain.wait(), pattern(8 * MIB))
    assert time.monotonic() - begun < 0.9 * SLACK


def test_without_a_recording_a_client_that_fell_out_is_disconnected(pty):
    """Its bytes are gone from the ring and stand nowhere else: it is told so by the end of the connection, after a
    part of the output that has no hole."""
    told = Told(pty, '-n', pty.path('sock'))
    good, dead = told.clients(2)
    drain = Drain(good, 12 * MIB)
    told.flood(12 * MIB)
    same(drain.wait(), pattern(12 * MIB))
    got = dead.read_all()
    assert len(got) < 12 * MIB
    same(got, pattern(len(got)))
    assert told.typed_before(good) == b''


def test_clients_are_caught_up_again_and_again(pty):
    """Six clients fall out and are caught up four times over, beside one that keeps pace."""
    told = Told(pty, pty.path('sock'))
    fast, *late = told.clients(7)
    for turn in range(4):
        drain = Drain(fast, 4 * MIB)
        told.flood(4 * MIB)
        drain.wait()
        drains = [Drain(client, 4 * MIB) for client in late]
        for drain in drains:
            same(drain.wait(), pattern(4 * MIB, turn * 4 * MIB))
        told.meet_clients(fast, *late)
    assert len(helpers(told.shim, told.shim.program())) == 1


def test_client_is_caught_up_while_the_flood_goes_on(pty):
    """A client that reads at half the speed of the flood falls out over and over, and still gets every byte."""
    told = Told(pty, '-H', 'none', pty.path('sock'))
    fast, slow = pty.client(told.shim.address, NO_WINDOW), pty.client(told.shim.address, NO_WINDOW)
    assert told.typed_before(fast) == b'' and told.typed_before(slow) == b''   # both attached: no history comes
    told.meet_clients(fast, slow)
    drain = Drain(fast, 48 * MIB)
    told.flood(48 * MIB, wait=False)
    choose, end = random.Random(3), time.monotonic() + TIMEOUT * 2
    parts, got = [], 0
    while got < 48 * MIB:
        data = slow.sock.recv(choose.choice((100, 5000, 1 << 18)))
        assert data and time.monotonic() < end
        parts.append(data)
        got += len(data)
        if not drain.ended and choose.random() < 0.05:
            select.select([], [], [], 0.01)
    wanted = pattern(48 * MIB)
    same(b''.join(parts), wanted)
    same(drain.wait(), wanted)
    told.meet_clients(fast, slow)


def test_bytes_that_are_not_text_are_caught_up_exactly(pty):
    """Random bytes, UTF-8 cut anywhere: the recording has them exact (`b` events), and so has who is caught up."""
    told = Told(pty, pty.path('sock'))
    fast, late = told.clients(2)
    choose, wanted = random.Random(7), b''
    drain = Drain(fast)
    for _ in range(50):
        piece = choose.randbytes(60000) + ('ä€😀' * 2000).encode()[choose.randrange(9):-1 - choose.randrange(9)]
        told.prints(piece)
        wanted += piece
    told.prints(b'end\n')
    same(late.read_bytes(len(wanted) + 4), wanted + b'end\n')
    until_calm(lambda: len(drain.data) == len(wanted) + 4, 'the last byte')
    same(bytes(drain.data), wanted + b'end\n')
    same(Recording(told.shim.recording).output, told.output())


def test_end_of_the_program_waits_for_a_client_that_is_being_caught_up(pty):
    """What each client still has to get is delivered before the goodbye, also from the recording."""
    told = Told(pty, pty.path('sock'))
    fast, late = told.clients(2)
    drain = Drain(fast)
    told.flood(16 * MIB)
    told.start('exit', 7)
    until_calm(lambda: drain.ended, 'the end of the fast client')
    same(bytes(drain.data), pattern(16 * MIB) + goodbye(7))
    same(late.read_all(), pattern(16 * MIB) + goodbye(7))
    told.shim.wait_gone()
    assert not os.path.exists(pty.path('sock'))


def test_client_can_type_while_it_is_caught_up(pty):
    """Only its output is late: what it sends goes to the program at once."""
    told = Told(pty, pty.path('sock'))
    fast, late = told.clients(2)
    drain = Drain(fast, 8 * MIB)
    told.flood(8 * MIB)
    drain.wait()
    late.read_bytes(3 * MIB)                     # more than the kernel's buffers and the ring: it is being caught up
    assert told.typed_before(late) == b''
    same(late.read_bytes(5 * MIB), pattern(5 * MIB, 3 * MIB))


def test_client_that_leaves_while_it_is_caught_up_leaves_nothing(pty):
    """No descriptor remains of clients that reset, close or half-close amid being caught up."""
    told = Told(pty, pty.path('sock'))
    [fast] = told.clients(1)
    before = descriptors(told.shim.pid)
    late = [pty.client(told.shim.address, NO_WINDOW) for _ in range(8)]
    told.meet_clients(fast, *late)
    drain = Drain(fast, 8 * MIB)
    told.flood(8 * MIB)
    drain.wait()
    for n, client in enumerate(late):
        client.read_bytes(2 * MIB + n * 1000)
        if n % 2:
            client.reset()
        else:
            client.close()
    until_calm(lambda: descriptors(told.shim.pid) == before, 'the number of descriptors before')
    told.meet_clients(fast)


def test_half_closed_client_is_caught_up_too(pty):
    """`echo … | attach` closes its sending side, stays as a viewer, and must get every byte all the same."""
    told = Told(pty, pty.path('sock'))
    fast, half = told.clients(2)
    half.half_close()
    drain = Drain(fast, 8 * MIB)
    told.flood(8 * MIB)
    drain.wait()
    same(half.read_bytes(8 * MIB), pattern(8 * MIB))
    told.start('exit', 0)
    assert half.read_all() == goodbye(0)


def test_many_dead_clients_neither_cost_memory_nor_starve_one_that_reads(pty):
    """Sixty clients that fell out and never read, or read a little and no more, do not keep one that does from being
    caught up; they get every byte when they do, and do not hold the end of the session up."""
    told = Told(pty, pty.path('sock'))
    fast, *dead = [pty.client(told.shim.address, NO_WINDOW) for _ in range(61)]
    late = pty.client(told.shim.address, NO_WINDOW)
    told.meet_clients(fast, late, *dead)
    before, drain = resident(told.shim.pid), Drain(fast, 8 * MIB)
    told.flood(8 * MIB)
    drain.wait()
    parts = {client: client.read_bytes(MIB + n) for n, client in enumerate(dead[::2])}
    same(Drain(late, 8 * MIB).wait(), pattern(8 * MIB))
    assert len(helpers(told.shim, told.shim.program())) == 1 and resident(told.shim.pid) - before < 8 * MIB
    for client in dead[::7]:
        had = parts.get(client, b'')
        same(had + client.read_bytes(8 * MIB - len(had)), pattern(8 * MIB))
    told.meet_clients(fast, late)
    told.start('exit', 0)
    told.shim.wait_gone(TIMEOUT * 2)


def test_without_record_beside_the_shim_a_client_that_fell_out_is_disconnected(pty):
    """Where nothing can catch it up, the connection ends: no hole, no hang."""
    folder = open_folder(pty)
    shim = programs_for_all(folder)
    os.unlink(os.path.join(folder, 'record'))
    assert shutil.which('record', path=folder) is None
    told = Told(pty, pty.path('sock'), shim=shim)
    fast, late = told.clients(2)
    drain = Drain(fast, 6 * MIB)
    told.flood(6 * MIB)
    drain.wait()
    got = late.read_all()
    assert len(got) < 6 * MIB
    same(got, pattern(len(got)))
    told.meet_clients(fast)


def test_history_all_after_much_output(pty):
    """`--history all`: everything from the first byte, far more than the ring, to several late attachers at once, who
    then go on live."""
    told = Told(pty, '-H', 'all', pty.path('sock'))
    told.flood(20 * MIB)
    same(Drain(pty.client(told.shim.address, NO_WINDOW), 20 * MIB).wait(), pattern(20 * MIB))
    late = [pty.client(told.shim.address, first) for first in 4 * (NO_WINDOW,)]
    drains = [Drain(client, 20 * MIB) for client in late]
    for drain in drains:
        same(drain.wait()[:20 * MIB], pattern(20 * MIB))
    told.meet_clients(*late)
    told.start('exit', 3)
    assert [client.read_all() for client in late] == 4 * [goodbye(3)]


def test_history_all_while_the_output_goes_on(pty):
    """Attachers who come amid a flood get every byte from the first: no gap between the history and the live bytes."""
    told = Told(pty, '-H', 'all', pty.path('sock'))
    fast = pty.client(told.shim.address, NO_WINDOW)
    drains = [Drain(fast, 30 * MIB)]
    told.flood(30 * MIB, wait=False)
    for part in (1, 8, 16, 24):
        until_calm(lambda p=part: len(drains[0].data) > p * MIB, 'that much output')
        drains.append(Drain(pty.client(told.shim.address, NO_WINDOW), 30 * MIB))
    wanted = pattern(30 * MIB)
    for drain in drains:
        same(drain.wait(), wanted)
    assert told.answer() == str(30 * MIB)
    told.meet_clients(*[drain.client for drain in drains])


@pytest.mark.parametrize('option', ['-n', '-rcast'])
@pytest.mark.parametrize('where', ['0', 'sock'])
def test_ctrl_c_stops_a_flood_at_once(pty, option, where):
    """The program cannot run far ahead of who watches it, so what a Ctrl-C has to wait for is little: a client that
    reads 4 MiB a second (a fast terminal) sees the flood end within a second."""
    told = Told(pty, option, pty.path(where) if where == 'sock' else where)
    [client] = told.clients(1, HELLO)
    told.tell('interrupt')
    told.start('flood', ENDLESS)
    read_slowly(client, 1 << 16, 1 / 64, 1)
    client.send(b'\x03')
    tail, begun = b'', time.monotonic()
    while b'CAUGHT' not in tail:
        tail = tail[-5:] + read_slowly(client, 1 << 16, 1 / 64, 0.01)
        assert time.monotonic() - begun < SLACK, 'the flood went on'
    assert told.answer()
