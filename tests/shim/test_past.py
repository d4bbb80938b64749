"""The past (section 7): one helper, `record serve`, that the shim asks and never waits for. Who comes late or falls behind
is painted, or given bytes, at any length of a session and whatever is recorded; when the helper fails, nobody else
notices."""
import os
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest

from common import NO_WINDOW
from crowd import crowd
from harness import ATTACH, RECORD, SHIM, TIMEOUT, alive, goodbye, hello, wait_until
from screens import Model, differences
from told import (MIB, PROGRAMS, RING, SLACK, Drain, Told, descriptors, faulty, helpers, needs_root, open_folder,
                  pattern, resident, same, small_disk, until_calm)

HELLO, WATCHES = hello(24, 80), hello(0, 0, 1)
KINDS = (HELLO, WATCHES, b'')                   # a window, attach -r, nc: each is painted
LINES = b''.join(b'\x1b[1;3%dm%07d\x1b[m \x1b[4mof\x1b[m \x1b[7mit\x1b[m\r\n' % (n % 8, n) for n in range(320_000))
LINE = len(LINES) // 320_000
PICTURE = b'\x1b[2J\x1b[2;5H\x1b[44mdrawn long ago\x1b[m\x1b[5;24r\x1b[24;1H'
AGAIN = b'\x18\x1b\\'                           # how the paint of a terminal begins that has had bytes before
ENDLESS = 1 << 40
SOON = 5 * SLACK                                # seconds for what takes less than one on a quiet machine


class Odd:
    """A folder with a shim, and as its `record` programs/odd_record.py, which does `how`."""
    def __init__(self, pty, how):
        self.folder = open_folder(pty)
        self.shim = shutil.copy(SHIM, self.folder)
        os.symlink(RECORD, os.path.join(self.folder, 'real'))
        shutil.copy(os.path.join(PROGRAMS, 'odd_record.py'), os.path.join(self.folder, 'record'))
        pty.write(os.path.join(self.folder, 'how'), how)

    def pids(self):
        """Of all that have been started, in order."""
        path = os.path.join(self.folder, 'pids')
        return [int(line) for line in open(path, encoding='ascii')] if os.path.exists(path) else []


def shown(*parts, size=(24, 80)):
    model = Model(*size)
    for part in parts:
        model.feed(part)
    return model


def printed(pty, *argv, text=PICTURE + LINES):
    """A session that has printed `text` in one go, a second after it began, and then prints each line typed as <line>.
    """
    pty.write('text', text)
    script = 'stty raw -echo; sleep 1.1; cat text; stty icrnl opost icanon; >done; while read x; do echo "<$x>"; done'
    shim = pty.shim('-s', '80x24', *argv, pty.path('sock'), 'sh', '-c', script)
    wait_until(lambda: os.path.exists(pty.path('done')), TIMEOUT * 6, 'the last byte')
    return shim


def after_typing(client, word):
    """All that the client has got when what it types has been printed."""
    client.send(word + b'\n')
    return client.read_until(b'<' + word + b'>\r\n')


# ---- at any length of a session, whatever is recorded


@pytest.mark.parametrize('recording', [['-rcast'], ['-n'], ['-m1M', '-rcast'], pytest.param('disk', marks=needs_root)],
                         ids=['recorded', 'not recorded', 'recorded in part', 'full disk'])
def test_late_client_of_a_session_that_has_printed_much_is_painted(pty, recording):
    """11 MB of coloured output, 20 MB as lines of a recording: what was drawn before it is there, again and again."""
    if recording == 'disk':
        recording = ['-r' + os.path.join(small_disk(pty, 10 * MIB), 'cast')]
    shim, live = printed(pty, *recording), b''
    for number, first in enumerate((*KINDS, HELLO)):
        late = pty.client(shim.address, first)
        got = late.read_until(b'0319999') if not live else late.read_until(live[-5:-2])     # (raw ones take 200 ms)
        got += after_typing(late, b'%d' % number)
        live += b'<%d>\r\n' % number
        assert not differences(shown(got), shown(PICTURE, LINES[-100 * LINE:], live)), first


