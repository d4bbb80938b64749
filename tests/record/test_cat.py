"""`record cat`: the exact bytes, parts of them, and those of a session that still runs.

Authority: section 6 of the contract; for the lock, section 4 and fcntl(2).
"""
import os
import random
import select
import signal
import statistics
import subprocess
import time

import pytest

from harness import PYTHON, RECORD, cpu_seconds
from record_tools import V2, V3, Growing, event, follow, good, header, output, read_until, record, write


SHIM = {'pid': 4321, 'address': '127.0.0.1:43210'}


@pytest.fixture(name='mixed')
def mixed_recording(pty):
    """Text, bytes that are not UTF-8, input, markers, resizes, many chunks; with the bytes that it stands for."""
    dice = random.Random(1)
    lines, data = [header(command='x')], b''
    for n in range(200):
        piece = dice.choice([b'plain text\r\n', 'h\u00e9 \u4f60 \U0001f600'.encode(), b'\xff\xfe', b'\x1b[31m',
                             bytes(range(256)), b'"\\"'])
        lines += [output(n / 100, piece), event(n / 100, 'i', 'typed'), event(n / 100, 'm', 'mark'),
                  event(n / 100, 'r', '90x30')]
        data += piece
    return write(pty.path('mixed.cast'), *lines, event(3, 'x', '0')), data


def test_cat_prints_the_exact_bytes_and_nothing_else(mixed):
    """Input, markers, sizes and the exit are no output; `b` events stand in for what is not UTF-8."""
    path, data = mixed
    assert good('cat', path) == data


def test_arbitrary_bytes_come_back(pty):
    """Every byte value, cut anywhere, also through the middle of UTF-8 sequences."""
    dice = random.Random(2)
    data = dice.randbytes(300000) + ('\u00e9\u20ac\U0001f600' * 3000).encode()
    lines, at = [V2], 0
    while at < len(data):
        size = dice.randint(1, 4000)
        lines.append(output(at / 1e6, data[at:at + size]))
        at += size
    path = write(pty.path('x.cast'), *lines)
    assert good('cat', path) == data
    assert good('cat', '--from', 1000, '--to', 290001, path) == data[1000:290001]


def test_a_part_is_counted_in_bytes_of_output(mixed):
    """[N, N): the first byte is number 0; the offsets count exact bytes, not characters and not bytes of the file."""
    path, data = mixed
    dice = random.Random(3)
    spans = [(0, 0), (0, 1), (1, 1), (len(data) - 1, len(data)), (5, len(data)), *(
        sorted((dice.randrange(len(data)), dice.randrange(len(data)))) for _ in range(40))]
    for first, last in spans:
        assert good('cat', '--from', first, '--to', last, path) == data[first:last], (first, last)


def test_from_alone_and_to_alone(mixed):
    """Without --from it begins at the first byte; without --to it goes to the last."""
    path, data = mixed
    assert good('cat', '--from', 777, path) == data[777:]
    assert good('cat', '--to', 777, path) == data[:777]


def test_a_part_outside_the_output_is_empty_or_cut(mixed):
    """Offsets past the end ask for nothing that exists; that is no error."""
    path, data = mixed
    assert good('cat', '--from', len(data), path) == b''
    assert good('cat', '--from', len(data) + 5, path) == b''
    assert good('cat', '--from', 2 ** 40, '--to', 2 ** 41, path) == b''
    assert good('cat', '--from', len(data) - 3, '--to', 2 ** 60, path) == data[-3:]


def test_several_files_are_printed_in_the_order_given(pty):
    """As cat(1): one after another, standard input among them; one that cannot be read does not stop the others."""
    paths = [write(pty.path(f'{n}.cast'), header(version), output(1, data)) for n, (version, data) in enumerate(
        ((2, b'one\xff'), (3, b'two'), (2, b'')))]
    third = write(pty.path('3.json'), '{"version": 1, "width": 80, "height": 24, "stdout": [[1, "three"]]}')
    assert good('cat', paths[1], paths[0], third, paths[2], paths[1]) == b'twoone\xffthreetwo'
    with open(paths[0], 'rb') as f:
        assert good('cat', third, '-', paths[1], stdin=f) == b'threeone\xfftwo'
    assert good('cat', '--from', 2, '--to', 9, *paths, third) == b'e\xfftwoth'
    bad = write(pty.path('bad.cast'), V2, event(1, 'o', 'x'), 'bad\n')
    run = record('cat', paths[0], pty.path('missing'), bad, third)
    assert (run.returncode, run.stdout) == (1, b'one\xffxthree') and run.stderr.count(b'\n') == 2


