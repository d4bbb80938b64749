"""What a client that comes late is sent: the lines that have scrolled off, then the screen, then live bytes; to each
kind of client what is meant for it, and without `record`, what the ring has (contract, section 7, 'Who gets what').

Painted terminals are compared in xterm with one that was there from the first byte (lib/late.py, lib/oracles.py)."""
import os
import re
import shutil
import time

import pytest

from harness import SHIM, TIMEOUT, Shim, hello, wait_until
from late import Screen, Session, read_quiet, take_ready
from listener import Listener
from oracles import differences, text_of

PIPE, WATCHES = hello(0, 0), hello(0, 0, 1)
LINES = b''.join(b'\x1b[3%dmline %06d\x1b[m of the output\r\n' % (n % 8, n) for n in range(3000))
SHELL = ('bash', '--norc', '--noprofile', '-i')


class Printer:
    """A session whose program prints what the test says, with a client that was there from the first byte."""

    def __init__(self, pty, *options):
        self.listener, self.pty, self.late, self.marks = Listener(pty, *options), pty, [], 0
        self.shim = self.listener.shim
        self.always = Screen(self.shim.address, first=b'.')
        pty.keep(self.always, self.always.close)
        while b'READY' not in self.always.got:  # (it was printed before the client came, and may be no history)
            self.listener.print(b'READY')
            read_quiet([self.always], time.monotonic() + 0.2)

    def come(self, size=(24, 80), first=None, steps=()):
        late = Screen(self.shim.address, size, first, steps)
        self.late.append(self.pty.keep(late, late.close))
        return late

    def until(self, client, wanted):
        end = time.monotonic() + TIMEOUT
        while wanted not in client.got:
            assert time.monotonic() < end and client.open, f'{wanted!r} did not come; got {client.got[-300:]!r}'
            take_ready([self.always, *self.late], 0.1)

    def mark(self):
        """Prints something that nobody sees, and that nobody has seen before."""
        self.marks += 1
        sign = b'\x1b]7777;%d\x07' % self.marks
        self.listener.print(sign)
        return sign

    def print(self, data):
        """Prints, and waits until the client that was always there has it."""
        self.listener.print(data)
        self.until(self.always, self.mark())

    def wrong(self, late, oracle):
        """What the late client's terminal shows otherwise, once both have all."""
        end = time.monotonic() + TIMEOUT
        while True:  # (what is printed before it is painted is in the paint, and cannot be seen)
            live, soon = self.mark(), time.monotonic() + 0.1
            while not (live in late.got and live in self.always.got) and time.monotonic() < soon:
                take_ready([self.always, *self.late], soon - time.monotonic())
            if live in late.got and live in self.always.got:
                break
            assert time.monotonic() < end, f'nothing live came; got {late.got[-300:]!r}'
        return differences(late.state(oracle), self.always.state(oracle), ('answers', 'scrolled'))


def scrolled(client, vterm):
    state = vterm.state(client.steps, client.size, deep=False)
    return text_of(state['scrolled']) + text_of(state['cells'])


@pytest.mark.parametrize('history, least, most', [('1K', 10, 40), ('64K', 900, 2500), ('all', 2976, 2977)])
def test_lines_that_scrolled_off_come_first(pty, vterm, history, least, most):
    """`-H SIZE`: SIZE bytes of lines, as they looked, end where the screen begins; `all`: every one."""
    session = Printer(pty, '-H', history)
    session.print(b'\r\n' + LINES)
    late = session.come()
    assert not session.wrong(late, vterm)
    got = [row for row in scrolled(late, vterm) if row]
    shown = [row for row in scrolled(session.always, vterm) if row]
    assert got[-len(got) :] == shown[-len(got) :] if history != 'all' else got[-1000:] == shown[-1000:]
    if history != 'all':
        assert least <= len(got) - 23 <= most, len(got)


@pytest.mark.parametrize('first', [hello(24, 80), b'', WATCHES, PIPE], ids=['window', 'nc', 'attach -r', 'pipe'])
def test_no_history_is_not_one_old_byte(pty, first):
    """`-H none`: a late client begins with the live bytes."""
    session = Printer(pty, '-H', 'none')
    session.print(b'\x1b[?1049hold' * 100)
    late = session.come(first=first)
    read_quiet([late], time.monotonic() + 1, 0.5)
    session.listener.print(b'live')
    session.until(late, b'live')
    assert late.got == b'live'


