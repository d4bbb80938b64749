"""What a client has come for, and what its terminal sends by itself (section 3): the hellos *end*, *tell* and *alone*,
answers and noise; and what a session tells its program and its starter of itself."""
import os
import re
import signal
import socket
import stat
import struct
import time

import pytest

from common import NO_WINDOW, Recording, wait_ready, wait_taken
from harness import SHIM, alive, goodbye, hello, needs_tcp_owner, wait_until
from told import MIB, SLACK, Drain, Told, descriptors, faulty, needs_root, pattern, same, until_calm

HELLO, WATCHES, PUSH, END, TELL, ALONE = hello(24, 80), *(hello(0, 0, kind) for kind in range(1, 6))
OK, LEAVE = b'\xff\xffok', b'\xff\xffdd'
SOON = 5 * SLACK
FIELDS = ['name', 'pid', 'since', 'command', 'recording', 'size', 'clients', 'host', 'tty']
DEAF = ['sh', '-c', 'trap "" HUP TERM INT; echo READY; while :; do sleep 1000; done']


def told_of(got):
    """What *tell* answered, by name; its form is looked at to the byte."""
    assert got[:4] == b'\xff\xfftt' and struct.unpack('!H', got[4:6])[0] == len(got) - 6 and got[-1:] == b'\n', got[:99]
    lines = [line.split(': ', 1) for line in got[6:-1].decode().split('\n')]
    assert [line[0] for line in lines] == FIELDS, lines
    return {name: value for name, value in lines}


def message(letter, data):
    return b'\xff\xff' + letter * 2 + struct.pack('!H', len(data)) + data


# ---- tell


@pytest.mark.parametrize('options', [['-rcast'], ['-n']], ids=['recorded', 'not recorded'])
@pytest.mark.parametrize('address', ['work', './a.sock', '0'])
def test_tell_says_what_the_session_is(pty, address, options):
    """Nine lines and the close. Who asks is no client; pipes and viewers are some."""
    began = int(time.time())
    told = Told(pty, '-s', '90x30', '-v', './view', *options, address)
    where = {'./a.sock': pty.path('a.sock'), 'work': os.path.join(os.environ['SHIM_DIR'], 'work')}.get(address, told.shim.address)
    clients = [pty.client(where, first) for first in (hello(31, 91), NO_WINDOW)]
    told.meet_clients(*clients)
    asks = [pty.client(at, TELL) for at in (where, where, pty.path('view'))]
    for said in [told_of(ask.read_all()) for ask in asks]:
        assert said['name'] == address or address != 'work'
        assert int(said['pid']) == told.shim.pid and began <= int(said['since']) <= time.time()
        assert 'told.py' in said['command'] and said['size'] == '91x31' and said['clients'] == '2'
        assert said['recording'] == (pty.path('cast') if options == ['-rcast'] else '')
        assert said['host'] == socket.gethostname()
        assert int(said['tty']) == os.stat(f'/proc/{told.shim.program()}/fd/0').st_rdev
    assert told.typed_before(clients[1]) == b''


@pytest.mark.parametrize('word', ['two\nlines\nname: x', 'x' * 100_000, 'c\x9b1m\x1b[2J\u202e', '\udcff\udcfftt'],
                         ids=['lines', 'long', 'controls', 'no text'])
def test_tell_has_nine_lines_whatever_the_command_holds(pty, word):
    """A name is not to be mistaken, a length has 16 bits, and no terminal is told anything by what is listed."""
    shim = pty.run(SHIM, '-q', '-n', './a.sock', 'sh', '-c', 'read x', word)
    assert (shim.returncode, shim.stdout) == (0, '')
    said = told_of(pty.client(pty.path('a.sock'), TELL).read_all())
    pty.keep(said, lambda: os.kill(int(said['pid']), signal.SIGTERM))
    assert said['command'].startswith('sh -c') and not re.search('[\x00-\x1f\x7f-\x9f]', said['command'])


@pytest.mark.parametrize('cut', range(1, 12))
def test_hello_of_any_kind_may_come_in_pieces(pty, cut):
    told = Told(pty, '-n', pty.path('sock'))
    client = pty.client(told.shim.address, TELL[:cut])
    wait_taken(client.sock)
    client.send(TELL[cut:])
    told_of(client.read_all())
    assert told.typed_before(pty.client(told.shim.address, NO_WINDOW)) == b''


