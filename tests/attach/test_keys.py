"""The detach key is found whatever else is typed, pasted or waits, and however the terminal writes it (section 5)."""
import os
import time

import pytest

from attaching import leave
from common import hex_bytes, program
from harness import ATTACH, wait_until


def forms(code, modifiers=5, shifted='', base=''):
    """How xterm (modifyOtherKeys; formatOtherKeys 1) and kitty (alternate keys, events, lock bits) write a key."""
    alternates = b':%s' % str(shifted).encode() if shifted or base else b''
    alternates += b':%d' % base if base else b''
    return [b'\x1b[27;%d;%d~' % (modifiers, shifted or code), b'\x1b[%d;%du' % (shifted or code, modifiers),
            *(b'\x1b[%d%s;%d%su' % (code, alternates, modifiers + locks, event)
              for locks in (0, 64, 128, 192) for event in (b'', b':1', b':2'))]


WIN32 = b'\x1b[220;43;28;1;8;1_'
# Every kind of key that can be chosen, and what else types it: Xlib's XLookupString, kitty's legacy table.
KEYS = {
    '^\\': [*forms(92), *forms(52), *forms(92, base=92), b'\x1b[92:124;5u', b'\x1b[1078:1046:92;5u', WIN32,
            b'\x1b[27;6;124~', b'\x1b[92;5;28u', b'\x1b[92;6u', b'\x1b[92:124;6u'],
    '^A': [*forms(97), b'\x1b[27;5;65~', b'\x1b[1092::97;5u', b'\x1b[97:65;69u'],
    '^Z': forms(122), '^[': [*forms(91), *forms(51), b'\x1b[27u', b'\x1b[27;5u'], '^]': [*forms(93), *forms(53)],
    '^@': [*forms(32), *forms(50), *forms(50, 6, 64), b'\x1b[50;6u', b'\x1b[32;57;0;1;8;1_'],
    '^_': [*forms(47), *forms(55), *forms(45, 6, 95), b'\x1b[45;6u', b'\x1b[55:47;6u'],
    '^^': [*forms(54), *forms(54, 6, 94), b'\x1b[54;6u', *forms(96, 6, 126)], '^?': [*forms(56), b'\x1b[127u'],
    '^H': [*forms(104), *forms(127)], '^I': [*forms(105), b'\x1b[9u'], '^M': [*forms(109), b'\x1b[13u'],
    '~': [b'\x1b[27;2;126~', b'\x1b[96:126;2u', b'\x1b[96;2;126u', b'\x1b[96;2u', b'\x1b[126u'],
    'q': [b'\x1b[113u', b'\x1b[113;1:1;113u'],
}
OTHER = {'^\\': [b'\x1b[92;5:3u', b'\x1b[92;3u', b'\x1b[92u', b'\x1b[93;5u', b'\x1b[27;3;92~',
                 b'\x1b[220;43;28;0;8;1_', b'\x1b[15;5~', b'\x1b[1;5A', b'\x1b', b'\x1b[', b'\x1b[92;;5u',
                 b'\x1b[52;7u', b'\x1b[51;6u', b'\x1b[27;13;92~', b'\x1b[M\x1c\x1c\x1c', b'\x1b]',
                 b'\x1bP', b'\x1b_',
                 b'\x1b[200~a\x1cb\x1b[92;5u\x1b[201~', b'\x1b]x', b'\x1b[1;1:3A', b'\x1bOP'],
         '^A': [b'\x1b[27;6;65~', b'\x1b[97:65;6u', b'\x1b[97;7u'], '^@': [b'\x1b[17;29;0;1;8;1_'],
         '^[': [b'\x1b[A', b'\x1b[5~', b'\x1b[27;5:3u'],
         '~': [b'\x1b[5~', b'\x1b[27;5;126~', b'\x1b[96u']}


def attached(pty, *options, **more):
    """attach at a program that tells each byte it gets in hexadecimal."""
    if not os.path.exists(pty.path('a.sock')):
        pty.shim('-n', './a.sock', *program('hex.py'))
    terminal = pty.attach(*options, './a.sock', **more)
    terminal.wait_output(b'READY')
    return terminal