@pytest.mark.parametrize('history', ['1K', '1M', 'all'])
@pytest.mark.parametrize('recording', [(), ('-n',), ('-m', '5K')], ids=['recorded', 'not recorded', 'recorded in part'])
def test_screen_is_the_same_however_much_history_and_whatever_is_recorded(pty, xterm, history, recording):
    """A picture drawn long ago, behind an alternate screen with another, after more than a ring of output."""
    session = Printer(pty, '-H', history, *recording)
    session.print(
        b'\x1b[2J\x1b[5;5H\x1b[44mdrawn long ago\x1b[m\x1b[9;9H\x1b[?1049h\x1b[?1002;1006h\x1b[3;20r\x1b[20;1H')
    for _ in range(3):
        session.print(b'\x1b[20;1H' + LINES * 2)
    late = session.come()
    assert not session.wrong(late, xterm)
    session.print(b'\x1b[r\x1b[?1002;1006l\x1b[?1049lback')
    assert not session.wrong(late, xterm)
    assert 'drawn long ago' in late.text(xterm)


@pytest.mark.parametrize(
    'first', [hello(24, 80), WATCHES, b'', b'typed'], ids=['window', 'attach -r', 'nc', 'nc that types'])
def test_every_kind_of_terminal_is_painted(pty, xterm, first):
    """A client with a window, one that only watches at a terminal, a raw one, once it has said nothing for 200 ms."""
    session = Printer(pty, '-H', '1K')
    session.print(b'\x1b[2J\x1b[5;5H\x1b[44mold\x1b[m\x1b[?25l' + b'\r%06d' * 1000 % tuple(range(1000)))
    assert not session.wrong(session.come(first=first), xterm)


def test_viewer_is_painted(pty, xterm):
    """... and one at `--view`, whatever window it says it has."""
    session = Printer(pty, '-v', pty.path('view.sock'))
    session.print(b'\x1b[?1049h\x1b[2J\x1b[5;5H\x1b[44mold\x1b[m\x1b[?25l')
    for first in (b'', hello(40, 100), b'typed'):
        viewer = Screen(session.shim.view, first=first)
        session.late.append(pty.keep(viewer, viewer.close))
        assert not session.wrong(viewer, xterm)
    assert (session.listener.input(), session.listener.sizes()) == (b'.', ['24x80'])


def test_client_whose_output_is_a_pipe_gets_the_last_bytes_as_they_were(pty):
    """`attach </dev/null | grep`: the last -H bytes, from the start of a line; there is no terminal to be told."""
    session = Printer(pty, '-H', '1K')
    session.print(b'\r\n' + LINES)
    late = session.come(first=PIPE)
    session.until(late, b'line 002999')
    session.print(b'live')
    session.until(late, b'live')
    whole = session.always.got
    begin = whole.index(late.got[:200])
    assert whole[begin - 1 : begin] == b'\n' and whole[begin : begin + len(late.got)] == late.got
    assert 900 < len(late.got) - len(b'\x1b]7777;99\x07live') <= 1100


def test_client_that_comes_in_a_flood_is_painted_and_misses_nothing(pty, xterm):
    """Between the paint and the live bytes there is neither a gap nor a repeat."""
    session = Printer(pty, '-H', '1K')
    session.listener.print(b'\r\n' + LINES[:60000])
    lates = [session.come() for _ in range(5)]
    session.print(LINES[60000:])
    for late in lates:
        assert not session.wrong(late, xterm)


HALVES = (b'\x1b[1;38;5;196mx', b'\x1b]2;title\x07x', b'\x1bP1;2qabc\x1b\\x', b'\x1b(0q', b'\x1b[?25lx')


