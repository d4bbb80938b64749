"""What attach leaves behind on the user's terminal when it goes, and how it comes back after a stop (section 5)."""
import os
import re
import select
import signal
import socket
import time

import pytest

from attaching import TAKEN, is_taken, kept_terminal, leave
from common import program
from harness import ATTACH, alive, children, goodbye, hello, stat_fields, wait_until
from oracles import Xterm, differences
from panes import Pane
from screens import Model

# Modes that are as the user likes them.
USERS = b'\x1b[?12;40;67;1007;1034;1036;1039;1041;1042;1043;1050;1051;1052;1053;1060;1061'
KEPT, RESTORED = USERS + b's', USERS + b'r'


def leaves(pty, server, printed, way='detach', rows=24, cols=80):
    """A terminal to which a server has sent `printed`, after attach has left it; with attach's message on it."""
    terminal = pty.attach('./fake.sock', rows=rows, cols=cols)
    server.accept().read(12)
    server.connection.sendall(printed + b'\x1b[?2004l')
    terminal.wait_output(printed + b'\x1b[?2004l')
    if way == 'detach':
        terminal.send(b'\x1c')
        server.read_all()
    else:
        server.connection.sendall(goodbye(3))
    server.connection.close()
    terminal.exit_status()
    return terminal


def screen(terminal, before=b''):
    """What the test's own terminal shows of all that attach wrote, behind what stood there `before`."""
    model = Model()
    model.feed(before + terminal.output)
    return model.screen


def text(shown):
    return shown.text().split('\n')


@pytest.mark.parametrize('way, message', [('detach', '[detached from ./fake.sock]'),
                                          ('end', '[./fake.sock ended with status 3]')])
@pytest.mark.parametrize('printed, shown', [
    (b'', ['before']), (b'$ ', ['before', '$']), (b'one\r\n', ['before', 'one']),
    (b'one\r\ntwo', ['before', 'one', 'two']),
    (b'one\r\n50%\r', ['before', 'one']),
    (b'menu\r\n\r\n\r\n\r\nstatus\x1b[4A', ['before', 'menu']),
    (b'\x1b[?1049h\x1b[2J\x1b[5;5Hfull\x1b[?25l', ['before']),
    (b'\x1b[?1049h\x1b[2J\x1b[5;5Hfull\x1b[?1049l', ['before']),
    (b'$ vi\x1b[?1049h\x1b[5;5Hfull', ['before', '$ vi']),
    (b'one\r\n\x1b]0;title\x07', ['before', 'one']), (b'one\r\n\x1b]0;tit', ['before', 'one']),
    (b'one\r\n\x1b[3', ['before', 'one']), (b'\x1b]8;;http://x/\x1b\\link', ['before', 'link'])], ids=repr)
def test_message_stands_on_a_clean_line_below_what_was_shown(pty, server, way, message, printed, shown):
    """The cursor is brought to the beginning of a line, what the program had drawn below it is gone; no line is lost,
    and none is blank that need not be."""
    got = text(screen(leaves(pty, server, printed, way), b'before\r\n'))
    assert got == shown + [message]


@pytest.mark.parametrize('printed', [b'\x1b[?47h\x1b[5;5Hfull', b'\x1b[?1047h\x1b[5;5Hfull',
                                     b'\x1b[3;9r\x1b[?6h\x1b[2;2Hx'], ids=repr)
def test_where_the_cursor_is_lost_the_message_stands_at_the_bottom(pty, server, printed):
    """Modes 47 and 1047 do not restore the cursor, origin mode moves it: nothing that stands there is overwritten."""
    got = text(screen(leaves(pty, server, printed), b'before\r\n'))
    assert got[-1] == '[detached from ./fake.sock]' and len(got) == 23


MODES = (b'\x1b[?1;5;9;12;40;42;45;66;67;69;1000;1001;1002;1003;1004;1005;1006;1007;1015;1016h'
         b'\x1b[?1034;1036;1039;1041;1042;1043;1051;2004;2026;2031;2048;9001h'
         b'\x1b[?7;25l\x1b[2;4;20h\x1b[12l\x1b[5;20r\x1b=\x1b)0\x1b*0\x0e'
         b'\x1b[5 q\x1b[>4;2m\x1b[1;4;31;44m\x1b G\x1b]8;;http://x/\x1b\\')


