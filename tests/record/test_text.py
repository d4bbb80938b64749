"""`record convert -t txt` on what needs a whole terminal to be read, and `--times`.

Authority: `record convert --help` says what txt is; xterm says what the screen shows. The rest of txt is in
test_convert.py.
"""
import os
import subprocess
import time

import pytest

from harness import RECORD
from record_tools import convert, event, header, output, write


def txt(pty, *parts, width=20, height=5, options=(), **more):
    """The text of a recording made of these parts: output, or whole lines of the recording."""
    lines = [p if isinstance(p, str) and p.startswith('[') else output(n * 2, p.encode() if isinstance(p, str) else p)
             for n, p in enumerate(parts, 1)]
    path = write(pty.path('t.cast'), header(width=width, height=height, **more), *lines)
    return convert('txt', *options, path).decode()


MARKS = ('ที่นี่มีน้ำ', 'Tie\u0302\u0301ng Vie\u0323\u0302t', 'שָׁלוֹם', '👩\u200d👦 ❤\ufe0f', 'Z\u0351\u036b\u0343\u036a\u0302a\u0301')


@pytest.mark.parametrize('text', MARKS)
def test_every_combining_mark_is_kept(pty, text):
    """Thai, decomposed Vietnamese, pointed Hebrew, joined emoji: text that is searched for must be found."""
    assert txt(pty, f'<{text}>\r\n') == f'<{text}>\n'


@pytest.mark.parametrize('data, text', [
    ('bc\r\x1b[4ha\x1b[4l\r\n', 'abc\n'),                                     # insert mode
    ('\x1b[?7l' + 'x' * 19 + 'abc\x1b[?7h\r\n', 'x' * 19 + 'c\n'),            # no autowrap
    ('one\x1b[2;4r\x1b[?6h\x1b[1;1Htwo\x1b[?6l\x1b[r\x1b[3Hthree', 'one\ntwo\nthree\n'),  # origin mode
    ('shell\r\n\x1b[?25;1049hfull\x1b[?25;1049lend', 'shell\nend\n'),         # several modes at once
    ('\x1b#8', ('E' * 20 + '\n') * 5),                                        # the alignment pattern
    ('one\r\ntwo\x1b[2;2r\x1b[5Hthree', 'one\ntwo\n\n\nthree\n'),             # a region of one line is none
    ('a\tb\x1b[3g\r\n', 'a       b\n'),
    ('你好' * 8 + '\r\n', '你好' * 8 + '\n'),                                   # wide characters wrap as one line
])
def test_it_is_what_xterm_shows(pty, data, text):
    """The model is a whole terminal, and txt its rows."""
    assert txt(pty, data) == text


def test_a_window_of_any_size_loses_nothing(pty):
    """2,000 columns, 400 rows: no text is written over."""
    line = ''.join(f'{n:5}' for n in range(400))
    assert txt(pty, line + '\r\n', width=2000) == line + '\n'
    rows = [f'row {n}' for n in range(400)]
    assert txt(pty, '\r\n'.join(rows), height=400) == '\n'.join(rows) + '\n'


def test_lines_that_come_back_in_a_higher_window_stand_once(pty):
    """What had scrolled off was written; a window that grows shows it again."""
    lines = [f'line {n}' for n in range(12)]
    text = txt(pty, '\r\n'.join(lines[:10]), event(3, 'r', '20x8'), event(4, 'r', '20x3'), '\r\n' + '\r\n'.join(lines[10:]))
    assert text == '\n'.join(lines) + '\n'


def test_what_a_full_screen_program_left_on_the_main_screen_stands_in_order(pty):
    """Before, a second of the full screen, after."""
    assert txt(pty, '$ vi\r\n', '\x1b[?1049h\x1b[Htext', '\x1b[?1049l$ ') == '$ vi\ntext\n$\n'


def in_utc(pty, *parts, **more):
    path = write(pty.path('t.cast'), header(width=20, height=4, timestamp=1795491637, **more), *parts)
    return subprocess.run([RECORD, 'convert', '-t', 'txt', '--times', path], env={**os.environ, 'TZ': 'UTC0'}, check=True,
                          timeout=60, capture_output=True).stdout.decode()


def test_times_are_those_when_a_line_was_finished(pty):
    """A line that grew is as old as its last change; one that scrolls off later is not younger for that."""
    began = '2026-11-24 '
    assert time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(1795491637)) == began + '03:40:37'
    text = in_utc(pty, output(1, b'one\r\n'), output(2.5, b'10%'), output(4.5, b'\r99%'), output(5.5, b'\r\n\r\n'),
                  output(60, b'x\r\ny\r\nz\r\n'))
    assert [line[11:] for line in text.splitlines()] == ['03:40:38 one', '03:40:42 99%', '03:40:42 ', '03:41:37 x',
                                                         '03:41:37 y', '03:41:37 z']


def test_a_line_that_wrapped_has_one_time(pty):
    """It is one line, and finished when its last row was."""
    text = in_utc(pty, output(1, b'x' * 30), output(3, b'y' * 30 + b'\r\n'))
    assert text == '2026-11-24 03:40:40 ' + 'x' * 30 + 'y' * 30 + '\n'


@pytest.mark.parametrize('moved', [8 * 3600, -3600])
def test_times_are_those_of_the_wall_clock_after_a_suspend_and_a_set_clock(pty, moved):
    """A `t` event says what time of day it is then (the recording's own clock stood still, or knew nothing of it): what
    date(1) printed agrees with --times."""
    said = [time.strftime('%H:%M:%S', time.gmtime(1795491637 + at)) for at in (1, 10 + moved, 71 + moved)]
    text = in_utc(pty, output(1, said[0].encode() + b'\r\n'), event(10, 't', f'{1795491637 + 10 + moved}.250000'),
                  output(10, said[1].encode() + b'\r\n'), event(20, 't', 'no time'), output(71, said[2].encode() + b'\r\n'))
    lines = text.splitlines()
    assert [line[11:19] for line in lines] == [line[20:] for line in lines] == said


def test_times_are_local(pty):
    """grep of a log beside another log on the same machine."""
    path = write(pty.path('t.cast'), header(timestamp=1795491637), output(1, b'x\r\n'))
    for zone, hour in (('UTC0', '03'), ('EST5', '22'), ('JST-9', '12')):
        run = subprocess.run([RECORD, 'convert', '-t', 'txt', '--times', path], env={**os.environ, 'TZ': zone}, check=True,
                             timeout=60, capture_output=True)
        assert run.stdout[11:13].decode() == hour
