"""--explain: what happens on the terminal, told while it happens, and nothing else changed by it."""
import os
import re
import signal
import socket
import subprocess

import pexpect
import pytest

from harness import ATTACH, SHIM, TIMEOUT, needs_peer_user, wait_until


@pytest.fixture
def told(pty):
    """Starts `shim --explain` with a program and an attach beside it; gives both, and reads what is told."""
    address = pty.path('lesson')
    started = []

    def start(*program, options=()):
        narrator = pexpect.spawn(SHIM, ['--explain', '-nw', *options, address, *program], timeout=TIMEOUT,
                                 encoding='utf-8', dimensions=(50, 500), cwd=pty.folder)
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
    narrator.expect(r"'hi\\r': echoed, .*\(ECHO\), and the line is complete")
    attach.send('\x03')
    narrator.expect(r"'\^C' is VINTR: SIGINT to process group (\d+), the one in the foreground; "
                    'no byte is passed on, and what is unread')
    narrator.expect('has ended with status 130')
    narrator.expect('no process has the slave open')
    narrator.expect('goodbye')
    narrator.expect(pexpect.EOF)
    narrator.close()
    assert narrator.signalstatus == signal.SIGINT


def test_a_password_prompt_is_told_and_the_password_is_not(told):
    """A program that reads a password clears ECHO and keeps ICANON; what is typed then is shown nowhere."""
    narrator, attach = told('bash', '--norc', '-c', 'read -s -p "Password: " x; echo; echo "it was ${#x} long"; sleep 1000')
    narrator.expect(r'changes the terminal.s settings: -ECHO: .*\(a password\?\)')
    attach.expect('Password: ')
    attach.send('hunter2\r')
    narrator.expect('types 8 bytes, a secret')
    said = narrator.before
    narrator.expect('8 secret bytes: not echoed.* the line is complete')
    said += narrator.before
    narrator.expect('it was 7 long')
    assert 'hunter2' not in said + narrator.before
    attach.send('\x03')
    narrator.expect(pexpect.EOF)
    assert 'hunter2' not in narrator.before


def test_key_is_explained_by_the_settings_that_it_met(told):
    """A program answers a line by other settings at once (bash: ECHO after Enter); the line met the old ones."""
    narrator, attach = told('bash', '--norc', '-c', 'while read -s -p "Password: " x; do echo; done')
    narrator.expect('execvp')
    for _ in range(20):
        attach.expect('Password: ')
        attach.send('hunter2\r')
        narrator.expect(r'kernel: ([^\r]*)\r\n')
        assert narrator.match[1].startswith('8 secret bytes: not echoed (no ECHO)')


@needs_peer_user
def test_a_client_is_told_with_the_question_to_the_kernel_and_its_window(told):
    """unix(7), SO_PEERCRED: who is it; TIOCSWINSZ: another size makes the kernel send SIGWINCH."""
    narrator, attach = told('cat', options=('-s', '90x30'))
    narrator.expect(r'\d+ connects')
    narrator.expect(rf'asks the kernel who that is: process {attach.pid} of user {os.getuid()}: let in .*SO_PEERCRED')
    narrator.expect('has a window of 80x24')
    narrator.expect('sets the window to 80x24')
    narrator.expect(r'\d+, its own, is in the foreground')         # before that there is nobody to be sent a signal
    attach.setwinsize(25, 81)
    narrator.expect('sets the window to 81x25')
    narrator.expect(r'SIGWINCH to process group \d+')


def test_a_shell_hands_the_terminal_to_its_job_and_takes_it_back(told):
    """Job control: tcsetpgrp(3) makes a job the foreground group; a shell's line editing wants a raw terminal, its jobs
    get a usual one."""
    narrator, attach = told('bash', '--norc', '--noprofile')
    narrator.expect(r'-ICANON.*own line editing')
    attach.send('cat\r')
    narrator.expect(r"types 'cat\\r'")
    narrator.expect(r'ICANON: input is kept until Enter.*\(a usual terminal\)')
    attach.send('hi\r')
    narrator.expect(r"'hi\\r': echoed, .*\(ECHO\), and the line is complete")
    narrator.expect(r"reads .*hi\\r\\n")                         # cat runs, and has the terminal
    attach.send('\x1a')
    narrator.expect(r'VSUSP: SIGTSTP to process group (\d+)')
    narrator.expect(rf'process group (?!{narrator.match[1]})\d+ is in the foreground now')


def test_editor_is_told_as_raw(told):
    """An editor takes each byte as it comes (no ICANON), and draws what is typed itself (no ECHO)."""
    narrator, attach = told('vim.tiny', '-u', 'NONE')
    narrator.expect(r'-ICANON.*-ECHO.*-ISIG.*raw: an editor')
    attach.send('ix')
    narrator.expect(r"'ix': not echoed \(no ECHO\), and passed on at once \(no ICANON\)")


def test_next_byte_after_vlnext_is_no_key(told):
    """termios(3), VLNEXT: the byte after Ctrl-V is passed on whatever it is, a Ctrl-C too; VWERASE takes a word."""
    narrator, attach = told('cat')
    attach.send('\x16\x03 word\x17\r')
    narrator.expect(r"'\^V' is VLNEXT: the next byte is passed on, whatever it is")
    narrator.expect(r"'\^C word': echoed, .*kept until Enter")
    narrator.expect(r"'\^W' is VWERASE: takes the last word")
    assert 'SIGINT' not in narrator.before
    narrator.expect(r"'\\r': echoed, .*the line is complete")


