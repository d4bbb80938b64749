"""`record convert`: to v2, v3, raw, txt, ttyrec and script, streaming, never over a file that exists.

Authority: section 6 of the contract and issue 4, item 3; the asciicast documentation; ttyrec(1); script(1) of
util-linux.
"""
import json
import os
import random
import subprocess

import pytest

from harness import RECORD, TIMEOUT
from record_tools import (V2, V3, casts, chunks, convert, event, frames, good, header, load, output, printed, read_until,
                          record, screen, write)

KINDS = ('v2', 'v3', 'raw', 'txt', 'ttyrec', 'script')


def through(pty, path, *kinds):
    """FILE converted to the first kind, that to the second, and so on."""
    for n, kind in enumerate(kinds):
        path = write(pty.path(f'{n}.{kind}'), convert(kind, path))
    return pty.read_bytes(path)


def same(one, other):
    """Two recordings say the same: equal headers, equal events, times equal to the microsecond."""
    (head1, events1), (head2, events2) = load(one), load(other)
    assert head1 == head2
    assert [e[1:] for e in events1] == [e[1:] for e in events2]
    assert [round(e[0] * 1e6) for e in events1] == [round(e[0] * 1e6) for e in events2]


def ours(**more):
    """A recording as section 4 has it, with every kind of event."""
    return (header(2, 100, 30, timestamp=1700000000, command='vi "a b"',
                   env={'TERM': 'xterm-256color', 'SHELL': '/bin/bash'},
                   shim={'pid': 77, 'address': '127.0.0.1:7777'}, **more)
            + output(0.000001, b'one\r\n') + event(0.5, 'i', 'y\r') + output(0.500001, b'\xff\xfe')
            + output(1.1, '\u00e9\U0001f600\x1b[0m'.encode())
            + event(2.2, 'r', '120x40') + event(3, 't', '1700030000.250000') + event(3.3, 'm', 'a "mark"') + output(123456.789012, bytes(range(256)))
            + event(123456.8, 'x', '130'))


def txt(pty, data, **size):
    """The text that a person would have read, without spaces at line ends and without empty lines at the end."""
    pieces = data if isinstance(data, list) else [data]
    path = write(pty.path('t.cast'), header(**size), *(output(n / 10, p if isinstance(p, bytes) else p.encode())
                                                       for n, p in enumerate(pieces, 1)))
    text = convert('txt', path).decode()
    assert not any(c < ' ' and c not in '\n\t' for c in text), repr(text)
    return '\n'.join(line.rstrip(' ') for line in text.split('\n')).rstrip('\n')


# --- asciicast --------------------------------------------------------------------------------------------------------


def test_v2_to_v3_to_v2_is_exact(pty):
    """Issue 4: `v2 to v3 to v2 is exact, b events included`: header, every event, every microsecond."""
    path = write(pty.path('x.cast'), ours(title='t', idle_time_limit=2.5,
                                          theme={'fg': '#ffffff', 'bg': '#000000', 'palette': '#000000:#111111'}))
    same(pty.read_bytes(path), through(pty, path, 'v3', 'v2'))


def test_a_recording_as_the_shim_writes_it_comes_back_to_the_byte(pty):
    """Once through v2, the text of the file is settled: v3 and back does not change one byte of it."""
    settled = write(pty.path('settled.cast'), convert('v2', write(pty.path('x.cast'), ours())))
    whole = pty.read_bytes(settled)
    assert convert('v2', settled) == whole and through(pty, settled, 'v3', 'v2') == whole


@pytest.mark.parametrize('path', casts(), ids=os.path.basename)
def test_golden_recordings_go_through_v3_and_back(pty, path):
    """Also the recordings of other programs keep all that they say."""
    one = convert('v2', path)
    same(one, through(pty, path, 'v3', 'v2'))
    before = load(pty.read_bytes(path))
    after = load(one)
    assert [(e[1], e[2]) for e in after[1]] == [(e[1], e[2]) for e in before[1]]
    for was, now in zip(before[1], after[1]):
        assert now[0] == pytest.approx(was[0], abs=1e-5)
    assert b''.join(d for _, d in chunks(after[1])) == printed(path)


