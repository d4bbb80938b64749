"""Faults (issue 3, item 4): disks, descriptors, clocks, processes and clients that fail, each in its own way. The
session goes on, loses nothing that a client saw, and spends no time."""
import contextlib
import errno
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import time

import pytest

from common import NO_WINDOW, Recording
from harness import RECORD, SHIM, TIMEOUT, alive, cpu_seconds, goodbye, hello, needs_peer_state, wait_until
from told import (MIB, NOBODY, SLACK, Drain, Told, descriptors, faulty, many_descriptors,
                   needs_root, open_folder, pattern, programs_for_all, resident, same, small_disk, until_calm)

MISSING = re.compile(r'shim: (\d+) bytes missing')
HELLO = hello(24, 80)


def all_but_missing(recording, whole):
    """Asserts that the recording is the whole output but for the gaps, which its markers tell to the byte, in their
    places; gives back how many bytes are missing."""
    at = missing = 0
    for kind, data in recording.parts:
        if kind == 'm':
            found = MISSING.fullmatch(data)
            if found:
                at += int(found[1])
                missing += int(found[1])
        else:
            same(data, whole[at:at + len(data)])
            at += len(data)
    assert at == len(whole)
    return missing


def missing_told(told):
    """Makes the program print a little until the recording tells a gap; what it told in markers."""
    def told_now():
        told.prints(b'again\n')
        return [m for m in Recording(told.shim.recording, torn=True).of('m') if MISSING.fullmatch(m)]
    return wait_until(told_now, what='the marker')