def test_carriage_return_ends_no_line_without_icrnl(told):
    """termios(3), ICRNL: it is this flag that makes Enter (CR) the end of a line (NL); Ctrl-J is one without it."""
    narrator, attach = told('sh', '-c', 'stty -icrnl; echo set; exec cat')
    narrator.expect('-ICRNL: Enter.s CR stays CR')
    attach.expect('set')
    attach.send('a\r')
    narrator.expect(r"'a\\r': echoed, .*kept until Enter")
    attach.send('b\nc')
    narrator.expect(r"'b\\n': echoed, .*the line is complete")
    narrator.expect(r"'c': echoed, .*kept until Enter")


def test_grandchild_that_keeps_the_slave_is_told(told):
    """pty(7): the master gives EIO when no process has the slave open; one that has makes it EAGAIN, with no wait."""
    narrator, attach = told('sh', '-c', 'trap "" HUP; sleep 1000 & echo "it is $!."; exit 3')
    attach.expect(r'it is (\d+)\.')
    narrator.expect('has ended with status 3')
    narrator.expect('drains')
    narrator.expect('another process still has the slave open')
    narrator.expect('goodbye')
    os.kill(int(attach.match[1]), signal.SIGKILL)


def test_viewers_end_and_the_requests_to_end_are_told(told):
    """A detach closes a client's connection and nothing else; SIGHUP is what a hang-up is for the program."""
    narrator, attach = told('sh', '-c', 'trap "echo hung up" HUP; echo ready; while [ -t 0 ]; do read x; done')
    attach.expect('ready')
    attach.send('\x1c')
    narrator.expect(r'client \d+ is no more: its connection is closed')
    os.kill(narrator.pid, signal.SIGHUP)
    narrator.expect('hangs up: SIGHUP')
    narrator.expect('hung up')
    os.kill(narrator.pid, signal.SIGTERM)
    narrator.expect('asks for the end')


@pytest.fixture
def own_terminal():
    """A descriptor of a terminal: as standard output it keeps the shim from copying the program's output there."""
    ends = os.openpty()
    yield ends[1]
    for end in ends:
        os.close(end)


def fall_behind(pty, own_terminal):
    """A recorded session that has printed 3 MB to its only client, which is a terminal and reads nothing. Gives both."""
    path = pty.path('s')
    told = open(pty.path('told'), 'wb')  # pylint: disable=consider-using-with
    shim = pty.background(SHIM, '--explain', '-r', pty.path('s.cast'), path, 'sh', '-c',
                          'read x; head -c 3000000 /dev/zero | tr "\\0" "."; echo; echo END; read x',
                          stdout=own_terminal, stderr=told)
    told.close()
    wait_until(lambda: os.path.exists(pty.path('s.cast')))  # which is made when the socket is there
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT)
    client.connect(path)
    client.sendall(b'\xff\xffss' + bytes(8) + b'\r')  # a pipe: it is to get each byte
    wait_until(lambda: 'END\\r' in text_of(pty.path('s.cast')))
    return shim, client


def text_of(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def test_client_that_stops_is_waited_for_then_caught_up(pty, own_terminal):
    """The program's write(2) waits while nobody reads the master, a second at most for one who takes nothing; what such
    a one misses, `record` gives it from the recording."""
    shim, client = fall_behind(pty, own_terminal)
    with client:
        text = text_of(pty.path('told'))
        waits = text.index('reads the master no more while the client')
        assert waits < text.index('reads the master again: a client that takes nothing for a second paces nobody')
        got = b''
        while b'END' not in got:
            got += client.recv(1 << 16)
        assert got.count(b'.') == 3000000, 'lost bytes'
        client.sendall(b'\r')
        assert shim.wait(TIMEOUT) == 0
    text = text_of(pty.path('told'))
    assert re.search(r'client \d+ needs bytes that have left the ring', text)
    assert re.search(r'records it, then shows it to \d client', text)
    assert 'kernel:' not in text_of(pty.path('s.cast'))


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


def test_a_terminal_that_takes_nothing_makes_nobody_wait(pty):
    """A terminal takes a part of a line and makes a blocking write(2) wait with the rest: the narrator has it
    opened anew, with O_NONBLOCK, and the caller's descriptor stays as it was."""
    master, slave = os.openpty()
    shim = pty.background(SHIM, '--explain', '-n', pty.path('lesson'), 'sh', '-c',
                          'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; exit 7',
                          stdout=-1, stderr=slave)
    assert shim.wait(TIMEOUT) == 7
    assert os.get_blocking(slave)
    os.close(slave)
    assert b'openpty' in os.read(master, 1 << 16)
    os.close(master)


def test_program_sees_the_same_with_and_without(pty):
    """--explain opens nothing that the program has, and the session is byte for byte the same."""
    seen = []
    for options in ([], ['--explain']):
        run = pty.run(SHIM, '-fn', *options, pty.path('s'), 'sh', '-c', 'ls /proc/self/fd; stty -a; echo "$TERM"',
                      stdin=subprocess.DEVNULL)
        seen.append(re.sub(r'pid \d+', 'pid', run.stdout))
    assert seen[0] == seen[1] != ''