def test_v3_holds_intervals_and_the_terminal(pty):
    """asciicast v3: `term` holds cols, rows and type; times are intervals; env keeps the rest."""
    path = write(pty.path('x.cast'), ours(title='t', theme={'fg': '#ffffff', 'bg': '#000000', 'palette': '#000000'}))
    lines = convert('v3', path).decode().splitlines()
    head, events = json.loads(lines[0]), [json.loads(line) for line in lines[1:]]
    assert head['version'] == 3 and 'width' not in head and 'height' not in head
    assert (head['term']['cols'], head['term']['rows'], head['term'].get('type')) == (100, 30, 'xterm-256color')
    assert (head['title'], head['command'], head['timestamp']) == ('t', 'vi "a b"', 1700000000)
    assert head['term']['theme']['fg'] == '#ffffff'
    assert head['env']['SHELL'] == '/bin/bash'
    assert sum(e[0] for e in events) == pytest.approx(123456.8, abs=1e-6)
    assert [e[1] for e in events] == ['o', 'i', 'b', 'o', 'o', 'r', 't', 'm', 'b', 'o', 'x'] and events[3][0] == 0


def test_v3_becomes_v2(pty):
    """Intervals are summed, also over comments and events that nobody knows; `term` becomes width, height, TERM,
    theme."""
    path = write(pty.path('x.cast'), '{"version": 3, "term": {"cols": 90, "rows": 20, "type": "xterm", "version": '
                 '"VTE(7802)", "theme": {"fg": "#ffffff"}}, "timestamp": 5, "env": {"SHELL": "/bin/zsh"}, "tags": '
                 '["a", "b"]}\n# comment\n[0.25, "o", "a"]\n\n'
                 '[0.5, "m", "x"]\n[1, "o", "b"]\n[1, "x", "0"]\n')
    head, events = load(convert('v2', path))
    assert (head['version'], head['width'], head['height'], head['timestamp']) == (2, 90, 20, 5)
    assert head['env']['SHELL'] == '/bin/zsh' and head['env'].get('TERM') == 'xterm'
    assert head['theme'] == {'fg': '#ffffff'}
    assert events == [[0.25, 'o', 'a'], [0.75, 'm', 'x'], [1.75, 'o', 'b'], [2.75, 'x', '0']]


def test_many_small_intervals_do_not_drift(pty):
    """100,000 intervals of 0.1 s are 10,000 s: summed as whole microseconds, not as rounded fractions."""
    path = write(pty.path('x.cast'), V3, '[0.1, "o", "x"]\n' * 100000)
    assert load(convert('v2', path))[1][-1][0] == 10000.0


def test_version_1_becomes_both(pty):
    """v1's members keep their names; the delays become times, or stay intervals."""
    path = write(pty.path('x.json'), '{"version": 1, "width": 90, "height": 20, "duration": 2.5, '
                 '"command": "/bin/zsh", "title": "T", "env": {"TERM": "xterm", "SHELL": "/bin/zsh"}, '
                 '"stdout": [[1, "a"], [1.5, "\\u00e9"]]}')
    head, events = load(convert('v2', path))
    assert (head['version'], head['width'], head['height']) == (2, 90, 20) and 'stdout' not in head
    assert (head['command'], head['title']) == ('/bin/zsh', 'T')
    assert head['env'] == {'TERM': 'xterm', 'SHELL': '/bin/zsh'}
    assert events == [[1, 'o', 'a'], [2.5, 'o', '\u00e9']]
    head, events = load(convert('v3', path))
    assert (head['version'], head['term']['cols'], head['term']['rows']) == (3, 90, 20)
    assert events == [[1, 'o', 'a'], [2.5, 'o', '\u00e9']]


