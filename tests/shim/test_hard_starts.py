"""shim: starts under hostile or odd conditions (section 2, 'Starting'): nothing waits for others, whatever the caller
has left us we work, and no start that was broken off leaves a session."""
import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from common import NO_WINDOW, processes_with
from harness import SHIM, alive, children, goodbye, needs_utf8_input, wait_until
from told import needs_root


@pytest.fixture
def lock(pty):
    """Somebody's lock on the test's folder, as any user may take it on /tmp."""
    held = os.open(pty.folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    yield held
    os.close(held)


@pytest.mark.parametrize('option', ['-n', '-f'])
def test_lock_on_the_folder_delays_a_start_for_a_second_only(pty, lock, option):
    """A start waits for nobody: the lock by which two shims keep out of each other's way may be anybody's."""
    began = time.monotonic()
    run = pty.run(SHIM, option, './a.sock', 'touch', 'started')
    assert (run.returncode, run.stdout) == (125, '')
    assert re.fullmatch(r'shim: \./a\.sock: .*lock.*\n', run.stderr)
    assert time.monotonic() - began < 4 and os.listdir(pty.folder) == []


def test_listener_that_does_not_accept_delays_no_start(pty):
    """With its backlog full a connect(2) to it would wait; that it does tells that somebody listens."""
    busy = socket.socket(socket.AF_UNIX)
    busy.bind(pty.path('a.sock'))
    busy.listen(0)
    waiting = []
    with pytest.raises(BlockingIOError):
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect(pty.path('a.sock'))
    run = pty.run(SHIM, '-n', './a.sock', 'touch', 'started')
    assert (run.returncode, run.stdout) == (125, '')
    assert run.stderr == 'shim: ./a.sock: a session runs there: attach ./a.sock\n'
    assert os.listdir(pty.folder) == ['a.sock']
    busy.close()


def test_ctrl_c_ends_a_start_and_no_session_appears_later(pty, lock):
    """The daemon has left the caller's terminal, so it is told of the caller's end by their socket."""
    mark = f'SHIM_TEST={time.monotonic_ns()}'
    terminal = pty.terminal('/usr/bin/env', mark, SHIM, '-r', 'a.cast', './a.sock', 'touch', 'started')
    wait_until(lambda: len(processes_with(mark)) == 2, what='the daemon')
    terminal.send('\x03')
    assert terminal.exit_status() == 128 + signal.SIGINT
    fcntl.flock(lock, fcntl.LOCK_UN)
    wait_until(lambda: processes_with(mark) == [], what='the end of the daemon')
    assert os.listdir(pty.folder) == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_caller_that_is_ended_while_its_daemon_starts_leaves_no_session(pty, number):
    """Also when the daemon has everything ready by then: it waits for the caller's word that it told so."""
    mark = f'SHIM_TEST={time.monotonic_ns()}'
    caller = pty.background('strace', '-qq', '-f', '-o', '/dev/null', '-e', 'inject=shutdown:delay_enter=1500000',
                            '/usr/bin/env', mark, SHIM, '-r', 'a.cast', './a.sock', 'sh', '-c',
                            'trap "" HUP; exec sleep 1000', stdout=subprocess.PIPE)
    wait_until(lambda: os.path.exists(pty.path('a.cast')) and len(processes_with(mark)) == 3, what='the program')
    os.kill(children(caller.pid)[0], number)
    wait_until(lambda: processes_with(mark) == [], what='the end of the daemon')
    assert os.listdir(pty.folder) == []
    assert caller.stdout.read() == b''


@pytest.mark.parametrize('argv, status', [(['0', './nobody'], 127), (['0', '/etc/passwd'], 126), (['0', 'true'], 0),
                                          (['-r', '/no/where', '0', 'true'], 125), (['-f', '0', 'false'], 1)])
def test_statuses_are_right_when_the_caller_ignores_sigchld(pty, argv, status):
    """An ignored SIGCHLD passes through an exec, and then the kernel keeps no status of a child for its parent."""
    options = [] if '-r' in argv else ['-n']
    run = pty.run(SHIM, *options, *argv, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert run.returncode == status, run.stderr


def test_default_name_that_another_has_taken_meanwhile_is_not_the_end(pty):
    """Two sessions of a label that start in the same second get a name each. (A dangling link is there for O_EXCL, and
    not for access(2): as a file that comes between the two.)"""
    now = time.time()
    for second in range(15):
        stamp = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now + second))
        os.symlink('nowhere', pty.path(f'shim-a.sock-{stamp}.cast'))
    shim = pty.shim('./a.sock', 'sleep', '1000')
    assert re.fullmatch(r'shim-a\.sock-\d{8}T\d{6}Z-2\.cast', os.path.basename(shim.recording))
    assert os.path.isfile(shim.recording)


def settings(pty, before, *options):
    """What `stty -a` says in a session that is started from a terminal on which `before` was run."""
    script = f'{before}; "$@" && echo STARTED'
    terminal = pty.terminal('sh', '-c', script, 'sh', SHIM, '-n', '-w', *options, './a.sock', 'stty', '-a')
    terminal.wait_output(b'STARTED')
    seen = pty.client(pty.path('a.sock'), NO_WINDOW).read_all()
    assert seen.endswith(goodbye(0))
    return seen[:-5].decode()