@needs_root
def test_full_disk_stops_nothing_and_is_told_by_a_marker(pty):
    """With no space left the session goes on; when there is space again, a marker tells how many bytes are missing, and
    the recording goes on behind it."""
    disk = small_disk(pty, MIB)
    pty.write(os.path.join(disk, 'filler'), bytes(700 << 10))
    told = Told(pty, '-r', os.path.join(disk, 'cast'), pty.path('sock'))
    [client] = told.clients(1, HELLO)
    for turn in range(3):                                       # full twice over, and once more at the end
        told.flood(3 * MIB // 4)
        same(client.read_bytes(3 * MIB // 4), pattern(3 * MIB // 4, turn * 3 * MIB // 4))
        if turn == 0:
            os.unlink(os.path.join(disk, 'filler'))
            assert len(missing_told(told)) == 1
            told.meet_clients(client)
    assert alive(told.shim.pid)
    told.start('exit', 4)
    assert client.read_all() == goodbye(4)
    told.shim.wait_gone()
    recording = Recording(told.shim.recording, torn=True)
    same(recording.output[:1000], told.output()[:1000])
    cut = told.output()[:len(told.output()) - trailing_gap(recording, told.output())]
    assert all_but_missing(recording, cut) > 0


def trailing_gap(recording, whole):
    """How many bytes at the end stand in no event and no marker: the disk was full to the last."""
    told = sum(int(found[1]) for found in map(MISSING.fullmatch, recording.of('m')) if found)
    return len(whole) - told - len(recording.output)


@needs_root
def test_client_that_falls_out_after_a_gap_gets_no_wrong_byte(pty):
    """The recording's offsets are not the session's any more once bytes are missing: a client that is caught up after
    that gets its own next bytes or the end of the connection, never others."""
    disk = small_disk(pty, 24 * MIB)
    pty.write(os.path.join(disk, 'filler'), bytes(23 * MIB + (900 << 10)))
    told = Told(pty, '-r', os.path.join(disk, 'cast'), pty.path('sock'))
    fast, early = told.clients(2)
    drain = Drain(fast, MIB)
    told.flood(MIB)
    drain.wait()
    os.unlink(os.path.join(disk, 'filler'))
    missing_told(told)
    told.prints(b'|')
    late = pty.client(told.shim.address, NO_WINDOW)
    late.read_until(b'|')
    fast.read_until(b'|')
    start = len(told.output())
    drain = Drain(fast)
    told.flood(8 * MIB)
    told.prints(b'end')
    until_calm(lambda: len(drain.data) == 8 * MIB + 3, 'the end of the flood')
    drains = [Drain(late, 8 * MIB + 3), Drain(early)]
    assert told.tell('size') == '24 80'
    drains[0].join(TIMEOUT * 2)
    same(bytes(drains[0].data), told.output()[start:][:len(drains[0].data)])
    assert len(drains[0].data) == 8 * MIB + 3 or drains[0].ended
    until_calm(lambda: drains[1].ended or len(drains[1].data) > 9 * MIB, 'the early client')
    whole = told.output().partition(b'<met 1>\n')[2]
    same(bytes(drains[1].data), whole[:len(drains[1].data)])


@needs_root
def test_start_on_a_full_disk_fails_and_leaves_nothing(pty):
    """When not even the header can be written, the start fails, and nobody is told that there is a recording."""
    disk = small_disk(pty, 64 << 10)
    with open(os.path.join(disk, 'filler'), 'wb') as filler:
        os.posix_fallocate(filler.fileno(), 0, 64 << 10)
    done = pty.run(SHIM, '-r', os.path.join(disk, 'cast'), pty.path('sock'), 'sleep', '100')
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'shim: .*cast.*: No space left on device\n', done.stderr)
    assert os.listdir(disk) == ['filler'] and not os.path.exists(pty.path('sock'))


def test_file_size_limit_stops_the_recording_only(pty):
    """Past RLIMIT_FSIZE a write raises SIGXFSZ, whose default is to kill: the shim goes on as with a full disk, and its
    program has the signal's default again. When the limit is lifted, a marker tells the gap."""
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, resource.RLIM_INFINITY))
    told = Told(pty, pty.path('sock'), preexec_fn=limited)
    [client] = told.clients(1, HELLO)
    drain = Drain(client, 2 * MIB)
    told.flood(2 * MIB)
    same(drain.wait(), pattern(2 * MIB))
    assert os.path.getsize(told.shim.recording) <= 256 << 10
    program = pty.shim('-n', '0', 'sleep', '1000').program()        # Python ignores the signal of its own accord
    with open(f'/proc/{program}/status', encoding='ascii') as f:
        ignored = int(next(line.split()[1] for line in f if line.startswith('SigIgn')), 16)
    assert not ignored & 1 << signal.SIGXFSZ - 1
    resource.prlimit(told.shim.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    missing_told(told)
    told.meet_clients(client)
    told.start('exit', 0)
    assert client.read_all() == goodbye(0)
    told.shim.wait_gone()
    recording = Recording(told.shim.recording)
    assert all_but_missing(recording, told.output()) > MIB and recording.of('x') == ['0']


def test_write_error_of_the_recording_is_survived(pty):
    """EIO from the file is the same: no byte is kept from the clients, and a marker tells what is missing."""
    env, fault = faulty(pty)
    told = Told(pty, pty.path('sock'), env=env)
    [client] = told.clients(1)
    told.flood(100000)
    fault('eio')
    told.flood(200000)
    same(client.read_bytes(300000), pattern(300000))
    fault('eio', off=True)
    missing_told(told)
    told.meet_clients(client)
    told.start('exit', 0)
    assert client.read_all() == goodbye(0)
    told.shim.wait_gone()
    missing = all_but_missing(Recording(told.shim.recording), told.output())
    assert 100000 < missing <= 300000


def test_short_writes_are_finished(pty):
    """write(2) may take a part only: the rest follows, and every line of the recording stays whole."""
    env, fault = faulty(pty)
    fault('half')
    told = Told(pty, pty.path('sock'), env=env)
    [client] = told.clients(1)
    told.flood(300000)
    same(client.read_bytes(300000), pattern(300000))
    told.start('exit', 0)
    assert client.read_all() == goodbye(0)
    told.shim.wait_gone()
    recording = Recording(told.shim.recording)
    same(recording.output, told.output())
    assert recording.of('x') == ['0']


def test_recording_whose_folder_is_removed_still_catches_up(pty):
    """An open file outlives its name: the session goes on, and a client that falls out of the ring is caught up from
    the file that nobody can see any more."""
    folder = pty.path('folder')
    os.mkdir(folder)
    told = Told(pty, '-r', os.path.join(folder, 'cast'), pty.path('sock'))
    fast, late = told.clients(2)
    shutil.rmtree(folder)
    drain = Drain(fast, 6 * MIB)
    told.flood(6 * MIB)
    same(drain.wait(), pattern(6 * MIB))
    same(late.read_bytes(6 * MIB), pattern(6 * MIB))
    told.meet_clients(fast, late)
    told.start('exit', 0)
    assert fast.read_all() == late.read_all() == goodbye(0)
    told.shim.wait_gone()


@pytest.mark.parametrize('where', ['0', 'sock'])
def test_no_more_descriptors_does_not_spin(pty, where):
    """accept(2) fails with EMFILE while the connection stays pending, so its listener stays readable: the shim waits
    without using the processor, serves who is there, and takes the others in when there is room."""
    told = Told(pty, pty.path(where) if where == 'sock' else where)
    [client] = told.clients(1)
    limit = max(int(fd) for fd in os.listdir(f'/proc/{told.shim.pid}/fd')) + 6
    hard = resource.prlimit(told.shim.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(told.shim.pid, resource.RLIMIT_NOFILE, (limit, hard))
    crowd = [pty.client(told.shim.address) for _ in range(30)]
    assert told.typed_before(client) == b''
    before, begun = cpu_seconds(told.shim.pid), time.monotonic()
    assert client.nothing_comes(1)
    assert cpu_seconds(told.shim.pid) - before < 0.15 * (time.monotonic() - begun)
    assert told.typed_before(client) == b''
    for other in crowd[:-1]:
        other.close()
    told.prints(b'room\n')
    client.read_until(b'room\n')
    resource.prlimit(told.shim.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert told.typed_before(pty.client(told.shim.address, NO_WINDOW)) == b''


@pytest.mark.parametrize('error', [errno.ENFILE, errno.ENOMEM, errno.EPROTO])
def test_accept_that_fails_does_not_spin(pty, error):
    """Other reasons than the shim's own limit (accept(2)): the system's table is full, no memory, a broken connection.
    The listener stays readable; the shim waits, serves who is there, and takes the newcomer in when it can."""
    env, fault = faulty(pty)
    told = Told(pty, '0', env=env)
    [client] = told.clients(1)
    fault('accept', error)
    late = pty.client(told.shim.address, b'late\n')
    before, begun = cpu_seconds(told.shim.pid), time.monotonic()
    assert client.nothing_comes(0.7)
    assert cpu_seconds(told.shim.pid) - before < 0.15 * (time.monotonic() - begun)
    assert told.typed_before(client) == b''
    fault('accept', off=True)
    assert told.typed_until(b'late\n') == b'late\n'
    told.meet_clients(client, late)


def test_clients_over_fd_setsize_are_refused_at_once(pty):
    """A descriptor that select(2) could not hold would write past the end of an fd_set: such a client is closed at
    once, the others are served, and there is room again when one leaves."""
    many_descriptors()
    told = Told(pty, pty.path('sock'))
    clients = [pty.client(told.shim.address) for _ in range(1150)]
    for client in clients:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):    # refused already
            client.send(NO_WINDOW)
    told.prints(b'hear\n')
    served, refused = [], []
    for client in clients:
        (served if client.read_some() else refused).append(client)
    assert 1024 - 40 <= len(served) < 1024
    assert all(client.buffer == b'hear\n' for client in served)
    assert told.typed_before(served[0]) == b'' and told.typed_before(served[-1]) == b''
    served[5].close()
    assert until_calm(lambda: pty.client(told.shim.address, NO_WINDOW).read_some(), 'room for one more')


@needs_root
@pytest.mark.parametrize('kind', ['tcp', 'unix'])
def test_no_ptys_left_is_a_failed_start(pty, kind):
    """openpty(3) fails when the system has no more: told at the start, nothing left behind. (A private devpts with
    one pty, which is taken, stands for a machine whose /proc/sys/kernel/pty/max is reached.)"""
    address = pty.path('sock') if kind == 'unix' else '0'
    private = ('mount -t devpts -o newinstance,ptmxmode=0666,max=1 trust /dev/pts && '
               'mount --bind /dev/pts/ptmx /dev/ptmx && exec 3<>/dev/ptmx && "$@"')
    done = pty.run('unshare', '-m', 'sh', '-c', private, 'sh', SHIM, address, 'sleep', '100')
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'shim: .+: .+\n', done.stderr), done.stderr
    assert os.listdir(pty.folder) == []


@needs_root
def test_no_process_for_the_shim_is_a_failed_start(pty):
    """fork(2) fails past RLIMIT_NPROC: told at the start, nothing left behind."""
    folder = open_folder(pty)
    shim = programs_for_all(folder)
    cwd = os.path.join(folder, 'empty')
    os.mkdir(cwd)
    os.chmod(cwd, 0o777)
    limited = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups', 'prlimit', '--nproc=0']
    done = pty.run(*limited, shim, os.path.join(cwd, 'sock'), 'sleep', '100', cwd=cwd)
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'shim: .*fork.*: Resource temporarily unavailable\n', done.stderr), done.stderr
    assert os.listdir(cwd) == []