def test_what_convert_writes_is_strict_json_in_utf8(pty):
    """Every line parses with a strict parser; control characters are escaped; the text is UTF-8 without lone
    surrogates."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', ''.join(map(chr, range(0x800))) + '\u2028\ufffe\U0010ffff"\\/'))
    for kind in ('v2', 'v3'):
        text = convert(kind, path).decode('utf-8', 'strict')
        assert text.endswith('\n') and text.count('\n') == 2
        assert not any(c < ' ' for c in text.replace('\n', ''))
        assert load(text.encode())[1] == load(open(path, 'rb').read())[1]  # pylint: disable=consider-using-with


def test_random_recordings_survive_every_way_round(pty):
    """Random headers, events, times and bytes: v2 to v3 to v2 says the same, and raw is what the reader of the tests
    finds."""
    dice = random.Random(44)
    for _ in range(25):
        more = {k: v for k, v in {'timestamp': dice.randrange(2 ** 40),
                                  'title': ''.join(map(chr, dice.choices(range(1, 0x500), k=9))),
                                  'command': 'x "\\ \u00e9', 'idle_time_limit': 1.5, 'duration': 7.25,
                                  'env': {'TERM': 'x', 'A': '\u20ac'},
                                  'theme': {'fg': '#000000', 'bg': '#ffffff'}, 'shim': {'pid': 1, 'address': '/a b'},
                                  'x-unknown': [1, {'a': None, 'b': [True, False, 'c']}]}.items()
                if dice.random() < 0.5}
        now, lines = 0, [header(2, dice.randint(1, 500), dice.randint(1, 200), **more)]
        for _ in range(dice.randint(0, 60)):
            now += dice.choice([0, 1, 999, 1000, 500000, dice.randrange(10 ** 9)])
            code = dice.choice('oooooimrx')
            lines.append(output(now / 1e6, dice.randbytes(dice.randint(1, 30))
                                if dice.random() < 0.5 else '\u20ac\x1b[m"\\'.encode()) if code == 'o' else
                         event(now / 1e6, code, {'r': '90x30', 'x': '1'}.get(code, '\u00e9\x01"')))
        path = write(pty.path('x.cast'), *lines)
        same(pty.read_bytes(path), through(pty, path, 'v3', 'v2'))
        assert convert('raw', path) == printed(path)


def test_what_only_version_3_knows_of_the_terminal_comes_back_from_version_2(pty):
    """v3's `term` may hold more than v2 has members for, such as the terminal's version: v2 keeps it out of the way."""
    term = {'cols': 90, 'rows': 20, 'type': 'xterm-256color', 'version': 'VTE(6003)', 'theme': {'fg': '#ffffff'},
            'new': [{'a': None}]}
    path = write(pty.path('x.cast'), json.dumps({'version': 3, 'term': term, 'tags': ['a']}), '\n',
                 event(1, 'o', 'a'))
    head, _ = load(convert('v2', path))
    assert (head['width'], head['height'], head['env'], head['tags']) == (90, 20, {'TERM': 'xterm-256color'}, ['a'])
    assert head['theme'] == term['theme'] and head['term'] == {'version': 'VTE(6003)', 'new': [{'a': None}]}
    again, _ = load(through(pty, path, 'v2', 'v3'))
    assert again['term'] == term


# --- raw, ttyrec, script ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', casts(), ids=os.path.basename)
def test_raw_is_the_output_to_the_byte(path):
    """The same as `record cat`."""
    assert convert('raw', path) == printed(path)


def test_ttyrec_holds_the_bytes_and_their_times(pty):
    """One frame an event; the distances of the times are those of the recording."""
    found = frames(convert('ttyrec', write(pty.path('x.cast'), ours())))
    assert [data for _, data in found] == [b'one\r\n', b'\xff\xfe', '\u00e9\U0001f600\x1b[0m'.encode(),
                                           bytes(range(256))]
    first = found[0][0]
    assert [round(t - first, 5) for t, _ in found] == pytest.approx([0, 0.5, 1.099999, 123456.789011], abs=1e-5)


@pytest.mark.parametrize('path', casts(), ids=os.path.basename)
def test_ttyrec_of_golden_recordings(path):
    """Nothing is lost, and time never goes back."""
    found = frames(convert('ttyrec', path))
    assert b''.join(data for _, data in found) == printed(path)
    assert all(a[0] <= b[0] for a, b in zip(found, found[1:]))


def test_script_has_no_empty_piece(pty):
    """scriptreplay takes a piece of no bytes for a damaged log; its time counts for what follows."""
    path = write(pty.path('x.cast'), V2, event(0.5, 'o', ''), event(1.5, 'o', 'a'), event(2, 'o', ''),
                 event(3.25, 'o', 'b'))
    good('convert', '-t', 'script', '-o', pty.path('out'), path)
    assert [line for line in pty.read('out.timing').splitlines() if line[0] == 'O'] == ['O 1.500000 1', 'O 1.750000 1']


@pytest.mark.parametrize(('kind', 'said'), [('ttyrec', '1 i, 2 m, 1 r'), ('script', '1 i, 2 m'), ('raw', ''),
                                            ('v3', '')])
def test_what_a_kind_of_file_cannot_hold_is_said_once(pty, kind, said):
    """Typed keys, markers and sizes have no place in a ttyrec, the first two none in script's log of the output."""
    path = write(pty.path('x.cast'), V2, event(1, 'i', 'x'), event(1, 'm', ''), event(2, 'o', 'a'), event(2, 'm', 'b'),
                 event(3, 'r', '90x30'), event(3, 'x', '0'))
    run = record('convert', '-t', kind, '-o', pty.path('out'), path)
    wanted = f'record: {path}: events that {kind} cannot hold: {said}\n' if said else ''
    assert (run.returncode, run.stderr.decode()) == (0, wanted)