# ---- end


@pytest.mark.parametrize('where', ['0', 'sock'])
def test_end_is_acknowledged_at_once_and_told_the_status(pty, where):
    """As SIGTERM ends it: the program has its time, and the others get what they get at any end."""
    script = 'trap "read x; echo bye; exit 3" TERM; echo READY; while :; do read x; done'
    shim = pty.shim('-rcast', '-w', pty.path(where) if where == 'sock' else where, 'sh', '-c', script)
    stays = pty.client(shim.address, NO_WINDOW)
    stays.read_until(b'READY\r\n')
    ends = pty.client(shim.address, END)
    assert ends.read_bytes(4) == OK and ends.nothing_comes(0.5) and alive(shim.pid)
    stays.send(b'\n')
    assert stays.read_all().endswith(b'bye\r\n' + goodbye(3))
    assert ends.read_all() == goodbye(3)
    shim.wait_gone()


def test_second_end_does_not_wait_for_the_grace(pty):
    """Somebody who asks twice means it."""
    shim = pty.shim('-n', '-g', '86400', pty.path('sock'), *DEAF)
    wait_ready(pty, shim.address)
    first = pty.client(shim.address, END)
    assert first.read_bytes(4) == OK and first.nothing_comes(0.5)
    second, began = pty.client(shim.address, END), time.monotonic()
    assert second.read_all() == OK + goodbye(137) and first.read_all() == goodbye(137)
    assert time.monotonic() - began < SOON
    shim.wait_gone()


def test_what_is_no_client_starts_no_waiting_program(pty):
    """-w waits for the first client. A session that is ended before one came never runs its program."""
    shim = pty.shim('-n', '-w', pty.path('sock'), 'touch', 'started')
    assert told_of(pty.client(shim.address, TELL).read_all())['clients'] == '0'
    assert pty.client(shim.address, ALONE).read_all() == OK
    assert pty.client(shim.address, END).read_all()[:8] == OK + goodbye(0)[:4]
    shim.wait_gone()
    assert not os.path.exists(pty.path('started'))


