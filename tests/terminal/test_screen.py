"""`record screen` shows what a terminal showed at that time, cell by cell; and `txt` what it has scrolled off.

A tmux pane and xterm are fed the recording up to the time (lib/oracles.py); what they show is compared with what
`record screen -e` prints when it is shown on such a terminal (contract, section 6; issue 12, Proof).
"""
import os
import random

import pytest

from casts import NAMES, cast, write_cast
from oracles import differences, parse
from record_tools import event, good, header, output, write

TMUX_OTHERWISE = ('alternates', 'vttest-sets')  # it clears what 47 does not, and knows two character sets
TIMES = int(os.environ.get('ORACLE_CUTS', '0'))


def times(recorded, count, before_resize=False):
    """Some times of a recording, seeded, in order."""
    whole = recorded.whole_times()
    if before_resize:  # (tmux wraps lines anew)
        first = next((t for t, step in zip(recorded.times, recorded.steps) if isinstance(step, tuple)), float('inf'))
        whole = [t for t in whole if t < first]
    chance = random.Random(recorded.name)
    return sorted(chance.sample(whole, min(count, len(whole))))


def rows_of(shown, rows):
    """The rows that `record screen` printed; the blank ones at the end too."""
    lines = shown.decode().split('\n')
    assert lines.pop() == '', 'the last row does not end'
    assert len(lines) <= rows, lines
    return lines + [''] * (rows - len(lines))


def texts(rows):
    return [''.join(char for char, _ in row) for row in rows]


def on(terminal, rows, size):
    """The cells of a fresh terminal that was shown these rows."""
    return terminal.state([b'\x1b)0' + '\r\n'.join(rows).encode()], size, deep=False)['cells']


@pytest.mark.parametrize('name', [name for name in NAMES if name not in TMUX_OTHERWISE])
def test_screen_of_a_time_is_the_tmux_panes(tmux, name):
    """Text and colours, against capture-pane -e."""
    recorded, fed, wrong = cast(name), 0, []
    pane = tmux.pane(recorded.size)
    try:
        for time in times(recorded, TIMES or 2, before_resize=True):
            steps, size = recorded.until(time)
            pane.play(steps[fed:])
            fed = len(steps)
            pane.sync()
            want = parse(pane.capture('-e', '-N'))
            text = rows_of(good('screen', '-t', time, recorded.path), size[0])
            assert text == [row.rstrip(' ') for row in text], 'trailing blanks'
            shown = parse(rows_of(good('screen', '-e', '-t', time, recorded.path), size[0]))
            wrong += [f'{name}, {time}: {d}' for d in differences({'cells': shown}, {'cells': want})]
            wrong += [f'{name}, {time}: {a!r} should be {b!r}' for a, b in zip(text, texts(want)) if a != b]
    finally:
        pane.end()
    assert not wrong, '\n'.join(wrong)


# (In UTF-8 it knows no British set; behind the last column, where top erases, it is alone.)
@pytest.mark.parametrize('name', [name for name in NAMES if name not in ('vttest-sets', 'top')])
def test_screen_of_a_time_is_xterms(xterm, name):
    """The same against xterm, at any time, after resizes too."""
    recorded, wrong = cast(name), []
    for time in times(recorded, TIMES or 1):
        steps, size = recorded.until(time)
        want = xterm.state(steps, recorded.size, deep=False)['cells']
        shown = on(xterm, rows_of(good('screen', '-e', '-t', time, recorded.path), size[0]), size)
        wrong += [f'{name}, {time}: {d}' for d in differences({'cells': shown}, {'cells': want})]
    assert not wrong, '\n'.join(wrong)


def test_screen_without_a_time_is_that_of_the_end(tmux):
    """The end of a recording is what is there now."""
    for name in ('characters', 'regions', 'progress-up'):
        recorded = cast(name)
        pane = tmux.pane(recorded.size)
        pane.play(recorded.steps)
        pane.sync()
        assert rows_of(good('screen', recorded.path), recorded.size[0]) == texts(parse(pane.capture('-e'))), name
        pane.end()


def test_screen_before_the_first_output_is_empty(tmp_path):
    """... and one of a time after the end is that of the end."""
    path = write(tmp_path / 'x.cast', header(), event(1, 'o', 'one'), event(2, 'o', ' two'))
    assert good('screen', '-t', '0.5', path).strip() == b''
    assert good('screen', '-t', '1', path).strip() == b'one'
    assert good('screen', '-t', '99', path).strip() == b'one two'


def test_screen_with_colours_leaves_no_colour_behind(vterm, tmp_path):
    """`cat` of it looks right, and what comes after it is not coloured."""
    path = write(tmp_path / 'x.cast', header(), output(1, b'\x1b[1;31mred\r\n\x1b[44m\x1b[2Jblue all over'))
    shown = good('screen', '-e', path)
    assert vterm.state([shown.replace(b'\n', b'\r\n')], deep=False)['pen'] == vterm.state([b''], deep=False)['pen']


EDITS = (
    b'\rover', b'\b\bx', b'\x1b[K', b'\x1b[3D', b'\x1b[4C', b'\x1b[2P', b'\x1b[3@', b'\x1b[4hins\x1b[4l', b'\x1b[1Kz',
    b'\x1b[31mred\x1b[m ')
TEXTS = tuple(
    s.encode()
    for s in ('word ', 'two words ', '\u4e2d\u6587 ', 'a\u0308o\u0302 ', '\u0e17\u0e35\u0e48', '\U0001f600', '.' * 70))


def lines(chance):
    """What a command prints that knows nothing of a screen: lines, some longer than the terminal, some overwritten.
    (Where the wrap is pending, tmux moves in another way than xterm: none of the long ones is overwritten.)"""
    out = []
    for _ in range(chance.randrange(1, 120)):
        if chance.random() < 0.5:
            out += (chance.choice(TEXTS) for _ in range(chance.choice((0, 1, 2, 5, 12))))
        else:
            out += (chance.choice((*EDITS, *TEXTS[:2])) for _ in range(chance.choice((1, 2, 5))))
        out.append(b'\r\n')
        if chance.random() < 0.05:
            out.append(b'\x1b[2Aup\x1b[2B\r')
    return out


def test_txt_is_what_a_tmux_pane_has_in_its_history(tmux, tmp_path):
    """What scrolled off and what is there at the end, wrapped lines as one: capture-pane -J with the whole history."""
    wrong = []
    for seed in range(TIMES or 15):
        chance = random.Random(seed)
        recorded = write_cast(tmp_path / f'{seed}.cast', lines(chance), (24, 80), chance)
        pane = tmux.pane((24, 80))
        pane.play(recorded.steps)
        pane.sync()
        want = [row.rstrip() for row in pane.capture('-J', '-S', '-')]
        pane.end()
        got = [row.rstrip() for row in good('convert', '-t', 'txt', recorded.path).decode().split('\n')]
        while want and not want[-1]:
            want.pop()
        while got and not got[-1]:
            got.pop()
        if got != want:
            wrong.append(
                f'{seed}: '
                + next(
                    (f'line {n}: {a!r} should be {b!r}' for n, (a, b) in enumerate(zip(got, want)) if a != b),
                    f'{len(got)} lines, should be {len(want)}'))
    assert not wrong, '\n'.join(wrong)
