"""`record play`: the timing, the keys, the terminal it is given back, and sessions that still run.

Timing is tested by ratios and by lower bounds (a replay can be late on a busy machine, never early). Authority:
section 6 of the contract and issue 4; for what a terminal sends as keys and answers, XTerm Control Sequences
(ctlseqs).
"""
import os
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from harness import RECORD, TIMEOUT, children, cpu_seconds
from record_tools import (ERROR, V2, V3, Growing, event, good, header, output, printed,
                          read_until, record, screen, screen_at, ticks, write)

SPACE, LEFT, RIGHT = ' ', '\x1b[D', '\x1b[C'


def seconds(*argv, **options):
    """How long record ARG... takes; it must succeed."""
    began = time.monotonic()
    good(*argv, **options)
    return time.monotonic() - began


def player(pty, path, *options, rows=24, cols=80):
    """record play at a terminal of its own."""
    return pty.terminal(RECORD, 'play', *options, path, rows=rows, cols=cols)


def quiet(terminal, for_seconds=0.5):
    """Reads until nothing has come for so long."""
    end = time.monotonic() + TIMEOUT
    while select.select([terminal.child.child_fd], [], [], for_seconds)[0]:
        assert terminal.feed() and time.monotonic() < end, 'the output never paused\n' + terminal.text()
    return terminal


def last_tick(terminal):
    return max((int(n) for n in re.findall(rb'tick (\d+)\r', terminal.output)), default=0)


def pace(terminal, count):
    """Seconds a tick, over the next `count` ticks."""
    first = last_tick(terminal) + 1
    terminal.wait(lambda t: last_tick(t) >= first)
    began, at = time.monotonic(), last_tick(terminal)
    terminal.wait(lambda t: last_tick(t) >= at + count)
    return (time.monotonic() - began) / (last_tick(terminal) - at)


@pytest.fixture(name='minute')
def minute_recording(pty):
    """One event each second for a minute, each leaves a screen of its own; markers at 20.5 and 40.5."""
    lines = [V2]
    for n in range(1, 61):
        lines.append(event(n, 'o', ('\x1b[2J\x1b[H' if n % 17 == 0 else '') + f'second {n}\x1b[3{n % 8}m\r\n'))
        lines += [event(n + 0.5, 'm', f'at {n}')] * (n in (20, 40))
    return write(pty.path('minute.cast'), *lines)


# --- timing -----------------------------------------------------------------------------------------------------------


def test_play_prints_the_exact_bytes(pty):
    """Into a pipe, play is cat with pauses: `b` events count, markers and input do not show."""
    parts = [b'\xff\xfe', 'h\u00e9'.encode(), b'\x1b[31mred\r\n', bytes(range(256))]
    for first in (V2, V3):
        path = write(pty.path('x.cast'), first, *(output(0.01, part) + event(0.01, 'm', 'x') for part in parts),
                     event(0.01, 'i', 'y'))
        assert good('play', path) == b''.join(parts)


def test_play_keeps_the_times(pty):
    """No event comes before its time; between two events of one second at -s 2 lies half a second."""
    path = write(pty.path('x.cast'), V2, ticks(6, 0.2))
    began = time.monotonic()
    run = pty.background(RECORD, 'play', path, stdout=subprocess.PIPE)
    for n in range(1, 7):
        read_until(run.stdout, b'tick %d\r\n' % n)
        assert time.monotonic() - began >= 0.2 * n - 0.005, n
    assert run.wait(10) == 0


@pytest.mark.parametrize('first', [V2, V3, 1], ids=['v2', 'v3', 'v1'])
def test_speed_divides_the_times(pty, first):
    """-s 4 plays in a quarter, in every version of the format; never faster than that."""
    lines = {V2: ticks(6, 0.2), V3: event(0.2, 'o', 'x') * 6,
             1: '{"version": 1, "width": 80, "height": 24, "stdout": [' + ', '.join(['[0.2, "x"]'] * 6) + ']}'}[first]
    path = write(pty.path('x.cast'), '' if first == 1 else first, lines)
    slow, fast = seconds('play', path), seconds('play', '-s', '4', path)
    assert slow >= 1.195 and fast >= 0.295 and fast < slow * 0.75, (slow, fast)


