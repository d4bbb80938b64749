"""Issue 5, item 3 and 6: where the history begins, how much it is, and which modes are told with it."""
import re
import select
from random import Random

import pytest

from harness import hello, wait_until
from listener import Listener, listen, print_and_see
from screens import differences
from sessions import BUDGET, read_quiet
from streams import ST, stream

SEQUENCES = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|[()*+][0-~]|[=>78])|[\x0e\x0f]')
END = b'\x1b[0;7mEND\x1b[m'
SIZES = {'1K': 1 << 10, '64K': 64 << 10, '1M': 1 << 20}


def late_bytes(listener, pty, live=b'<live>'):
    """What a raw client that comes now gets before the first live byte."""
    late = pty.client(listener.shim.address)
    if not late.nothing_comes(0.05):                   # (it is attached, when the history is there; none may be)
        late.read_some()
    answer = pty.client(listener.shim.address)         # clients are accepted in order: this one's turn is after it
    answer.send(b'x')
    wait_until(lambda: listener.input().endswith(b'x'), what='the input')
    listener.print(live)
    return late.read_until(live)[:-len(live)]


def text_of(data):
    """Without the modes that were told before it and after it."""
    return SEQUENCES.sub(b'', data)


def numbered(count):
    return b''.join(b'line %07d of the output\r\n' % i for i in range(count))


@pytest.mark.parametrize('size', SIZES)
def test_history_is_the_tail_of_the_output_from_the_start_of_a_line(pty, size):
    """`-H SIZE`: at most SIZE bytes, at least SIZE less one line, beginning at the start of a line (contract, 2)."""
    listener, always = listen(pty, '-H', size)
    printed, line = numbered(45000 if size == '1M' else 4000), len(b'line 0000000 of the output\r\n')
    assert len(printed) > SIZES[size]
    print_and_see(listener, always, printed)
    least = SIZES[size] if size != '1M' else 15 << 16          # (the ring has 1 MiB, of which some is kept free)
    history = text_of(late_bytes(listener, pty))
    assert history == printed[len(printed) - len(history):]
    assert max(0, least - line) <= len(history) <= SIZES[size]
    assert not history or history.startswith(b'line ')


@pytest.mark.parametrize('size', ['none', '0'])
def test_no_history_means_not_one_old_byte(pty, size):
    """`-H none` and `-H 0`: a late client begins with the live bytes (and the modes that are on)."""
    listener, always = listen(pty, '-H', size)
    print_and_see(listener, always, b'old\r\n' * 100)
    assert text_of(late_bytes(listener, pty)) == b''


def test_all_history_is_every_byte_from_the_first(pty):
    """`-H all`: from the first byte, though 5 MB are far more than the ring holds."""
    listener, always = listen(pty, '-H', 'all')
    printed = numbered(180000)
    print_and_see(listener, always, printed)
    late = pty.client(listener.shim.address)
    assert late.read_bytes(5 + len(printed)) == b'READY' + printed


def test_history_larger_than_the_ring_comes_from_the_recording(pty):
    """`-H 3M`: the ring has 1 MiB, the recording has the rest."""
    listener, always = listen(pty, '-H', '3M')
    printed = numbered(180000)
    print_and_see(listener, always, printed)
    late = listener.watch(pty)
    late.read_until(lambda: printed.endswith(late.got[-30:]) and b'line 0179999' in late.got[-30:])
    history = text_of(late.got)
    assert history == printed[len(printed) - len(history):]
    assert (3 << 20) - 28 < len(history) <= 3 << 20


def test_short_history_is_all_there_is(pty):
    """Less output than the history may have: all of it, from its first byte."""
    listener, always = listen(pty)
    print_and_see(listener, always, b' first\r\nsecond')
    assert text_of(late_bytes(listener, pty)) == b'READY first\r\nsecond'


@pytest.mark.parametrize('what', ['\N{EURO SIGN}', '\N{GRINNING FACE}', 'e\N{COMBINING ACUTE ACCENT}',
                                  '\N{LATIN SMALL LETTER A WITH DIAERESIS}x'])
def test_history_begins_with_a_whole_character(pty, what):
    """No half character: wherever the cut of 1 KiB falls in a line without end, the history is valid UTF-8."""
    listener, always = listen(pty, '-H', '1K')
    print_and_see(listener, always, what.encode() * 2000)
    for _ in range(len(what.encode()) + 1):
        print_and_see(listener, always, b'.')
        history = text_of(late_bytes(listener, pty, '\N{EURO SIGN}<live>'.encode()))
        assert 900 < len(history) <= 1024
        history.decode('utf-8')                        # raises where a character is cut


