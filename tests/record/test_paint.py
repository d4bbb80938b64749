"""`record paint`: what brings a terminal from a shell's prompt to the state of a session.

That the state is right, terminals that others wrote tell (tests/terminal). Here it is told by record itself: what was
painted is recorded, and that recording shows and paints the same. Authority: section 7 of the contract.
"""
import os
import random
import re
import subprocess
import time

import pytest

from grammar import Everything, stream
from harness import PYTHON, RECORD
from record_tools import OWN_MEMORY, casts, event, good, header, output, printed, record, write

SIZE = {'width': 20, 'height': 6}
LONG = ''.join(f'\x1b[3{n % 8}mline {n}\x1b[m\r\n' for n in range(40))

# Output that leaves something behind. name: output
STATES = {
    'lines only': 'one\r\ntwo\r\n$ ',
    'a pending wrap': 'x' * 20,
    'a pending wrap in colour': '\x1b[44m' + 'x' * 20,
    'a pending wrap behind a wide character': 'x' * 18 + '你',
    'a pending wrap of a saved cursor': 'x' * 20 + '\x1b7\x1b[3;3H',
    'a wrapped line': 'x' * 30 + '\r\n',
    'a wrapped line with a background': '\r\n' * 6 + '\x1b[41m' + 'x' * 30 + '\x1b[m\r\n$ ',
    'a wrapped line that ends in blanks': 'x' * 20 + '   \r\n\r\n',
    'a line that went on in a wide character': 'x' * 19 + '你\r\x1b[2K',
    'blanks that were moved': '\x1b[@',
    'wrapped wide characters': '你' * 13 + 'x' + '好' * 12,
    'lines that scrolled off': LONG,
    'lines that scrolled off, wrapped': ('wrap ' * 9 + '\r\n') * 12,
    'a background to the end of lines': '\x1b[44mx\x1b[K\r\n\x1b[2K\r\n\x1b[m$ ',
    'an erased screen in colour': '\x1b[42m\x1b[H\x1b[2Jx',
    'renditions': '\x1b[1;3;4:3;31mx\x1b[38;2;1;2;3;48;5;9;58:5:4my\x1b[7;8;9;53;5;2mz',
    'a rendition in use': '\x1b[1;38;5;9m',
    'combining marks': 'e\u0301\u0323x\u0308',
    'a screen that was cleared': 'junk\x1b[H\x1b[2Jtop',
    'the alternate screen': 'shell$ vi\r\n\x1b[?1049h\x1b[2;3Htext',
    'the alternate screen in colour': '\x1b[44mshell$\x1b[?1049h\x1b[2;3Htext',
    'the alternate screen, and lines before': LONG + '\x1b[?1049h\x1b[H\x1b[2Jtext\x1b[6;1Hstatus',
    'what was left on the alternate screen by 47': '\x1b[?47htext\x1b[?47lshell',
    'a scroll region': '\x1b[2;4r\x1b[4;1Hx\n',
    'origin mode': '\x1b[2;4r\x1b[?6h\x1b[2;2Hx',
    'side margins': '\x1b[?69h\x1b[3;9s\x1b[2;4Habcdefgh',
    'a saved cursor': 'ab\x1b[1;32m\x1b7\x1b[m\r\ncd',
    'a saved cursor of the alternate screen': '\x1b[?1049h\x1b[3;3H\x1b[7m\x1b7\x1b[m\x1b[?1049lshell',
    'a saved cursor in origin mode': '\x1b[2;4r\x1b[?6h\x1b[2;2H\x1b7\x1b[?6l\x1b[1;1H',
    'a saved cursor in origin mode, in the last row': '\x1b[99;1H\x1b[?6h\x1b[99;1H\x1b7',
    'tab stops': '\x1b[3g\x1b[5G\x1bH\x1b[12G\x1bH\r',
    'character sets': '\x1b)0\x0eq',
    'insert mode': 'abc\r\x1b[4hX',
    'insert mode with a full line': 'x' * 20 + '\x1b[5G\x1b[4hY',
    'no autowrap': '\x1b[?7l' + 'x' * 30,
    'modes': '\x1b[?1;5;25;1002;1006;2004;1004;2026h\x1b[?25l\x1b=\x1b[20h',
    'the last mouse mode': '\x1b[?1000;1003;1005;1006h',
    'modifiers of keys': '\x1b[>4;2m\x1b[>1;3m\x1b[>2n',
    'keyboards of both screens': '\x1b[>1u\x1b[>3u\x1b[?1049h\x1b[=5u\x1b[>7u',
    'a shape of the cursor': '\x1b[5 q',
    'titles': '\x1b]2;first\x07\x1b[22;0;0t\x1b]0;second\x1b\\',
    'colours': '\x1b]4;1;#ff0000;2;rgb:00/ff/00\x07\x1b]11;black\x1b\\\x1b]12;red\x07\x1b]112\x07',
    'an open link': '\x1b]8;id=a;http://example.com/\x1b\\text',
    'a pending wrap behind an erased line': 'x' * 20 + '\x1b[2K',
    'a pending wrap at a side margin': '\x1b[?69h\x1b[3;9s\x1b[2;4Habcdef',
    'text on both sides of the cursor': 'left' + '\x1b[15Gright\x1b[5G',
    'a cursor that went down to the last row': 'text\x1b[5B\r',
    'a cursor behind a gap': 'left\x1b[15G',
    'a cursor within a wide character': 'a你好\x1b[3G',
    'a shape of the cursor that was taken back': '\x1b[5 q\x1b[0 q',
    'a repeatable character': 'abc',
    'a repeatable character in insert mode': 'abc\r\x1b[4hz',
    'half a character': 'ab\u20ac'.encode()[:-1],
    'half a sequence': 'ab\x1b[1;3',
    'half a title': 'ab\x1b]2;hal',
    'a title but for its end': 'ab\x1b]2;title\x1b',
    'half a long picture': 'ab\x1bPq' + '#0~~' * 3000,
    'half a long OSC': 'ab\x1b]52;c;' + 'QUJD' * 3000,
}
# ... and what comes then: it finds out whether all that cannot be seen is right, too.
REST = [b'X', b'\xac3mX', b'1mX\x07Y\x1b\\Z', b'\x1b[3bX\x1b8Y\xcc\x81', b'\tX\tY\r\nZ\x1b[?1049lA\x1b8B\nC', b'\x1b[3;3HqX\x1b[999CY\x1b8Z',
        b'\x1b8\x1bE', b'\r\n' * 7 + b'q\x0fq\x0eq\x1b[23;0;0t', b'\x1b[<u\x1b[?1049h\x1b[<u\x1b[?6l\x1b[H\x1b[?J',
        b'\r\xe4\xbd\xa0X', b'\x1b[L' * 5]


