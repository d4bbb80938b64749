"""The model of a terminal in record.cpp, by what `record screen` shows of it: each thing that a VT420 or xterm does with
output, one by one.

Authority: xterm's control sequences (ctlseqs), its behaviour where terminals differ (patch 379 was asked for what stands
here), ECMA-48.
"""
import os

import pytest

from record_tools import event, good, header, output, write

SIZE = (10, 4)


def shown(pty, data, size=SIZE, *, more=()):
    """The rows of the screen after this output, as text, without blank ones at the end."""
    data = data.encode() if isinstance(data, str) else data
    path = write(pty.path('model.cast'), header(width=size[0], height=size[1]), output(0.1, data), *more)
    return good('screen', path).decode().rstrip('\n').split('\n')


# name: (output, rows of a screen with 10 columns and 4 rows)
SHOWN = {
    # --- text
    'text and lines': ('one\r\ntwo', ['one', 'two']),
    'a line feed goes straight down': ('ab\ncd', ['ab', '  cd']),
    'LNM makes it return': ('\x1b[20hab\ncd', ['ab', 'cd']),
    'a long line wraps': ('0123456789abc', ['0123456789', 'abc']),
    'a full line does not wrap yet': ('0123456789\r\nx', ['0123456789', 'x']),
    'backspace from a full line stands before the last but one': ('0123456789\bX', ['01234567X9']),
    'without autowrap the last column is written over': ('\x1b[?7l0123456789abc', ['012345678c']),
    'the screen scrolls': ('1\r\n2\r\n3\r\n4\r\n5', ['2', '3', '4', '5']),
    'a full line at the bottom scrolls when it wraps': ('1\r\n2\r\n3\r\n0123456789x', ['2', '3', '0123456789', 'x']),
    'tabs go to every eighth column': ('a\tb', ['a       b']),
    'a tab at the end leaves the wrap pending': ('0123456789\tX', ['0123456789', 'X']),
    'a tab stop is set and cleared': ('\x1b[3g\x1b[4G\x1bH\ra\tb\tc', ['a  b     c']),
    'back to a tab stop': ('0123456789\x1b[ZX', ['01234567X9']),
    'DEL and NUL print nothing': ('a\x7f\0b', ['ab']),
    'SUB prints its sign': ('a\x1ab', ['a␦b']),
    'insert mode moves the rest': ('abc\r\x1b[4hX\x1b[4lY', ['XYbc']),
    'REP repeats a character': ('ab\x1b[3b', ['abbbb']),
    'REP repeats nothing behind a sequence': ('ab\x1b[m\x1b[3b', ['ab']),
    'REP wraps': ('a\x1b[11b', ['aaaaaaaaaa', 'aa']),
    'REP ends after two lines': ('a\x1b[99999b\r\nb', ['aaaaaaaaaa', 'aaaaaaaaaa', 'a', 'b']),
    'an emoji newer than Unicode 12 has two columns': ('\U0001f972\x1b[5G|', ['\U0001f972  |']),
    'a mark is on the character before, wherever the cursor came from': ('ab\x1b[1;2H\u0301', ['a\u0301b']),
    # --- characters
    'a wide character has two columns': ('你好x', ['你好x']),
    'a wide character that does not fit wraps': ('012345678你', ['012345678', '你']),
    'half a wide character is none': ('你好\x1b[2Gx', [' x好']),
    'the right half goes with the left': ('你好\rx', ['x 好']),
    'a combining mark is on the character before': ('e\u0301x', ['e\u0301x']),
    'all of several marks stay': ('a\u0302\u0323\u0308b', ['a\u0302\u0323\u0308b']),
    'Thai': ('ที่นี่', ['ที่นี่']),
    'Vietnamese, decomposed': ('Tie\u0302\u0301ng Vie\u0323\u0302t', ['Tie\u0302\u0301ng Vie\u0323\u0302t']),
    'Hebrew with points': ('שָׁלוֹם', ['שָׁלוֹם']),
    'an emoji with a joiner has two columns for each part': ('👩\u200d👦x\x1b[5Gy', ['👩\u200d👦y']),
    'a variation selector takes no column': ('❤\ufe0fx\x1b[2Gy', ['❤\ufe0fy']),
    'a mark on the last column does not wrap': ('012345678e\u0301', ['012345678e\u0301']),
    'a broken character is one sign': (b'a\xe4\xbdb\xffc\xc3', ['a\ufffdb\ufffdc']),
    'C1 controls in UTF-8 are ignored, as xterm does': ('a\u009b2Cb\u0084c', ['a2Cbc']),
    'a character that names no set shows nothing': ('a\x1b(€b', ['ab']),
    'the blank of line drawing is one': ('\x1b(0a_b', ['▒ ␉']),
    'line drawing': ('\x1b(0lqk\x1b(Bq', ['┌─┐q']),
    'line drawing by SO and SI': ('\x1b)0\x0elqk\x0fq', ['┌─┐q']),
    # --- the cursor
    'moving about': ('\x1b[2;3Ha\x1b[Ab\x1b[2Bc\x1b[3Dd', ['   b', '  a', '  d c']),
    'movement stops at the edges': ('\x1b[99;99H\x1b[99Aa\x1b[99Db\x1b[99B\x1b[99Cc', ['b        a', '', '', '         c']),
    'next and previous line': ('ab\x1b[2Ec\x1b[Fd', ['ab', 'd', 'c']),
    'columns and rows by number': ('\x1b[3d\x1b[5Gx\x1b[2`y\x1b[az\x1b[ew', ['', '', ' y zx', '    w']),
    'saved and restored': ('ab\x1b7\x1b[3;3Hx\x1b8c', ['abc', '', '  x']),
    'a pending wrap is saved too': ('0123456789\x1b7\x1b[3Hx\x1b8y', ['0123456789', 'y', 'x']),
    'index and reverse index': ('a\x1bDb\x1bM\x1bMc\x1bEd', ['  c', 'd', ' b']),
    # --- erasing and moving
    'to the end of the line': ('abcdef\x1b[3D\x1b[K', ['abc']),
    'to the beginning of the line': ('abcdef\x1b[3D\x1b[1K', ['    ef']),
    'the whole line': ('abc\x1b[2Kd', ['   d']),
    'to the end of the screen': ('a\r\nb\r\nc\x1b[2;1H\x1b[J', ['a']),
    'to the beginning of the screen': ('a\r\nb\r\ncd\x1b[2;1H\x1b[1J', ['', '', 'cd']),
    'the whole screen, and the cursor stays': ('ab\x1b[2Jc', ['  c']),
    'characters': ('abcdef\x1b[5D\x1b[2X', ['a  def']),
    'inserted and deleted characters': ('abcdef\x1b[5D\x1b[2@\x1b[1P', ['a bcdef']),
    'inserted and deleted lines': ('a\r\nb\r\nc\x1b[2H\x1b[Lx\x1b[H\x1b[M', ['x', 'b', 'c']),
    # (xterm, kitty, VTE and tmux were asked)
    'EL 0 behind the last column erases nothing': ('0123456789\x1b[Kx', ['0123456789', 'x']),
    'EL 1 behind the last column leaves the wrap pending': ('0123456789\x1b[1Kx', ['', 'x']),
    'EL 2 behind the last column leaves the wrap pending': ('0123456789\x1b[2Kx', ['', 'x']),
    'ED 0 behind the last column leaves the wrap pending': ('0123456789\x1b[Jx', ['012345678', 'x']),
    'ED 1 behind the last column leaves the wrap pending': ('0123456789\x1b[1Jx', ['', 'x']),
    'ED 2 behind the last column leaves the wrap pending': ('0123456789\x1b[2Jx', ['', 'x']),
    'ECH behind the last column leaves the wrap pending': ('0123456789\x1b[2Xx', ['012345678', 'x']),
    'DCH behind the last column leaves the wrap pending': ('0123456789\x1b[Px', ['012345678', 'x']),
    'ICH behind the last column leaves the wrap pending': ('0123456789\x1b[@x', ['012345678', 'x']),
    'a movement ends a pending wrap': ('0123456789\x1b[Cx', ['012345678x']),
    'a selective erase is a plain one': ('ab\x1b[1"qcd\x1b[0"qef\r\x1b[?K', ['']),
    'a line of double size is a plain one': ('\x1b#6\x1b[1;9H' + 'x' * 4, ['        xx', 'xx']),
    '132 columns are not allowed': ('ab\x1b[?40h\x1b[?3hc', ['abc']),
    'the alignment pattern': ('\x1b#8\x1b[2;2HX', ['EEEEEEEEEE', 'EXEEEEEEEE', 'EEEEEEEEEE', 'EEEEEEEEEE']),
    # --- margins
    'a region scrolls alone': ('1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3H\nx', ['1', '3', 'x', '4']),
    'up into a region': ('1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2H\x1bMx', ['1', 'x', '2', '4']),
    'below a region nothing scrolls': ('1\r\n2\r\n3\r\n4\x1b[1;2r\x1b[4H\nx', ['1', '2', '3', 'x']),
    'a region of one line is refused': ('1\r\n2\x1b[2;2r\x1b[4H\n3', ['2', '', '', '3']),
    'origin mode counts from the margin': ('\x1b[2;3r\x1b[?6h\x1b[1;1Hx\x1b[9;1Hy', ['', 'x', 'y']),
    'scrolling up and down': ('1\r\n2\r\n3\r\n4\x1b[2S\x1b[T', ['', '3', '4']),
    'left and right margins': ('\x1b[?69h\x1b[3;6s\x1b[1;3Habcdefgh', ['  abcd', '  efgh']),
    'lines between left and right margins': ('0123456789\r\nabcdefghij\x1b[?69h\x1b[3;6s\x1b[1;3H\x1b[M',
                                             ['01cdef6789', 'ab    ghij']),
    'an area is filled, and not erased': ('\x1b[42;1;2;2;3$x\x1b[1;2;1;2$z', [' **', ' **']),
    # --- screens and resets
    'the alternate screen hides the main one': ('main\x1b[?1049halt', ['    alt']),
    'and gives it back': ('main\x1b[?1049halt\x1b[?1049l!', ['main!']),
    '47 keeps what stands there': ('\x1b[?47hx\x1b[?47l\x1b[?47hy', ['xy']),
    '1047 clears it on leaving': ('\x1b[?1047hx\x1b[?1047l\x1b[?1047hy', [' y']),
    'combined modes': ('main\x1b[?25;1049halt\x1b[?1049;25l!', ['main!']),
    'a soft reset': ('\x1b[2;3r\x1b[4h\x1b(0\x1b[?6h\x1b[!p\x1b[Hq\rx', ['x']),
    'a full reset': ('a\x1b[?1049hb\x1b[3;4r\x1b(0\x1bcx', ['x']),
    # --- strings
    'strings print nothing': ('a\x1b]0;title\x07b\x1bPq#0~\x1b\\c\x1b_x\x1b\\d\x1b^x\x1b\\e\x1bXx\x1b\\f', ['abcdef']),
    'CAN ends a sequence': ('a\x1b[3\x18b', ['ab']),
    'a control acts inside a sequence': ('ab\x1b[\r1Cc', ['ac']),
    'a very long string prints nothing': ('a\x1b]52;c;' + 'QUJD' * 5000 + '\x07b', ['ab']),
    'a sequence with too many numbers is taken': ('a\x1b[' + '1;' * 100 + '1mb', ['ab']),
}