@pytest.mark.parametrize('nth', [1, 2])
def test_no_process_at_each_fork_of_the_start(pty, nth):
    """The fork into the background and the fork of the program may each fail; both are told, and leave nothing."""
    env, fault = faulty(pty)
    fault('fork', nth)
    os.mkdir(pty.path('empty'))
    done = pty.run(SHIM, pty.path('empty/sock'), 'sleep', '100', env=env, cwd=pty.path('empty'))
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'shim: .+: Resource temporarily unavailable\n', done.stderr), done.stderr
    assert os.listdir(pty.path('empty')) == []


def test_clock_that_steps_leaves_the_times_in_order(pty):
    """Times come from the monotonic clock: the time of day may jump by a day, both ways, and no event's time goes back
    or leaps."""
    env, fault = faulty(pty)
    told = Told(pty, pty.path('sock'), env=env)
    [client] = told.clients(1, HELLO)
    begun = time.monotonic()
    for step in (86400, -86400, 0, -10 ** 9):
        fault('clock', step)
        told.prints(b'tick\n')
        client.read_until(b'tick\n')
        client.resize(24, 80 + step % 7)
        assert told.typed_before(client) == b''
    os.kill(told.shim.pid, signal.SIGUSR1)
    told.start('exit', 0)
    assert client.read_all() == goodbye(0)
    told.shim.wait_gone()
    recording = Recording(told.shim.recording)
    assert recording.events[-1][0] < time.monotonic() - begun + 5
    assert '' in recording.of('m')