def recording(pty, name, *pieces, size=None):
    return write(pty.path(name), header(**(size or SIZE)), *(output(n / 10, p if isinstance(p, bytes) else p.encode())
                                                             for n, p in enumerate(pieces, 1)))


def same(pty, one, other):
    """Two recordings leave a terminal in the same state."""
    assert good('screen', '-e', one) == good('screen', '-e', other)
    assert good('paint', one) == good('paint', other)
    assert pty


@pytest.mark.parametrize('name', STATES)
def test_painted_is_as_good_as_having_been_there(pty, name):
    """What paint writes, on a fresh terminal, is the state; and whatever comes then does the same to both."""
    there = recording(pty, 'there.cast', STATES[name])
    painted = good('paint', there)
    late = recording(pty, 'late.cast', painted)
    same(pty, there, late)
    for rest in REST:
        same(pty, recording(pty, 'there.cast', STATES[name], rest), recording(pty, 'late.cast', painted, rest))


@pytest.mark.parametrize('path', casts('.cast'), ids=os.path.basename)
def test_real_sessions_can_be_joined_anywhere(pty, path):
    """At any byte: in the middle of a sequence, of a character, of a redraw."""
    dice = random.Random(os.path.basename(path))
    data, size = printed(path), {'width': 80, 'height': 24}
    there = recording(pty, 'there.cast', data, size=size)
    for _ in range(6):
        cut = dice.randint(0, len(data))
        painted = good('paint', recording(pty, 'cut.cast', data[:cut], size=size))
        same(pty, there, recording(pty, 'late.cast', painted, data[cut:], size=size))