@pytest.mark.parametrize('sequence', [b'\x1b[38;2;120;130;140m', b'\x1b]0;a long title with many words\x07',
                                      b'\x1b]8;;http://a.b/c\x1b\\', b'\x1bP1;2;3qabcdef\x1b\\', b'\x1b(B\x1b)0',
                                      b'\x1b[?7h\x1b[1;24r\x1b[24;1H', b'\x1b[4:3m'])
def test_history_begins_with_a_whole_sequence(pty, sequence):
    """No half sequence: wherever the cut falls, nothing of a sequence is taken for text (all text is dots)."""
    listener, always = listen(pty, '-H', '1K')
    print_and_see(listener, always, (sequence + b'.') * 1000)
    for _ in range(len(sequence) + 1):
        print_and_see(listener, always, b'.')
        late = listener.watch(pty)
        late.read_until(lambda late=late: late.got)
        read_quiet([late], late.began + BUDGET, 0.01)
        assert re.fullmatch(r'(READY)?[.\s]*', late.model.screen.text()), late.got[:100]
        late.close()


def test_history_of_a_line_without_end_is_still_sent(pty):
    """A progress bar prints only carriage returns: the start of a line is not near, a safe place will do."""
    listener, always = listen(pty, '-H', '1K')
    print_and_see(listener, always, b''.join(b'\r%5d of 20000' % i for i in range(5000)))
    history = text_of(late_bytes(listener, pty))
    assert 500 < len(history) <= 1024 and history.endswith(b' 4999 of 20000')


def test_history_and_live_bytes_join_without_gap_or_repeat(pty):
    """A client that comes in the middle of a flood sees consecutive lines from its first to its last."""
    listener, always = listen(pty)
    printed = numbered(40000) + b'END'
    listener.print(printed[:65536])
    always.read_until(lambda: len(always.got) > 30000)
    late = pty.client(listener.shim.address)
    listener.print(printed[65536:])
    got = text_of(late.read_until(b'END'))
    assert (b'READY' + printed).endswith(got) and len(got) > 1000


# what a program sets once, and how it is unset (for the model, see screens.py)
MODES = {
    'alternate screen 1049': b'\x1b[?1049h', 'alternate screen 1047': b'\x1b[?1047h',
    'alternate screen 47': b'\x1b[?47h', 'cursor hidden': b'\x1b[?25l', 'mouse presses': b'\x1b[?9h',
    'mouse clicks': b'\x1b[?1000h\x1b[?1006h', 'mouse drags': b'\x1b[?1002h\x1b[?1015h',
    'mouse motion': b'\x1b[?1003;1006h', 'UTF-8 mouse': b'\x1b[?1000;1005h',
    'focus events': b'\x1b[?1004h', 'wheel sends keys': b'\x1b[?1007h', 'bracketed paste': b'\x1b[?2004h',
    'application cursor keys': b'\x1b[?1h', 'application keypad': b'\x1b=', 'keypad and back': b'\x1b=\x1b>',
    'line drawing': b'\x1b(0', 'line drawing in G1': b'\x1b)0\x0e', 'shifted in again': b'\x1b)0\x0e\x0f',
    'scroll region': b'\x1b[5;20r', 'scroll region and back': b'\x1b[5;20r\x1b[r', 'origin mode': b'\x1b[3;10r\x1b[?6h',
    'no wrapping': b'\x1b[?7l', 'insert mode': b'\x1b[4h', 'reverse video': b'\x1b[?5h', 'cursor style': b'\x1b[5 q',
    'red': b'\x1b[31m', 'bold on blue': b'\x1b[1;44m', '256 colours': b'\x1b[38;5;123;48;5;17m',
    'true colour': b'\x1b[38;2;1;2;3m', 'bright': b'\x1b[97;101m',
    'underlined, italic, struck, reversed': b'\x1b[3;4;9;7m',
    'default again': b'\x1b[31m\x1b[1m\x1b[39m', 'saved and restored': b'\x1b[31m\x1b7\x1b[32m\x1b(0\x1b8',
    'screens and back': b'\x1b[31m\x1b[?1049h\x1b[32m\x1b[?1049l',
    'soft reset': b'\x1b[?1;25l\x1b=\x1b[4h\x1b[5;9r\x1b[31m\x1b(0\x1b[?6h\x1b[!p',
    'hard reset': b'\x1b[?1049h\x1b[?25l\x1b[?1003;1006;2004;1h\x1b=\x1b[5;9r\x1b[31m\x1b(0\x1bc',
    'several at once': b'\x1b[?1049;25;1000;1006;2004;1h\x1b[?25;1006l',
    'reset where not set': b'\x1b[?1000l\x1b[?1049l\x1b[?2004l\x1b[?1l\x1b>',
    'everything': b'\x1b[?1049h\x1b[?1003;1006;2004;1004;1h\x1b=\x1b)0\x0e\x1b[2;22r\x1b[1;38;5;200;44m\x1b[?25l'
                  b'\x1b[?7l\x1b[4h\x1b[6 q',
}