def test_vt52_is_left(pty, server):
    """A real xterm understands ANSI sequences again. (Another one than that of the other tests: it stays a VT100.)"""
    terminal, xterm = leaves(pty, server, b'\x1b[?2l'), Xterm()
    pty.keep(xterm, xterm.end)
    assert xterm.until(b'\x1b[0n', terminal.output + b'\x1b[5n').endswith(b'\x1b[0n')


def test_every_mode_is_taken_back(pty, server):
    """One sequence does it, whatever was on; what is as the user likes it (a blinking cursor, the wheel, Meta) is kept
    by the terminal itself and restored: XTSAVE, XTRESTORE."""
    terminal = leaves(pty, server, MODES + b'\x1b[?1049h\x1b[?6h\x1b[3;3H')
    fresh, state = Model().screen.state(), screen(terminal).state()
    ignored = {int(number) for number in USERS[3:].split(b';')}
    state['private'] = [n for n in state['private'] if n not in ignored]
    state.pop('cursor'), fresh.pop('cursor')
    assert state == fresh
    before, _, after = terminal.output.partition(MODES)
    assert KEPT in before and RESTORED in after and b'\x1b]8;;\x1b\\' in after


@pytest.mark.parametrize('first', [b'', b'\x1b[?12;1007;1034h\x1b[?1036;1039l', b'\x1b[?12;1007;1034l\x1b[?1036;1039h'])
@pytest.mark.parametrize('then', [b'', b'\x1b[?1049h\x1b[?6h\x1b[3;3H', b'\x1b[?6h\x1b[3;3H', b'\x1b[?38h',
                                  b'\x1b[?40h\x1b[?3h'],
                         ids=['main', 'full', 'origin', 'Tektronix', '132 columns'])
def test_xterm_is_as_it_was(pty, server, xterm, first, then):
    """A terminal that nobody here wrote, asked by DECRQM, DECRQSS and DECCIR; however the user had set it before."""
    terminal = leaves(pty, server, MODES + b'\x1b[?12;1007;1034h\x1b[?1036;1039l' + then)
    states = [xterm.state([first + written], deep=False) for written in (b'before', terminal.output)]
    for state in states:
        for key in ('cells', 'answers', 'other'):
            state.pop(key, None)
        state['cursor'] = state['cursor'].split(';')[2:]     # rendition, flags, character sets; not where it is
    assert not differences(*reversed(states))


def test_mode_at_the_end_of_a_long_sequence_is_taken_back(pty, server):
    """A sequence may have any number of parameters."""
    many = b'\x1b[?' + b';'.join(b'%d' % n for n in range(1000, 1007)) * 20 + b';1049h'
    assert b'\x1b[?1049l' in leaves(pty, server, many).output


def test_keyboard_modes_are_popped_as_often_as_they_were_pushed(pty, server):
    """kitty's keyboard protocol: a stack for each screen; what the shell has pushed stays."""
    terminal = leaves(pty, server, b'\x1b[>1u\x1b[>5u\x1b[<u\x1b[?1049h\x1b[>1u\x1b[>3u\x1b[>7u\x1b[<2u\x1b[>31u')
    after = terminal.output.partition(b'\x1b[?2004l')[2]
    assert re.findall(rb'\x1b\[<\d*u|\x1b\[\?1049l', after) == [b'\x1b[<2u', b'\x1b[?1049l', b'\x1b[<1u']


def test_nothing_is_popped_or_left_that_was_not_there(pty, server):
    """Leaving an alternate screen that is not on would move the cursor; a pop too many would take the shell's own."""
    after = leaves(pty, server, b'\x1b[>1u\x1b[<1u\x1b[?1049h\x1b[?1049l\x1bc').output.partition(b'\x1b[?2004l')[2]
    assert not re.search(rb'\x1b\[<|\x1b\[\?(47|1047|1049|6)l', after)


