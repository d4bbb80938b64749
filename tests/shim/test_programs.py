"""Real programs on a real screen model: what a user sees while attached, after a resize, after coming back."""
import os
import re
import signal

import pytest

from common import program
from harness import alive, goodbye

ESCAPE = b'\x1c'
SHELL = ['bash', '--norc', '--noprofile', '-i']


def shell_environment(**more):
    return dict(os.environ, PS1='prompt> ', HISTFILE='/dev/null', LC_ALL='C.UTF-8', TERM='xterm-256color', **more)


def detach(terminal):
    terminal.ends(ESCAPE)


def screen_of(terminal):
    """The lines of the screen without the blank ones at its end."""
    return terminal.text().rstrip('\n')


def wait_prompt(terminal, after=''):
    """Until the shell, having shown `after`, waits for a line. What is typed sooner meets the terminal settings of the
    command before, in which Return is another character than in the shell's own line editing."""
    terminal.wait(lambda t: after in t.text() and screen_of(t).endswith('prompt>'), what=f'the prompt after {after!r}')


def numbered_file(pty, count=200):
    with open(pty.path('file.txt'), 'w', encoding='ascii') as f:
        f.write(''.join(f'this is line {number}\n' for number in range(1, count + 1)))
    return 'file.txt'


def lines_shown(terminal):
    """The numbers of the file's lines that the screen shows."""
    return [int(number) for number in re.findall(r'^this is line (\d+)$', terminal.text(), re.M)]


# ---- bash


def test_bash_is_there_again_with_what_was_missed(pty):
    """Detach in the middle of a command: its output is there when somebody comes back, and the shell goes on."""
    shim = pty.shim('-n', './a.sock', *SHELL, env=shell_environment())
    first = pty.attach('./a.sock')
    wait_prompt(first)
    first.send(b'echo $((6 * 7)); sleep 60\r')
    first.wait_text('\n42\n')
    detach(first)
    assert alive(shim.program())
    second = pty.attach('./a.sock')
    second.wait_text('42')
    second.send(b'\x03')
    wait_prompt(second, '^C')
    second.send(b'tty; echo columns=$COLUMNS; exit 3\r')
    second.wait_text('/dev/pts/')
    assert second.exit_status() == 3
    assert 'columns=80' in second.text()


def test_bash_edits_lines_and_job_control_works(pty):
    """A controlling terminal makes job control possible: Ctrl-Z stops a job, fg brings it back, Ctrl-C ends it."""
    pty.shim('-n', './a.sock', *SHELL, env=shell_environment())
    terminal = pty.attach('./a.sock')
    wait_prompt(terminal)
    assert 'no job control' not in terminal.text()
    terminal.send(b'echo edted\x1b[D\x1b[D\x1b[Di\r')
    wait_prompt(terminal, '\nedited\n')
    terminal.send(b'echo RUNS; cat\r')
    terminal.wait_text('\nRUNS\n')           # the shell has left its own line editing
    terminal.send(b'one\r')
    terminal.wait_text('\none\none\n')     # cat is there: it has answered
    terminal.send(b'\x1a')
    wait_prompt(terminal, 'Stopped')
    terminal.send(b'echo AGAIN; fg\r')
    terminal.wait_text('\nAGAIN\n')
    terminal.send(b'two\r')
    terminal.wait_text('\ntwo\ntwo\n')
    terminal.send(b'\x03')
    wait_prompt(terminal, '^C')
    terminal.send(b'echo status=$?\r')
    wait_prompt(terminal, '\nstatus=130\n')
    terminal.ends(b'exit 7\r', 7)


# ---- stty


def test_stty_settings_stay_while_nobody_is_attached(pty):
    """The terminal is kept alive: the line discipline's settings are the slave's, not the client's."""
    pty.shim('-n', './a.sock', *SHELL, env=shell_environment())
    first = pty.attach('./a.sock')
    wait_prompt(first)
    first.send(b'stty tostop intr ^K; stty -a\r')
    wait_prompt(first, 'intr = ^K')
    detach(first)
    second = pty.attach('./a.sock')
    wait_prompt(second)
    second.ends(b'clear; stty -a | grep -o -e "intr = .." -e "[-]*tostop"; exit\r')
    assert b'intr = ^K' in second.output and b'\ntostop' in second.output and b'-tostop' not in second.output


# ---- full-screen programs: the same from the attach to the return


def vim(pty):
    return ['vim.tiny', '-u', 'NONE', '-N', '-n', '-i', 'NONE', numbered_file(pty)]


def less(pty):
    return ['less', '-R', numbered_file(pty)]


@pytest.mark.parametrize('editor', [vim, less])
def test_file_fills_the_window_after_a_resize_and_after_coming_back(pty, editor):
    """A full-screen program draws for each window: the attaching one, the resized one, the one that comes back."""
    pty.shim('-n', './a.sock', *editor(pty), env=shell_environment(LESS='', LESSHISTFILE='-'))
    first = pty.attach('./a.sock', rows=24, cols=80)
    first.wait(lambda t: lines_shown(t) == list(range(1, 24)))
    first.resize(35, 100)
    first.wait(lambda t: lines_shown(t) == list(range(1, 35)))
    first.resize(12, 60)
    first.wait(lambda t: lines_shown(t) == list(range(1, 12)))
    detach(first)
    second = pty.attach('./a.sock', rows=24, cols=80)
    second.wait(lambda t: lines_shown(t) == list(range(1, 24)))
    second.send(b'100G' if editor is vim else b'100g')
    second.wait(lambda t: 100 in lines_shown(t) and 1 not in lines_shown(t) and len(lines_shown(t)) == 23)
    shown = lines_shown(second)
    detach(second)
    third = pty.attach('./a.sock', rows=24, cols=80)
    third.wait(lambda t: lines_shown(t) == shown)
    third.ends(b':q!\r' if editor is vim else b'q')


def test_text_typed_in_vim_is_there_after_coming_back(pty):
    """The editor was never told of the detach: its buffer, its mode and its cursor are where they were."""
    pty.shim('-n', './a.sock', *vim(pty), env=shell_environment())
    first = pty.attach('./a.sock')
    first.wait_text('this is line 1')
    first.send('Oköşe first words'.encode())
    first.wait_text('köşe first words')
    detach(first)
    second = pty.attach('./a.sock')
    second.wait_text('köşe first words')
    second.send(b', second words\x1b')
    second.wait_text('köşe first words, second words')
    second.ends(b':wq\r')
    with open(pty.path('file.txt'), encoding='utf-8') as f:
        assert f.readline() == 'köşe first words, second words\n'


# ---- a program as ping is one


def test_raw_client_and_attach_watch_the_same_program(pty):
    """nc and attach side by side: the raw one sees the bytes, the aware one the goodbye too. (The program waits for nc,
    which would be painted a screen if it came after the first line.)"""
    shim = pty.shim('-n', '-w', '0', *program('ticker.py'))
    netcat = pty.background('nc', '127.0.0.1', shim.address.rpartition(':')[2], stdin=-1, stdout=-1)
    assert os.read(netcat.stdout.fileno(), 6) == b'tick 1'
    terminal = pty.attach(shim.address)
    terminal.wait_text('tick 1')
    os.kill(shim.program(), signal.SIGINT)
    assert terminal.exit_status() == 0
    out, _ = netcat.communicate(timeout=10)
    assert out.endswith(b'lines printed\r\n') and goodbye(0) not in out and b'\xff' not in out