@pytest.mark.parametrize('option', ['-rcast', '-n'])
def test_forty_clients_at_once_behind_much_output_are_all_painted(pty, option):
    """The helper reads the output once and paints once, for all who wait. Nobody is dropped for what the shim owes."""
    told = Told(pty, option, pty.path('sock'))
    told.flood(96 * MIB)
    told.prints(b'\r\n<end>\r\n')
    began = time.monotonic()
    waiting = {client.sock: client for client in (pty.client(told.shim.address, HELLO) for _ in range(40))}
    while waiting and time.monotonic() < began + 2 * SOON:
        for sock in select.select(waiting, [], [], 1)[0]:
            assert waiting[sock].read_some(), f'closed after {time.monotonic() - began:.1f} s without a paint'
            if b'<end>' in waiting[sock].buffer:
                del waiting[sock]
    assert not waiting, f'{len(waiting)} of 40 are not painted'


def queued(*pids):
    """Seconds that these processes have waited for a processor: schedstats, proc(5)."""
    return sum(int(open(f'/proc/{pid}/schedstat', encoding='ascii').read().split()[1]) for pid in pids) / 1e9


@pytest.mark.parametrize('option', ['-rcast', '-n'])
def test_late_client_in_a_flood_is_painted_soon_and_goes_on_live(pty, option):
    """300 MB after the start nothing but the last 32 MiB at most is left to be read; the program waits for that, 1 s at
    most. (Where others have the processors, the helper stays behind a flood for as long: nothing can be told then.)"""
    pty.write('text', LINES)
    shim = pty.shim(option, pty.path('sock'), 'sh', '-c', 'stty raw; for i in `seq 28`; do cat text; done; >far; '
                    'while :; do cat text; done')
    fast = pty.background(ATTACH, '-q', shim.address, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists(pty.path('far')), TIMEOUT * 6, 'the first 300 MB')
    for first in (HELLO, b''):
        [helper] = helpers(shim, shim.program())
        began, before = time.monotonic(), queued(shim.pid, helper)
        late = pty.client(shim.address, first, timeout=TIMEOUT * 6)
        late.read_bytes(200_000)                # a paint with its history, and live bytes
        took, starved = time.monotonic() - began, queued(shim.pid, helper) - before
        if took > 2.5 * SLACK and starved > took / 4:
            pytest.skip(f'shim and helper have waited {starved:.1f} s of {took:.1f} s for a processor')
        assert took < 2.5 * SLACK
    assert fast.poll() is None


def test_hello_that_comes_late_is_answered_by_a_paint_for_its_size(pty):
    """A slow line's hello comes when the client has been taken for a raw one and painted at the session's size."""
    text = b'\x1b[?1049h\x1b[2J\x1b[44m' + b''.join(b'\x1b[%d;1H%d' % (n, n) for n in range(1, 25)) + b'\x1b[m===\r\n'
    shim = printed(pty, '-rcast', text=text)
    slow = pty.client(shim.address)
    got = slow.read_until(b'===')
    slow.send(hello(30, 100))
    got += slow.read_until(AGAIN) + slow.read_until(b'===') + after_typing(slow, b'1')
    prompt = pty.client(shim.address, hello(30, 100))
    wanted = prompt.read_until(b'<1>') + after_typing(prompt, b'2')
    got += slow.read_until(b'<2>\r\n')
    assert not differences(shown(got, size=(30, 100)), shown(wanted, size=(30, 100)))


def test_window_of_a_late_hello_starts_no_program_anew(pty):
    """-w: the program has begun at the size of the start; the first window that comes sets it, by a SIGWINCH."""
    shim = pty.shim('-w', '-n', '-s', '80x24', './a.sock', 'sh', '-c',
                    'trap "stty size; exit 0" WINCH; echo READY; while :; do read x; done')
    client = pty.client(pty.path('a.sock'))
    client.read_until(b'READY')
    client.send(hello(30, 100))
    assert client.read_all().endswith(b'30 100\r\n' + goodbye(0))
    shim.wait_gone()