@pytest.mark.parametrize('history', ['1K', 'none'])
def test_modes_that_are_on_are_told(pty, history):
    """Alternate screen, cursor, mouse, paste, keys, keypad, character sets, scroll region, colours: whatever was set
    before the history began is set in a late client's terminal too, and nothing else is (contract, section 7)."""
    listener, always = listen(pty, '-H', history)
    wrong = []
    for name, sequence in MODES.items():
        print_and_see(listener, always, b'\x1bc' + sequence + b'x' * 1100 + b'\x1b[20G' + b'y' * 30)
        late = listener.watch(pty)
        read_quiet([late], late.began + BUDGET, 0.03)
        mine, theirs = late.model.screen.state(), always.model.screen.state()
        wrong += [f'{name}, {key}: {mine[key]}, should be {theirs[key]}' for key in mine
                  if key != 'cursor' and mine[key] != theirs[key]]
        late.close()
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('name', ['red', 'line drawing', 'scroll region', 'insert mode', 'bold on blue'])
def test_old_lines_look_as_they_did_when_they_were_printed(pty, name):
    """A mode that was on where the history begins and is off by now: the history is drawn with it, as it was, and
    the client ends without it."""
    listener, always = listen(pty, '-H', '1K')
    print_and_see(listener, always, MODES[name] + b'aqqqb\r\n' * 1000 + b'\x1b[m\x1b(B\x1b[4l\x1b[r\x1b[24;1H')
    late = listener.watch(pty)
    read_quiet([late], late.began + BUDGET, 0.04)
    assert not differences(late.model, always.model), differences(late.model, always.model)


def test_modes_after_random_output_are_those_of_a_terminal(pty):
    """The state machine is total: after any bytes, well-formed or not, in one piece or byte by byte, a late client's
    terminal is told into the state in which a terminal is that has read all of them."""
    listener, always = listen(pty, '-H', 'none')
    wrong = []
    for seed in range(200):
        random = Random(seed)
        printed = b'\x18\x1bc' + stream(random) + b'\x18' + ST      # (CAN, ST: the ground state at both ends)
        print_and_see(listener, always, printed)
        late = listener.watch(pty)
        while not late.got.endswith(b'\0'):                      # NUL does nothing in a terminal; here it says: live
            listener.print(b'\0')
            if select.select([late], [], [], 0.02)[0]:
                late.take()
                late.draw()
        mine, theirs = late.model.screen.state(), always.model.screen.state()
        wrong += [f'{seed}: {printed!r}: {key}: {mine[key]}, should be {theirs[key]}' for key in mine
                  if key != 'cursor' and mine[key] != theirs[key]]
        late.close()
    assert not wrong, '\n'.join(wrong)


def test_raw_client_gets_history_and_modes_but_no_resize(pty):
    """Item 6: `nc` is told the history and the modes; the program is not told that it came or left."""
    listener, always = listen(pty)
    print_and_see(listener, always, b'\x1b[?1049h\x1b[?1000hpicture')
    before = listener.events()
    for first in (b'', b'typed', hello(0, 0)):
        late = listener.watch(pty)
        late.send(first)
        late.read_until(lambda late=late: b'picture' in late.got)
        read_quiet([late, always], late.began + BUDGET, 0.1)
        assert not differences(late.model, always.model)
        late.close()
        read_quiet([always], late.began + BUDGET * 2, 0.1)
    assert [e for e in listener.events() if e not in before] == ['input ' + b'typed'.hex()]
    assert listener.sizes() == ['24x80']


def test_viewer_gets_history_and_modes_but_no_resize(pty):
    """`--view`: the same for viewers, even for one that says how large its window is (contract, Window size)."""
    listener = Listener(pty, '-v', pty.path('view.sock'))
    listener.print(b'\x1b[?1049h\x1b[?1000hpicture')
    always = listener.watch(pty)
    always.read_until(lambda: b'picture' in always.got)
    viewer = pty.client(listener.shim.view, hello(40, 100) + b'typed')
    seen = viewer.read_until(b'picture')
    assert b'\x1b[?1049h' in seen and b'\x1b[?1000h' in seen
    read_quiet([always], always.began + 1, 0.1)
    assert (listener.sizes(), listener.input()) == (['24x80'], b'')
