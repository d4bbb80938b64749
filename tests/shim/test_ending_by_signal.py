"""shim: how a session ends that is asked to (section 2, 'Ending'): by SIGTERM, SIGINT or SIGQUIT, within the grace and 5 s."""
import os
import re
import signal
import time

import pytest

from common import NO_WINDOW, Recording
from harness import SHIM, alive, children, goodbye, needs_handlers, stat_fields, wait_until
from told import MIB, NOBODY, Drain, Told, as_user, compiled, helpers, needs_root, open_folder, programs_for_all

LOOP = 'echo READY; while :; do read x; done'
DEAF = 'trap "" HUP TERM INT; echo READY; while :; do sleep 1000; done'


def asked_to_end(pty, script, number, *options):
    """Starts the script, sends the shim a signal when it is READY; gives what a client still got."""
    shim = pty.shim('-r', 'a.cast', *options, './a.sock', 'sh', '-c', script)
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'READY\r\n')
    os.kill(shim.pid, number)
    return client.read_all()


@needs_handlers
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_server_that_ends_in_order_on_sigterm_has_the_time_for_it(pty, number):
    """A server knows SIGTERM and would die of SIGHUP: it gets the one, and not the other while it closes its files."""
    assert asked_to_end(pty, 'trap "sleep 0.5; echo bye; exit 3" TERM; ' + LOOP, number) == b'bye\r\n' + goodbye(3)


@needs_handlers
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_shell_that_ends_in_order_on_the_hang_up_has_the_time_for_it(pty, number):
    """An interactive program knows SIGHUP and may die of SIGTERM: the same the other way round."""
    assert asked_to_end(pty, 'trap "sleep 0.5; echo bye; exit 3" HUP; ' + LOOP, number) == b'bye\r\n' + goodbye(3)


def test_program_that_knows_both_gets_both(pty):
    """Who has a handler for each may do with each what it likes."""
    script = ('trap "echo TERM; t=1" TERM; trap "echo HUP; h=1" HUP; echo READY; '
              'while [ "$t$h" != 11 ]; do sleep 0.01; done; exit 4')
    seen = asked_to_end(pty, script, signal.SIGTERM)
    assert {b'TERM', b'HUP', goodbye(4)} <= set(seen.split(b'\r\n'))


def test_program_without_handlers_ends_by_sigterm(pty):
    """The status says what a service manager expects of a stopped service: 128 + 15."""
    assert asked_to_end(pty, 'echo READY; exec sleep 1000', signal.SIGTERM) == goodbye(128 + signal.SIGTERM)


def sleeps(pid):
    """True when the process waits in a system call, proc_pid_stat(5)."""
    return stat_fields(pid)[0] == 'S'


def test_interactive_shell_ends_by_the_hang_up(pty):
    """An interactive bash ignores SIGTERM; the hang-up ends it at once, and not the grace. (It must wait for a key: what
    comes between its prompt and its pselect is noticed at the next key only, on any pseudoterminal: bash 5.2.)"""
    shim = pty.shim('-n', './a.sock', 'bash', '--norc', '-i', env={**os.environ, 'PS1': '# '})
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.send(b'echo RE""ADY\n')
    client.read_until(b'READY\r\n')
    client.read_until(b'# ')
    [bash] = children(shim.pid)
    wait_until(lambda: sleeps(bash), what='its wait for a key')
    began = time.monotonic()
    os.kill(shim.pid, signal.SIGTERM)
    assert client.read_all().endswith(goodbye(128 + signal.SIGHUP))
    assert time.monotonic() - began < 5


@needs_handlers
def test_foreground_session_ends_in_order_on_sigquit(pty):
    """-f at a terminal: Ctrl-\\ is SIGQUIT, which ends the session as SIGTERM does, with an exit event and no socket."""
    terminal = pty.terminal(SHIM, '-f', '-r', 'a.cast', './a.sock', 'sh', '-c', 'trap "exit 5" TERM; >ready; ' + LOOP)
    terminal.wait_text('listening on')
    wait_until(lambda: os.path.exists(pty.path('ready')), what='the program')
    terminal.ends('\x1c', 5)
    assert sorted(os.listdir(pty.folder)) == ['a.cast', 'ready']
    assert Recording(pty.path('a.cast')).events[-1][1:] == ('x', '5')


def test_sighup_only_hangs_the_terminal_up(pty):
    """The shim's own SIGHUP is the terminal's: a program that ignores it goes on, and nobody kills it."""
    script = 'trap "" HUP; echo READY; read x; echo "got $x"; exit 6'
    shim = pty.shim('-n', '-g', '0', './a.sock', 'sh', '-c', script)
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'READY\r\n')
    os.kill(shim.pid, signal.SIGHUP)
    assert client.nothing_comes(0.5) and alive(shim.pid)
    client.send(b'word\n')
    assert client.read_all().endswith(b'got word\r\n' + goodbye(6))