def test_a_part_ends_before_what_is_bad_behind_it(pty):
    """Nothing after byte --to is needed, so nothing after it is read: the shim's catch-up reads a file that grows."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'abcdef'), 'bad\n')
    assert good('cat', '--to', 3, path) == b'abc'


def test_cat_reads_a_descriptor_that_it_was_given(mixed):
    """The shim starts `record cat /dev/fd/3`: the open recording, whatever became of its name."""
    path, data = mixed
    with open(path, 'rb') as f:
        run = subprocess.run([RECORD, 'cat', '--from', '10', '--to', '5000', f'/dev/fd/{f.fileno()}'], check=False,
                             pass_fds=[f.fileno()], capture_output=True, timeout=20)
    assert (run.returncode, run.stdout, run.stderr) == (0, data[10:5000], b'')


def test_cat_reads_standard_input(mixed):
    """`-` is standard input: a file, or a pipe that comes in pieces."""
    path, data = mixed
    with open(path, 'rb') as f:
        assert good('cat', '-', input=f.read()) == data
    with open(path, 'rb') as f:
        assert good('cat', '-', stdin=f) == data


@pytest.mark.parametrize('first', [V2, V3], ids=['v2', 'v3'])
def test_cat_of_a_pipe_prints_at_once_what_has_come(pty, first):
    """`at once`: in `tail -f x.cast | record cat -` nothing waits for a block to fill."""
    run = pty.background(RECORD, 'cat', '-', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    run.stdin.write(first.encode() + event(1, 'o', 'one').encode())
    run.stdin.flush()
    assert read_until(run.stdout, b'one') == b'one'
    second = event(1, 'o', 'two').encode()
    run.stdin.write(second[:7])
    run.stdin.flush()
    run.stdin.write(second[7:])
    run.stdin.flush()
    assert read_until(run.stdout, b'two') == b'two'
    run.stdin.close()
    assert run.stdout.read() == b'' and run.wait(10) == 0


def test_a_reader_that_goes_away_is_a_silent_end(pty):
    """Section 6: `record cat x | head` ends in silence, as cat(1) does by SIGPIPE."""
    path = write(pty.path('x.cast'), V2, *(event(n, 'o', 'line\n' * 10000) for n in range(100)))
    for command in ('cat', 'convert -t raw', 'convert -t v3', 'convert -t txt', 'convert -t ttyrec', 'play -s 1000'):
        run = pty.run('bash', '-c', f'{RECORD} {command} {path} | head -c 3; echo " ${{PIPESTATUS[0]}}"')
        assert run.stderr == '' and run.returncode == 0, (command, run)
        assert run.stdout.rpartition(' ')[2].strip() in ('0', str(128 + signal.SIGPIPE)), (command, run.stdout)


# --- a session that still runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('command', ['cat', 'play'])
def test_following_shows_what_is_there_and_what_comes(pty, command):
    """-f: first what the file holds, then each event as it is written, `b` events too, until the exit event."""
    live = Growing(pty, pty.path('live.cast'), header() + event(0.1, 'o', 'old '))
    run = follow(pty, command, live.path)
    assert read_until(run.stdout, b'old ') == b'old '
    for text, data in ((event(0.2, 'o', 'one '), b'one '), (output(0.3, b'\xff\xfe'), b'\xff\xfe'),
                       (event(0.4, 'r', '90x30') + event(0.5, 'o', 'two '), b'two ')):
        live.write(text)
        assert read_until(run.stdout, data) == data
    live.write(event(0.6, 'o', 'last') + event(0.7, 'x', '3'))
    assert run.communicate(timeout=10) == (b'last', b'')
    assert run.returncode == 0


@pytest.mark.parametrize('command', ['cat', 'play'])
def test_following_waits_for_the_rest_of_a_line(pty, command):
    """A line may come in pieces; the part of a line is never printed, and never an error while the session lives."""
    live = Growing(pty, pty.path('live.cast'), '{"version": 2, "wid')
    run = follow(pty, command, live.path)
    live.write('th": 80, "height": 24}\n[0.1, "o", "fi')
    live.write('rst \\u00')
    live.write('e9"]')
    live.write('\n')
    assert read_until(run.stdout, '\u00e9'.encode()) == 'first \u00e9'.encode()
    two = output(0.2, b'\xff!')
    for at in range(0, len(two), 7):
        live.write(two[at:at + 7])
    assert read_until(run.stdout, b'!') == b'\xff!'
    live.write(event(0.3, 'x', '0'))
    assert run.wait(10) == 0


def test_following_begins_with_a_recording_that_is_still_empty(pty):
    """The file is there before its first line is."""
    live = Growing(pty, pty.path('live.cast'))
    run = follow(pty, 'cat', live.path)
    live.write(V2 + event(0.1, 'o', 'hello'))
    assert read_until(run.stdout, b'hello') == b'hello'
    live.write(event(0.2, 'x', '0'))
    assert run.wait(10) == 0


def test_following_ends_when_the_exit_event_comes(pty):
    """The `x` event is the end, though the writer lives on and holds its lock."""
    live = Growing(pty, pty.path('live.cast'), V2)
    run = follow(pty, 'cat', live.path)
    live.write(event(0.1, 'o', 'a') + event(0.2, 'x', '0'))
    assert run.communicate(timeout=10) == (b'a', b'')
    assert run.returncode == 0 and live.process.poll() is None


@pytest.mark.parametrize('command', ['cat', 'play'])
def test_following_says_when_the_session_died_without_an_exit_event(pty, command):
    """The kernel drops a record lock with its holder (fcntl(2)): nobody will write the `x` event any more."""
    live = Growing(pty, pty.path('live.cast'), header(shim=SHIM) + event(0.1, 'o', 'before '))
    run = follow(pty, command, live.path)
    read_until(run.stdout, b'before ')
    live.write(event(0.2, 'o', 'after [') + '[0.3, "o", "to')
    live.die()
    out, err = run.communicate(timeout=10)
    assert out == b'after ['
    assert err.startswith(b'record: ') and b'live.cast' in err and err.count(b'\n') == 1
    assert run.returncode in (0, 1)


def test_following_a_session_that_is_long_over_ends_at_once(pty):
    """With an exit event in silence; without one, and nobody holding the lock, it says so."""
    over = write(pty.path('over.cast'), header(shim=SHIM), event(0.1, 'o', 'a'), event(0.2, 'x', '0'))
    assert good('cat', '-f', over) == b'a'
    run = record('cat', '-f', write(pty.path('dead.cast'), header(shim=SHIM), event(0.1, 'o', 'a')))
    assert run.stdout == b'a' and b'dead.cast: the session died' in run.stderr and run.returncode in (0, 1)


@pytest.mark.parametrize('end', ['an exit event', 'Ctrl-C'])
@pytest.mark.parametrize('command', [('cat', '-f'), ('play', '-f')], ids=' '.join)
def test_the_recording_of_another_program_is_followed_to_its_exit_event_or_ctrl_c(pty, command, end):
    """asciinema takes no lock, so nobody knows whether it lives. An exit event with more behind it (`asciinema rec
    --append`) ends nothing."""
    old = V3 + event(0.1, 'o', 'a ') + event(0.1, 'x', '0') + event(0.1, 'o', 'b ')
    live = Growing(pty, pty.path('live.cast'), old, lock=False)
    run = pty.background(RECORD, *command, live.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert read_until(run.stdout, b'b ') == b'a b '
    live.write(event(0.2, 'o', 'c '))
    read_until(run.stdout, b'c ')
    if end == 'Ctrl-C':
        run.send_signal(signal.SIGINT)
    else:
        live.write(event(0.3, 'o', 'last') + event(0.1, 'x', '0'))
    assert run.communicate(timeout=10) == (b'' if end == 'Ctrl-C' else b'last', b'')
    assert run.returncode == (-signal.SIGINT if end == 'Ctrl-C' else 0)


@pytest.mark.parametrize('lock', [True, False], ids=['shim', 'other'])
@pytest.mark.parametrize('command', [('cat', '-f'), ('play', '-f')], ids=' '.join)
def test_a_file_that_is_truncated_meanwhile_is_read_anew(pty, command, lock):
    """`asciinema rec --overwrite`: the file is the same, and shorter than what was read of it. That is said."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.1, 'o', 'old') + '[0.2, "o", "torn', lock=lock)
    run = pty.background(RECORD, *command, live.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    read_until(run.stdout, b'old')
    os.truncate(live.path, 0)
    said = read_until(run.stderr, b'\n')
    assert said == f'record: {live.path}: was truncated: it is read from its beginning again\n'.encode()
    live.write(V3 + event(0.1, 'o', 'new'))
    assert read_until(run.stdout, b'new').endswith(b'new')
    live.write(event(0.2, 'x', '0'))
    live.die()
    assert run.communicate(timeout=10) == (b'', b'') and run.returncode == 0


@pytest.mark.parametrize('command', ['cat', 'play'])
def test_without_f_a_running_session_is_read_to_its_present_end(pty, command):
    """`all of them, at once`: nobody waits for what is still to come; the torn end is no error."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.1, 'o', 'now') + '[0.2, "o", "la')
    assert good(command, live.path) == b'now'


def test_following_does_not_take_the_lock_away(pty):
    """A reader asks with F_GETLK; it never locks, and many readers see the session alive."""
    live = Growing(pty, pty.path('live.cast'), V2)
    runs = [follow(pty, 'cat', live.path) for _ in range(3)]
    live.write(event(0.1, 'o', 'x'))
    for run in runs:
        read_until(run.stdout, b'x')
    good('info', live.path)
    live.write(event(0.2, 'o', 'y') + event(0.3, 'x', '0'))
    for run in runs:
        assert run.communicate(timeout=10) == (b'y', b'')


@pytest.mark.parametrize('command', ['cat', 'play'])
def test_following_is_quick(pty, command):
    """Issue 4: under 100 ms of delay. The middle one of 15 delays, so that a busy machine does not count."""
    live = Growing(pty, pty.path('live.cast'), V2)
    run = follow(pty, command, live.path)
    delays = []
    for n in range(15):
        began = time.monotonic()
        live.write(event(n, 'o', f'<{n}>'))
        read_until(run.stdout, f'<{n}>'.encode())
        delays.append(time.monotonic() - began)
    assert statistics.median(delays) < 0.1, delays


@pytest.mark.parametrize('lock', [True, False], ids=['shim', 'other'])
def test_following_sleeps_while_nothing_comes(pty, lock):
    """Waiting costs next to nothing: no busy loop (utime and stime of proc(5))."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.1, 'o', 'x'), lock=lock)
    run = follow(pty, 'cat', live.path)
    read_until(run.stdout, b'x')
    before = cpu_seconds(run.pid)
    select.select([], [], [], 0.5)
    assert cpu_seconds(run.pid) - before < 0.1


def test_following_ends_when_its_reader_goes_away(pty):
    """`record cat -f x | head`: the pipe has no reader any more; the next write ends it, silently."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.1, 'o', 'x'))
    run = follow(pty, 'cat', live.path)
    read_until(run.stdout, b'x')
    run.stdout.close()
    live.write(event(0.2, 'o', 'y'))
    assert run.wait(10) in (0, -signal.SIGPIPE) and run.stderr.read() == b''


def test_following_takes_a_part_too(pty):
    """--from with -f: later bytes only; --to with -f: it ends there, though the session goes on."""
    live = Growing(pty, pty.path('live.cast'), V2 + event(0.1, 'o', 'abcdef'))
    run = follow(pty, 'cat', live.path, '--from', '4', '--to', '8')
    assert read_until(run.stdout, b'ef') == b'ef'
    live.write(event(0.2, 'o', 'ghijk'))
    assert run.communicate(timeout=10) == (b'gh', b'') and run.returncode == 0


def test_a_lock_of_the_old_kind_of_another_program_is_no_matter(pty):
    """flock(2) locks are another kind: who holds one is not the session's daemon."""
    path = write(pty.path('x.cast'), header(shim=SHIM), event(0.1, 'o', 'a'))
    holder = pty.background(PYTHON, '-c', f'import fcntl,sys; f=open({path!r}); fcntl.flock(f, fcntl.LOCK_EX); '
                            'print("READY", flush=True); sys.stdin.read()', stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b'READY\n'
    run = record('cat', '-f', path)
    assert run.stdout == b'a' and b'the session died' in run.stderr