def test_past_does_not_depend_on_who_was_painted_when(pty):
    """Long lines in a window that is narrowed, a paint, the window grown again: the same as one that reads all at once
    gives, whatever the helper read and painted before."""
    told = Told(pty, '-s', '120x24', '-rcast', pty.path('sock'))
    typist = pty.client(told.shim.address, hello(24, 120))
    for _ in range(2):
        drain = Drain(typist, 240_000 * LINE)
        told.prints(LINES[:240_000 * LINE])
        drain.wait()
    told.prints(b''.join(b'%d' % (n % 10) * 100 + b'\r\n' for n in range(60)))
    for turn in range(3):
        typist.resize(24, 40)
        wait_until(lambda: told.tell('size') == '24 40', what='the narrow window')
        told.prints(b'\r\nnarrow %d\r\n' % turn)
        typist.read_until(b'narrow %d\r\n' % turn)
        assert typist.nothing_comes(1.2)        # a pause, in which something may be made for those to come
        pty.client(told.shim.address, hello(24, 40)).read_until(b'narrow %d' % turn)
        typist.resize(24, 120)
        wait_until(lambda: told.tell('size') == '24 120', what='the wide window')
        whole = pty.run(RECORD, 'paint', '-H', '64K', told.shim.recording, text=False).stdout
        late = pty.client(told.shim.address, hello(24, 120))
        same(late.read_bytes(len(whole)), whole)
        assert late.nothing_comes()


# ---- one helper


def test_there_is_one_helper_for_all_and_none_when_nobody_comes_late(pty):
    """It is asked by a socket pair, has two files, heeds none of the signals that a keyboard or a service manager sends
    to everybody, and ends with the shim, even a killed one."""
    told = Told(pty, '-rcast', pty.path('sock'))
    [early] = told.clients(1, HELLO)
    program = told.shim.program()
    told.flood(3 * MIB, wait=False)
    same(early.read_bytes(3 * MIB), pattern(3 * MIB))
    assert told.answer() and helpers(told.shim, program) == []
    before, seen = descriptors(told.shim.pid), set()
    for turn in range(40):
        late = pty.client(told.shim.address, (*KINDS, NO_WINDOW)[turn % 4])
        if turn % 3 == 0:
            assert late.read_some()
        seen |= set(helpers(told.shim, program))
        late.close()
    late = pty.client(told.shim.address, HELLO)
    assert late.read_some()
    [helper] = seen
    assert helpers(told.shim, program) == [helper]
    assert pty.read_bytes(f'/proc/{helper}/cmdline').split(b'\0')[1] == b'serve'
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        os.kill(helper, number)
    told.prints(b'\r\nstill there')
    assert b'still there' in pty.client(told.shim.address, HELLO).read_until(b'still there')
    assert helpers(told.shim, program) == [helper]
    late.close()
    until_calm(lambda: descriptors(told.shim.pid) <= before + 3, 'the descriptors before, and the last visitors')
    os.kill(told.shim.pid, signal.SIGKILL)
    wait_until(lambda: not alive(helper), what='the end of the helper')


