"""Painted is as good as having been there: `record paint` at any cut of any output, fed to a fresh terminal, gives the
terminal that was there from the first byte; and with the rest of the output they stay equal (contract, section 7).

The terminals are not ours (lib/oracles.py, where the cases stand in which they differ: xterm counts). Streams: what
programs printed while they were typed to and resized (casts/terminal, made by make_casts.py), and random sentences of
the grammar of control sequences (lib/grammar.py). The suite looks at a sample, seeded; ORACLE_CUTS=N looks at N cuts of
each recording and at N random streams (a thousand takes hours).
"""
import os
import random

import pytest

from casts import NAMES, as_recording, cast, write_cast
from grammar import stream
from oracles import differences
from record_tools import good

CUTS = int(os.environ.get('ORACLE_CUTS', '0'))
SMALL = (12, 40)
OTHERS = [name for name in NAMES if name not in ('alternates', 'regions') and not name.startswith('vttest')]
NOT_TOLD = ('icon', 'answers', 'scrolled')


def check(oracle, recorded, cut, painted=None):
    """What differs at this cut, as a list of sentences: at once, and after the rest of the output."""
    before, size, after = recorded.split(cut)
    if painted is None:
        painted = good('paint', '-H', 'none', '-', input=as_recording(before, recorded.size))
    for when, rest in (('at once', []), ('after the rest', after)):
        wrong = compare(oracle, ([painted, *rest], size), ([*before, *rest], recorded.size))
        wrong = wrong and compare(oracle, ([painted, *rest], size), ([*before, *rest], recorded.size))
        if wrong:
            return [f'{recorded.name}, cut {cut}, {when}: {w}' for w in wrong]
    return []


def compare(oracle, mine, theirs):
    """(What xterm makes of a blank depends on its clock once in a thousand times: what differs is looked at again.)"""
    return differences(oracle.state(*mine), oracle.state(*theirs), NOT_TOLD)


# (In UTF-8 xterm knows no British set. Behind the last column, where top erases, xterm and libvterm are alone.)
@pytest.mark.parametrize('name', [name for name in NAMES if name not in ('vttest-sets', 'top')])
def test_painted_xterm_is_the_one_that_was_there(xterm, name):
    """Characters, renditions, cursor, pending wrap, saved cursors, tab stops, character sets, region, modes, both
    screens: what xterm answers to DECRQCRA, XTREPORTSGR, DECCIR, DECTABSR, DECRQSS and DECRQM."""
    recorded = cast(name)
    wrong = [w for cut in recorded.cuts(CUTS or 2, 'x') for w in check(xterm, recorded, cut)]
    assert not wrong, '\n'.join(wrong)


# (libvterm knows no 47, and keeps the column at IL; both make other things of 132 columns and sets.)
@pytest.mark.parametrize('name', [name for name in OTHERS if name != 'top'])
def test_painted_libvterm_is_the_one_that_was_there(vterm, name):
    """The same in libvterm, which keeps every combining character."""
    recorded = cast(name).before_resize()
    wrong = [w for cut in recorded.cuts(CUTS or 4, 'v') for w in check(vterm, recorded, cut)]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('name', OTHERS)
def test_painted_tmux_pane_is_the_one_that_was_there(tmux, name):
    """The same in a tmux pane, with faint and hidden characters."""
    recorded = cast(name).before_resize()
    wrong = [w for cut in recorded.cuts(CUTS or 1, 't') for w in check(tmux, recorded, cut)]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('data', [
    '\x1b[1;1H\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\x1b[1;20H|',
    'aws \u2601\ufe0f $ ', '1\ufe0f\u20e3 \U0001f44d\U0001f3fd \U0001f3f3\ufe0f\u200d\U0001f308 $ ls',
    '\x1b[44m\u2601\ufe0f    |\x1b[m      |\r\n\U0001f9d1\u200d\U0001f4bb $ '])
def test_emoji_are_painted_where_the_tmux_pane_had_them(tmux, tmp_path, data):
    """It gives VS16, joiners and skin tones other widths than the model does: text is text, and a frame's bar stands once, in its column."""
    recorded = write_cast(tmp_path / 'emoji.cast', [data.encode()], (3, 40), random.Random(1))
    wrong = check(tmux, recorded, len(data.encode()))
    assert not wrong, '\n'.join(wrong)


def check_random(oracle, tmp_path, seed):
    chance = random.Random(f'xterm {seed}')
    tokens = stream(chance, SMALL, chance.choice((10, 30, 60, 120)))
    recorded = write_cast(tmp_path / f'{seed}.cast', tokens, SMALL, chance)
    return [w for cut in recorded.cuts(2, seed) for w in check(oracle, recorded, cut)]


def test_painted_xterm_is_the_one_that_was_there_after_random_output(xterm, tmp_path):
    """... whatever came before, and wherever it is cut. (libvterm and tmux make other things of much of it.)"""
    wrong = [w for seed in range(CUTS or 40) for w in check_random(xterm, tmp_path, seed)]
    assert not wrong, '\n'.join(wrong)


FAULTS = {
    'pen': b'\x1b[1m', 'colour': b'\x1b[38;5;9m', 'saved cursor': b'\x1b7', 'region': b'\x1b7\x1b[3;9r\x1b8',
    'origin': b'\x1b7\x1b[?6h\x1b8', 'wrap': b'\x1b[?7l', 'insert': b'\x1b[4h', 'tab stop': b'\x1b7\x1b[3C\x1bH\x1b8',
    'set': b'\x1b)0', 'shift': b'\x0e', 'paste': b'\x1b[?2004h', 'mouse': b'\x1b[?1002h', 'mouse form': b'\x1b[?1006h',
    'keypad': b'\x1b=', 'keys': b'\x1b[?1h', 'cursor hidden': b'\x1b[?25l', 'cursor shape': b'\x1b[6 q',
    'reverse': b'\x1b[?5h', 'screen': b'\x1b[?47h', 'behind': b'\x1b[?1049hx\x1b[?1049l', 'row': b'\n',
    'column': b'\x1b[D', 'newline': b'\x1b[20h', 'character': b'\x1b[sX\x1b[u', 'erased': b'\x1b[41m\x1b[1K\x1b[m',
    'title': b'\x1b]2;other\x07', 'focus': b'\x1b[?1004h', 'unfinished': b'\x1b[1'}


@pytest.mark.parametrize('fault', FAULTS)
def test_harness_sees_what_a_faulty_painter_forgets(xterm, tmp_path, fault):
    """The check of the check: a painter that replays the output is right, and each thing that it gets wrong is seen."""
    tokens = b'one\r\n\x1b[32mtwo\x1b[m\r\n    \x1b7three', b' and the rest\t\x1b(0q\x1b8\x1b[1mx'
    recorded = write_cast(tmp_path / 'right.cast', tokens, SMALL, random.Random(1))
    assert not check(xterm, recorded, len(tokens[0]), tokens[0])
    assert check(xterm, recorded, len(tokens[0]), tokens[0] + FAULTS[fault]), fault