def test_stopped_and_continued_shim_has_lost_nothing(pty):
    """SIGSTOP amid a flood holds the session still; after SIGCONT every byte is there, and who came meanwhile is let
    in."""
    told = Told(pty, pty.path('sock'))
    client, newcomers = pty.client(told.shim.address, NO_WINDOW), []
    told.meet_clients(client)
    drain = Drain(client, 24 * MIB)
    told.flood(24 * MIB, wait=False)
    for part in (2, 8, 16):
        until_calm(lambda p=part: len(drain.data) > p * MIB, 'that much output')
        os.kill(told.shim.pid, signal.SIGSTOP)
        newcomers.append(pty.client(told.shim.address, b'early\n'))
        select.select([], [], [], 0.2)                         # the length of the stop
        os.kill(told.shim.pid, signal.SIGCONT)
    same(drain.wait(), pattern(24 * MIB))
    assert told.answer() == str(24 * MIB)
    assert told.typed_until(b'early\n' * 3) == b'early\n' * 3 and told.typed_before(client) == b''
    for newcomer in newcomers:
        newcomer.close()
    told.start('exit', 0)
    assert client.read_all() == goodbye(0)
    told.shim.wait_gone()
    recording = Recording(told.shim.recording)
    same(recording.output, told.output())


@pytest.mark.parametrize('where', ['0', 'sock'])
def test_killed_at_any_moment_no_byte_that_a_client_saw_is_missing(pty, where):
    """The recording is written before the bytes go to any client: whenever SIGKILL comes, what a client has seen stands
    there, and at worst the last line is torn."""
    choose = random.Random(os.getpid())
    for turn in range(12):
        address = pty.path(f'sock{turn}') if where == 'sock' else where
        shim = pty.shim('-w', '-r', f'cast{turn}', address, 'seq', '1', '99999999')
        client = pty.client(shim.address, HELLO)
        seen, stop = b'', choose.randrange(1 << choose.randrange(4, 23))
        while len(seen) <= stop:
            seen += client.sock.recv(choose.choice((100, 1 << 16)))
        os.kill(shim.pid, signal.SIGKILL)
        seen += client.read_all()
        shim.wait_gone()
        recording = Recording(shim.recording, torn=True)
        same(recording.output[:len(seen)], seen)
        done = pty.run(RECORD, 'cat', shim.recording, text=False)
        assert done.returncode == 0 and done.stderr == b''
        same(done.stdout[:len(seen)], seen)
        client.close()


