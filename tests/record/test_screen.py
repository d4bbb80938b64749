"""`record screen`: what is on the screen, at the end or at a time, as text or with renditions.

Authority: section 6 of the contract; tmux(1), capture-pane, whose uses these are.
"""
import subprocess

import pytest

from harness import RECORD, wait_until
from record_tools import Growing, event, good, header, output, record, write


def rows(pty, data, *options, width=20, height=4):
    path = write(pty.path('s.cast'), header(width=width, height=height), output(1, data.encode()))
    return good('screen', *options, path).decode()


def test_there_is_a_line_for_each_row_without_trailing_blanks(pty):
    """A script counts rows, and compares text."""
    assert rows(pty, 'one   \r\n\r\n  three') == 'one\n\n  three\n\n'


def test_colours_are_left_out_or_told(pty):
    """Text by default; with -e as a terminal takes it, each row on its own."""
    data = '\x1b[1;31mred\x1b[m plain \x1b[44mblue\r\nmore'
    assert rows(pty, data) == 'red plain blue\nmore\n\n\n'
    assert rows(pty, data, '-e') == '\x1b[0;1;31mred\x1b[m plain \x1b[0;44mblue\x1b[m\n\x1b[0;44mmore\x1b[m\n\n\n'


@pytest.mark.parametrize('sgr', ['1', '2', '3', '4', '5', '7', '8', '9', '21', '4:3', '53', '31', '92', '38;5;200', '41', '103',
                                 '48;5;17', '38;2;1;2;3', '48;2;4;5;6', '58:5:9', '58:2::7:8:9'])
def test_every_rendition_is_told_as_it_was_set(pty, sgr):
    """SGR of xterm, and the underlines of kitty, come out as they went in."""
    assert rows(pty, f'\x1b[{sgr}mx') == 'x\n\n\n\n'
    assert rows(pty, f'\x1b[{sgr}mx', '-e') == f'\x1b[0;{sgr}mx\x1b[m\n\n\n\n'


@pytest.mark.parametrize('other, same', [('38:5:200', '38;5;200'), ('38:2::1:2:3', '38;2;1;2;3'), ('38:2:1:2:3', '38;2;1;2;3'),
                                         ('58;5;9', '58:5:9'), ('1;22;4;24;7;27;31;39;41;49', None), ('4:0', None)])
def test_other_ways_to_say_it_mean_the_same(pty, other, same):
    """ISO 8613-6 has colons where xterm's first had semicolons."""
    assert rows(pty, f'\x1b[{other}mx', '-e') == (f'\x1b[0;{same}mx\x1b[m\n\n\n\n' if same else 'x\n\n\n\n')


def test_a_background_to_the_end_of_the_line_is_kept(pty):
    """EL fills with the background (bce): what `cat` of it shows is right."""
    assert rows(pty, '\x1b[44mx\x1b[K', '-e').startswith('\x1b[0;44mx' + ' ' * 19 + '\x1b[m\n')


def test_the_screen_of_a_moment(pty):
    """-t: what the screen showed then, events of that very time included; sizes too."""
    path = write(pty.path('t.cast'), header(width=10, height=2), output(1, b'one'), output(2, b'\rtwo'),
                 event(2.5, 'r', '10x3'), output(3, b'\rthree'))
    assert good('screen', '-t', '0.5', path) == b'\n\n'
    assert good('screen', '-t', '1', path) == b'one\n\n'
    assert good('screen', '-t', '2.9', path) == b'two\n\n\n'
    assert good('screen', path) == b'three\n\n\n'


def test_what_is_on_the_alternate_screen_is_shown_while_it_is(pty):
    """The screen is what a person sees."""
    assert rows(pty, 'shell\x1b[?1049h\x1b[Heditor') == 'editor\n\n\n\n'
    assert rows(pty, 'shell\x1b[?1049h\x1b[Heditor\x1b[?1049l') == 'shell\n\n\n\n'


def test_a_torn_recording_shows_what_it_has(pty):
    """The writer may have been killed at any byte."""
    path = write(pty.path('torn.cast'), header(width=10, height=1), output(1, b'one'), '[2.0, "o", "tw')
    assert good('screen', path) == b'one\n'


