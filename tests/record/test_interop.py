"""Recordings cross between programs: asciinema 2.2, scriptreplay and ttyplay read ours, and shim shows a replay to
many.

Each of those tools is from Debian's packages: asciinema, bsdutils (script, scriptreplay), ttyrec.
"""
import os
import shutil

import pytest

from harness import RECORD, hello
from record_tools import (CASTS, casts, chunks, convert, event, good, header, load, output, printed,
                          screen, write)

TEXT = ['\x1b[1;32mgreen\x1b[0m caf\u00e9 \u20ac\r\n'.encode(), b'one\r\ntwo\r\n', b'progress 10%',
        b'\rprogress 99%\r\n', '\u4f60\u597d\r\n'.encode()]
EXACT = [b'bytes \xff\xfe here\r\n', b'\x00\x80cut \xc3', b'\xa9 end\r\n']


def need(tool):
    """The tool must be there; `make test` installs it, so only a machine that cannot have it skips."""
    if not shutil.which(tool):
        pytest.skip(f'{tool} is not installed')
    return tool


def ours(pty, pieces, step=0.01):
    """A recording as the shim writes it."""
    lines = [output(step * n, piece) for n, piece in enumerate(pieces, 1)]
    return write(pty.path('ours.cast'), header(2, 80, 24, timestamp=1700000000, command='x', env={'TERM': 'xterm'},
                                               shim={'pid': 1, 'address': '127.0.0.1:1'}),
                 *lines, event(3, 'r', '80x24'), event(3, 'm', 'mark'), event(3.01, 'x', '0'))


def recorded(pty, program, *options):
    """A recording that our shim made of `program`, whose client waited for its end."""
    shim = pty.shim(*options, '-r', pty.path('session.cast'), '-w', '-s', '80x24', pty.path('sock'), *program)
    client = pty.client(shim.address, hello(0, 0))
    client.read_all()
    shim.wait_gone()
    return shim.recording


def environment(pty):
    return dict(os.environ, ASCIINEMA_CONFIG_HOME=pty.folder, TERM='xterm-256color', LC_ALL='C.UTF-8')


def asciinema_cat(pty, path):
    """What `asciinema cat` prints; it wants a terminal (/dev/tty) though it prints elsewhere."""
    need('asciinema')
    shown = pty.terminal('/bin/sh', '-c', f'asciinema cat {path} > {pty.path("printed")}', env=environment(pty))
    assert shown.exit_status() == 0, shown.text()
    return pty.read_bytes('printed')


def on_terminal(pty, *argv, cols=80, rows=24):
    """The screen that a tool leaves on its terminal, and its status."""
    shown = pty.terminal(*argv, cols=cols, rows=rows, env=environment(pty))
    return shown.exit_status(), shown.screen.text(), shown.output


# --- asciinema --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('pieces', [TEXT, TEXT + EXACT], ids=['text', 'bytes'])
def test_asciinema_cats_ours(pty, pieces):
    """asciinema 2.2 skips our `b`, `r`, `m` and `x` events and the `shim` member; it sees U+FFFD where bytes are no
    UTF-8."""
    wanted = ''.join(piece.decode('utf-8', 'replace') for piece in pieces)
    assert asciinema_cat(pty, ours(pty, pieces)).decode() == wanted


def test_asciinema_plays_ours(pty):
    """At a terminal it leaves the screen that the session had."""
    need('asciinema')
    path = ours(pty, TEXT)
    status, text, _ = on_terminal(pty, 'asciinema', 'play', '-i', '0.01', path)
    assert status == 0 and text == screen(b''.join(TEXT)).text()


def test_asciinema_cats_and_plays_what_the_shim_recorded(pty):
    """The whole way: a program under our shim, asciinema reads the recording."""
    path = recorded(pty, ['/bin/sh', '-c', 'printf "caf\\303\\251 \\377\\033[31mred\\033[0m\\n"; seq 50'])
    shown = asciinema_cat(pty, path)
    wanted = b'caf\xc3\xa9 \xff\x1b[31mred\x1b[0m\r\n' + b''.join(b'%d\r\n' % n for n in range(1, 51))
    assert good('cat', path) == wanted
    assert shown == wanted.replace(b'\xff', '\ufffd'.encode())
    status, text, _ = on_terminal(pty, 'asciinema', 'play', '-i', '0.01', path)
    assert status == 0 and text == screen(shown).text()


@pytest.mark.parametrize('name', ['doc-v1.json', 'oneline-v1.json', 'doc-v3.cast', 'escapes.cast'])
def test_asciinema_cats_what_convert_wrote(pty, name):
    """asciinema 2.2 knows v2 (and v1): what `convert -t v2` makes of v1, v3 and odd files, it reads."""
    path = os.path.join(CASTS, name)
    out = write(pty.path('out.cast'), good('convert', '-t', 'v2', path))
    wanted = ''.join(data for _, code, data in load(pty.read_bytes(path))[1] if code == 'o').encode()
    assert asciinema_cat(pty, out) == wanted


@pytest.mark.parametrize('name', ['vim.cast', 'less.cast', 'bash.cast', 'latin1.cast'])
def test_asciinema_and_record_print_the_same(pty, name):
    """Recordings of asciinema: both cats agree to the byte, and so do the screens that both players leave."""
    path = os.path.join(CASTS, name)
    shown = asciinema_cat(pty, path)
    assert shown == good('cat', path)
    assert on_terminal(pty, RECORD, 'play', '-s', '1000', path)[:2] == (0, screen(shown).text())


# --- scriptreplay -----------------------------------------------------------------------------------------------------


def script_files(pty, path):
    """convert -t script writes two files: the output in OUT, the timing log in OUT.timing."""
    out = pty.path('session')
    assert convert('script', '-o', out, path) == b''
    return out + '.timing', out


