"""`record play` at a terminal: jumps that paint one screen, keys that are heard at once, and a terminal that is given
back as it was found, for good or for a while.

Authority: sections 6 and 7 of the contract, and issue 12, item 2; for job control termios(3) and POSIX, section 11.1.
The terminal is a model that owes nothing to record.cpp (tests/lib/screens.py).
"""
import os
import random
import re
import select
import signal
import termios
import threading
import time

import pytest

from harness import BUILD, RECORD, TIMEOUT, children, cpu_seconds, wait_until
from record_tools import CASTS, V2, Growing, chunks, event, header, load, output, read_until, resident, write
from screens import Model, differences

LEFT, RIGHT = '\x1b[D', '\x1b[C'
MIB = 1 << 20


def player(pty, path, *options, rows=24, cols=80):
    return pty.terminal(RECORD, 'play', *options, path, rows=rows, cols=cols)


def model_at(path, at, rows=24, cols=80):
    """What a terminal shows that got everything up to the time `at`."""
    model = Model(rows, cols)
    with open(path, 'rb') as f:
        for when, data in chunks(load(f.read())[1]):
            if when <= at:
                model.feed(data)
    return model


def differ(one, other):
    """What differs: cells, attributes, cursor, margins, modes. How a terminal's cursor blinks at first is its user's
    affair: what is taken back of that (DECSET 12) is the contrary of what the program asked for."""
    for model in one, other:
        model.screen.private.discard(12)
    return differences(one, other)


def wait_model(shown, wanted):
    """Waits until the terminal is as `wanted`."""
    try:
        shown.wait(lambda t: not differ(t.stream, wanted))
    except AssertionError as error:
        raise AssertionError(f'{differ(shown.stream, wanted)}\n{error}') from None


def shows(shown, path, at, **size):
    wait_model(shown, model_at(path, at, **size))


def seconds(pty, *more, count=60):
    """A recording of one event each second, each a screen of its own."""
    lines = [event(n, 'o', ('\x1b[2J\x1b[H' if n % 17 == 0 else '') + f'second {n}\x1b[3{n % 8}m\r\n')
             for n in range(1, count + 1)]
    return write(pty.path('x.cast'), V2, *lines, *more)


def big(pty, size=40 * MIB):
    """Coloured log text, without a pause: 1 s of recording for each MiB; `line N` numbers them."""
    dice, lines, now, count = random.Random(3), [V2], 0, 0
    words = [f'\\u001b[3{n}m{word}\\u001b[0m' for n, word in enumerate('error warning notice info debug'.split(), 1)]
    block = ' '.join(dice.choices(words, k=6))
    while now < size:
        text = ''.join(f'line {count + n} {block}\\r\\n' for n in range(100))
        count += 100
        now += len(text)
        lines.append(f'[{now / MIB:.6f}, "o", "{text}"]\n')
    return write(pty.path('big.cast'), *lines), count - 1


# --- jumps ------------------------------------------------------------------------------------------------------------


def test_a_start_far_in_sends_one_screen_and_not_what_lies_before(pty):
    """190 MB took a whole ssh line: now what lies before START reaches the model alone."""
    path, last = big(pty)
    with open(path, 'a', encoding='ascii') as f:
        f.write(event(100, 'm', '') + event(900, 'o', 'late'))
    shown = player(pty, path, '-t', '99')
    shown.wait_text(f'line {last} ', TIMEOUT * 3)
    assert len(shown.output) < 16384
    shown.send(LEFT * 20)
    shown.wait(lambda t: f'line {last} ' not in t.text())
    shown.send(' ]')
    shown.wait_text(f'line {last} ', TIMEOUT * 3)
    assert len(shown.output) < 3 * MIB
    shown.ends('q')


def test_jumps_in_a_long_recording_go_on_from_what_is_kept(pty):
    """Back and forth through 40 MiB, whose states are thinned out several times: each lands on its screen, and none
    costs reading all that comes before."""
    path, last = big(pty)
    with open(path, 'a', encoding='ascii') as f:
        f.write(event(900, 'o', 'late'))
    pieces = chunks(load(pty.read_bytes(path))[1])
    shown, at = player(pty, path, '-i', '1', '-t', '39', '-s', '0.1'), 39
    for key in ' ', LEFT, LEFT, LEFT, RIGHT, LEFT, LEFT, RIGHT, RIGHT, RIGHT:
        shown.send(key)
        at += {LEFT: -5, RIGHT: 5}.get(key, 0)
        wanted, shown_then = Model(), b''.join(data for when, data in pieces if at - 1 < when <= at)
        wanted.feed(b''.join(shown_then.splitlines(True)[-50:]))      # (what scrolled off is not on the screen)
        wait_model(shown, wanted)
    assert last and len(shown.output) < MIB
    assert 'sanitize' in BUILD or resident(shown.child.pid) < 16 * MIB, 'the states that are kept, 4 MiB at most'
    shown.ends('q')