def test_a_pipe_is_read_too(pty):
    """- is standard input."""
    run = subprocess.run([RECORD, 'screen', '-'], input=(header(width=5, height=1) + output(1, b'x')).encode(),
                         capture_output=True, timeout=30, check=True)
    assert run.stdout == b'x\n' and pty


def test_what_is_no_recording_is_an_error(pty):
    """Nothing is written then."""
    run = record('screen', write(pty.path('no.cast'), 'no\n'))
    assert (run.returncode, run.stdout) == (1, b'') and b'no.cast:1:' in run.stderr


def until(pty, live, *options):
    return pty.background(RECORD, 'screen', *options, live, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


SHIM = {'pid': 1, 'address': 'work'}


def is_polling(process):
    """Whether it sleeps in poll(2) or ppoll(2), of x86-64 or AArch64 (proc(5), syscall): it has looked, and waits for more."""
    with open(f'/proc/{process.pid}/syscall', encoding='ascii') as f:
        return f.read().split()[0] in ('7', '271', '73')


@pytest.mark.parametrize('last', [['2'], ['2', '\x1b[2K', '\x1b[2J']], ids=['stays', 'gone at once'])
def test_until_waits_for_a_row_that_matches(pty, last):
    """-u follows a running session, looks at each row after each event, however short it stands, and writes the screen
    of that moment. An anchored expression does not match the command line's echo."""
    live = Growing(pty, pty.path('s.cast'), header(width=20, height=3, shim=SHIM) + event(1, 'o', '$ echo done1\r\ndo'))
    run = until(pty, live.path, '-u', '^(go|done)[0-9]+$')
    wait_until(lambda: is_polling(run))
    live.write(event(2, 'o', 'ne'))
    live.write(''.join(event(3, 'o', text) for text in last))
    assert run.communicate(timeout=10) == (b'$ echo done1\ndone2\n\n', b'') and run.returncode == 0


def test_until_counts_what_is_on_the_screen_now_and_not_what_was(pty):
    """What a script waits for may have come before it asks; what has been wiped since is past."""
    live = Growing(pty, pty.path('s.cast'), header(width=20, height=2, shim=SHIM) + event(1, 'o', 'past\x1b[2J\x1b[Hhere'))
    assert good('screen', '-u', 'here', live.path) == b'here\n\n'
    assert good('screen', '-e', '-u', 'e$', '-w', '0', live.path) == b'here\n\n'
    run = record('screen', '-u', 'past', '-w', '0.1', live.path)
    assert (run.returncode, run.stdout) == (1, b'') and run.stderr.endswith(b'no row like past in that time\n')


@pytest.mark.parametrize('end', ['exit', 'death'])
def test_until_ends_with_the_session(pty, end):
    """Status 1, and a message: nothing will come any more."""
    live = Growing(pty, pty.path('s.cast'), header(shim=SHIM) + event(1, 'o', 'x'))
    run = until(pty, live.path, '-u', 'y')
    if end == 'exit':
        live.write(event(2, 'o', '\r\nz') + event(3, 'x', '0'))
    live.die()
    out, said = run.communicate(timeout=10)
    assert (run.returncode, out) == (1, b'') and said.endswith(b'no row like y before the session ended\n')
    assert (b'the session died' in said) == (end == 'death')
    if end == 'exit':
        assert good('screen', '-u', 'z', live.path).startswith(b'x\nz\n')


@pytest.mark.parametrize('options', [['-u', '('], ['-w', '1'], ['-u', 'x', '-t', '1'], ['-u', 'x', '-w', '-1'], ['-u'],
                                     ['-u', '(' * 50000 + ')' * 50000]], ids=lambda options: ' '.join(options)[:9])
def test_until_that_makes_no_sense_is_a_usage_error(pty, options):
    """Status 2, as everywhere, in one line; regcomp(3) recurses for each parenthesis, so an expression has a bound."""
    path = write(pty.path('s.cast'), header(), event(1, 'x', '0'))
    run = record('screen', *options, *([path] if options != ['-u'] else []))
    assert (run.returncode, run.stdout, run.stderr.count(b'\n')) == (2, b'', 1) and len(run.stderr) < 100