@pytest.mark.parametrize('what', SHOWN)
def test_the_screen_shows(pty, what):
    """What stands on the screen is what xterm shows."""
    data, rows = SHOWN[what]
    assert shown(pty, data) == rows


def test_the_screen_does_not_depend_on_where_the_output_was_cut(pty):
    """A pty cuts anywhere: in a sequence, in a character."""
    data = '\x1b[m\r\n'.join(d if isinstance(d, str) else d.decode('latin-1') for d, _ in SHOWN.values()).encode()
    whole = write(pty.path('whole.cast'), header(width=20, height=6), output(0.1, data))
    bytewise = write(pty.path('bytes.cast'), header(width=20, height=6),
                     *(output(0.1, data[n:n + 1]) for n in range(len(data))))
    assert good('paint', whole) == good('paint', bytewise)


ABC, LINES = 'ABCDEFGHIJKLMNOPQRST', ''.join(f'line{n:02}\r\n' for n in range(1, 8))
TO = lambda *sizes: tuple(event(0.2, 'r', size) for size in sizes)

# name: (size, output, what comes then, rows)
RESIZES = {
    'lower': ((10, 4), '1\r\n2\r\n3\r\n4 long', TO('10x2'), ['3', '4 long']),
    'lower, then higher': ((10, 4), '1\r\n2\r\n3\r\n4 long', TO('10x2', '10x6'), ['1', '2', '3', '4 long']),
    'narrower': ((10, 4), '1\r\n2\r\n3\r\n4 long', TO('4x4'), ['1', '2', '3', '4 lo']),
    'narrower, then wider': ((20, 5), ABC + '\r\n$ ', TO('10x5', '20x5'), [ABC, '$']),
    'narrower, and written over, then wider': ((20, 5), ABC, TO('10x5') + (output(0.3, b'\r--'),) + TO('20x5'), ['--' + ABC[2:]]),
    'narrower, and erased, then wider': ((20, 5), ABC, TO('10x5') + (output(0.3, b'\r--\x1b[K'),) + TO('20x5'), ['--']),
    'narrower through a wide character': ((6, 2), 'abc你d\r\n', TO('4x2'), ['abc']),
    'narrower through a wide character, then wider': ((6, 2), 'abc你d\r\n', TO('4x2', '6x2'), ['abc你d']),
    'narrower through a wide character, and moved': ((6, 2), 'abc你d', TO('4x2') + (output(0.3, b'\x1b[H\x1b[P'),), ['bc']),
    'higher': ((10, 4), '1\r\n2\r\n3\r\n4 long', (*TO('10x6'), output(0.3, b'\r\n5')), ['1', '2', '3', '4 long', '5']),
    'the alternate screen becomes lower, higher, and is left': (
        (20, 8), LINES + '$ vim\x1b[?1049h\x1b[H~vim', (*TO('20x5', '20x8'), output(0.3, b'\x1b[?1049l$ ')),
        ['line01', 'line02', 'line03', 'line04', 'line05', '', '', '     $']),
    'a cursor that was saved': ((20, 5), '\x1b[5;15H\x1b7\x1b[H', (*TO('10x3', '20x5'), output(0.3, b'\x1b8X')), ['', '', '', '', ' ' * 14 + 'X']),
    'a cursor that was saved, outside': ((20, 5), '\x1b[5;15H\x1b7\x1b[H', (*TO('10x3'), output(0.3, b'\x1b8X')), ['', '', ' ' * 9 + 'X']),
    'a pending wrap, higher': ((10, 2), ABC[:10], (*TO('10x3'), output(0.3, b'Y')), [ABC[:10], 'Y']),
    'a pending wrap, narrower': ((20, 3), ABC, (*TO('10x3'), output(0.3, b'Y')), [ABC[:10], 'Y']),
    'a pending wrap, narrower and wider': ((20, 3), ABC, (*TO('10x3', '20x3'), output(0.3, b'Y')), [ABC, 'Y']),
    'a pending wrap, wider': ((10, 3), ABC[:10], (*TO('20x3'), output(0.3, b'Y')), [ABC[:10] + 'Y']),
    'tab stops': ((20, 2), '\x1b[3g\x1b[16G\x1bH', (*TO('10x2', '20x2'), output(0.3, b'\r\tY')), [' ' * 15 + 'Y']),
}