def test_the_slowest_and_the_fastest_speed(pty):
    """Issue 4: -s from 0.1 to 1000."""
    path = write(pty.path('x.cast'), V2, ticks(1, 0.05))
    assert seconds('play', '-s', '0.1', path) >= 0.495
    path = write(pty.path('x.cast'), V2, ticks(1, 300))
    assert 0.295 <= seconds('play', '-s', '1000', path) < 30


def test_idle_time_is_capped(pty):
    """-i 0.1: no pause over 0.1 s; shorter ones stay."""
    path = write(pty.path('x.cast'), V2, event(0.05, 'o', 'a'), event(1000, 'o', 'b'), event(1000.05, 'o', 'c'),
                 event(5000, 'o', 'd'))
    assert 0.295 <= seconds('play', '-i', '0.1', path) < 60


def test_the_limit_of_the_header_counts_when_none_is_given(pty):
    """`idle_time_limit` of the header, in v2 and v3; -i stands above it in both directions."""
    for version in (2, 3):
        tail = event(0.1, 'o', 'a'), event(1000, 'o', 'b')
        path = write(pty.path('x.cast'), header(version, idle_time_limit=0.1), *tail)
        assert 0.195 <= seconds('play', path) < 60
        assert 0.49 <= seconds('play', '-i', '0.4', path) < 60
        path = write(pty.path('x.cast'), header(version, idle_time_limit=900), *tail)
        assert 0.195 <= seconds('play', '-i', '0.1', path) < 60


def test_idle_time_between_events_that_print_nothing_is_idle_time(pty):
    """A pause that the user sees is one without output; marks and typed keys in between do not make it longer than
    the cap."""
    lines = ''.join(event(n, 'i', 'x') + event(n + 0.5, 'm', '') for n in range(1, 50))
    path = write(pty.path('x.cast'), V2, event(0.1, 'o', 'a'), lines, event(50, 'o', 'b'))
    assert 0.195 <= seconds('play', '-i', '0.1', path) < 4


def test_play_starts_at_a_time_with_the_screen_as_it_was(pty, minute):
    """-t 58.5: what was there comes at once, what follows with its timing (here five times as fast)."""
    began = time.monotonic()
    run = pty.background(RECORD, 'play', '-t', '58.5', '-s', '5', minute, stdout=subprocess.PIPE)
    got = read_until(run.stdout, b'second 58')
    rest = run.communicate(timeout=TIMEOUT)[0]
    assert 0.295 <= time.monotonic() - began < 10 and run.returncode == 0
    shown = screen((got + rest)[:(got + rest).index(b'second 59')])
    assert shown.seen() == screen_at(minute, 58.5).seen()
    assert screen(got + rest).seen() == screen_at(minute, 60).seen()


def test_a_start_after_the_end_shows_the_last_screen(pty, minute):
    """Nothing is left to be played; the screen as it was at the end, at once, exit 0."""
    began = time.monotonic()
    assert screen(good('play', '-t', '3600', minute)).seen() == screen_at(minute, 60).seen()
    assert time.monotonic() - began < 10
    assert good('play', '-t', '0', '-s', '1000', minute) == printed(minute)


def test_times_that_go_back_are_no_wait_and_no_loss(pty):
    """Recordings of others may step back when a clock was set: everything is shown, in the order of the file."""
    path = write(pty.path('x.cast'), V2, event(0.2, 'o', 'a'), event(0.1, 'o', 'b'), event(0.3, 'o', 'c'))
    assert good('play', path) == b'abc'


# --- keys -------------------------------------------------------------------------------------------------------------


def test_space_pauses_and_goes_on(pty):
    """After a pause the next event is the next one of the recording: nothing is skipped, nothing repeated."""
    shown = player(pty, write(pty.path('x.cast'), V2, ticks(400, 0.05)))
    shown.wait(lambda t: last_tick(t) >= 3)
    shown.send(SPACE)
    stopped = last_tick(quiet(shown))
    assert 3 <= stopped < 300
    shown.send(SPACE)
    shown.wait(lambda t: last_tick(t) >= stopped + 5)
    numbers = [int(n) for n in re.findall(rb'tick (\d+)\r\n', shown.output)]
    assert numbers == list(range(1, last_tick(shown) + 1))
    shown.ends('q')