@pytest.mark.parametrize('grace', [0, 2])
def test_grace_is_the_time_until_sigkill(pty, grace):
    """--grace SECONDS: the program that heeds nothing is killed then, and the session ends in order."""
    began = time.monotonic()
    assert asked_to_end(pty, DEAF, signal.SIGTERM, '-g', str(grace)) == goodbye(128 + signal.SIGKILL)
    assert grace <= time.monotonic() - began < grace + 3
    wait_until(lambda: os.listdir(pty.folder) == ['a.cast'], what='the end of the socket')
    assert Recording(pty.path('a.cast')).events[-1][1:] == ('x', '137')


@pytest.mark.parametrize('seconds', ['', '-1', '86401', '1.5', '10s', 'ten'])
def test_grace_is_a_number_of_seconds_up_to_a_day(pty, seconds):
    """Anything else is a usage error that says so."""
    run = pty.run(SHIM, '--grace', seconds, '0', 'true')
    assert (run.returncode, run.stdout) == (2, '')
    assert re.fullmatch(rf"shim: --grace: '{re.escape(seconds)}' .+\n", run.stderr)


def test_second_signal_does_not_wait_for_the_grace(pty):
    """Somebody who asks twice means it."""
    shim = pty.shim('-r', 'a.cast', '--grace=86400', './a.sock', 'sh', '-c', DEAF)
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'READY\r\n')
    os.kill(shim.pid, signal.SIGTERM)
    assert client.nothing_comes(0.5)
    began = time.monotonic()
    os.kill(shim.pid, signal.SIGINT)
    assert client.read_all() == goodbye(128 + signal.SIGKILL)
    assert time.monotonic() - began < 3
    shim.wait_gone()


def caught_up_at_the_end(pty):
    """A session whose program has ended, and a client that takes no more of what the helper has for it."""
    told = Told(pty, '-r', 'a.cast', pty.path('a.sock'))
    stuck, fast = pty.client(told.shim.address, NO_WINDOW, rcvbuf=4096), pty.client(told.shim.address, NO_WINDOW)
    told.meet_clients(stuck, fast)
    program, drain = told.shim.program(), Drain(fast, 6 * MIB)
    told.flood(6 * MIB)
    drain.wait()
    stuck.read_bytes(MIB)
    record = wait_until(lambda: helpers(told.shim, program), what='record')[0]
    told.start('exit', 0)
    wait_until(lambda: not os.path.exists(pty.path('a.sock')), what='the farewell')
    return told.shim, record


def pending(pid):
    """Whether a signal waits for the process: proc(5), ShdPnd."""
    try:
        with open(f'/proc/{pid}/status', encoding='ascii') as f:
            return int(re.search(r'ShdPnd:\s+([0-9a-f]+)', f.read())[1], 16)
    except OSError:
        return 0


def test_second_signal_in_the_farewell_leaves_no_record(pty):
    """Who is still caught up then is dropped, and the helper ends with the shim."""
    shim, record = caught_up_at_the_end(pty)
    for number in (signal.SIGTERM, signal.SIGINT):      # of one kind two that are pending would be one: signal(7)
        os.kill(shim.pid, number)
        wait_until(lambda: not pending(shim.pid), what='the delivery')
    shim.wait_gone(3)
    wait_until(lambda: not alive(record), 3, 'the end of record')




def test_client_that_takes_little_does_not_hold_the_end_beyond_the_grace_and_5_s(pty):
    """Delivery is bounded by progress, but a session that was asked to end ends, come what may."""
    shim = pty.shim('-n', '-g', '1', './a.sock', 'sh', '-c', 'seq 1 100000; >ready; exec sleep 1000')
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    wait_until(lambda: os.path.exists(pty.path('ready')), what='the output')
    drain = Drain(client, step=20000, pause=0.5)    # 15 s for all of it
    os.kill(shim.pid, signal.SIGTERM)
    began = time.monotonic()
    shim.wait_gone(9)
    assert time.monotonic() - began > 3     # it was given time
    drain.client.close()


@needs_root
@pytest.mark.parametrize('deaf', ['', 'deaf'])
def test_program_that_has_become_another_user_gets_the_kernels_hang_up(pty, deaf):
    """kill(2) is not allowed then (EPERM); when the last descriptor of the master is closed, the kernel sends SIGHUP,
    whosever the program is. One that ignores even that is left to itself, and the session ends without it."""
    folder = open_folder(pty)
    program = compiled(pty, 'other_user')
    installed = os.path.join(folder, 'other_user')
    os.rename(program, installed)
    os.chmod(installed, 0o4755)
    shim = pty.shim('-r', 'a.cast', '-g', '1', './a.sock', installed, *([deaf] if deaf else []), cwd=folder,
                    **as_user(NOBODY), program=programs_for_all(folder))
    client = pty.client(os.path.join(folder, 'a.sock'), NO_WINDOW)
    pid = int(re.search(rb'READY (\d+)\r\n', client.read_until(b'\r\n'))[1])
    pty.keep(pid, lambda: os.kill(pid, signal.SIGKILL) if alive(pid) else None)
    began = time.monotonic()
    os.kill(shim.pid, signal.SIGTERM)
    assert client.read_all() == goodbye(128 + (signal.SIGKILL if deaf else signal.SIGHUP))
    shim.wait_gone()
    assert 1 <= time.monotonic() - began < 6
    assert alive(pid) == bool(deaf)
    assert not os.path.exists(os.path.join(folder, 'a.sock'))