def test_what_the_user_had_scrolls_away_and_is_not_erased(pty):
    """Nothing above the prompt is touched: no clearing, and each row of the session comes by a line feed."""
    painted = good('paint', recording(pty, 'a.cast', '\x1b[Htop\x1b[6;1Hbottom')).decode()
    assert painted.startswith('\r\x1b[m\x1b[Jtop\r\n\r\n\r\n\r\n\r\nbottom') and '\x1b[2J' not in painted


def test_a_session_that_only_printed_lines_is_shown_under_the_command(pty):
    """No row is named, no blank row printed."""
    painted = good('paint', recording(pty, 'a.cast', '$ echo one\r\none\r\n$ ')).decode()
    assert painted == '\r\x1b[m\x1b[J$ echo one\r\none\r\n$ '


def test_a_paint_asks_nothing_and_answers_nothing(pty):
    """What the program asked is in the past. A question would be answered into the program."""
    questions = '\x1b[c\x1b[>c\x1b[6n\x1b[?6n\x1b[5n\x1b]11;?\x07\x1b]4;1;?\x1b\\\x1bP$qm\x1b\\\x1bP+q544e\x1b\\\x1b[?u\x1b[18t\x1b[>q\x1bZ\x05\x1b[x'
    painted = good('paint', recording(pty, 'a.cast', 'a' + questions + 'b')).decode()
    late = recording(pty, 'late.cast', painted)
    assert '?' not in painted and 'ab' == good('screen', late).decode().strip()


@pytest.mark.parametrize('most, lines', [('none', 0), ('0', 0), ('64', 4), ('1K', 68), ('64K', 195), ('1M', 195), ('all', 195)])
def test_history_is_as_long_as_it_is_asked_for(pty, most, lines):
    """-H: bytes of the lines that scrolled off, as they are painted; whole lines."""
    path = recording(pty, 'a.cast', ''.join(f'a line of {n:3}\r\n' for n in range(200)))
    painted = good('paint', '-H', most, path).decode()
    shown = [int(n) for n in re.findall(r'a line of +(\d+)', painted)]
    assert shown == list(range(195 - lines, 200))


@pytest.mark.parametrize('make', [
    lambda pty: pty.path('none.cast'),
    lambda pty: write(pty.path('bad.cast'), header(**SIZE), output(1, b'x'), '[2, "o", 3]\n', output(3, b'y')),
], ids=['no file', 'a bad line'])
def test_nothing_is_written_before_a_failure(pty, make):
    """The caller can then do something else: nobody has seen half a screen."""
    run = record('paint', make(pty))
    assert run.returncode == 1 and run.stdout == b'' and run.stderr.startswith(b'record: ')


@pytest.mark.parametrize('data, painted', [
    ('$ echo one\r\none\r\n$ ', '$ echo one\r\none\r\n$ '),
    ('aws \u2601\ufe0f $ ', 'aws \u2601\ufe0f $ '),
    ('\u0031\ufe0f\u20e3 \U0001f44d\U0001f3fd x', '\u0031\ufe0f\u20e3 \U0001f44d\U0001f3fd x'),
    ('\U0001f3f3\ufe0f\u200d\U0001f308 $ \x1b[m', '\U0001f3f3\ufe0f\u200d\U0001f308 $ \x1b[m'),
    ('\u2601\ufe0f $ \x1b[18Ghi\x1b[6G', '\x1b[6G\x1b[18Ghi\r\u2601\ufe0f $\x1b[6G\x1b[m'),
    ('\u2601\ufe0f $  \x1b7\x1b[B\r\x1b8', '\x1b[6G\x1b7\r\u2601\ufe0f $\x1b[6G\x1b[m'),
    ('\x1b[5 q\x1b[0 q', '\x1b[0 q'),
    ('\u2601\ufe0f      |  |  x', '\u2601\ufe0f\x1b[8G|\x1b[11G|\x1b[14Gx'),
])
def test_text_is_painted_as_text_and_once(pty, data, painted):
    """Terminals differ about the width of what has VS16, a joiner or a skin tone: no character is written anew at a column by number, and
    what stands behind a gap has its own column."""
    assert good('paint', recording(pty, 'a.cast', data)).decode() == '\r\x1b[m\x1b[J' + painted