def test_the_pause_is_not_made_up_for(pty):
    """The clock stands still in a pause: afterwards the ticks keep their distance, they come in no burst."""
    shown = player(pty, write(pty.path('x.cast'), V2, ticks(100, 0.2)))
    shown.wait(lambda t: last_tick(t) >= 1)
    shown.send(SPACE)
    quiet(shown, 1.0)
    shown.send(SPACE)
    assert pace(shown, 4) > 0.1


def test_a_dot_steps_one_event(pty, minute):
    """Paused, each `.` shows the next output, at once, and stays paused."""
    shown = player(pty, minute, '-t', '30.25', '-s', '0.1')
    shown.wait_text('second 30')
    shown.send(SPACE)
    for n in (31, 32, 33, 34, 35):
        shown.send('.')
        shown.wait_text(f'second {n}')
        assert f'second {n + 1}' not in quiet(shown, 0.1).text()
        assert shown.screen.seen() == screen_at(minute, n).seen()


def test_a_bracket_goes_to_the_next_marker(pty, minute):
    """`]` shows everything up to the next `m` event at once; behind the last marker nothing is skipped."""
    shown = player(pty, minute, '-t', '3.25', '-s', '0.1')
    shown.wait_text('second 3')
    shown.send(SPACE)
    for n in (20, 40):
        shown.send(']')
        shown.wait(lambda t, n=n: t.screen.seen() == screen_at(minute, n).seen(), what=f'the screen at marker {n}')
        assert f'second {n + 1}' not in quiet(shown, 0.2).text()
    shown.send('.')
    shown.wait_text('second 41')


def test_a_bracket_works_while_playing(pty, minute):
    """Without a pause as well: the marker is reached long before its time."""
    shown = player(pty, minute)
    began = time.monotonic()
    shown.wait_text('second 1')
    shown.send(']')
    shown.wait_text('second 20')
    assert time.monotonic() - began < 15


def test_plus_and_minus_change_the_speed(pty):
    """`+` is faster, `-` is slower, each as often as one likes, and they undo each other."""
    shown = player(pty, write(pty.path('x.cast'), V2, ticks(5000, 0.1)))
    normal = pace(shown, 5)
    shown.send('+++')
    fast = pace(shown, 20)
    shown.send('---')
    again = pace(shown, 5)
    shown.send('--')
    slow = pace(shown, 2)
    assert fast < normal * 0.7 and again > fast * 1.4 and slow > normal * 1.4, (normal, fast, again, slow)
    shown.ends('q')


def test_the_speed_has_ends(pty):
    """Pressing + or - for ever neither stops the replay nor divides by zero."""
    path = write(pty.path('x.cast'), V2, ticks(2000, 0.05))
    shown = player(pty, path)
    shown.wait(lambda t: last_tick(t) >= 1)
    shown.send('-' * 40)
    shown.send('+' * 80)
    assert shown.exit_status() == 0 and last_tick(shown) == 2000


def test_left_goes_back_five_seconds_and_right_forth(pty, minute):
    """At a tenth of the speed the replay stands almost still, so the arithmetic of the keys can be seen."""
    shown = player(pty, minute, '-t', '30.25', '-s', '0.1')
    shown.wait_text('second 30')
    for key, at in ((LEFT, 25), (LEFT, 20), (LEFT, 15), (RIGHT, 20), (RIGHT, 25), (RIGHT, 30), (RIGHT, 35), (LEFT, 30)):
        shown.send(key)
        shown.wait(lambda t, at=at: t.screen.seen() == screen_at(minute, at).seen(), what=f'the screen at {at} s')


def test_left_goes_back_while_paused_too(pty, minute):
    """The screen changes, and the replay stays paused."""
    shown = player(pty, minute, '-t', '30.25')
    shown.send(SPACE)
    shown.wait_text('second 30')
    now = re.findall(r'second (\d+)', quiet(shown).text())[-1]
    shown.send(LEFT)
    shown.wait(lambda t: t.screen.seen() == screen_at(minute, int(now) - 5).seen(), what='five seconds before')
    quiet(shown, 1.3)
    assert shown.screen.seen() == screen_at(minute, int(now) - 5).seen()


