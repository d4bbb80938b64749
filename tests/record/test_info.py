"""`record info`: what a recording is, one or many, for people and for scripts.

Authority: section 6 of the contract and issue 4, item 2; for the lock, section 4 and fcntl(2).
"""
import datetime
import json
import os
import re

import pytest

from record_tools import ERROR, V2, Growing, event, good, header, output, record, write

STARTED = 1700000000
SHIM = {'pid': 4321, 'address': '127.0.0.1:43210'}


def session(pty, name, *lines, **more):
    """A recording as the shim writes it."""
    members = {'timestamp': STARTED, 'command': 'top -d 1', 'env': {'TERM': 'xterm', 'SHELL': '/bin/sh'},
               'shim': SHIM, **more}
    return write(pty.path(name), header(2, 100, 30, **members), *lines)


def live(pty, name, *lines, **more):
    """A recording that a helper process holds open, as a daemon does."""
    with open(session(pty, name, *lines, **more), encoding='utf-8') as f:
        return Growing(pty, f.name, f.read())


def objects(data):
    """The objects of --json: one array, or one object a line."""
    text = data.decode()
    try:
        whole = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]
    return whole if isinstance(whole, list) else [whole]


def values(thing):
    """Every value in a JSON document, however deep."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    return [v for part in thing for v in values(part)] if isinstance(thing, list) else [thing]


def test_one_file_is_a_block_that_says_it_all(pty):
    """Section 6: command, size, length, bytes, events, when, ended (status)."""
    path = session(pty, 'a.cast', output(0.5, b'12345'), output(1.5, b'\xff\xfe\xfd'), event(2, 'm', ''),
                   event(62.25, 'x', '3'))
    text = good('info', path).decode()
    assert path in text and 'top -d 1' in text and '100x30' in text
    assert re.search(r'\b8\b', text), 'eight bytes of output'
    assert re.search(r'62\.25|1:02|1m ?0?2', text), 'its length'
    assert re.search(r'ended.*\b3\b', text), 'its status'
    assert str(datetime.datetime.fromtimestamp(STARTED).year) in text
    assert text.count('\n') >= 4


def test_many_files_are_a_line_each(pty):
    """`a line or a block a file`: more than one file is a list, a line a session, with its command and status."""
    paths = [session(pty, f'{n}.cast', output(0.5, b'x'), event(1, 'x', str(n)), command=f'command-{n}')
             for n in range(41, 45)]
    lines = good('info', *map(os.path.basename, paths), cwd=pty.folder).decode().splitlines()
    for n, path in enumerate(paths, 41):
        [line] = [line for line in lines if f'command-{n}' in line]
        line = line.replace(f'command-{n}', '')
        assert f'{n}.cast' in line and re.search(rf'\b{n}\b', line.replace(f'{n}.cast', '')), path


def test_running_sessions_come_first(pty):
    """Issue 4: `what do I have running here`; the lock tells, not the absence of an exit event."""
    paths = [session(pty, f'{n}.cast', event(1, 'x', '0'), command=f'over-{n}') for n in range(3)]
    dead = session(pty, 'dead.cast', output(1, b'x'), command='dead-1')
    running = [live(pty, f'live{n}.cast', output(1, b'y'), command=f'run-{n}',
                    shim={'pid': 77 + n, 'address': f'/tmp/sock{n}'}) for n in range(2)]
    files = [paths[0], dead, running[0].path, paths[1], running[1].path, paths[2]]
    text = good('info', *map(os.path.basename, files), cwd=pty.folder).decode()
    at = {name: text.index(name) for name in ('over-0', 'over-1', 'over-2', 'dead-1', 'run-0', 'run-1')}
    assert max(at['run-0'], at['run-1']) < min(at['over-0'], at['over-1'], at['over-2'], at['dead-1'])
    for n, growing in enumerate(running):
        [line] = [line for line in text.splitlines() if f'run-{n}' in line]
        assert 'running' in line and f'/tmp/sock{n}' in line and str(growing.process.pid) in line
    [line] = [line for line in text.splitlines() if 'dead-1' in line]
    assert 'running' not in line


def test_one_running_session_says_where_to_attach(pty):
    """Its pid and its address: what `attach` and `kill` need."""
    growing = live(pty, 'run.cast', output(1, b'y'))
    text = good('info', growing.path).decode()
    assert 'running' in text and '127.0.0.1:43210' in text and str(growing.process.pid) in text and 'ended' not in text


def test_a_session_that_died_is_neither_running_nor_ended_with_a_status(pty):
    """The kernel has dropped its lock, and there is no exit event."""
    growing = live(pty, 'a.cast', output(1, b'y'))
    growing.die()
    text = good('info', 'a.cast', cwd=pty.folder).decode()
    assert 'running' not in text and not re.search(r'status \d', text)


def test_a_session_whose_end_is_written_has_ended_though_the_writer_lives_on(pty):
    """The exit event counts: the daemon may still be delivering what its clients have to get."""
    live(pty, 'a.cast', output(1, b'y'), event(2, 'x', '7'))
    text = good('info', 'a.cast', cwd=pty.folder).decode()
    assert re.search(r'ended.*\b7\b', text) and 'running' not in text


def test_json_is_for_scripts(pty):
    """--json: strict JSON with the same facts, for one file and for many."""
    path = session(pty, 'a.cast', output(0.5, b'12345'), output(1.5, b'\xff\xfe\xfd'), event(2, 'm', ''),
                   event(62.25, 'x', '3'),
                   command='say "h\u00e9llo" \\ \x1b')
    [one] = objects(good('info', '--json', path))
    found = values(one)
    for value in (path, 'say "h\u00e9llo" \\ \x1b', 100, 30, 8, 3):
        assert value in found, (value, one)
    assert any(isinstance(v, float) and v == pytest.approx(62.25) for v in found), one
    growing = live(pty, 'run.cast', output(1, b'y'))
    both = objects(good('info', '--json', path, growing.path))
    assert len(both) == 2
    assert growing.process.pid in values(both[0]) and '127.0.0.1:43210' in values(both[0]), 'running first'
    assert growing.process.pid not in values(both[1]) and set(both[0]) | set(both[1]) >= set(one)


def test_the_last_output_has_the_date_of_the_wall_clock(pty):
    """A `t` event says what time of day it is, after a suspend say; lengths stay those of the recording's own clock."""
    path = session(pty, 'a.cast', output(1, b'x'), event(2, 't', f'{STARTED + 30000}.500000'), output(3, b'y'), event(4, 'x', '0'))
    [one] = objects(good('info', '--json', path))
    assert (one['last_date'], one['last_output'], one['length'], one['events']) == (STARTED + 30001, 3, 4, 4)
    said = datetime.datetime.fromtimestamp(STARTED + 30001).strftime('last output: %Y-%m-%d %H:%M:%S')
    assert said in good('info', path).decode()
    path = write(pty.path('b.cast'), V2, event(1, 't', str(STARTED)), output(3, b'y'))
    assert objects(good('info', '--json', path))[0]['last_date'] == STARTED + 2
    assert b'"last_date": null' in good('info', '--json', write(pty.path('c.cast'), V2, output(3, b'y')))