@pytest.mark.parametrize('what', RESIZES)
def test_a_resize_takes_nothing_for_good(pty, what):
    """As xterm 410: no line is broken anew; with fewer rows those above go off, and come back with more; columns that a
    narrower window hides are there again in a wider one."""
    size, data, more, rows = RESIZES[what]
    assert shown(pty, data, size, more=more) == rows


@pytest.mark.parametrize('data, sizes, lines', [
    (ABC + '\r\n' * 6, ('10x5',), [ABC]),
    ('1\r\n2\r\n3\x1b[A\x1b[A', ('10x2',), ['1', '2', '3']),
    (LINES + '$ vim\x1b[?1049h\x1b[H~vim', ('20x5', '20x8'), [*(f'line{n:02}' for n in range(1, 8)), '$ vim', '~vim']),
    ('one\r\n' * 4 + '\x1b[?1049h', ('10x1', '10x8'), ['one'] * 4),
])
def test_txt_has_what_a_smaller_window_hid(pty, data, sizes, lines):
    """A phone that looks in for a moment takes no line and no end of one from what is kept."""
    events = [event(2 + n / 10, 'r', size) for n, size in enumerate(sizes)]
    path = write(pty.path('small.cast'), header(width=20, height=8), output(0.1, data.encode()), *events, output(9, b'\x1b[m'))
    assert good('convert', '-t', 'txt', path).decode().split() == [word for line in lines for word in line.split()]