def unlinked_files(pid):
    """The sizes of the regular files that a process has open and nobody else can see."""
    files = [os.stat(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
    return [file.st_size for file in files if stat.S_ISREG(file.st_mode) and file.st_nlink == 0]


def test_session_without_a_recording_keeps_little_however_much_it_prints(pty):
    """The tail is cut whenever the model has read it: 64 MiB at most, and the shim's memory does not grow."""
    told = Told(pty, '-n', pty.path('sock'))
    told.flood(4 * MIB)
    before, most = resident(told.shim.pid), 0
    for _ in range(30):
        told.flood(8 * MIB)
        most = max([most, *unlinked_files(told.shim.pid)])
    assert most <= 65 * MIB and resident(told.shim.pid) - before < 2 * MIB
    told.prints(b'\r\n<end>\r\n')
    assert pty.client(told.shim.address, HELLO).read_until(b'<end>')


@pytest.mark.parametrize('first', [HELLO, WATCHES], ids=['window', 'attach -r'])
def test_terminal_that_fell_out_is_painted_and_goes_on_live(pty, first):
    """It is shown what its terminal would show now, not what scrolled by; its own scrollback is not given it twice."""
    told = Told(pty, '-rcast', pty.path('sock'))
    fast, slow = pty.client(told.shim.address, NO_WINDOW), pty.client(told.shim.address, first)
    told.meet_clients(fast, slow)
    drain = Drain(fast, ENDLESS)
    told.prints(PICTURE + LINES)
    until_calm(lambda: len(drain.data) == len(PICTURE + LINES), 'the end of the flood')
    told.prints(b'<end>')
    got = slow.read_until(b'<end>')
    told.prints(b'\r\nlive')
    got += slow.read_until(b'live')
    assert not differences(shown(got[got.rindex(AGAIN):]), shown(PICTURE, LINES[-100 * LINE:], b'<end>\r\nlive'))
    assert len(got) < 2 * RING and len(got) - got.rindex(AGAIN) < 10_000


@pytest.mark.parametrize('first, what', [(NO_WINDOW, 'descriptor'), (NO_WINDOW, 'process'), (HELLO, 'descriptor')],
                         ids=['pipe-descriptor', 'pipe-process', 'terminal-descriptor'])
def test_want_of_a_descriptor_or_a_process_loses_nothing(pty, first, what):
    """Every descriptor is a client's, or fork(2) fails for a while: who fell out gets its past all the same, later."""
    env, fault = faulty(pty)

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    told = Told(pty, '-rcast', pty.path('sock'), env=env, preexec_fn=limited)
    fast, slow = pty.client(told.shim.address, NO_WINDOW), pty.client(told.shim.address, first)
    told.meet_clients(fast, slow)
    if what == 'process':
        fault('fork', 1)
    for _ in range(60 if what == 'descriptor' else 0):
        pty.client(told.shim.address)
    text = PICTURE + LINES[:107_000 * LINE]
    drain = Drain(fast)
    told.prints(text)
    until_calm(lambda: len(drain.data) == len(text), 'the end of the flood')
    if what == 'process':
        while select.select([slow.sock], [], [], 0.3)[0]:   # it takes all that its socket holds: its past is wanted
            assert slow.read_some(), 'closed for want of a process'
        told.prints(b'\r\n')                    # the shim has had a turn in which no process could be made
        fault('fork', off=True)
        fault('forward', 61)                    # seconds: nothing is tried more often than once a minute
        text += b'\r\n'
    told.prints(b'<end>')
    got = slow.read_until(b'<end>')
    if first == NO_WINDOW:
        same(got, text + b'<end>')
    else:
        assert not differences(shown(got[got.rindex(AGAIN):]), shown(PICTURE, text[-100 * LINE:], b'<end>'))


# ---- a helper that fails


def answer(kind=1, protocol=1, length=0):
    return struct.pack('=IIQQQIHHQ', kind, protocol, 0, 0, 0, 0, 0, 0, length).hex()


READ, PAINT, BYTES = 1, 2, 3
FAILURES = {
    'ends at once': 'exit', 'is another version': 'say ' + answer(protocol=2),
    'is older than that': 'say ' + b'record: serve: no such command; record -h tells which there are.'.hex(),
    'answers what is no kind': 'say ' + answer(kind=99),
    'says that too much comes': 'say ' + answer(kind=PAINT, length=(17 << 20) + 1),
    'says that endlessly much comes': 'say ' + answer(kind=PAINT, length=(1 << 64) - 1),
    'answers another question': 'say ' + answer(kind=PAINT),
    **{f'dies {where} {what}': f'die {kind} {count}' for kind, what in ((READ, 'read'), (PAINT, 'paint'))
       for count, where in ((0, 'on'), (10, 'in the header of'), (-1 if kind == READ else 100, 'behind that of'))}}


def rings_bytes(whole):
    """The last 64K of the output, from the start of a line."""
    last = whole[-(64 << 10):]
    return last[last.index(b'\n') + 1:] if len(whole) > len(last) else last


def assert_rings_bytes(late, whole):
    wanted = rings_bytes(whole)
    same(late.read_bytes(len(wanted)), wanted)


@pytest.mark.parametrize('why', FAILURES)
def test_terminals_get_the_rings_bytes_when_the_helper_fails_and_nobody_else_notices(pty, why):
    """At once, and whoever comes in the next minute, in which no other is started; then they go on live."""
    odd = Odd(pty, FAILURES[why])
    told = Told(pty, ('-rcast', '-n')[len(why) % 2], pty.path('sock'), shim=odd.shim)
    [always] = told.clients(1)
    told.flood(300_000)
    same(always.read_bytes(300_000), pattern(300_000))
    began, late = time.monotonic(), []
    for first in KINDS:
        late.append(pty.client(told.shim.address, first))
        assert_rings_bytes(late[-1], told.output())
        assert time.monotonic() - began < SOON
        told.meet_clients(always, *late)
        assert told.typed_before(late[-1]) == b'' and told.typed_before(always) == b''
    assert len(odd.pids()) == 1
    until_calm(lambda: not any(map(alive, odd.pids())), 'the end of the helper')
    told.start('exit', 3)
    assert [client.read_all() for client in (always, *late)] == [goodbye(3), goodbye(3), goodbye(3), b'']
    told.shim.wait_gone()


@pytest.mark.parametrize('how', ['silent', 'deaf'])
@pytest.mark.parametrize('ends', [False, True], ids=['goes on', 'ends'])
def test_helper_that_answers_nothing_for_5_s_counts_as_dead(pty, how, ends):
    """Meanwhile who is there is served: what is typed reaches the program at once, and the program waits 1 s at most
    for the paint of an interactive terminal. The end of the session waits no longer than that either."""
    odd = Odd(pty, how)
    told = Told(pty, '-rcast', pty.path('sock'), shim=odd.shim)
    [always] = told.clients(1)
    told.flood(300_000)
    always.read_bytes(300_000)
    began = time.monotonic()
    late = pty.client(told.shim.address, HELLO)
    wait_until(odd.pids, what='the helper')
    assert told.typed_before(always) == b'' and time.monotonic() - began < SLACK
    drain = Drain(always, 4 * MIB)
    told.flood(4 * MIB)
    same(drain.wait(), pattern(4 * MIB, 300_000))
    assert time.monotonic() - began < 3 * SLACK and not late.buffer
    if ends:
        told.start('exit', 3)
        got = late.read_all()
        assert got[-5:] == goodbye(3) and time.monotonic() - began < 5 + SOON
        same(got[:-5], rings_bytes(told.output()))
        assert always.read_all() == goodbye(3)
        told.shim.wait_gone()
    else:
        assert_rings_bytes(late, told.output())
        assert 4 < time.monotonic() - began < 5 + SOON
        told.meet_clients(always, late)
    assert len(odd.pids()) == 1
    until_calm(lambda: not alive(odd.pids()[0]), 'the end of the helper')


def test_slow_helper_is_waited_for_and_its_answer_serves_all_who_are_there_then(pty):
    """Who resizes before the paint has begun is painted at its size, who leaves is forgotten; nobody is painted twice.
    """
    odd = Odd(pty, 'held')
    told = Told(pty, '-rcast', pty.path('sock'), shim=odd.shim)
    told.prints(PICTURE + LINES[:2300 * LINE])
    before = descriptors(told.shim.pid)
    late = [pty.client(told.shim.address, first) for first in (*KINDS, HELLO, HELLO)]
    late[-1].reset()
    late[-2].resize(30, 100)
    until_calm(lambda: told.tell('size') == '30 100', 'the new size')
    open(os.path.join(odd.folder, 'go'), 'w').close()
    told.prints(b'<live>')
    got = [client.read_until(b'<live>') for client in late[:-1]]
    for data in got:
        assert data.count(b'drawn long ago') == 1
        assert not differences(shown(data, size=(30, 100)), shown(got[-1], size=(30, 100)))
    assert 'drawn long ago' in shown(got[0], size=(30, 100)).screen.text()
    for client in late[:-1]:
        client.close()
    until_calm(lambda: descriptors(told.shim.pid) <= before, 'the descriptors before')
    assert len(odd.pids()) == 1


def test_another_helper_is_started_after_a_minute(pty):
    """One that is killed while it has nothing to do is missed by nobody; the next reads what it needs anew."""
    env, fault = faulty(pty)
    odd = Odd(pty, 'slow 0')
    told = Told(pty, '-rcast', pty.path('sock'), shim=odd.shim, env=env)
    told.prints(PICTURE + LINES[:2300 * LINE])
    for turn in range(3):
        late = pty.client(told.shim.address, HELLO)
        assert b'drawn long ago' in late.read_until(b'|%d' % (turn - 1) if turn else b'0002299')
        os.kill(odd.pids()[-1], signal.SIGKILL)
        wait_until(lambda: not alive(odd.pids()[-1]), what='its end')
        told.prints(b'|%d' % turn)
        late.read_until(b'|%d' % turn)
        raw = pty.client(told.shim.address, HELLO)
        assert_rings_bytes(raw, told.output())
        assert len(odd.pids()) == turn + 1
        fault('forward', 61 * (turn + 1))
        late.close()


def test_helper_that_has_nothing_to_read_paints_nothing(pty):
    """The tail is cut when it has been read, and then the helper is killed: the next one would know nothing of the
    session, the ring knows its last bytes."""
    env, fault = faulty(pty)
    odd = Odd(pty, 'slow 0')
    told = Told(pty, '-n', pty.path('sock'), shim=odd.shim, env=env)
    told.flood(6 * MIB)
    told.prints(PICTURE)
    for _ in range(2):
        pty.client(told.shim.address, HELLO).read_until(b'drawn long ago')
    os.kill(odd.pids()[-1], signal.SIGKILL)
    wait_until(lambda: not alive(odd.pids()[-1]), what='its end')
    fault('forward', 61)
    assert_rings_bytes(pty.client(told.shim.address, HELLO), told.output())


def test_terminal_that_waits_when_the_tail_is_lost_gets_the_rings_bytes(pty):
    """There is no memory for the tail any more (here a limit) while the helper reads for a client."""
    odd = Odd(pty, 'held')
    told = Told(pty, '-n', pty.path('sock'), shim=odd.shim,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)))
    told.flood(MIB // 2)
    late = pty.client(told.shim.address, HELLO)
    wait_until(odd.pids, what='the helper')
    told.flood(3 * MIB)
    open(os.path.join(odd.folder, 'go'), 'w').close()
    assert_rings_bytes(late, told.output())


@pytest.mark.parametrize('count', [0, 10, 1000, -1])
def test_pipe_that_is_being_caught_up_when_the_helper_dies_has_no_hole(pty, count):
    """It gets the rest from the next helper, or the end of the connection; the others notice nothing."""
    env, fault = faulty(pty)
    odd = Odd(pty, f'die {BYTES} {count}')
    told = Told(pty, '-rcast', pty.path('sock'), shim=odd.shim, env=env)
    fast, late = told.clients(2)
    drain = Drain(fast, 6 * MIB)
    told.flood(6 * MIB)
    same(drain.wait(), pattern(6 * MIB))
    drain = Drain(late, 6 * MIB)
    until_calm(lambda: odd.pids() and not alive(odd.pids()[0]), 'the death of the helper')
    began = time.monotonic()
    told.meet_clients(fast)
    assert time.monotonic() - began < SOON
    pty.write(os.path.join(odd.folder, 'how'), 'slow 0')
    fault('forward', 61)
    told.meet_clients(fast)
    drain.join(SOON)
    assert drain.ended or len(drain.data) >= 6 * MIB
    same(bytes(drain.data)[:6 * MIB], pattern(6 * MIB)[:len(drain.data)])


def test_recording_that_was_cut_short_closes_the_pipes_that_need_it(pty):
    """Somebody has truncated the file: what it held cannot be told any more. (Terminals: test_late_client.py.)"""
    told = Told(pty, '-rcast', pty.path('sock'))
    fast, late = told.clients(2)
    drain = Drain(fast, 6 * MIB)
    told.flood(6 * MIB)
    same(drain.wait(), pattern(6 * MIB))
    os.truncate(told.shim.recording, 500)
    got = late.read_all()
    same(got, pattern(len(got)))
    told.meet_clients(fast)


# ---- all together


@pytest.mark.parametrize('recording', ['recorded', 'not recorded', pytest.param('full disk', marks=needs_root)])
def test_fifty_clients_of_all_kinds_come_and_go_beside_a_flood(pty, recording):
    """Each pipe gets every byte, each terminal shows in the end what one shows that was always there (lib/crowd.py; for
    a minute each in `make soak`)."""
    crowd(pty, recording, seconds=8, seed=os.getpid())