def test_program_that_ignores_the_request_to_end_is_killed_after_ten_seconds(pty):
    """SIGTERM to the shim asks the program to end; who will not go is killed after 10 s, and the goodbye says so."""
    script = 'trap "" HUP TERM INT; echo READY; while :; do sleep 1000; done'
    shim = pty.shim(pty.path('sock'), 'sh', '-c', script)
    client = pty.client(shim.address, HELLO, timeout=TIMEOUT * 3)
    client.read_until(b'READY\r\n')
    program, begun = shim.program(), time.monotonic()
    os.kill(shim.pid, signal.SIGTERM)
    assert client.read_all().endswith(goodbye(137))
    assert 9 < time.monotonic() - begun < 10 + 2 * SLACK
    shim.wait_gone()
    assert not alive(program) and not os.path.exists(pty.path('sock'))
    assert Recording(shim.recording).of('x') == ['137']


def test_grandchild_that_prints_for_ever_and_a_client_that_does_not_read(pty):
    """Neither of both together: what is owed to a client that takes nothing is bounded in time."""
    forever = 'sh -c \'trap "" HUP; echo $$; exec yes\' & read line; exit 3'
    shim = pty.shim('-n', '-w', pty.path('sock'), 'sh', '-c', forever)  # -w: or the pid is out of the history already
    client, dead = pty.client(shim.address, NO_WINDOW), pty.client(shim.address, NO_WINDOW)
    grandchild = int(re.search(rb'(\d+)\r\n', client.read_until(b'\r\ny\r\n'))[1])
    drain = Drain(client)
    client.send(b'\n')
    try:
        drain.wait()
        shim.wait_gone(10 * SLACK)
    finally:
        if alive(grandchild):
            os.kill(grandchild, signal.SIGKILL)
    assert b'y\r\n' in dead.read_all()


def test_program_that_never_reads(pty):
    """Input is bounded: while the program does not read, its clients are not read either, output goes on flowing, the
    shim does not grow; and when the program reads, it gets every byte."""
    told = Told(pty, pty.path('sock'))
    paster, other = told.clients(2)
    before = resident(told.shim.pid)
    paste = pattern(6 * MIB)
    paster.sock.setblocking(False)
    sent = idle = 0
    while idle < 20 and sent < len(paste):
        if select.select([], [paster.sock], [], 0.02)[1]:
            sent, idle = sent + paster.sock.send(paste[sent:sent + 65536]), 0
        else:
            idle += 1
    assert sent < 2 * MIB
    paster.sock.settimeout(TIMEOUT)
    for _ in range(10):
        told.meet_clients(paster, other)
    spent = cpu_seconds(told.shim.pid)
    assert other.nothing_comes(0.7)
    assert cpu_seconds(told.shim.pid) - spent < 0.1 * SLACK
    drains = [Drain(paster, MIB), Drain(other, MIB)]
    told.flood(MIB)
    for drain in drains:
        same(drain.wait(), pattern(MIB))
    assert resident(told.shim.pid) - before < 3 * MIB
    same(bytes.fromhex(told.tell('read', sent)), paste[:sent])


def test_program_that_closes_its_terminal_and_lives_on(pty):
    """With no slave open, read(2) on the master gives EIO at once, each time: the shim does not spin on it, and when
    the program opens /dev/tty again, its output flows as before."""
    told = Told(pty, pty.path('sock'))
    [client] = told.clients(1, HELLO)
    told.tell('close')
    before, begun = cpu_seconds(told.shim.pid), time.monotonic()
    assert client.nothing_comes(1)
    assert cpu_seconds(told.shim.pid) - before < 0.1 * (time.monotonic() - begun)
    told.tell('reopen')
    told.prints(b'back\n')
    client.read_until(b'back\n', 3)
    assert told.typed_before(client) == b''
    late = pty.client(told.shim.address, NO_WINDOW)
    assert b'back\n' in late.read_until(b'back\n')
    late.close()
    told.tell('close')
    told.start('exit', 7)
    assert client.read_all() == goodbye(7)
    told.shim.wait_gone()


def test_program_that_closes_its_terminal_still_ends_on_sigterm(pty):
    """The program is signalled itself, not only through its terminal."""
    told = Told(pty, pty.path('sock'))
    told.tell('close')
    program = told.shim.program()
    os.kill(told.shim.pid, signal.SIGTERM)
    told.shim.wait_gone(3 * SLACK)
    assert not alive(program)