@pytest.mark.parametrize('key', KEYS)
def test_key_is_found_in_each_encoding_and_by_each_combination_that_types_it(pty, key):
    """A program has asked the terminal to write keys as escape sequences: the key is still the key, with locks on, with
    alternate keys, repeated; and Ctrl-4 is Ctrl-\\ as everywhere. The program sees no part of it."""
    for number, encoded in enumerate(KEYS[key]):
        terminal = attached(pty, '-e', key)
        terminal.send(b'ab'[number % 2:] + encoded)
        leave(terminal)
    again = attached(pty, '-e', 'none')
    again.send(b'Q')
    assert again.exit_status() == 9 and set(hex_bytes(again.output)) == set(b'abQ')


@pytest.mark.parametrize('encoded', [b'\x1b[92;5u', b'\x1b[27;5;92~', WIN32], ids=repr)
def test_encoded_key_that_is_cut_detaches(pty, encoded):
    """A terminal gives what it has: a sequence may come in two reads, cut anywhere. The program sees no part of it."""
    for cut in range(1, len(encoded)):
        terminal = attached(pty)
        terminal.send(encoded[:cut])
        began = time.monotonic()
        terminal.send(encoded[cut:])
        is_late = time.monotonic() > began + 0.04       # on a loaded machine: 50 ms later they are two keys
        if is_late:
            terminal.send(b'\x1c')
        leave(terminal)
        assert is_late or hex_bytes(terminal.output) == b''


@pytest.mark.parametrize('key', OTHER)
def test_what_only_looks_like_the_key_goes_to_the_program(pty, key):
    """Other keys, what a paste or a mouse's report holds, and the beginning of a sequence that is not continued, arrive
    as they were typed."""
    terminal = attached(pty, '-e', key)
    sent = b''
    for other in OTHER[key]:
        sent += other
        terminal.send(other)
        terminal.wait(lambda t: hex_bytes(t.output) == sent, what='the key')            # pylint: disable=W0640
    terminal.send(b'Q')
    leave(terminal, 9)


def test_paste_whose_end_is_lost_ends_with_a_second_of_silence(pty):
    """Else the key would be lost with it."""
    terminal = attached(pty)
    terminal.send(b'\x1b[200~a\x1c')
    terminal.wait(lambda t: hex_bytes(t.output) == b'\x1b[200~a\x1c', what='the paste')
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.1, what='the silence')
    terminal.ends(b'\x1c')


def test_environment_sets_the_key(pty, monkeypatch):
    """$SHIM_ESCAPE, written as for -e, which counts more; and a mistake in it is said."""
    monkeypatch.setenv('SHIM_ESCAPE', '^X')
    terminal = attached(pty)
    terminal.send(b'\x1c')
    terminal.wait_output(b'<1c>')
    terminal.ends(b'\x18')
    terminal = attached(pty, '-e', '^Y')
    terminal.ends(b'\x18\x19')
    monkeypatch.setenv('SHIM_ESCAPE', 'Ctrl-X')
    run = pty.run(ATTACH, './a.sock')
    assert (run.returncode, run.stderr) == (2, "attach: SHIM_ESCAPE: 'Ctrl-X' is not ^X, a character or none\n")
    assert pty.run(ATTACH, '--help').returncode == 0        # which needs no key


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
    terminal.ends(key)
    assert time.monotonic() - began < 5


def test_what_is_pasted_behind_the_key_does_not_reach_the_shell(pty):
    """The rest of a paste would be commands for the shell that has the terminal next."""
    pty.shim('-n', './a.sock', *program('hex.py'))
    terminal = pty.shell()
    terminal.send(f'{ATTACH} ./a.sock\r'.encode())
    terminal.wait_output(b'READY')
    terminal.send(b'a\x1c' + b'touch pasted\r' * 1000)
    terminal.wait_output(b'\x1b[5n')
    terminal.send(b'\x1b[0n')
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