# --- txt --------------------------------------------------------------------------------------------------------------

GOLDEN = {
    'lines': ('one\r\ntwo\r\n\r\nthree\r\n', 'one\ntwo\n\nthree'),
    'colours are gone': ('\x1b[1;31mred\x1b[0m and \x1b[38;5;200mpink\x1b[m \x1b[38;2;1;2;3mrgb\x1b[39;49m\r\n',
                         'red and pink rgb'),
    'a window title is gone': ('\x1b]0;user@host: ~\x07$ ls\r\n\x1b]2;x\x1b\\file\r\n', '$ ls\nfile'),
    'a carriage return writes over': ('hello world\rHELLO\r\n', 'HELLO world'),
    'a progress bar leaves its last state': (''.join(f'\r{n:3d}% [{"#" * (n // 10):<10}]' for n in range(0, 101, 10))
                                             + '\r\ndone\r\n', '100% [##########]\ndone'),
    'an erased line is gone': ('downloading...\r\x1b[Kdone\r\n', 'done'),
    'erased to its end': ('abcdef\x1b[3D\x1b[K!\r\n', 'abc!'),
    'a backspace moves back': ('abc\b\bX\r\n', 'aXc'),
    'a backspace erases as a shell does it': ('$ lsx\b \b -l\r\nfile\r\n', '$ ls -l\nfile'),
    'a backspace stops at the edge': ('a\b\b\b\bb\r\n', 'b'),
    'bells are gone': ('a\x07b\r\n', 'ab'),
    'cut sequences are one': (['a\x1b', '[3', '1mb\x1b[0', 'mc\x1b]0;ti', 'tle\x07d\r\n'], 'abcd'),
    'cut characters are one': (['caf\xc3'.encode('latin-1'), '\xa9\r\n'.encode('latin-1')], 'caf\u00e9'),
    'wide and other characters stay': ('\u4f60\u597d \U0001f600 \u00e9 \u20ac\r\n',
                                       '\u4f60\u597d \U0001f600 \u00e9 \u20ac'),
    'a wide character takes two columns': ('\u4f60\u597d\rab\r\n', 'ab\u597d'),
    'cursor movement inside a line': ('abc\x1b[2D\x1b[1Cx\x1b[1Gy\r\n', 'ybx'),
    'forward over nothing is space': ('a\x1b[3Cb\r\n', 'a   b'),
    'insert and delete characters': ('abcdef\x1b[6D\x1b[2P\x1b[1@X\r\n', 'Xcdef'),
    'erase characters': ('abcdef\x1b[6D\x1b[2X\r\n', '  cdef'),
    'tabs': ('a\tb\r\n', 'a       b'),
    'a line drawn anew above': ('one\r\ntwo\r\n\x1b[2A\x1b[KONE\r\n\x1b[1Bthree\r\n', 'ONE\ntwo\nthree'),
    'status lines that are drawn again and again': ('task a: 0\r\ntask b: 0\r\n'
                                                    + '\x1b[2A\x1b[2Ktask a: 5\r\n\x1b[2Ktask b: 9\r\n' * 3,
                                                    'task a: 5\ntask b: 9'),
    'no newline at the end': ('$ exit', '$ exit'),
    'newline without carriage return goes straight down': ('a\nb\r\n', 'a\n b'),
    'bracketed paste and other modes are gone': ('\x1b[?2004h$ \x1b[?1h\x1b=\x1b(B\x1b[?25lx\x1b[?25h\r\n', '$ x'),
    'device control strings are gone': ('a\x1bP1$r0m\x1b\\b\x1b_apc\x1b\\c\x1b^pm\x1b\\d\r\n', 'abcd'),
    'save and restore the cursor': ('ab\x1b7cd\x1b8X\r\n', 'abXd'),
    'an erased character is a space': ('abc\x1b[2D\x1b[1X\r\n', 'a c'),
    'bytes that are no UTF-8': ([b'a\xffb\r\n'], 'a\ufffdb'),
}


@pytest.mark.parametrize('what', GOLDEN)
def test_txt_is_what_a_person_would_have_read(pty, what):
    """Issue 4: escapes gone; carriage returns, backspaces and overwritten lines as a terminal shows them."""
    data, text = GOLDEN[what]
    data = [d if isinstance(d, bytes) else d.encode() for d in data] if isinstance(data, list) else data
    found = txt(pty, data)
    assert found.replace('\t', ' ' * 7) == text if what == 'tabs' else found == text, found