@pytest.mark.parametrize('where', ['0', 'sock'])
def test_clients_that_reset_amid_a_flood_are_dropped(pty, where):
    """A reset ends that client only (ECONNRESET, EPIPE, never SIGPIPE): thirty of them, at random moments."""
    told = Told(pty, pty.path(where) if where == 'sock' else where)
    [client] = told.clients(1)
    before = descriptors(told.shim.pid)
    drain = Drain(client, 16 * MIB)
    told.flood(16 * MIB, wait=False)
    choose = random.Random(5)
    for _ in range(30):
        other = pty.client(told.shim.address, choose.choice((b'', HELLO, HELLO[:5])))
        if choose.randrange(2):
            assert other.read_some()
        other.reset()
    same(drain.wait(), pattern(16 * MIB))
    assert told.answer() == str(16 * MIB)
    assert told.typed_before(client).replace(HELLO[:5], b'') == b''      # a torn hello is no message: it may be typed
    until_calm(lambda: descriptors(told.shim.pid) <= before + 1, 'the descriptors before, and a tail')


@pytest.mark.parametrize('where', [pytest.param('0', marks=needs_peer_state), 'sock'])
def test_clients_that_vanish_before_they_are_accepted(pty, where):
    """Connections that were closed or reset while they waited in the backlog cost nothing and stop nothing."""
    told = Told(pty, pty.path(where) if where == 'sock' else where)
    [client] = told.clients(1)
    before = descriptors(told.shim.pid)
    os.kill(told.shim.pid, signal.SIGSTOP)
    for n in range(10):
        gone = pty.client(told.shim.address, (b'', HELLO)[n % 2])
        if n % 3:
            gone.reset()
        else:
            gone.close()
    os.kill(told.shim.pid, signal.SIGCONT)
    assert told.typed_before(client) == b''
    assert told.typed_before(client) == b''
    until_calm(lambda: descriptors(told.shim.pid) == before, 'the number of descriptors before')


@pytest.mark.parametrize('where', [pytest.param('0', marks=needs_peer_state), 'sock'])
def test_clients_that_half_close_and_then_leave_are_noticed(pty, where):
    """select(2) shows a half-closed connection and one whose other end is gone alike, for ever. With no output to fail
    on, those who left are still found, at the latest when the next client comes."""
    told = Told(pty, pty.path(where) if where == 'sock' else where)
    [client] = told.clients(1)
    before = descriptors(told.shim.pid)
    halves = [pty.client(told.shim.address, (b'', HELLO)[n % 2]) for n in range(40)]
    told.prints(b'<all>')
    for half in halves:
        half.read_until(b'<all>')
    for half in halves:
        half.half_close()
    assert told.typed_before(client) == b'' and told.typed_before(client) == b''
    assert descriptors(told.shim.pid) == before + 40
    for half in halves:
        half.close()
    newcomer = pty.client(told.shim.address, NO_WINDOW)
    assert told.typed_before(newcomer) == b''
    newcomer.close()
    until_calm(lambda: descriptors(told.shim.pid) == before, 'the number of descriptors before')


def test_idle_shim_makes_no_system_call(pty):
    """With nothing to do the loop waits, for as long as it takes: no poll, no timer, though clients are there; the same
    under --wait, with no program yet."""
    waiting = pty.shim('-w', pty.path('sock'), 'true')
    told = Told(pty, '-i', '-v', '0', '0')
    clients = [pty.client(told.shim.address, HELLO), pty.client(told.shim.address, NO_WINDOW), pty.client(told.shim.view, NO_WINDOW)]
    told.meet_clients(*clients)
    assert told.typed_before(clients[0]) == b'' and told.typed_before(clients[1]) == b''
    assert clients[0].nothing_comes(1.5)         # whatever was to be done a moment later has been
    strace = pty.background('strace', '-f', '-o', pty.path('trace'), '-p', told.shim.pid, '-p', waiting.pid,
                            stderr=subprocess.PIPE)
    assert b'attached' in strace.stderr.readline() and b'attached' in strace.stderr.readline()
    assert clients[0].nothing_comes(2.5)
    strace.send_signal(signal.SIGINT)
    strace.wait(TIMEOUT)
    with open(pty.path('trace'), encoding='utf-8') as f:
        calls = [line for line in f if 'detached' not in line]
    assert len(calls) <= 2 and all('pselect' in line for line in calls), calls
    assert told.typed_before(clients[0]) == b''