def test_output_to_a_pipe_is_told_nothing(pty, server):
    """No terminal: nothing is kept, nothing taken back."""
    run = pty.background('sh', '-c', f'"{ATTACH}" ./fake.sock > out </dev/null 2>/dev/null')
    server.accept().read(12)
    server.connection.sendall(b'\x1b[?1049h' + goodbye(0))
    server.connection.close()
    assert run.wait(10) == 0
    assert pty.read_bytes('out') == b'\x1b[?1049h'


# ---- what is on its way


@pytest.mark.parametrize('report', [b'\x1b[I', b'\x1b[<35;3;4M', b'\x1b[M#!!', b'\x1b[1;1R', b'\x1b[97;5:3u',
                                    b'\x1b]11;rgb:0/0/0\x07', b'\x1b[27;5;97~'], ids=repr)
def test_reports_on_their_way_do_not_reach_the_shell(pty, server, report):
    """The terminal has sent more than keys: it is asked for its status last, and what comes before the answer is thrown
    away, be it the release of the detach key or a click. What stands behind the answer is the shell's."""
    terminal = pty.shell()
    terminal.send(f'{ATTACH} ./fake.sock\r'.encode())
    server.accept().read(12)
    server.connection.sendall(b'READY')
    terminal.wait_output(b'READY')
    terminal.send(report + b'\x1c')
    terminal.wait_output(b'\x1b[5n')
    terminal.send(b'\x1b[442;5:3u\x1b[<35;1;2Mtouch leaked\r\x1b[0necho $((6 * 7))\r')
    terminal.wait_text('\n42\n')
    assert not os.path.exists(pty.path('leaked')) and 'command not found' not in terminal.text()


@pytest.mark.parametrize('keys', [b'', b'words\r\x1b[A\x1b[15;5~\x1bx\x1b[200~a\x1cb\x1b[201~'], ids=repr)
def test_session_without_reports_is_left_at_once(pty, server, keys):
    """Nothing is asked where nothing is on its way."""
    terminal = pty.attach('./fake.sock')
    server.accept().read(12)
    terminal.send(keys + b'\x1c')
    assert server.read_all() == keys and terminal.exit_status() == 0 and b'\x1b[5n' not in terminal.output


def test_terminal_that_does_not_answer_is_waited_for_2_seconds(pty, server):
    """And what has come meanwhile is thrown away."""
    terminal = pty.attach('./fake.sock')
    server.accept().read(12)
    began = time.monotonic()
    terminal.send(b'\x1b[I\x1c')
    assert terminal.exit_status() == 0 and 1.9 < time.monotonic() - began < 6


# What xterm, kitty and VTE send by themselves, and what their users type.
ANSWERS = [b'\x1b[5;3R', b'\x1b[?5;3R', b'\x1b[?5;3;1R', b'\x1b[1;17R', b'\x1b[2;2R', b'\x1b[?62;22c',
           b'\x1b[>41;390;0c', b'\x1b[=1;2c', b'\x1b[0n', b'\x1b[?997;1n', b'\x1b[2;1;1;128;128;1;0x',
           b'\x1b[8;24;80t', b'\x1b[48;1;2;3;4t', b'\x1b[?2026;2$y', b'\x1b[4;2$y', b'\x1b[?0u', b'\x1b[?1;0;256S',
           b'\x1b[>4;2m', b'\x1b[0;1m', b'\x1b[0000*{', b'\x1b[?0;0#Q', b'\x1b]11;rgb:0000/0000/0000\x07', b'\x1b]11;rgb:0/0/0\x1b\\', b'\x1b]lname\x1b\\',
           b'\x1bP>|XTerm(390)\x1b\\', b'\x1bP1$r0m\x1b\\', b'\x1bP1+r544e=61\x1b\\', b'\x1bP!|00000000\x1b\\',
           b'\x1b_Gi=31;OK\x1b\\', b'\x1b]52;c;' + b'QUJD' * 5000 + b'\x07']