@pytest.mark.parametrize('name', ['vim.cast', 'less.cast', 'bash.cast', 'dialog.cast'])
def test_jumps_in_real_recordings_land_on_the_screen_of_that_time(pty, name):
    """Characters, colours, cursor, screens, margins and modes, as the session had them. The events are put one second
    apart, so that the screen of each time is known."""
    first, events = load(pty.read_bytes(os.path.join(CASTS, name)))
    pieces = chunks(events)
    path = write(pty.path('x.cast'), header(2, first['width'], first['height']), *(
        output(n, data) for n, (_, data) in enumerate(pieces, 1)), event(len(pieces) + 600, 'o', ''))
    size = {'cols': first['width'], 'rows': first['height']}
    at = len(pieces)
    shown = player(pty, path, '-t', f'{at}.25', '-s', '0.1', **size)
    shown.send(' ')
    shows(shown, path, at, **size)
    for key in ([LEFT] * ((at - 1) // 5) + [RIGHT] * 2 + [LEFT] * 3 + [RIGHT])[:40]:
        at = max(at + (5 if key == RIGHT else -5), 0)
        shown.send(key)
        shows(shown, path, at, **size)
    shown.ends('q')


@pytest.mark.parametrize('seed', range(6))
def test_jumps_are_exact_after_anything(pty, seed):
    """Random output that leaves every mode on (screens, colours, scroll regions, character sets, saved cursors,
    sequences cut by a read, questions): from whatever stands on the screen, a jump lands on the screen of its time."""
    dice = random.Random(seed)
    odd = ['\r\n', '\x1b[2J', '\x1b[H', '\x1b[?1049h', '\x1b[?1049l', '\x1b[31m', '\x1b[1;4m', '\x1b[0m',
           '\x1b[5;15r', '\x1b[r',
           '\x1b[?25l', '\x1b[?25h', '\x1b(0', '\x1b(B', '\x1b[?7l', '\x1b[?7h', '\x1b[4h', '\x1b[4l', '\x1b[3L',
           '\x1b[2M', '\x1b[5;5H',
           '\x1b7', '\x1b8', 'x\u65e5\u672c', '\x1b[?5h', '\x1b]0;t\x07', '\x1b[6n', '\x1b[c', 'y\u00e9', '\x1b[',
           '\x1b']
    pieces = [''.join(dice.choice(odd) if dice.random() < 0.5 else dice.choice('abcdef ') * dice.randint(1, 5)
                      for _ in range(dice.randint(1, 12))).encode() for _ in range(60)]
    path = write(pty.path('x.cast'), V2, *(output(n, piece) for n, piece in enumerate(pieces, 1)), event(6000, 'o', ''))
    shown, at = player(pty, path, '-t', '40.25', '-s', '0.1'), 40
    shown.send(' ')
    for _ in range(10):
        shows(shown, path, at)
        key = RIGHT if at < 6 or (at < 55 and dice.random() < 0.3) else LEFT
        at += 5 if key == RIGHT else -5
        shown.send(key)
    assert not re.search(rb'\x1b\[6n|\x1b\[c', shown.output)


def test_square_brackets_go_from_marker_to_marker(pty):
    """`]` to the next, `[` to the one before; at the first and at the last one it stays. While it plays, `[` just
    behind a marker means the one before that."""
    path = seconds(pty)
    with open(path, 'a', encoding='ascii') as f:
        f.write(event(70, 'm', '') + event(80, 'o', 'second 80') + event(90, 'm', '') + event(90.01, 'o', 'behind')
                + event(900, 'o', 'late'))
    shown = player(pty, path, '-t', '10.2', '-s', '0.1')
    shows(shown, path, 10)
    for keys, at in ((' [', 10), (']', 70), (']', 90), (']', 90), ('[', 70), ('[', 70), (LEFT, 65), (']', 70)):
        shown.send(keys)
        shows(shown, path, at)
        assert not select.select([shown.child.child_fd], [], [], 0.1)[0] or shown.feed()
        shows(shown, path, at)
    shown.send(']')
    shows(shown, path, 90)
    shown.send(' ')
    shown.wait_text('behind')
    shown.send('[')
    shows(shown, path, 70)
    shown.send(' .')
    shown.wait_text('second 80')


def test_keys_typed_at_once_are_all_obeyed(pty):
    """A key behind one that jumps waits until we are there: left, left, then a step is the event after ten seconds
    back."""
    path = seconds(pty)
    shown = player(pty, path, '-t', '30.2', '-s', '0.1')
    shows(shown, path, 30)
    shown.send(' ' + LEFT + LEFT + '.')
    shows(shown, path, 21)
    shown.send(RIGHT * 4 + '..')
    shows(shown, path, 43)


def test_it_pauses_on_markers_when_asked(pty):
    """--pause-on-markers, as asciinema has it: each marker stops the clock, space goes on; a jump across one does
    not stop there."""
    marked = ''.join(event(n, 'o', f'<{n}>') + event(n + 0.1, 'm', '') for n in range(1, 9))
    path = write(pty.path('x.cast'), V2, marked, event(9, 'o', '<9>'))
    shown = player(pty, path, '-m', '-s', '20')
    for n in range(1, 4):
        shown.wait_text(f'<{n}>')
        assert not select.select([shown.child.child_fd], [], [], 0.3)[0], 'it went on without being told'
        shown.send(' ')
    shown.wait_text('<4>')
    shown.send(RIGHT)
    shown.wait_text('<9>')
    assert shown.exit_status() == 0
    plain = player(pty, path, '-s', '20')
    assert plain.exit_status() == 0 and '<9>' in plain.text()


def test_it_loops_when_asked(pty):
    """-l: at the end from the beginning, on a clean terminal, until q; also a recording that takes no time at all."""
    path = write(pty.path('x.cast'), V2, event(0.05, 'o', 'one\x1b[31;5m\x1b[?1000h'), event(0.1, 'o', 'two'))
    shown = player(pty, path, '--loop')
    shown.wait(lambda t: t.output.count(b'two') >= 3)
    assert shown.text().strip() in ('', 'one', 'onetwo')
    shown.ends('q')
    for parts in ([event(0, 'o', 'x')], []):
        shown = player(pty, write(pty.path('x.cast'), V2, *parts), '-l')
        shown.wait(lambda t: len(t.output) > 10)
        assert cpu_seconds(shown.child.pid) < 0.2
        shown.ends('q')


def test_a_pipe_is_steered_too_but_not_gone_back_in(pty):
    """A recording that comes through a pipe, and comes slowly: keys are heard while there is nothing to read."""
    path = pty.path('fifo')
    os.mkfifo(path)
    shown = pty.terminal('/bin/sh', '-c', f'{RECORD} play - < {path}; echo "status $?"')
    with open(path, 'wb') as pipe:
        for n in range(1, 13):
            pipe.write((V2 if n == 1 else '').encode() + event(n, 'o', f'<{n}>').encode())
        pipe.flush()
        shown.wait_text('<1>')
        shown.send(RIGHT)
        shown.wait_text('<6>')
        shown.send(LEFT + ']' + '[' + '3' + RIGHT)
        shown.wait_text('<12>')
        assert shown.text().count('<1>') == 1
        shown.send('q')
        shown.wait_text('status 0')


# --- heard at once ----------------------------------------------------------------------------------------------------


class Slow(threading.Thread):
    """Reads a terminal at so many bytes a second, until its end."""
    def __init__(self, fd, rate):
        super().__init__(daemon=True)
        self.fd, self.rate, self.total, self.last = fd, rate, 0, b''
        self.start()

    def run(self):
        began = time.monotonic()
        while True:
            ahead = self.total / self.rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(min(ahead, 0.05))
                continue
            try:
                data = os.read(self.fd, 16384)
            except OSError:
                return
            self.total += len(data)
            self.last = (self.last + data)[-4096:]


def leaves(child, key):
    """Seconds from the key to the end of the program."""
    began = time.monotonic()
    os.write(child.child_fd, key)
    child.wait()
    return time.monotonic() - began


@pytest.mark.parametrize('key', [b'q', b'\x03'], ids=['q', 'Ctrl-C'])
@pytest.mark.parametrize('rate', [5_000_000, 100_000, 0], ids=['5 MB/s', '100 KB/s', 'nothing'])
def test_a_key_is_heard_at_once_however_slow_the_terminal(pty, rate, key):
    """Events of 300 KB into a terminal that takes 5 MB/s, or little, or nothing at all: q and Ctrl-C leave within
    100 ms, and what the recording had put on is taken back. (The best of three, for a machine that has other things to
    do.)"""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', '\x1b[?1049h\x1b[?1002h\x1b[4h'),
                 *(event(0.02, 'o', 'x' * 300_000) for _ in range(60)))
    times = []
    for _ in range(3):
        child = pty.terminal(RECORD, 'play', path).child
        read_until(child, b'x' * 1000)
        slow = Slow(child.child_fd, rate) if rate else None
        wait_until(lambda: not slow or slow.total > 5000, what='some output')
        times.append(leaves(child, key))
        assert child.exitstatus == 0 if key == b'q' else child.signalstatus == signal.SIGINT
        if slow:
            slow.join(TIMEOUT)
        rest = slow.last if slow else read_until(child, b'\x1b[?1049l')
        assert b'\x1b[?1049l' in rest and (not slow or b'\x1b[?1002l' in rest and b'\x1b[4l' in rest)
    assert min(times) < 0.1, times


@pytest.mark.parametrize('keys', [RIGHT * 18, ' ]'], ids=['jump', 'search'])
def test_a_key_is_heard_at_once_on_the_way_to_a_far_place(pty, keys):
    """A jump through 100 MB, and a search for a marker that is not there, are left within 100 ms."""
    path, _ = big(pty, 100 * MIB)
    times = []
    for _ in range(3):
        child = pty.terminal(RECORD, 'play', '-s', '0.1', path).child
        read_until(child, b'line')
        os.write(child.child_fd, keys.encode())
        times.append(leaves(child, b'q'))
    assert min(times) < 0.1, times


# --- given back -------------------------------------------------------------------------------------------------------

# Each leaves on what a shell would stumble over.
LEFT_ON = {
    'RGB in front': '\x1b[38;2;255;0;0m', 'a dark background': '\x1b[48;5;0m',
    'bold of the alternate screen': '\x1b[?1049h\x1b[1;7m', 'DECSTR on the alternate screen': '\x1b[?1049h\x1b[!p',
    'insert mode': '\x1b[4h', 'SO': '\x1b)0\x0e', 'line drawing': '\x1b(0', 'the keyboard stack': '\x1b[>1u\x1b[>5u',
    'the keyboard stacks of both': '\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>7u', 'keyboard flags': '\x1b[=3u',
    'colour reports': '\x1b[?2031h', 'size reports': '\x1b[?2048h', 'a link': '\x1b]8;;http://example.org\x1b\\here',
    'mouse': '\x1b[?1003h\x1b[?1006h', 'paste': '\x1b[?2004h', 'no cursor': '\x1b[?25l',
    'a region': '\x1b[5;10r\x1b[?6h', 'no wrap': '\x1b[?7l', 'cursor keys': '\x1b[?1h\x1b=',
    'modifyOtherKeys': '\x1b[>4;2m', 'reverse video': '\x1b[?5h', 'a cursor of another shape': '\x1b[5 q',
    'focus': '\x1b[?1004h', 'half a sequence': '\x1b[31', 'half a string': '\x1b]0;tit', 'blink': '\x1b[?12h',
    'new line mode': '\x1b[20h'}


@pytest.mark.parametrize('what', LEFT_ON)
def test_what_was_left_on_is_taken_back(pty, what):
    """Quitting there, or the end there: the terminal is as a shell wants it, and the prompt stands on a clean line."""
    on = LEFT_ON[what]
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'text\r\nREADY' + on), event(600, 'o', 'x'))
    ended = write(pty.path('y.cast'), V2, event(0.01, 'o', 'text\r\nREADY' + on))
    for file, options in ((path, ['-t', '1']), (path, []), (ended, [])):
        shown = player(pty, file, *options)
        shown.wait_output(b'READY')
        if file == path:
            shown.send('q')
        assert shown.exit_status() == 0
        state, fresh = shown.screen.state(), Model().screen.state()
        same = {key: state[key] for key in state if key not in ('cursor', 'charset', 'style')}
        assert same == {key: fresh[key] for key in same}, (what, shown.output[-200:])
        assert state['charset'] == fresh['charset'] and shown.stream.rest == ''
        for begin, end in (('\x1b[>1u', rb'\x1b\[<\d*u'), ('\x1b[=3u', rb'\x1b\[=0u'), ('\x1b]8;', rb'\x1b\]8;;\x1b\\'),
                           ('\x1b[?2031h', rb'\?2031l'), ('\x1b[?2048h', rb'\?2048l'), ('\x1b[>4;2m', rb'\x1b\[>4'),
                           ('\x1b[5 q', rb'\x1b\[0? q')):
            assert begin not in on or re.search(end, shown.output.rpartition(b'READY')[2]), (what, shown.output[-200:])


def shell_with(pty, path, *options):
    """An interactive bash that plays; gives its terminal when READY is there."""
    shown = pty.shell()
    shown.send(' '.join((RECORD, 'play', *options, path)) + '\r')
    shown.wait_text('READY')
    return shown


@pytest.mark.parametrize('way', ['Ctrl-Z', 'SIGTSTP', 'SIGSTOP'])
@pytest.mark.parametrize('screen', ['main', 'alternate'])
def test_stopped_it_gives_the_terminal_back_and_takes_it_again(pty, way, screen):
    """Job control: the shell finds its own settings and a terminal without modes; after fg the screen of the recording
    is there again, raw, and the clock has stood still."""
    on = ('\x1b[?1049h\x1b[2J\x1b[H' if screen == 'alternate' else '') + '\x1b[?1002h\x1b[1;31mone\r\nREADY'
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', on), event(3, 'o', ' two'), event(600, 'o', ' late'))
    shown = shell_with(pty, path)
    fd, pid = shown.child.child_fd, children(shown.child.pid)[0]
    began = time.monotonic()
    if way == 'Ctrl-Z':
        shown.send('\x1a')
    else:
        os.kill(pid, getattr(signal, way))
    shown.wait_output(b'Stopped')
    shown.send('echo $((6 * 7))\r')
    shown.wait_text('\n42\n')
    if way != 'SIGSTOP':                                     # which nobody can catch
        assert shown.screen.private - {2004} == {7, 25} and not shown.screen.alternate   # 2004 is the shell's
        assert 'READY' in shown.text() or screen == 'alternate'
    if way != 'SIGSTOP':
        wait_until(lambda: time.monotonic() - began > 3.5, what='time to pass')
    shown.send('fg\r')
    wait_until(lambda: not termios.tcgetattr(fd)[3] & termios.ICANON, what='the raw mode')
    shown.wait(lambda t: 1002 in t.screen.private and t.screen.alternate == (screen == 'alternate'))
    shown.wait(lambda t: 'one' in t.text() and 'READY' in t.text())
    assert 'two' not in shown.text() or way == 'SIGSTOP'
    shown.send('.' if way != 'SIGSTOP' else RIGHT)
    shown.wait_text('READY two')
    shown.send('q')
    shown.wait(lambda t: t.text().rstrip().endswith('prompt>'), what='the prompt')
    assert termios.tcgetattr(fd)[3] & termios.ISIG and not shown.screen.alternate
    shown.send('exit\r')
    shown.exit_status()


def test_ctrl_z_stops_the_script_around_it_too(pty):
    """Ctrl-Z is typed for the whole foreground process group; in raw mode nobody but us can pass it on. A script that
    waits for us would hold the terminal otherwise."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'READY'), event(600, 'o', 'late'))
    script = write(pty.path('script'), f'{RECORD} play {path}; echo after $?\n')
    shown = pty.shell()
    shown.send(f'sh {script}\r')
    shown.wait_text('READY')
    shown.send('\x1a')
    shown.wait_output(b'Stopped')
    shown.send('fg\r')
    shown.wait(lambda t: t.output.count(b'READY') >= 2)
    shown.send('q')
    shown.wait_text('after 0')


def test_another_size_of_the_terminal_paints_anew(pty):
    """SIGWINCH: the terminal has lost what does not fit; what can be shown is shown."""
    path = write(pty.path('x.cast'), header(2, 80, 24), event(0.01, 'o', ''.join(f'line {n}\r\n' for n in range(20))),
                 event(600, 'o', 'x'))
    shown = player(pty, path)
    shown.wait_text('line 19')
    sent = len(shown.output)
    shown.resize(12, 60)
    shown.wait(lambda t: len(t.output) > sent and b'line 19' in t.output[sent:])
    assert b'line 8' not in shown.output[sent:]
    shown.send('\x0c')
    shown.wait(lambda t: t.output[sent:].count(b'line 19') >= 2)
    shown.ends('q')


def test_a_truncated_recording_begins_again_on_a_clean_screen(pty):
    """With -f, what was shown of the file before is wiped: it is not part of the new one."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.01, 'o', 'old\x1b[31m\x1b[?1002h'), lock=False)
    shown = player(pty, live.path, '-f')
    shown.wait_text('old')
    os.truncate(live.path, 0)
    shown.wait_output(b'was truncated')
    live.write(V2 + event(0.01, 'o', 'new'))
    shown.wait(lambda t: t.text().strip() == 'new')
    assert not shown.screen.private - {7, 25} and shown.screen.cursor.attrs.fg == 'default'
    shown.ends('q')