def test_txt_does_not_depend_on_where_the_output_was_cut(pty):
    """What a read has cut is whole again: byte by byte it gives the same text."""
    data = ''.join(d for d, _ in GOLDEN.values() if isinstance(d, str)).encode()
    assert txt(pty, data) == txt(pty, [data[n:n + 1] for n in range(len(data))])


def test_txt_keeps_every_line_of_a_long_output(pty):
    """What has scrolled away was read too."""
    data = ''.join(f'line {n}\r\n' for n in range(5000))
    assert txt(pty, data).split('\n') == [f'line {n}' for n in range(5000)]


def test_txt_is_what_the_screen_shows(pty):
    """Random lines with carriage returns, backspaces, colours, erasing and small movements: as pyte's screen has
    them."""
    dice = random.Random(9)
    moves = ['\r', '\b', '\x1b[K', '\x1b[1K', '\x1b[2K', '\x1b[31m', '\x1b[0m', '\x1b[2C', '\x1b[3D', '\x1b[5G',
             '\x1b[2P', '\x1b[2X', '\t']
    for _ in range(60):
        data = ''.join(''.join(dice.choice(moves) if dice.random() < 0.3 else dice.choice('abcdefgh ')
                               for _ in range(dice.randint(0, 40))) + '\r\n'
                       for _ in range(dice.randint(1, 12)))
        assert txt(pty, data).expandtabs() == screen(data.encode()).text(), repr(data)


def test_txt_of_a_full_screen_program_keeps_what_was_around_it(pty):
    """Full-screen parts are reduced sensibly: the lines before and after stand once and in order, with no escape
    left."""
    editor = '\x1b[?1049h\x1b[2J\x1b[H' + ''.join(f'\x1b[{n};1Hedited line {n}'
                                                  for n in range(1, 24)) + '\x1b[24;1H-- INSERT --' * 50 + '\x1b[?1049l'
    text = txt(pty, '$ vi x\r\n' + editor + '$ echo after\r\nafter\r\n')
    assert text.startswith('$ vi x\n') and text.endswith('$ echo after\nafter')
    assert text.count('$ vi x') == 1 and text.count('-- INSERT --') <= 2 and len(text.split('\n')) <= 60


def test_txt_of_a_real_editor_session(pty):
    """A real vim session: shell lines around it, no escape inside (checked by `txt`'s helper), not thousands of
    lines."""
    for path in casts('.cast', '.json'):
        text = convert('txt', path).decode()
        assert not any(c < ' ' and c not in '\n\t' for c in text), path
        assert len(text) <= 3 * len(printed(path)) + 100
    assert pty


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
def test_the_output_file_is_never_overwritten_without_force(pty, kind):
    """Issue 4: an existing file is refused, and is the same afterwards; --force replaces it."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'a'), event(2, 'x', '0'))
    out = write(pty.path('out'), 'precious')
    run = record('convert', '-t', kind, '-o', out, path)
    assert run.returncode == 1 and run.stderr.startswith(f'record: {out}: '.encode()), run
    assert run.stderr.count(b'\n') == 1
    assert pty.read(out) == 'precious'
    fresh = pty.path('fresh')
    assert good('convert', '-t', kind, '-o', fresh, path) == b''
    assert good('convert', '--force', '-t', kind, '-o', out, path) == b''
    assert pty.read_bytes(out) == pty.read_bytes(fresh) != b'precious'


def test_both_files_of_a_script_are_looked_at_before_one_is_written(pty):
    """`-t script` makes OUT and OUT.timing: when one of them exists, neither is made, and usage demands a name."""
    path, out = write(pty.path('x.cast'), ours()), pty.path('session')
    write(out + '.timing', 'precious')
    run = record('convert', '-t', 'script', '-o', out, path)
    assert run.returncode == 1 and b'session.timing' in run.stderr and not os.path.exists(out)
    assert pty.read(out + '.timing') == 'precious'
    assert record('convert', '-t', 'script', path).returncode == 2


def test_an_output_file_holds_what_standard_output_would(pty):
    """-o OUT is nothing but another place."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'a'), event(2, 'x', '0'))
    for kind in ('v2', 'v3', 'raw', 'txt', 'ttyrec'):
        assert good('convert', '-t', kind, '-o', pty.path(kind), path) == b''
        assert pty.read_bytes(kind) == convert(kind, path)