def test_left_stops_at_the_beginning_and_right_at_the_end(pty, minute):
    """Before the first event the screen is empty; behind the last the replay is over."""
    shown = player(pty, minute, '-t', '3.25', '-s', '0.1')
    shown.wait_text('second 3')
    shown.send(LEFT)
    shown.wait(lambda t: t.screen.seen() == screen(b'').seen(), what='the empty screen')
    shown.send(LEFT + LEFT)
    shown.send(SPACE + '.')
    shown.wait(lambda t: t.screen.seen() == screen_at(minute, 1).seen(), what='the first second')
    shown.ends(SPACE + RIGHT * 20)
    assert b'second 60' in shown.output


@pytest.mark.parametrize('key', [RIGHT, 'q', '\x03'], ids=['the end', 'q', 'Ctrl-C'])
def test_answers_to_a_recordings_questions_reach_nobody(pty, key):
    """Those that are on their way at the end, too: the terminal answers in order, so what comes before its answer to
    one more question (CSI 5 n) is thrown away, and the shell that comes after the player gets what is typed behind."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'a\x1b[6nEND'), event(3, 'o', ''))
    script = '"$0" play -s 0.1 "$1"; read -r line; echo "[$line]"'
    shown = pty.terminal('/bin/sh', '-c', script, RECORD, path)
    shown.wait_text('END')
    shown.send('\x1b[1;1R' + key)
    shown.wait(lambda t: b'\x1b[5n' in t.output)
    shown.send('\x1b]11;rgb:0/0/0\x1b\\ls\r\x1b[0n')
    shown.wait(lambda t: termios.tcgetattr(t.child.child_fd)[3] & termios.ICANON)
    shown.send('typed\n')
    shown.wait_text('[typed]')


def test_arrow_keys_work_in_application_mode_too(pty):
    """A recorded program may have set DECCKM (\\x1b[?1h), in the viewer's terminal as well: it then sends \\x1bOD for
    left."""
    lines = [event(1, 'o', '\x1b[?1h')] + [event(n, 'o', f'second {n}\r\n') for n in range(2, 31)]
    path = write(pty.path('x.cast'), V2, *lines, event(600, 'o', ''))
    shown = player(pty, path, '-t', '20.25', '-s', '0.1')
    shown.wait_text('second 20')
    for key, at in (('\x1bOD', 15), ('\x1bOC', 20), ('\x1b[D', 15)):
        shown.send(key)
        shown.wait(lambda t, at=at: t.screen.seen() == screen_at(path, at).seen(), what=f'the screen at {at} s')


def test_answers_and_reports_of_the_terminal_are_no_keys(pty):
    """A recording holds questions; the viewer's terminal answers them into the player's input. A status string
    (DECRQSS) holds a space and a q, a termcap answer a +, a mouse report a minus or a dot: none of them may pause,
    quit or change the speed."""
    shown = player(pty, write(pty.path('x.cast'), V2, ticks(3000, 0.1)))
    before = pace(shown, 5)
    for answer in ('\x1bP1$r2 q\x1b\\', '\x1bP1+r544e=787465726d\x1b\\', '\x1b]11;rgb:1e1e/1e-1/q.]\x1b\\',
                   '\x1b]4;1;rgb:0/+/ \x07',
                   '\x1b[?62;22c', '\x1b[24;80R', '\x1b[<0;12;7M', '\x1b[1;5A', '\x1bOP', '\x1b[15~', '\x1b[M +q',
                   '\x1b[I', '\x1b[O'):
        shown.send(answer)
        shown.feed()
    after = pace(shown, 5)
    assert before * 0.6 < after < before * 1.6
    ticks_shown = re.findall(rb'tick (\d+)\r', shown.output)
    assert ticks_shown == [b'%d' % n for n in range(1, len(ticks_shown) + 1)]


def test_other_keys_do_nothing(pty):
    """A cat on the keyboard is no reason to lose the place."""
    shown = player(pty, write(pty.path('x.cast'), V2, ticks(3000, 0.05)))
    shown.wait(lambda t: last_tick(t) >= 2)
    shown.send('abcxyz\r\n\t~\x7f\u00e9')
    at = last_tick(shown)
    shown.wait(lambda t: last_tick(t) >= at + 5)
    shown.ends('q')


def test_q_quits_at_once_in_every_state(pty, minute):
    """Playing, in a long pause of the recording, and paused: exit 0."""
    for keys in ('', SPACE, SPACE + '.', LEFT):
        shown = player(pty, minute, '-t', '10.2', '-s', '0.1')
        shown.wait_text('second 10')
        shown.send(keys + 'q')
        began = time.monotonic()
        assert shown.exit_status() == 0
        assert time.monotonic() - began < 3


def test_keys_work_when_nothing_is_left_of_standard_output_but_a_pipe(pty):
    """Into a pipe there is nothing to steer: standard input that is no terminal is left alone, and its bytes are no
    keys."""
    path = write(pty.path('x.cast'), V2, ticks(3, 0.05))
    assert good('play', path, input=b'q    q') == b'tick 1\r\ntick 2\r\ntick 3\r\n'


def test_a_recording_from_standard_input_plays_at_a_terminal(pty):
    """`-` is the recording, so it is no keyboard."""
    path = write(pty.path('x.cast'), V2, ticks(3, 0.05, 'q tick %d\r\n'))
    shown = pty.terminal('/bin/sh', '-c', f'{RECORD} play - < {path}; echo "status $?"')
    shown.wait_text('status 0')
    assert 'q tick 3' in shown.text()


# --- the terminal is given back ---------------------------------------------------------------------------------------


def settings(pty, path, act):
    """Runs play from a shell between two `stty -g`; `act(terminal, pid)` ends it. Gives the two settings and the
    status."""
    shown = pty.terminal('/bin/sh', '-c', f'stty -g; echo; {RECORD} play {path}; echo "status $?"; stty -g; echo end')
    shown.wait(lambda t: b'READY' in t.output or b'status' in t.output)
    raw = termios.tcgetattr(shown.child.child_fd)[3]
    act(shown, next(iter(children(shown.child.pid)), None))
    shown.wait_output(b'end\r\n')
    assert shown.exit_status() == 0
    found = re.findall(rb'[0-9a-f]+(?::[0-9a-f]+){10,}', shown.output)
    assert len(found) == 2, shown.output
    return found[0] == found[1], int(re.search(rb'status (\d+)', shown.output)[1]), raw


WAYS_OUT = {
    'q': (lambda t, pid: t.send('q'), (0,)),
    'Ctrl-C': (lambda t, pid: t.send('\x03'), (0, 130)),
    'paused, then q': (lambda t, pid: t.send(' q'), (0,)),
    'SIGTERM': (lambda t, pid: os.kill(pid, signal.SIGTERM), (143,)),
    'SIGHUP': (lambda t, pid: os.kill(pid, signal.SIGHUP), (129,)),
    'SIGINT': (lambda t, pid: os.kill(pid, signal.SIGINT), (130,)),
    'SIGQUIT': (lambda t, pid: os.kill(pid, signal.SIGQUIT), (131,)),
}


@pytest.mark.parametrize('way', WAYS_OUT)
def test_the_terminal_is_restored_on_every_way_out(pty, way):
    """The keys need raw mode (termios(3)); afterwards the settings are what they were, signals included."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'READY'), event(600, 'o', 'late'))
    act, statuses = WAYS_OUT[way]
    same, status, raw = settings(pty, path, act)
    assert same and status in statuses, (same, status)
    assert not raw & (termios.ICANON | termios.ECHO), 'raw mode while it plays'


def test_the_terminal_is_restored_at_the_end_and_after_an_error(pty):
    """Also when the recording simply ends, and when a line of it is bad."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'READY'), event(0.3, 'o', 'late'))
    same, status, raw = settings(pty, path, lambda t, pid: None)
    assert same and status == 0 and not raw & termios.ICANON
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'READY'), event(0.3, 'o', 'late'), 'bad\n')
    same, status, _ = settings(pty, path, lambda t, pid: None)
    assert same and status == 1


def test_a_recording_that_cleans_up_after_itself_gets_no_second_clean_up(pty):
    """An ordinary recording leaves nothing on, so nothing is added to it: no clear, no jump of the cursor."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'one\r\ntwo\r\n'))
    shown = player(pty, path)
    assert shown.exit_status() == 0
    assert shown.text().rstrip() == 'one\ntwo' and (shown.screen.cursor.x, shown.screen.cursor.y) == (0, 2)


# --- another size -----------------------------------------------------------------------------------------------------


def notes(pty, path, rows=24, cols=80):
    """What play writes to standard error at a terminal of this size."""
    err = pty.path('err')
    shown = pty.terminal('/bin/sh', '-c', f'{RECORD} play -s 100 {path} 2>{err}', rows=rows, cols=cols)
    assert shown.exit_status() == 0
    return pty.read(err)


@pytest.mark.parametrize('version', [2, 3])
@pytest.mark.parametrize('first, later', [((132, 20), ''), ((60, 43), ''), ((132, 43), '140x50'), ((80, 24), '132x43')])
def test_a_window_that_is_too_small_is_said_once(pty, version, first, later):
    """The recording is played all the same; a line on standard error names both sizes. Those of later windows are
    known at the end only."""
    path = write(pty.path('x.cast'), header(version, *first), event(0.01, 'r', later) if later else '', ticks(3, 0.01))
    size = later if first == (80, 24) else f'{first[0]}x{first[1]}'
    assert notes(pty, path) == f'record: {path}: {size} in a window of 80x24\n'


def test_a_window_that_is_large_enough_and_a_pipe_are_no_matter(pty):
    """Nothing to say when all is seen, nor when the output is no terminal at all."""
    path = write(pty.path('x.cast'), header(2, 90, 30), event(0.01, 'r', '80x20'), ticks(3, 0.01))
    assert notes(pty, path, rows=30, cols=90) == notes(pty, path, rows=31, cols=99) == ''
    assert record('play', path).stderr == b''


# --- a session that still runs ----------------------------------------------------------------------------------------


def test_following_from_now_on(pty):
    """A START past the end (`play --help`): what is there at once, and then what comes, as it comes."""
    live = Growing(pty, pty.path('live.cast'), V2 + ''.join(event(100 * n, 'o', f'old {n} ') for n in range(1, 4)))
    run = pty.background(RECORD, 'play', '-f', '-t', '1e6', live.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert screen(read_until(run.stdout, b'old 3')).text() == 'old 1 old 2 old 3'
    live.write(event(400, 'o', 'new'))
    assert read_until(run.stdout, b'new').endswith(b'new')
    live.write(event(400, 'x', '0'))
    assert run.communicate(timeout=10) == (b'', b'') and run.returncode == 0


def test_following_at_a_terminal_can_be_quit_and_taken_back(pty):
    """Keys work while it waits for the live session: back to an earlier screen, and q."""
    live = Growing(pty, pty.path('live.cast'), V2 + ''.join(event(n, 'o', f'second {n}\r\n') for n in range(1, 31)))
    shown = player(pty, live.path, '-f', '-t', '30.25', '-s', '0.1')
    shown.wait_text('second 30')
    shown.send(LEFT)
    shown.wait(lambda t: t.screen.seen() == screen_at(live.path, 25).seen(), what='the screen at 25 s')
    shown.send(RIGHT)
    shown.wait_text('second 30')
    shown.ends('q')


def test_a_bad_line_is_named_when_it_is_reached(pty):
    """What stands before it is played; then the error, exit 1."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'one'), 'bad\n', event(0.02, 'o', 'two'))
    run = record('play', path)
    assert run.returncode == 1 and ERROR.match(run.stderr.decode())['line'] == '3' and run.stdout in (b'', b'one')


def test_play_sleeps_through_a_pause(pty):
    """A long pause of the recording costs no processor time (proc(5))."""
    path = write(pty.path('x.cast'), V2, event(0.01, 'o', 'x'), event(600, 'o', 'y'))
    run = pty.background(RECORD, 'play', path, stdout=subprocess.PIPE)
    read_until(run.stdout, b'x')
    before = cpu_seconds(run.pid)
    select.select([], [], [], 0.5)
    assert cpu_seconds(run.pid) - before < 0.1