def test_json_of_a_bare_recording(pty):
    """Recordings of other programs have no command, no timestamp, no exit: that is null or left out, and no error."""
    [one] = objects(good('info', '--json', write(pty.path('x.cast'), V2, event(1, 'o', 'x'))))
    assert 80 in values(one) and 24 in values(one)


def test_a_command_cannot_write_on_the_terminal_of_who_asks(pty):
    """A header is data of somebody else: its control characters do not reach the terminal as they are."""
    path = session(pty, 'a.cast', event(1, 'x', '0'), command='evil\x1b]0;title\x07\x1b[2J\nrunning pid 1 \x9b')
    for text in (good('info', path), good('info', path, path), good('info', '--json', path)):
        assert b'\x1b' not in text and b'\x07' not in text and '\x9b'.encode() not in text
    assert len(good('info', path, path).splitlines()) <= 3


def test_one_bad_file_among_many_is_named_and_the_others_are_shown(pty):
    """A folder of recordings holds a broken one; the list is still the answer. Exit 1 tells scripts."""
    one, two = (session(pty, f'{n}.cast', event(1, 'x', '0'), command=f'over-{n}') for n in range(2))
    bad = write(pty.path('bad.cast'), 'not a recording\n')
    for argv in ((one, bad, two), ('--json', one, bad, two), (one, pty.path('missing'), two)):
        run = record('info', *argv)
        assert run.returncode == 1 and b'over-0' in run.stdout and b'over-1' in run.stdout, run
        assert run.stderr.startswith(b'record: ') and run.stderr.count(b'\n') == 1
    assert ERROR.match(record('info', one, bad, two).stderr.decode())['file'] == bad


def test_version_1_and_3_and_standard_input(pty):
    """Every version has its size and its output's bytes."""
    v1 = write(pty.path('1.json'), '{"version": 1, "width": 101, "height": 31, "command": "zsh", '
               '"stdout": [[1, "abc"], [1.5, "d"]]}')
    v3 = write(pty.path('3.cast'), header(3, 101, 31, command='zsh'), event(1, 'o', 'abc'), event(1.5, 'o', 'd'))
    for path in (v1, v3):
        assert '101x31' in good('info', path).decode() and 'zsh' in good('info', path).decode()
        found = values(objects(good('info', '--json', path)))
        assert 4 in found and any(isinstance(v, float) and v == pytest.approx(2.5) for v in found)
    with open(v3, 'rb') as f:
        assert b'101x31' in good('info', '-', stdin=f)


def test_asking_does_not_disturb(pty):
    """info only reads: the file is the same afterwards, and its times too, but for the access time."""
    path = session(pty, 'a.cast', output(0.5, b'x'), '[1.0, "o", "to')
    before = os.stat(path)
    good('info', path)
    after = os.stat(path)
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