def test_sequence_that_was_half_printed_goes_on(pty, xterm):
    """What is unfinished where the client goes on is begun again, so that the live bytes complete it."""
    session = Printer(pty)
    for whole in HALVES:
        for cut in {1, 2, len(whole) // 2, len(whole) - 1}:
            session.print(b'\x1b[2J\x1b[m\x1b(B')
            want = len(session.always.got) + cut
            session.listener.print(whole[:cut])
            wait_until(
                lambda want=want: read_quiet([session.always], time.monotonic() + 1, 0.01)
                and len(session.always.got) == want, what='the first part')
            late = session.come()
            read_quiet([late], time.monotonic() + 1, 0.1)
            session.listener.print(whole[cut:])
            assert not session.wrong(late, xterm), (whole, cut)
            late.close()
            session.late.remove(late)


def test_attach_at_the_same_size_is_not_noticed_by_the_program(pty):
    """No signal, no size, no byte: three attaches, and three leave."""
    listener = Listener(pty)
    wait_until(lambda: listener.sizes() == ['24x80'], what='the first size')
    before = listener.events()
    for _ in range(3):
        terminal = pty.attach(listener.shim.address)
        terminal.wait_output(b'READY')
        terminal.ends(b'\x1c')
    last = pty.keep(Screen(listener.shim.address), lambda: None)
    read_quiet([last], time.monotonic() + 2, 0.5)
    last.close()
    assert b'READY' in last.got and listener.events() == before


def test_attach_at_another_size_is_one_size(pty):
    """One TIOCSWINSZ, before the client is painted; another when it has left and there is somebody else."""
    listener = Listener(pty)
    wait_until(lambda: listener.sizes() == ['24x80'], what='the first size')
    stays = Screen(listener.shim.address)
    read_quiet([stays], time.monotonic() + 2, 0.5)
    other = Screen(listener.shim.address, (30, 100))
    read_quiet([stays, other], time.monotonic() + 2, 0.5)
    assert b'READY' in stays.got and b'READY' in other.got
    wait_until(lambda: len(listener.sizes()) == 2, what='the size of the other')
    assert listener.sizes() == ['24x80', '30x100']
    other.close()
    wait_until(lambda: listener.sizes() == ['24x80', '30x100', '24x80'], what='the size that remains')
    read_quiet([stays], time.monotonic() + 2, 0.5)
    stays.close()
    assert len(listener.sizes()) == 3


QUESTIONS = [
    b'\x1b[c', b'\x1b[>c', b'\x1b[=c', b'\x1bZ', b'\x1b[5n', b'\x1b[6n', b'\x1b[?6n', b'\x1b[?15n', b'\x1b[?996n',
    b'\x1b[?2026$p', b'\x1b[4$p', b'\x1bP$qm\x1b\\', b'\x1bP+q544e\x1b\\', b'\x1b]4;1;?\x07', b'\x1b]10;?\x1b\\',
    b'\x1b]11;?\x07', b'\x1b]52;c;?\x07', b'\x1b]60\x1b\\', b'\x1b]61;?\x1b\\', b'\x1b]21;foreground=?\x1b\\',
    b'\x1b]22;?__current__\x1b\\', b'\x1b]99;i=1:p=?;\x1b\\', b'\x1b[>q', b'\x1b[?u',
    b'\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\', b'\x1b[?4m', b'\x1b[x', b'\x1b[14t', b'\x1b[18t', b'\x1b[21t',
    b'\x1b[1$w', b'\x1b[1;1;1;1;24;80*y', b'\x1b[?1;1;0S', b'\x1b[#R', b'\x1b[# R', b'\x1b[1;1;1;1#|', b'\x1b[>0;1s',
    b'\x1b]1337;ReportCellSize\x07', b'\x05', b'\xc2\x9bc', b'\x1b[?1001s']
QUESTION_BYTES = re.compile(
    rb'\x1b\[(?:[>=?]?[0-9;]*[cn]|>[0-9]*q|\?u|[0-9?]*\$p|[0-9;]*\*y|[0-9;]*#[|R]|'
    rb'1[1-9]t|2[01]t|\?[0-9]*m|[0-9]*x|[0-9]\$w|\?[0-9;]*S)'
    rb'|\x1bP[$+]q|\x1bZ|\x05|\x1b\][0-9;]*\?|\x1b\](?:60|99|21|22)\b|\x1b_G')


@pytest.mark.parametrize('history', ['64K', 'all'])
@pytest.mark.parametrize('first', [hello(24, 80), WATCHES, b''], ids=['window', 'attach -r', 'nc'])
def test_terminal_that_has_just_come_is_asked_nothing(pty, xterm, history, first):
    """Whatever was asked before, whole or in pieces: not a byte of a question, and xterm has nothing to answer."""
    session = Printer(pty, '-H', history)
    for question in QUESTIONS:
        session.print(b'text ' + question + b' more text\r\n')
        session.print(question[:2])
        session.print(question[2:] + b'\x18\x1b\\')
    late = session.come(first=first)
    read_quiet([late], time.monotonic() + 5, 0.5)
    assert b'more text' in late.got
    assert not QUESTION_BYTES.search(late.got), QUESTION_BYTES.search(late.got)[0]
    assert xterm.state([late.got], deep=False)['answers'] == b''
    assert session.listener.input() == b'.'


def test_without_record_a_late_client_gets_the_rings_bytes(pty):
    """Never a lost client: old bytes from the start of a line, then the live ones. It is said at the start, once. (How
    the helper fails in other ways: tests/shim/test_past.py.)"""
    os.mkdir(pty.path('bin'))
    shim = shutil.copy(SHIM, pty.path('bin'))
    script = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo old line $i; done; while read x; do echo "<$x>"; done'
    run = pty.run(shim, '-H', '1K', '-r', 'x.cast', '-s', '80x24', pty.path('sock'), 'sh', '-c', script)
    assert run.stderr.startswith('shim: record: none beside shim') and run.stderr.count('\n') == 1
    session = Shim(run, pty.folder)
    pty.keep(session, session.stop)
    wait_until(lambda: b'old line 300' in open(session.recording, 'rb').read(), what='the output')
    for first in (hello(24, 80), b'', PIPE):
        late = pty.client(session.address, first)
        got = late.read_until(b'old line 300\r\n')
        assert got.startswith(b'old line') and b'old line 299\r\n' in got
        late.send(b'live\r')
        late.read_until(b'<live>')
        late.close()


def test_recording_that_was_cut_short_loses_no_client(pty):
    """Somebody truncated the file: what it does not hold any more cannot be painted; the ring's bytes are there."""
    session = Printer(pty)
    session.print(LINES)
    os.truncate(session.shim.recording, 500)
    for first in (hello(24, 80), b''):
        late = session.come(first=first)
        session.until(late, b'line 002999')
        session.print(b'live')
        session.until(late, b'live')


def test_half_typed_command_is_not_run_by_an_attach(pty, xterm):
    """tig runs what stands at its prompt when the window changes: that somebody attached must not be a change."""
    session = Session(pty, xterm)
    session.type(b'cd repo; tig -C .\r')
    session.type(b':!touch x')
    session.come()
    session.quiet()
    assert not session.wrong(xterm, session.late[0])
    assert ':!touch x' in session.late[0].text(xterm)
    assert not os.path.exists(pty.path('home/repo/x'))


def test_key_that_nobody_pressed_does_not_come(pty, xterm):
    """read -n1 and curses' getch() give back a key: an attach is none."""
    session = Session(pty, xterm)
    session.type(b'dialog --pause waiting 10 40 1000 2>/dev/null; echo ended\r')
    late = session.come()
    session.quiet()
    assert 'ended' not in late.text(xterm) and 'waiting' in late.text(xterm)


def test_shells_screen_is_there_after_a_hundred_pages_of_vim(pty, xterm):
    """bash, echo, vim, 100 pages (far more than the history), detach, attach, `:q!`: the README's first daily use."""
    session = Session(pty, xterm)
    session.type(b'echo IMPORTANT\r', 'IMPORTANT')
    session.type(b'vim.tiny -u NONE text\r', 'line 20 of')
    for page in range(100):
        session.type(b'\x06' if page % 40 < 30 else b'\x02' * 3) if page < 10 else session.always.send(b'\x06\x02')
    session.quiet()
    assert len(session.always.got) > 1 << 16
    session.always.close()
    late = session.come()
    came = len(session.late)
    read_quiet([late], time.monotonic() + 5, 0.5)
    assert late.text(xterm).count('of a text file') > 15
    late.send(b':q!\r')
    read_quiet([late], time.monotonic() + 5, 0.5)
    text = late.text(xterm).split('\n')
    assert 'IMPORTANT' in text and text[-1] == '' and [row for row in text if row][-1] == '$', text
    assert came == 1


def test_counter_in_place_leaves_what_stands_above_it(pty, xterm):
    """A progress line over more than the history's 64 KiB: the other rows are still there."""
    session = Session(pty, xterm)
    session.type(b'seq 15\r')
    session.type(b'for i in `seq 9000`; do printf "\\rstep %d of 9000" $i; done\r', 'step 9000 of')
    assert len(session.always.got) > 1 << 16
    late = session.come()
    assert not session.wrong(xterm, late)
    assert all(str(n) in late.text(xterm).split('\n') for n in range(1, 16))


def test_ten_clients_at_once_are_all_painted(pty, xterm):
    """... of two sizes; each has what there is, in the size that it was painted for."""
    session = Session(pty, xterm)
    session.type(b'vim.tiny -u NONE text\r', 'line 20 of')
    lates = [session.come() for _ in range(10)]
    for late in lates:
        assert not session.wrong(xterm, late)