@pytest.mark.parametrize('seed', range(20))
def test_painted_a_fresh_model_is_in_the_same_state(pty, seed):
    """A hundred states of random output, of every sequence with any number, in windows from 1x1 up."""
    for n in range(100):
        dice = random.Random(f'{seed} {n}')
        size = {'height': dice.choice((1, 2, 6, 12)), 'width': dice.choice((1, 2, 7, 20, 40))}
        there = recording(pty, 'there.cast', b''.join(stream(dice, (size['height'], size['width']), 40, Everything)), size=size)
        painted = good('paint', there)
        assert good('paint', recording(pty, 'late.cast', painted, size=size)) == painted, (seed, n)


def test_a_wrapped_line_gains_no_blanks_when_the_window_has_become_wider(pty):
    """What is copied from the scrollback is what was printed."""
    path = write(pty.path('wider.cast'), header(**SIZE), output(1, b'x' * 50 + b'\r\n' * 8), event(2, 'r', '30x6'))
    assert b'x' * 50 + b'\r\n' in good('paint', path)
    path = recording(pty, 'wide.cast', 'x' + '你' * 12 + '\r\n' * 8)
    assert ('x' + '你' * 12 + '\r\n').encode() in good('paint', path)


@pytest.mark.parametrize('options', [['-H', 'x'], ['-H', ''], ['-H', '1T'], ['-H', '-1']])
def test_options_that_make_no_sense_are_usage_errors(pty, options):
    """Status 2, as everywhere."""
    assert record('paint', *options, recording(pty, 'a.cast', 'x')).returncode == 2


MEASURE = '''
import os, sys
null = [(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null), 0)
print(usage.ru_maxrss * 1024)
sys.exit(status != 0)
'''


def memory_of(*command):
    """The most memory that record had resident, or this small Python before the exec."""
    return int(subprocess.run([PYTHON, '-ISc', MEASURE, RECORD, *command], check=True, capture_output=True, timeout=60).stdout)


GREEDY = {
    'pens': lambda n: f'\x1b[38;2;{n % 251};{n % 241};{n % 239};48;2;{n % 233};{n % 229};{n % 227}mx',
    'marks': lambda n: 'x' + ''.join(chr(0x300 + (n * 7 + k) % 100) for k in range(20)),
    'links': lambda n: f'\x1b]8;;http://example.com/{n}/{"x" * 1000}\x1b\\l',
    'titles': lambda n: f'\x1b]2;{n}{"x" * 3000}\x07\x1b[22t',
    'keyboards': lambda n: '\x1b[>1u' * 20,
    'long strings': lambda n: '\x1bPq' + 'x' * 1000,
    'colours': lambda n: f'\x1b]4;{n % 256};{"x" * 60}\x07\x1b]{10 + n % 10};{"y" * 60}\x07',
    'lines': lambda n: '\r\n',
    'wide lines': lambda n: '\x1b[48;5;9m' + 'x' * 300,
}


@OWN_MEMORY
@pytest.mark.parametrize('what', GREEDY)
def test_no_output_makes_the_model_large(pty, what):
    """16 MiB at most, for any output (a line of the recording is held whole)."""
    path = write(pty.path('greedy.cast'), header(width=300, height=100),
                 *(output(k, ''.join(GREEDY[what](n) for n in range(k * 100, k * 100 + 100)).encode()) for k in range(200)))
    assert memory_of('paint', path) <= 16 << 20


def test_a_paint_is_quick(pty):
    """100 KB in some milliseconds, 5 MB in some ten (limits for a busy machine)."""
    line = '\x1b[2m03:40:37\x1b[m \x1b[32mINFO\x1b[m \x1b[36mmod::web\x1b[m request 4711 handled in 12 ms by worker 3\r\n'
    for size, most in ((100_000, 0.1), (5_000_000, 0.6)):
        path = recording(pty, 'log.cast', *([line * 40] * (size // len(line) // 40)), size={'width': 120, 'height': 40})
        best = 9.0
        for _ in range(3):
            began = time.monotonic()
            good('paint', path)
            best = min(best, time.monotonic() - began)
        assert best < most, (size, best)
