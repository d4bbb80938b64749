"""The detach key is found whatever else is typed, pasted or waits, and however the terminal writes it (section 5)."""
import fcntl
import os
import termios
import time

import pytest

from common import hex_bytes, program
from harness import ATTACH, wait_until

ENCODED = {'kitty': b'\x1b[92;5u', 'caps lock': b'\x1b[92;69u', 'num lock': b'\x1b[92;133u', 'both': b'\x1b[92;197u',
           'press': b'\x1b[92;5:1u', 'repeat': b'\x1b[92;5:2u', 'alternates': b'\x1b[92:124:92;5u',
           'text': b'\x1b[92;5;28u', 'xterm': b'\x1b[27;5;92~', 'xterm, caps lock': b'\x1b[27;69;92~',
           'win32': b'\x1b[220;43;28;1;8;1_'}
OTHER = {'release': b'\x1b[92;5:3u', 'alt': b'\x1b[92;3u', 'no modifier': b'\x1b[92u', 'another key': b'\x1b[93;5u',
         'shift': b'\x1b[92;6u', 'xterm, alt': b'\x1b[27;3;92~', 'win32 release': b'\x1b[220;43;28;0;8;1_',
         'F5': b'\x1b[15;5~', 'cursor': b'\x1b[1;5A', 'escape': b'\x1b', 'alt-[': b'\x1b[', 'odd': b'\x1b[92;;5u'}


def is_taken(terminal):
    """Whether attach has read all that was typed: the input queue of its terminal is empty (ioctl_tty(2), FIONREAD)."""
    with open(f'/proc/{terminal.child.pid}/fd/0', 'rb', buffering=0) as slave:
        return fcntl.ioctl(slave, termios.FIONREAD, bytes(4)) == bytes(4)


def attached(pty, *options):
    """attach at a program that tells each byte it gets in hexadecimal."""
    pty.shim('-n', './a.sock', *program('hex.py'))
    terminal = pty.attach(*options, './a.sock')
    terminal.wait_output(b'READY')
    return terminal


@pytest.mark.parametrize('name', ENCODED)
def test_encoded_key_detaches(pty, name):
    """A program has asked the terminal to write keys as escape sequences: the key is still the key."""
    terminal = attached(pty)
    terminal.send(b'a' + ENCODED[name])
    assert terminal.exit_status() == 0


@pytest.mark.parametrize('name', ['kitty', 'xterm', 'win32'])
def test_encoded_key_that_is_cut_detaches(pty, name):
    """A terminal gives what it has: a sequence may come in two reads, cut anywhere. The program sees no part of it."""
    whole = ENCODED[name]
    pty.shim('-n', './a.sock', *program('hex.py'))
    for cut in range(1, len(whole)):
        terminal = pty.attach('./a.sock')
        terminal.wait_output(b'READY')
        terminal.send(whole[:cut])
        if cut > 1:  # (what follows ESC is not waited for long enough for a busy machine)
            wait_until(lambda: is_taken(terminal), what='a read of its own')    # pylint: disable=W0640
        terminal.send(whole[cut:])
        assert terminal.exit_status() == 0
        assert hex_bytes(terminal.output) == b''


@pytest.mark.parametrize('name', OTHER)
def test_what_only_looks_like_the_key_goes_to_the_program(pty, name):
    """Other keys, and the beginning of a sequence that is not continued, arrive as they were typed."""
    terminal = attached(pty)
    terminal.send(OTHER[name])
    terminal.wait(lambda t: hex_bytes(t.output) == OTHER[name], what='the key')
    terminal.send(b'Q')
    assert terminal.exit_status() == 9


@pytest.mark.parametrize('option, key', [('^A', b'\x1b[97;5u'), ('^]', b'\x1b[93;5u'), ('^Z', b'\x1b[27;5;122~')])
def test_other_detach_keys_are_found_encoded(pty, option, key):
    """Letters are written in lower case, other keys as they are."""
    terminal = attached(pty, '-e', option)
    terminal.send(key)
    assert terminal.exit_status() == 0


@pytest.mark.parametrize('key', [b'\x1c', b'\x1b[92;5u'], ids=['plain', 'encoded'])
def test_key_works_while_a_paste_waits_for_a_program_that_does_not_read(pty, key):
    """300 KB pasted, the shim's queue and the sockets full: attach goes on reading its terminal."""
    pty.shim('-n', './a.sock', *program('deaf.py'))
    terminal = pty.attach('./a.sock')
    terminal.wait_output(b'tick')
    for _ in range(300):
        terminal.send(b'x' * 1000)
        terminal.feed(0)
    began = time.monotonic()
    terminal.send(key)
    assert terminal.exit_status() == 0
    assert time.monotonic() - began < 5


def test_what_is_pasted_behind_the_key_does_not_reach_the_shell(pty):
    """The rest of a paste would be commands for the shell that has the terminal next."""
    pty.shim('-n', './a.sock', *program('hex.py'))
    environment = dict(os.environ, PS1='prompt> ', HISTFILE='/dev/null')
    terminal = pty.terminal('bash', '--norc', '--noprofile', '-i', env=environment)
    terminal.wait_text('prompt>')
    terminal.send(f'{ATTACH} ./a.sock\r'.encode())
    terminal.wait_output(b'READY')
    terminal.send(b'a\x1c' + b'touch pasted\r' * 1000)
    terminal.wait_output(b'detached from')
    terminal.send(b'echo $((6 * 7))\r')
    terminal.wait_text('\n42\n')
    assert not os.path.exists(pty.path('pasted')) and b'touch' not in terminal.output.partition(b'detached')[2]
    terminal.send(b'exit\r')
    terminal.exit_status()


def test_attach_works_whatever_signals_the_caller_ignores_or_blocks(pty):
    """With SIGCHLD ignored no child's status is kept (POSIX, wait): the shim's 127 must still be told from success;
    and a blocked SIGTERM must still end attach."""
    ignoring = ['setpriv', 'python3', '-S', '-c',
                'import os, signal, sys; signal.signal(17, signal.SIG_IGN); '
                'signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 32)); os.execv(sys.argv[1], sys.argv[1:])']
    run = pty.run(*ignoring, ATTACH, './a.sock', 'no-such-program-anywhere')
    assert run.returncode == 127 and 'no-such-program-anywhere' in run.stderr
    run = pty.run(*ignoring, ATTACH, './a.sock', 'sh', '-c', 'exit 7')
    assert run.returncode == 7