NOISE = [b'\x1b[I', b'\x1b[O', b'\x1b[<35;10;20M', b'\x1b[<39;1;1M', b'\x1b[MC!!', b'\x1b[67;3;4M']
TYPED = [b'\x1b[1;2R', b'\x1b[1;16R', b'\x1b[R', b'\x1b[c', b'\x1b[A', b'\x1b[1;5C', b'\x1b[15~', b'\x1b[<0;3;4M',
         b'\x1b[<64;3;4M', b'\x1b[<0;3;4m', b'\x1b[<32;3;4M', b'\x1b[M !!', b'\x1b[M\x1b[I', b'\x1b[97;5u', b'\x1b]x',
         b'\x1bPa', b'\x1bOR', b'\x1b\x1b[A', b'\xc3\xa4', b'\x1b[200~\x1b[0n\x1b[I\x1b[201~',
         b'\x1b[99999999999999999999R', b'\x1b[' + b'1' * 100 + b'R', b'\x1b[[A']


@pytest.mark.parametrize('kind, each', [(b'a', ANSWERS), (b'n', NOISE), (b'', TYPED)],
                         ids=['answers', 'noise', 'typed'])
@pytest.mark.parametrize('cut', [False, True], ids=['whole', 'cut'])
def test_what_a_terminal_sends_by_itself_goes_in_messages(pty, server, kind, each, cut):
    """An answer is for who has asked, noise comes from looking on: neither is typing. A key is a key, whatever it looks
    like."""
    terminal = pty.attach('-e', 'none', './fake.sock')
    server.accept().read(12)
    for one in each:
        for part in [one[i:i + 1] for i in range(len(one))] if cut and len(one) < 100 else [one]:
            terminal.send(part)
        got = b''
        while kind and len(got) < len(one):
            head = server.read(6)
            assert head[:4] == b'\xff\xff' + kind * 2, (one, head)
            got += server.read(int.from_bytes(head[4:], 'big'))
        assert (got or server.read(len(one))) == one
    terminal.send(b'.')
    assert server.read(1) == b'.'


@pytest.mark.parametrize('option', ['-R', '-r'])
def test_server_that_knows_no_messages_gets_none(pty, server, option):
    """-R: an answer is bytes like others; a watcher sends nothing."""
    terminal = pty.attach(option, './fake.sock')
    server.accept(raw=option == '-R')
    server.connection.sendall(b'READY')
    terminal.wait_output(b'READY')
    terminal.send(b'\x1b[0n')
    wait_until(lambda: is_taken(terminal), what='the reading of the answer')
    terminal.send(b'\x1c')
    leave(terminal)
    assert server.read_all() == (b'\x1b[0n' if option == '-R' else hello(0, 0, 1))


# ---- stopping and coming back


def stop_and_continue(terminal, between=lambda: None):
    """SIGSTOP cannot be caught: attach only learns by SIGCONT that it was stopped."""
    pid = children(terminal.child.pid)[0]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: stat_fields(pid)[0] == 'T', what='the stop')
    between()
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize('number', [signal.SIGTSTP, signal.SIGSTOP])
def test_after_a_stop_attach_comes_anew(pty, server, number):
    """Nobody knows what the terminal shows then: a new connection, which says its size at once, is painted by the shim,
    and the old one becomes a push: what is typed waits until the shim has read all that was typed there."""
    terminal = kept_terminal(pty, './fake.sock', rows=33, cols=99)
    assert server.accept().read(12) == hello(33, 99)
    old = server.connection
    old.sendall(b'\x1b[?1049hold')
    terminal.wait_output(b'old')
    if number == signal.SIGSTOP:
        stop_and_continue(terminal)
    else:  # no shell is there to continue it (an orphaned process group), so it does not stop: POSIX, 2.4.3
        os.kill(children(terminal.child.pid)[0], number)
    assert server.accept().read(12) == hello(33, 99)
    assert old.recv(100) == hello(0, 0, 2) and old.recv(100) == b''
    server.connection.sendall(b'painted')
    terminal.wait_output(b'painted')
    between = terminal.output.partition(b'old')[2].partition(b'painted')[0]
    assert b'\x1b[?1049l' in between and b'\x1b[?1049h' not in between
    terminal.send(b'keys')
    wait_until(lambda: is_taken(terminal), what='the reading of the keys')
    assert not select.select([server.connection], [], [], 0.2)[0]
    old.sendall(b'late output' + TAKEN)
    old.close()
    assert server.read(4) == b'keys'
    server.connection.sendall(goodbye(5))
    server.connection.close()
    assert terminal.exit_status() == 5


