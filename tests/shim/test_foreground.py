"""shim --foreground in CI, containers and services: what the program prints is on standard output, unless that is a
terminal, and the shim's exit waits until all of it is there."""
import os
import signal
import subprocess

import pytest

from common import NO_WINDOW, processes_with
from harness import READY, SHIM, alive, children, needs_handlers, wait_until

NUMBERS = b''.join(b'%d\r\n' % n for n in range(1, 300001))     # 2 MB: more than the ring holds


def started(pty, *argv, **options):
    """A shim in the foreground whose standard streams are pipes; its readiness line, on standard error, is read."""
    process = pty.background(SHIM, '-f', *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    assert READY.match(process.stderr.readline().decode().rstrip('\n'))
    return process


@pytest.mark.parametrize('options', [['-n'], ['-r', 'a.cast'], ['-n', '-w']], ids=' '.join)
def test_standard_output_has_every_byte_that_the_program_printed(pty, options):
    """The first one, the last one, and as many as the ring does not hold; then the status. What copies is no client that
    a waiting program would wait for."""
    process = started(pty, *options, './a.sock', 'sh', '-c', 'seq 1 300000; exit 7')
    if '-w' in options:
        assert process.poll() is None
        pty.client(pty.path('a.sock'), NO_WINDOW).close()
    assert process.stdout.read() == NUMBERS
    assert process.wait() == 7


@pytest.mark.parametrize('option', ['-n', '-i'])
def test_exit_waits_for_a_slow_reader_of_standard_output(pty, option):
    """As in a pipeline: nobody is dropped for being slow who writes the log."""
    process = started(pty, option, './a.sock', 'seq', '1', '300000')
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(6)
    assert process.stdout.read() == NUMBERS
    assert process.wait() == 0


def test_reader_of_standard_output_may_leave(pty):
    """`shim -f … | head -1` is no end of the session, which has other clients. (What is printed is more than a pipe holds.)"""
    process = started(pty, '-n', './a.sock', 'sh', '-c', 'seq 1 30000; read x; exit 4')
    process.stdout.close()
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    wait_until(lambda: len(children(process.pid)) == 1, what='the end of cat')
    client.send(b'\n')
    client.read_all()
    assert process.wait() == 4


@needs_handlers
def test_last_words_after_a_signal_to_all_processes_are_there(pty):
    """A service manager signals everybody in its control group, a terminal its foreground group: the log comes last."""
    script = 'trap "sleep 0.3; echo bye; exit 3" TERM; echo READY; while :; do read x; done'
    process = started(pty, '-n', './a.sock', 'sh', '-c', script, start_new_session=True)
    assert process.stdout.readline() == b'READY\r\n'
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.read().endswith(b'bye\r\n')
    assert process.wait() == 3


def test_stuck_reader_of_standard_output_does_not_hold_the_end_beyond_the_grace_and_5_s(pty):
    """A session that is asked to end does, and leaves no process behind."""
    process = started(pty, '-n', '-g', '0', './a.sock', 'seq', '1', '300000',
                      env=dict(os.environ, SHIM_TEST='stuck'))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(8) in (0, -signal.SIGTERM, -signal.SIGKILL)
    wait_until(lambda: not [p for p in processes_with('SHIM_TEST=stuck') if alive(p)], what='the end of cat')


def test_terminal_gets_the_readiness_line_only(pty):
    """Somebody who looks at a terminal attaches to see the session. With -q not even that."""
    for option, lines in (('-n', 1), ('-nq', 0)):
        terminal = pty.terminal(SHIM, '-f', option, './a.sock', 'echo', 'words')
        assert terminal.exit_status() == 0
        assert terminal.output.count(b'listening') == terminal.output.count(b'\n') == lines
