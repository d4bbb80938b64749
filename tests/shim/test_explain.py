"""--explain: what happens on the terminal, told while it happens, and nothing else changed by it."""
import os
import re

import pexpect
import pytest

from harness import ATTACH, SHIM, TIMEOUT


@pytest.fixture
def told(pty):
    """Starts `shim --explain` with a program and an attach beside it; gives both, and reads what is told."""
    address = pty.path('lesson')
    started = []

    def start(*program, options=()):
        narrator = pexpect.spawn(SHIM, ['--explain', '-nw', *options, address, *program], timeout=TIMEOUT, encoding='utf-8',
                                 dimensions=(50, 500), cwd=pty.folder)
        narrator.expect('listens on')
        attach = pexpect.spawn(ATTACH, [address], timeout=TIMEOUT, encoding='utf-8', dimensions=(24, 80))
        started.extend((narrator, attach))
        return narrator, attach
    yield start
    for one in started:
        one.close(force=True)


def test_the_making_of_a_terminal_is_told(told):
    """pty(7), setsid(2), TIOCSCTTY: what turns a pair of descriptors into a program's terminal, in that order."""
    narrator, _ = told('cat')
    for step in (r'openpty\(3\)', 'forks', 'setsid', 'TIOCSCTTY', 'dup2', 'execvp cat'):
        narrator.expect(step)


def test_ctrl_c_becomes_a_signal_for_the_foreground_group(told):
    """termios(3): with ISIG on, VINTR is no byte for the program but SIGINT for the foreground process group."""
    narrator, attach = told('cat')
    attach.send('hi\r')
    narrator.expect(r"types 'hi\\r'")
    narrator.expect(r"'hi\\r': shown to whoever looks \(ECHO\), and the line is complete")
    attach.send('\x03')
    narrator.expect(r"'\^C' is VINTR: SIGINT to process group (\d+), the one in the foreground; no byte is passed on")
    narrator.expect('has ended with status 130')
    narrator.expect('no process has the slave open')
    narrator.expect('goodbye')
    narrator.expect(pexpect.EOF)
    narrator.close()
    assert narrator.exitstatus == 130


def test_a_password_prompt_is_told_and_the_password_is_not(told):
    """A program that reads a password clears ECHO and keeps ICANON; what is typed then is shown nowhere."""
    narrator, attach = told('bash', '--norc', '-c', 'read -s -p "Password: " x; echo; echo "it was ${#x} long"; sleep 1000')
    narrator.expect(r'changes the terminal.s settings: -ECHO: .*\(a password\?\)')
    attach.expect('Password: ')
    attach.send('hunter2\r')
    narrator.expect('types 8 bytes that are nobody')
    narrator.expect('it was 7 long')
    assert 'hunter2' not in narrator.before


def test_a_client_is_told_with_the_question_to_the_kernel_and_its_window(told):
    """unix(7), SO_PEERCRED: who is it; TIOCSWINSZ: another size makes the kernel send SIGWINCH."""
    narrator, attach = told('cat', options=('-s', '90x30'))
    narrator.expect(r'\d+ connects')
    narrator.expect(r'asks the kernel whose process that is: this user.*SO_PEERCRED')
    narrator.expect('sets the window to 80x24')
    narrator.expect(r'\d+ is in the foreground now')         # before that there is nobody to be sent a signal
    attach.setwinsize(25, 81)
    narrator.expect('sets the window to 81x25')
    narrator.expect(r'SIGWINCH to process group \d+')


def test_a_shell_hands_the_terminal_to_its_job_and_takes_it_back(told):
    """Job control: tcsetpgrp(3) makes a job the foreground group; a shell's line editing wants a raw terminal, its jobs
    get a usual one."""
    narrator, attach = told('bash', '--norc', '--noprofile')
    narrator.expect('-ICANON.*raw: an editor')
    attach.send('cat\r')
    narrator.expect(r"types 'cat\\r'")
    narrator.expect(r'ICANON: input is kept until Enter.*\(a usual terminal\)')
    attach.send('hi\r')
    narrator.expect(r"'hi\\r': shown to whoever looks \(ECHO\), and the line is complete")
    narrator.expect(r"reads .*hi\\r\\n")                         # cat runs, and has the terminal
    attach.send('\x1a')
    narrator.expect(r'VSUSP: SIGTSTP to process group (\d+)')
    narrator.expect(rf'process group (?!{narrator.match[1]})\d+ is in the foreground now')


def test_editor_is_told_as_raw(told):
    """An editor takes each byte as it comes (no ICANON), and draws what is typed itself (no ECHO)."""
    narrator, attach = told('vim.tiny', '-u', 'NONE')
    narrator.expect(r'-ICANON.*-ECHO')
    attach.send('ix')
    narrator.expect(r"'ix': not shown \(no ECHO\), and passed on at once \(no ICANON\)")


def test_a_standard_error_that_takes_nothing_makes_nobody_wait(pty):
    """The narrator looks and never waits: lines that nobody takes are left out, and counted."""
    reading, writing = os.pipe()
    shim = pty.background(SHIM, '--explain', '-n', pty.path('lesson'), 'sh', '-c',
                          'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; exit 7', stdout=-1, stderr=writing)
    os.close(writing)
    assert shim.wait(TIMEOUT) == 7
    text = os.read(reading, 1 << 20).decode()
    os.close(reading)
    assert re.search('openpty', text)