def test_after_a_stop_the_old_connection_tells_how_a_session_has_ended(pty, server):
    """While attach was stopped the program ended: nobody listens any more, but the goodbye is there."""
    terminal = kept_terminal(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'here')
    terminal.wait_output(b'here')

    def end():
        server.connection.sendall(b'last' + goodbye(6))
        server.connection.close()
        server.listener.close()
    stop_and_continue(terminal, end)
    assert terminal.exit_status() == 6 and b'last' in terminal.output


def test_what_was_typed_before_a_stop_comes_before_what_is_typed_then(pty, server):
    """800 KB that a busy program has not read yet: nothing overtakes it, no half of a message becomes typed text; and
    the detach key works meanwhile."""
    terminal = kept_terminal(pty, './fake.sock')
    first = server.accept().read(12)
    old = server.connection
    lines = b''.join(b'%07d\r' % number for number in range(100000))
    for at in range(0, len(lines), 1000):
        terminal.send(lines[at:at + 1000])
        terminal.feed(0)
    stop_and_continue(terminal)
    terminal.resize(33, 99)
    terminal.send(b'last')
    wait_until(lambda: is_taken(terminal), what='the reading of the keys')
    assert not select.select([server.listener], [], [], 0.2)[0], 'it connects though something is unsent'
    server.connection = old
    said = server.read_all()
    assert said.replace(hello(33, 99), b'') == lines + b'last' + hello(0, 0, 2)
    assert server.accept().read(12)[:4] == first[:4]
    terminal.send(b'x')
    old.close()
    assert server.read(1) == b'x'
    terminal.ends(b'\x1c')


def test_detach_key_works_while_the_second_connection_waits(pty, server):
    """A server whose queue is full lets nobody connect: attach is deaf to nothing meanwhile."""
    server.listener.listen(0)
    terminal = kept_terminal(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'here')
    terminal.wait_output(b'here')
    fill = [pty.keep(socket.socket(socket.AF_UNIX), lambda: None) for _ in range(3)]
    for one in fill:
        one.setblocking(False)
        one.connect_ex(pty.path('fake.sock'))
    stop_and_continue(terminal)
    terminal.ends(b'\x1c')


def test_watching_comes_anew_too(pty, server):
    """attach -r at a terminal: the hello of one that only watches, and the end of the sending side, both times."""
    terminal = kept_terminal(pty, '-r', './fake.sock')
    assert server.accept().read_all() == hello(0, 0, 1)
    server.connection.sendall(b'here')
    terminal.wait_output(b'here')
    old = server.connection
    stop_and_continue(terminal)
    assert server.accept().read_all() == hello(0, 0, 1) and old.recv(100) == b''
    terminal.ends(b'\x1c')


@pytest.mark.parametrize('address', ['./a.sock', '0'])
def test_program_does_not_notice_that_attach_was_stopped(pty, address):
    """Same size before and after: no signal, no byte; and the session's screen is there again."""
    shim = pty.shim('-n', address, *program('hex.py'))
    pane = Pane(pty)
    pane.command(ATTACH, shim.address)
    pane.wait('READY')
    pane.type('a')
    pane.wait('<61>')
    before = pane.rows()
    attach = pane.child()
    os.kill(attach, signal.SIGTSTP)
    pane.wait('Stopped')
    pane.command('clear')
    pane.wait_rows(lambda rows: [r for r in rows if r] == ['$'], 'the clean screen')
    pane.command('fg')
    pane.wait('<61>')
    pane.type('b')
    pane.wait('<62>')
    assert sum('{24 80}' in row for row in before) == sum('{24 80}' in row for row in pane.rows())
    pane.type('Q')
    pane.wait('ended with status 9')
    wait_until(lambda: not alive(attach), what='the end of attach')