def test_session_has_the_terminal_settings_that_it_was_started_with(pty):
    """What the user has chosen (stty) the user wants in sessions, too."""
    shown = settings(pty, 'stty erase ^H -ixon')
    assert 'erase = ^H;' in shown and ' -ixon' in shown


def test_terminal_in_raw_mode_is_no_model_for_a_session(pty):
    """It shows what a program is in the middle of, not what its user wants."""
    shown = settings(pty, 'stty raw -echo')
    assert ' icanon' in shown and ' -icanon' not in shown and ' -echo ' not in shown


@needs_utf8_input
def test_session_without_a_terminal_has_the_kernels_settings(pty):
    """And with them IUTF8, as the shim's world is UTF-8."""
    shim = pty.shim('-n', '-w', '0', 'stty', '-a')
    shown = pty.client(shim.address, NO_WINDOW).read_all().decode('latin-1')
    assert 'erase = ^?;' in shown and ' iutf8' in shown and ' -iutf8' not in shown


def test_limit_of_the_recording_below_its_least_is_a_usage_error(pty):
    """A header and an end there must be: a smaller limit could not be kept. The least one can."""
    rest = ['-r', 'a.cast', './a.sock', 'sh', '-c', 'echo words; exit 3']
    run = pty.run(SHIM, '-m', '200', *rest)
    assert (run.returncode, run.stdout, os.listdir(pty.folder)) == (2, '', [])
    least = int(re.fullmatch(r'shim: --max-record: .*?(\d+) bytes\n', run.stderr)[1])
    assert pty.run(SHIM, '-m', str(least - 9), *rest).returncode == 2
    limit = least + 9      # the header holds the pid, which may have other digits
    shim = pty.shim('-m', str(limit), *rest)
    shim.wait_gone()
    assert os.path.getsize(pty.path('a.cast')) <= limit


@needs_root
@pytest.mark.parametrize('option', ['-n', '-f'])
def test_start_without_dev_null_fails(pty, option):
    """The daemon lets go of the caller's streams by means of it: kept, they would hold a pipe's reader for ever."""
    hide = 'mount -t tmpfs none /dev && exec "$@"'
    run = pty.run('unshare', '-m', 'sh', '-c', hide, 'sh', SHIM, option, './a.sock', 'touch', 'started')
    assert (run.returncode, run.stdout) == (125, '')
    assert run.stderr == 'shim: /dev/null: No such file or directory\n'
    assert os.listdir(pty.folder) == []


@pytest.mark.parametrize('address', ['./a.sock', 'work'])
def test_sigusr2_makes_a_removed_socket_anew(pty, address):
    """A cleaner of /tmp may remove the file, with its folder; who is attached stays, who comes finds it again."""
    shim = pty.shim('-n', '-v', './view.sock', address, 'sh', '-c', 'stty -echo; while read x; do echo "<$x>"; done')
    path = pty.path('a.sock') if '/' in address else os.path.join(os.environ['SHIM_DIR'], 'work')
    stays = pty.client(path, NO_WINDOW)
    stays.send(b'1\n')
    stays.read_until(b'<1>')
    os.unlink(path)
    os.unlink(pty.path('view.sock'))
    if address == 'work':
        os.rmdir(os.environ['SHIM_DIR'])
    os.kill(shim.pid, signal.SIGUSR2)
    wait_until(lambda: os.path.exists(path) and os.path.exists(pty.path('view.sock')), what='the sockets')
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    viewer = wait_until(lambda: connected(pty, pty.path('view.sock')), what='the listener')
    client = pty.client(path, NO_WINDOW + b'2\n')
    for one in (stays, client, viewer):
        one.read_until(b'<2>')
    os.kill(shim.pid, signal.SIGTERM)
    for one in (stays, client, viewer):
        one.read_all()
    shim.wait_gone()
    assert not os.path.exists(path) and os.listdir(pty.folder) == []


def connected(pty, path):
    """A client there, or None: bind(2) makes the file, and only listen(2) lets one in."""
    try:
        return pty.client(path, NO_WINDOW)
    except ConnectionRefusedError:
        return None


def test_sigusr2_leaves_alone_what_stands_there(pty):
    """The socket that is there, and a file that has taken its place."""
    shim = pty.shim('-n', './a.sock', 'cat')
    before = os.stat(pty.path('a.sock')).st_ino
    os.kill(shim.pid, signal.SIGUSR2)
    client = pty.client(pty.path('a.sock'), NO_WINDOW + b'1\n')
    client.read_until(b'1\r\n1\r\n')
    assert os.stat(pty.path('a.sock')).st_ino == before
    os.unlink(pty.path('a.sock'))
    pty.write('a.sock', 'mine')
    os.kill(shim.pid, signal.SIGUSR2)
    client.send(b'2\n')
    client.read_until(b'2\r\n2\r\n')
    client.close()
    shim.stop()
    assert pty.read('a.sock') == 'mine'


@pytest.mark.parametrize('options', [['-n'], ['-n', '-w']])
def test_daemon_keeps_no_folder_busy(pty, options):
    """The program has the caller's folder, and may leave it; the daemon would keep a file system from being unmounted."""
    shim = pty.shim(*options, './a.sock', 'sh', '-c', 'pwd; echo READY; read x')
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    assert client.read_until(b'READY').startswith(pty.folder.encode() + b'\r\n')
    wait_until(lambda: os.readlink(f'/proc/{shim.pid}/cwd') == '/', what='the root folder')
    assert alive(shim.pid)