def test_margins_and_origin_mode_end_with_a_resize(pty):
    """xterm resets them; a program sets them anew."""
    assert shown(pty, '\x1b[2;3r\x1b[?6h', more=(event(0.2, 'r', '10x5'), output(0.3, b'\x1b[5;1Hx'))) == ['', '', '', '', 'x']


def test_sizes_of_any_kind_are_taken(pty):
    """From a column to thousands; what is larger than a model may be is cut, and nothing is written elsewhere."""
    for size in ((1, 1), (2, 1), (1, 50), (3000, 4), (400, 300), (65535, 65535)):
        rows = shown(pty, '你x\x1b[999;9999H好y\x1b[2;2r\x1b[L\x1b[P\x1b[999@z', size)
        assert len(rows) >= 1


@pytest.mark.parametrize('env', [{'LOCPATH': '/nowhere'}, {'LOCPATH': '/nowhere', 'LC_ALL': 'C'}, {'LC_ALL': 'POSIX'}])
def test_widths_do_not_depend_on_the_locale(pty, env):
    """Where libc has no locale for UTF-8, wcwidth(3) knows nothing."""
    path = write(pty.path('wide.cast'), header(width=30, height=1), output(1, '你好e\u0301가✅🦀\ufe0fดี\x1b[30G|'.encode()))
    shown = good('screen', path, env={**os.environ, **env}).decode()
    assert shown == '你好e\u0301가✅🦀\ufe0fดี' + ' ' * 17 + '|\n'


HARD = {
    'REP between side margins of a high window': ((16, 8000), b'\x1b[?69h\x1b[1;2s' + b'x\x1b[99999b' * 30),
    'full resets': ((80, 24), b'\x1bc' * 1_000_000),
    'scrolling up by a number': ((80, 24), b'\x1b[99999S' * 100_000),
    'erasing of a large screen': ((300, 300), b'\x1b[2J' * 100_000),
}


@pytest.mark.parametrize('what', HARD)
def test_a_byte_of_output_costs_no_more_than_so_much(pty, what):
    """A few bytes keep nobody busy for minutes (a limit for a busy machine, in seconds of processor time)."""
    size, data = HARD[what]
    path = write(pty.path('hard.cast'), header(width=size[0], height=size[1]), output(1, data))
    before = os.times()
    good('screen', path)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 5


def test_the_heap_is_safe_from_a_cursor_behind_the_edge(pty):
    """A row of double width was half as wide, and its cursor stood where it liked."""
    assert shown(pty, '\x1b#6\x1b[1;80H' + 'x' * 60000, (80, 3)) == ['x' * 80, 'x' * 80, 'x' * 79]
    assert shown(pty, '\x1b#6' + 'ab' * 10, (1, 2)) == ['a', 'b']