@pytest.mark.parametrize('pieces', [TEXT, TEXT + EXACT, [b'', *TEXT, b'', b'']], ids=['text', 'bytes', 'empty pieces'])
def test_scriptreplay_plays_what_convert_wrote(pty, pieces):
    """util-linux's advanced timing log: scriptreplay prints the same bytes."""
    need('scriptreplay')
    timing, typescript = script_files(pty, ours(pty, pieces))
    run = pty.run('scriptreplay', '--maxdelay', '0.01', '--log-timing', timing, '--log-out', typescript, text=False)
    assert run.returncode == 0 and run.stderr == b'' and run.stdout.rstrip(b'\n') == b''.join(pieces).rstrip(b'\n'), run


# --- ttyrec -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('pieces', [TEXT, TEXT + EXACT], ids=['text', 'bytes'])
def test_ttyplay_plays_what_convert_wrote(pty, pieces):
    """ttyplay -n prints the frames without waiting: the same bytes, and the same screen."""
    need('ttyplay')
    out = pty.path('out.ttyrec')
    convert('ttyrec', '-o', out, ours(pty, pieces))
    status, text, data = on_terminal(pty, 'ttyplay', '-n', out)
    assert status == 0 and text == screen(b''.join(pieces)).text()
    assert data.replace(b'\r', b'') == b''.join(pieces).replace(b'\r', b'')


def test_ttytime_reads_the_length(pty):
    """ttytime(1) adds up the times of the frames: the length of the recording in seconds."""
    need('ttytime')
    out = pty.path('out.ttyrec')
    good('convert', '-t', 'ttyrec', '-o', out, write(pty.path('x.cast'), header(), event(1, 'o', 'a'),
                                                     event(43, 'o', 'b')))
    run = pty.run('ttytime', out)
    assert run.returncode == 0 and run.stdout.split()[0] == '42', run


# --- a replay for many ------------------------------------------------------------------------------------------------


def test_a_replay_is_shown_to_several_attachers(pty):
    """`shim -n -w ADDRESS record play FILE`: it begins with the first attacher, and each sees the whole recording."""
    path = write(pty.path('x.cast'), header(), *(output(0.1 * n, b'line %d\r\n' % n) for n in range(1, 11)))
    shim = pty.shim('-n', '-w', '0', RECORD, 'play', path)
    assert shim.recording is None
    one = pty.client(shim.address, hello(24, 80))
    assert b'line 1\r\n' in one.read_until(b'line 1\r\n')
    two = pty.client(shim.address, hello(24, 80))
    three = pty.attach(shim.address)
    for text in (one.read_until(b'line 10\r\n'), two.read_until(b'line 10\r\n')):
        assert b'line 9\r\n' in text
    three.wait_text('line 10')
    assert all(f'line {n}' in three.text() for n in range(1, 11)) and three.exit_status() == 0
    assert two.read_all().endswith(b'\xff\xffxx\x00')
    shim.wait_gone()


def test_attachers_steer_the_replay_with_its_keys(pty):
    """The replay is a program like any other: what an attacher types reaches it; q ends it for all."""
    path = write(pty.path('x.cast'), header(), event(0.1, 'o', 'here'), event(600, 'o', 'late'))
    shim = pty.shim('-n', '-w', '0', RECORD, 'play', path)
    one, two = pty.attach(shim.address), pty.client(shim.address, hello(24, 80))
    one.wait_text('here')
    two.read_until(b'here')
    one.ends('q')
    assert two.read_all().endswith(b'\xff\xffxx\x00')
    shim.wait_gone()


def test_a_live_session_is_shown_by_following_it(pty):
    """`record cat -f` of a session under our shim prints what its clients see, and ends with it."""
    shim = pty.shim('-r', pty.path('live.cast'), '0', '/bin/sh', '-c', 'while read x; do echo "<$x>"; done; exit 3')
    run = pty.background(RECORD, 'cat', '-f', shim.recording, stdout=-1, stderr=-1)
    client = pty.client(shim.address, hello(24, 80))
    for word in (b'one', b'two'):
        client.send(word + b'\r')
        client.read_until(b'<' + word + b'>\r\n')
    assert str(shim.pid) in good('info', shim.recording).decode() and 'running' in good('info', shim.recording).decode()
    client.send(b'\x04')
    client.read_all()
    shim.wait_gone()
    out, err = run.communicate(timeout=10)
    assert (run.returncode, err) == (0, b'') and out == good('cat', shim.recording) and b'<two>' in out
    assert 'running' not in good('info', shim.recording).decode()


@pytest.mark.parametrize('name', [os.path.basename(p) for p in casts() if os.path.basename(p).startswith('shim-')])
def test_golden_recordings_of_our_shim_are_as_the_contract_says(name):
    """Section 4: the header's members, six decimals, times that never go back, `b` right before its `o`, the exit at
    the end."""
    with open(os.path.join(CASTS, name), 'rb') as f:
        data = f.read()
    head, events = load(data)
    assert {'version', 'width', 'height', 'timestamp', 'command', 'env',
            'shim'} <= set(head) and isinstance(head['timestamp'], int)
    assert all(line.partition(b',')[0].rpartition(b'.')[2].isdigit()
               and len(line.partition(b',')[0].rpartition(b'.')[2]) == 6
               for line in data.splitlines()[1:])
    times = [e[0] for e in events]
    assert times == sorted(times) and events[-1][1] == 'x' and events[-1][2].isdigit()
    assert all(after[1] == 'o' for e, after in zip(events, events[1:]) if e[1] == 'b')
    assert len(chunks(events)) and printed(os.path.join(CASTS, name))