@pytest.mark.parametrize('kind', [END, ALONE], ids=['end', 'alone'])
def test_viewers_end_nothing_when_the_program_has_ended(pty, kind):
    """In the farewell a client that is still owed output gets it, whatever viewers ask; and a marker comes too late."""
    told = Told(pty, '-rcast', '-v', './view', pty.path('sock'))
    [slow] = told.clients(1, HELLO)
    viewers = [pty.client(pty.path('view')) for _ in range(3)]
    told.flood(MIB // 2)                        # more than a socket holds, less than the ring
    told.start('exit', 3)
    wait_until(lambda: not os.path.exists(told.shim.address), what='the end of the program')
    for viewer in viewers:
        viewer.send(kind)
    os.kill(told.shim.pid, signal.SIGUSR1)
    same(slow.read_all(), pattern(MIB // 2) + goodbye(3))
    told.shim.wait_gone()
    assert [event[1] for event in Recording(told.shim.recording).events][-1] == 'x'


@pytest.mark.parametrize('kind', [PUSH, END, ALONE], ids=['push', 'end', 'alone'])
def test_viewers_are_heard_in_nothing(pty, kind):
    """At a viewer address these are closed without a byte, and nothing happens."""
    told = Told(pty, '-n', '-v', './view', pty.path('sock'))
    [window] = told.clients(1, HELLO)
    assert pty.client(pty.path('view'), kind + b'typed').read_all() == b''
    assert told.typed_before(window) == b'' and window.nothing_comes()
    told.meet_clients(window)


# ---- alone


def test_alone_makes_the_other_windows_leave(pty):
    """They are told so; who has no window stays: pipes, watchers, raw clients. One that takes nothing gets a second."""
    told = Told(pty, '-rcast', pty.path('sock'))
    windows = [pty.client(told.shim.address, HELLO) for _ in range(2)]
    others = [pty.client(told.shim.address, first) for first in (NO_WINDOW, WATCHES, b'')]
    told.meet_clients(*windows, *others)
    before = descriptors(told.shim.pid)
    full = pty.client(told.shim.address, HELLO)
    full.read_until(b'<met 1>')
    drains = [Drain(client, MIB) for client in (*windows, *others)]
    told.flood(MIB)                             # more than a socket holds
    for drain in drains:
        same(drain.wait()[-MIB:], pattern(MIB))
    began = time.monotonic()
    assert pty.client(told.shim.address, ALONE).read_all() == OK
    assert [client.read_all() for client in windows] == [LEAVE] * 2
    until_calm(lambda: descriptors(told.shim.pid) <= before - 2 + 1, 'the close of all three, and a helper')
    assert time.monotonic() - began < 1 + SOON
    told.meet_clients(*others)
    (newcomer := pty.client(told.shim.address, HELLO)).read_until(b'<met 2>')
    told.meet_clients(*others)
    assert told.typed_before(newcomer) == b''


# ---- answers and noise


@pytest.fixture
def three(pty):
    """A session with a leader, another window and a pipe; sizes 30, 40."""
    told = Told(pty, '-i', '-rcast', pty.path('sock'))
    clients = [pty.client(told.shim.address, first) for first in (hello(30, 100), hello(40, 100), NO_WINDOW)]
    told.meet_clients(*clients)
    clients[0].send(b'typed')
    assert told.typed_until(b'typed') == b'typed' and told.tell('size') == '30 100'
    return told, *clients


def test_answer_is_passed_on_from_the_leader_alone_and_makes_none(three):
    """A program that asks gets one answer; the window stays with who types. What was dropped is not recorded either."""
    told, leader, other, _ = three
    for _ in range(3):
        other.send(message(b'a', b'\x1b[1;2R'))
        wait_taken(other.sock)
        leader.send(message(b'a', b'\x1b[3;4R'))
        assert told.typed_until(b'R') == b'\x1b[3;4R' and told.tell('size') == '30 100'
    other.send(b'x')
    assert told.typed_until(b'x') == b'x'
    wait_until(lambda: told.tell('size') == '40 100', what='the new leader')
    leader.send(message(b'a', b'\x1b[5;6R'))
    wait_taken(leader.sock)
    other.send(message(b'a', b'\x1b[7;8R'))
    assert told.typed_until(b'R') == b'\x1b[7;8R'


def test_noise_is_passed_on_from_everybody_and_makes_no_leader(three):
    """Focus reports and motion: alt-tabbing away from a watcher's window resizes nobody."""
    told, leader, other, _ = three
    for client in (other, leader, other):
        client.send(message(b'n', b'\x1b[I!'))
        assert told.typed_until(b'!') == b'\x1b[I!' and told.tell('size') == '30 100'


@pytest.mark.parametrize('letter', [b'a', b'n'])
@pytest.mark.parametrize('data', [b'', b'\x1b[0n', b'\xff\xffss\0\x09\0\x09\0\0\0\0', b'z' * 3000],
                         ids=['empty', 'short', 'hello', 'long'])
def test_answer_may_come_in_pieces_and_between_typed_bytes(three, letter, data):
    """Its length tells where it ends, whatever stands in it."""
    told, leader = three[:2]
    whole = b'<' + message(letter, data) + b'|' + message(letter, data) + b'>'
    for cut in range(1, min(len(whole), 16)):
        leader.send(whole[:cut])
        wait_taken(leader.sock)
        leader.send(whole[cut:])
        same(told.typed_until(b'>'), b'<' + data + b'|' + data + b'>')
    assert told.tell('size') == '30 100'


def test_answers_of_clients_without_a_window_are_data(three):
    """Nothing after their hello is looked at: binary input stays exact."""
    told, pipe = three[0], three[3]
    assert told.typed_before(pipe, message(b'a', b'1') + message(b'n', b'2') + b'\n') == b''
    raw = message(b'a', b'3')
    pipe.send(raw)
    assert told.typed_until(raw) == raw


def test_answer_that_its_client_does_not_finish_is_none(three):
    """A window that leaves amid one has typed nothing."""
    told, leader, other, _ = three
    leader.send(message(b'a', b'\x1b[0n')[:8])
    wait_taken(leader.sock)
    leader.close()
    wait_until(lambda: told.tell('size') == '40 100', what='the leader that remains')
    assert told.typed_before(other)[:1] != b'\xff'


# ---- what a session tells of itself


@pytest.mark.parametrize('address', ['work', './a.sock', '0'])
@pytest.mark.parametrize('outer', [None, '/tmp/shim-1/out\n127.0.0.1:7'], ids=['alone', 'nested'])
def test_shim_outer_has_the_addresses_of_all_sessions_around(pty, address, outer):
    """Outermost first, the session's own last, as it listens: attach refuses to show one of them in itself."""
    env = {name: value for name, value in os.environ.items() if name != 'SHIM_OUTER'}
    env.update({'SHIM_OUTER': outer} if outer else {})
    shim = pty.shim('-w', '-n', address, 'sh', '-c', 'printf "%s\\n" "$SHIM_OUTER"', env=env)
    own = {'work': os.path.join(os.environ['SHIM_DIR'], 'work'), './a.sock': pty.path('a.sock'), '0': shim.address}[address]
    where = own if '/' in own else '127.0.0.1:' + own.rpartition(':')[2]
    lines = pty.client(shim.address if address == '0' else own, NO_WINDOW).read_all()[:-5].decode().split()
    assert lines == [*(outer or '').split(), where]


def test_time_of_day_is_recorded_when_it_has_moved(pty):
    """A machine that slept, a clock that was set: one `t` event in front of what comes next, and none for nothing."""
    env, fault = faulty(pty)
    told = Told(pty, '-rcast', pty.path('sock'), env=env)
    client, moved = pty.client(told.shim.address, NO_WINDOW), []
    for step in (0, 3600, 3600, -86400, 0):
        fault('clock', step)
        told.prints(b'at %d;' % step)
        client.read_until(b'at %d;' % step)
        moved.append(time.time() + step)
    fault('forward', 100)                       # both clocks: they still agree
    told.prints(b'end;')
    client.read_until(b'end;')
    events = [(code, text) for _, code, text in Recording(told.shim.recording, torn=True).events if code in 'ot']
    codes = ''.join(code if code == 't' else text for code, text in events)
    assert codes == 'at 0;tat 3600;at 3600;tat -86400;tat 0;end;'
    times = [text for code, text in events if code == 't']
    for text, now in zip(times, (moved[1], moved[3], moved[4])):
        assert re.fullmatch(r'\d+\.\d{6}', text) and abs(float(text) - now) < SOON


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP, signal.SIGQUIT])
def test_foreground_ends_by_the_programs_signal(pty, number):
    """A waiting shell, a service manager or make learns what really happened; the core is the program's own."""
    process = pty.background('sh', '-c', 'ulimit -c unlimited; exec "$@"', 'sh', SHIM, '-fnq', './a.sock', 'sh', '-c',
                             f'ulimit -c 0; kill -{int(number)} $$')
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert (ended.si_code, ended.si_status) == (os.CLD_KILLED, number)


@needs_root
def test_foreground_as_process_1_tells_the_signal_by_its_status(pty):
    """The kernel keeps signals from process 1 of a container, its own too: 128 + n."""
    run = pty.run('unshare', '-p', '-f', '--kill-child', SHIM, '-fnq', './a.sock', 'sh', '-c', 'kill -TERM $$')
    assert run.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize('address, status', [('work', 0), ('./a.sock', 0),
                                             pytest.param('0', 125, marks=needs_tcp_owner)])
def test_session_without_tcp_needs_no_table_of_the_kernels(pty, address, status):
    """No netlink: gVisor, or a service with RestrictAddressFamilies=AF_UNIX. Who comes by TCP could not be told there."""
    env, fault = faulty(pty)
    fault('netlink')
    run = pty.run(SHIM, '-n', address, 'sh', '-c', 'read x', env=env)
    assert run.returncode == status and run.stdout.startswith('' if status else 'shim: listening')
    if status == 0:
        where = pty.path('a.sock') if address[0] == '.' else os.path.join(os.environ['SHIM_DIR'], 'work')
        assert pty.client(where, END).read_all()[:4] == OK


def test_folders_have_their_modes_whatever_the_umask(pty, monkeypatch):
    """umask 777 takes all from what mkdir(2) and bind(2) make: the owner has to get in."""
    for name in ('SHIM_DIR', 'SHIM_RECORDS'):
        monkeypatch.setenv(name, pty.path(name))
    shim = pty.shim('work', 'sh', '-c', 'read x', umask=0o777)
    paths = [pty.path(name) for name in ('SHIM_DIR', 'SHIM_RECORDS', 'SHIM_DIR/work')] + [shim.recording]
    assert [oct(stat.S_IMODE(os.stat(path).st_mode)) for path in paths] == ['0o700', '0o700', '0o600', '0o600']