def test_a_shorter_file_leaves_nothing_of_the_longer_one(pty):
    """--force replaces the file whole."""
    out = write(pty.path('out'), 'x' * 100000)
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'short'))
    good('convert', '-t', 'raw', '--force', '-o', out, path)
    assert pty.read(out) == 'short'


def test_a_recording_is_not_destroyed_by_converting_it_onto_itself(pty):
    """With --force onto its own input: refused, or right; never an empty file."""
    path = write(pty.path('x.cast'), ours())
    os.symlink('x.cast', pty.path('link.cast'))
    os.link(path, pty.path('hard.cast'))
    before = pty.read_bytes(path)
    wanted = convert('v3', path)
    for out in (path, pty.path('link.cast'), pty.path('hard.cast')):
        run = record('convert', '-t', 'v3', '--force', '-o', out, path)
        after = pty.read_bytes(path)
        assert after in ((before, wanted) if run.returncode == 0 else (before,)), out
        assert run.returncode == 0 or (run.returncode == 1 and run.stderr)
        write(path, before)


def test_a_file_that_cannot_be_made_is_an_error(pty):
    """A missing folder, a folder in its place: the name and the reason, exit 1."""
    path = write(pty.path('x.cast'), ours())
    for out in (pty.path('no/such/folder'), pty.folder):
        for force in ((), ('--force',)):
            run = record('convert', '-t', 'raw', *force, '-o', out, path)
            assert run.returncode == 1 and run.stderr.startswith(f'record: {out}: '.encode()), run


def test_a_bad_recording_is_no_success(pty):
    """The error with its line, exit 1, also when the output goes to a file."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'a'), 'bad\n')
    run = record('convert', '-t', 'raw', '-o', pty.path('out'), path)
    assert run.returncode == 1 and run.stderr.startswith(f'record: {path}:3: '.encode())


@pytest.mark.parametrize('kind', KINDS)
def test_after_a_failure_no_part_of_the_output_is_left(pty, kind):
    """A file that is only half there looks like a whole one, to make(1) and to people: a bad line or a full disk leave
    none, new or overwritten."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'x\r\n' * 100000), 'bad\n')
    for force in ((), ('--force',)):
        if force:
            write(pty.path('out'), 'old')
        run = record('convert', '-t', kind, *force, '-o', pty.path('out'), path)
        assert run.returncode == 1 and run.stderr.startswith(f'record: {path}:3: '.encode()), run
        assert sorted(os.listdir(pty.folder)) == ['x.cast']
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'x\r\n' * 100000))
    full = pty.run('bash', '-c', f'ulimit -f 64; trap "" XFSZ; {RECORD} convert -t {kind} -o out {path}')
    assert full.returncode == 1 and 'record: out: ' in full.stderr and sorted(os.listdir(pty.folder)) == ['x.cast']


def test_a_device_or_a_pipe_is_not_removed_after_a_failure(pty):
    """Only what convert made of a regular file is gone: /dev/full(4) stays where it is."""
    path, fifo = write(pty.path('x.cast'), V2, event(1, 'o', 'a'), 'bad\n'), pty.path('fifo')
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), 'rb') as reader:
        run = record('convert', '-t', 'raw', '--force', '-o', fifo, path)
        assert run.returncode == 1 and os.path.exists(fifo) and reader.read() == b'a'


@pytest.mark.parametrize('kind', ['v2', 'v3', 'raw', 'txt', 'ttyrec'])
def test_standard_input_streams_through(pty, kind):
    """`streaming, input - too`: output comes while the input is still open, long before its end."""
    run = pty.background(RECORD, 'convert', '-t', kind, '-', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    run.stdin.write(V2.encode())
    for n in range(200):
        run.stdin.write(event(n, 'o', f'<{n}>' + 'x' * 70 + '\r\n').encode())
    run.stdin.flush()
    read_until(run.stdout, b'<100>')
    run.stdin.close()
    rest = run.stdout.read()
    assert (b'<199>' in rest or kind != 'txt') and run.wait(TIMEOUT) == 0


@pytest.mark.parametrize('kind', ['v2', 'v3', 'raw', 'txt', 'ttyrec'])
def test_standard_input_gives_what_the_file_gives(pty, kind):
    """A pipe cannot be sought in; the result is the same."""
    path = write(pty.path('x.cast'), ours())
    assert convert(kind, '-', input=pty.read_bytes(path)) == convert(kind, path)
