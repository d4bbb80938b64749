"""Recordings of named sessions: FILE may be a session's name, and `record info` alone lists them all.

Authority: sections 1 and 6 of the contract, and issue 13, items 1 and 2.
"""
import datetime
import json
import os
import re

import pytest

from harness import RECORD
from record_tools import V2, Growing, event, good, header, output, record, write

TIMES = '20261121T232034Z', '20261121T232035Z', '20261124T034037Z'
SHIM = {'pid': 4321, 'address': '/tmp/shim-0/work'}


def stamp(time):
    """The seconds since 1970 of a time in a recording's name."""
    return int(datetime.datetime.strptime(time, '%Y%m%dT%H%M%S%z').timestamp())


@pytest.fixture(name='sessions')
def sessions_folder(pty, monkeypatch):
    """A records folder of the test's own; gives back what makes a recording in it, and its path."""
    folder = pty.path('records')
    os.mkdir(folder)
    monkeypatch.setenv('SHIM_RECORDS', folder)

    def make(name, *lines, command='top -d 1'):
        started = stamp(re.search(r'-(\w{15}Z)(-\d+)?\.cast$', name)[1])
        return write(f'{folder}/{name}', header(2, timestamp=started, command=command, shim=SHIM), *lines)
    return make


# --- which file a name means ------------------------------------------------------------------------------------------


def test_a_name_is_the_newest_recording_of_that_session(sessions):
    """Found from any folder, by the time in its name; -2, -3, -10 begin in the same second, in this order."""
    for number, name in enumerate((f'work-{TIMES[0]}.cast', f'work-{TIMES[1]}.cast', f'work-{TIMES[1]}-2.cast',
                                   f'work-{TIMES[1]}-10.cast', f'work-{TIMES[2]}.cast')):
        sessions(name, output(1, b'%d' % number))
        assert good('cat', 'work', cwd='/') == b'%d' % number
    for name in (f'work-{TIMES[0]}-9.cast', f'other-{TIMES[2]}-2.cast'):
        sessions(name, output(1, b'x'))
        assert good('cat', 'work', cwd='/') == b'4'


def test_every_command_takes_a_name(sessions):
    """`Where a FILE is wanted, record takes a session's name too.`"""
    path = sessions(f'work-{TIMES[0]}.cast', output(0.01, b'hello'), event(0.02, 'x', '0'))
    for command in (['cat'], ['cat', '-f'], ['play'], ['convert', '-t', 'raw'], ['convert', '-t', 'txt']):
        assert good(*command, 'work', cwd='/').strip() == b'hello'
    assert good('cat', 'work', path, 'work') == b'hello' * 3
    assert path in good('info', 'work').decode() and json.loads(good('info', '--json', 'work'))['file'] == path


@pytest.mark.parametrize(('name', 'files'), [
    ('a', ['a-b', 'a-b-c', 'b', 'ba', 'a.']), ('a-b', ['a', 'a-b-c', 'b']), ('work@host.1_x', ['work', 'x']),
    (f'a-{TIMES[2]}', ['a']), ('a-2', ['a']), ('7-7', ['7'])])
def test_a_name_is_not_mistaken_for_another_that_looks_alike(sessions, name, files):
    """A name may hold dashes, numbers, even a time: a file's name is read from its end."""
    sessions(f'{name}-{TIMES[0]}.cast', output(1, b'right'))
    for other in files:
        sessions(f'{other}-{TIMES[1]}.cast', output(1, b'wrong'))
        sessions(f'{other}-{TIMES[1]}-2.cast', output(1, b'wrong'))
    assert good('cat', name) == b'right'


def test_a_session_is_taken_before_a_file_and_a_path_is_no_name(pty, sessions):
    """As for attach and shim: a name is a session's, whatever stands in the current folder; ./work is the file."""
    path = sessions(f'work-{TIMES[0]}.cast', output(1, b'session'))
    os.mkdir(pty.path('work'))
    assert good('cat', 'work', cwd=pty.folder) == b'session'
    os.rmdir(pty.path('work'))
    run = record('cat', './work', cwd=pty.folder)
    assert run.returncode == 1 and run.stderr == b'record: ./work: No such file or directory\n'
    write(pty.path('work'), V2, output(1, b'file'))
    assert good('cat', 'work', cwd=pty.folder) == b'session' and good('cat', './work', cwd=pty.folder) == b'file'
    write(pty.path('other'), V2, output(1, b'file'))
    assert good('cat', 'other', cwd=pty.folder) == b'file'
    assert good('cat', '-', cwd=pty.folder, input=open(path, 'rb').read()) == b'session'  # pylint: disable=R1732


def test_a_name_that_nobody_has_is_an_error_that_says_both(pty, sessions):
    """Neither a file here nor a session: one line with the folder that was looked in."""
    sessions(f'work-{TIMES[0]}.cast')
    for name in ('wor', 'work-', 'a b', f'work-{TIMES[0]}.cast'):
        run = record('cat', name, cwd='/')
        assert run.returncode == 1 and run.stdout == b'' and run.stderr.decode() == (
            f'record: {name}: no such file, nor a recording of a session of that name in {pty.path("records")}\n')


def test_the_folder_is_where_the_shim_keeps_them(pty, monkeypatch):
    """$SHIM_RECORDS, else $XDG_STATE_HOME/shim, else ~/.local/state/shim: an empty variable counts as none."""
    monkeypatch.delenv('SHIM_RECORDS', raising=False)
    monkeypatch.setenv('HOME', pty.path('home'))
    folders = pty.path('home/.local/state/shim'), pty.path('state/shim'), pty.path('records')
    for number, folder in enumerate(folders):
        os.makedirs(folder)
        write(f'{folder}/work-{TIMES[0]}.cast', V2, output(1, b'%d' % number))
    for variable, value, found in (('XDG_STATE_HOME', '', b'0'), ('XDG_STATE_HOME', pty.path('state'), b'1'),
                                   ('SHIM_RECORDS', '', b'1'), ('SHIM_RECORDS', pty.path('records'), b'2')):
        monkeypatch.setenv(variable, value)
        assert good('cat', 'work') == found


def test_a_new_session_while_one_is_played_changes_nothing(pty, sessions):
    """`]` reads the recording a second time: the same one, though the name means a newer one by now."""
    sessions(f'work-{TIMES[0]}.cast', output(0.01, b'one'), event(50, 'm', ''), output(60, b'two'), output(900, b'.'))
    shown = pty.terminal(RECORD, 'play', 'work')
    shown.wait_text('one')
    sessions(f'work-{TIMES[1]}.cast', event(70, 'm', ''), output(80, b'wrong'))
    shown.send(' ].')
    shown.wait_text('onetwo')
    shown.ends('q')


# --- the list of all --------------------------------------------------------------------------------------------------


def test_info_alone_lists_all_running_first_then_newest_first(pty, sessions):
    """State, name, start, length, size, command; what is no recording of a named session is not listed."""
    sessions(f'old-{TIMES[0]}.cast', output(1, b'x' * 5000), event(3723, 'x', '130'), command='make world')
    sessions(f'new-{TIMES[2]}.cast', output(61.5, b'x'), command='vi')
    with open(sessions(f'work-{TIMES[1]}.cast', output(1, b'y'), command='top'), encoding='utf-8') as f:
        live = Growing(pty, f.name, f.read())
    for name in ('notes.txt', f'-{TIMES[0]}.cast', 'work-20261121.cast', f'.work-{TIMES[0]}.cast', f'x{TIMES[0]}.cast'):
        write(pty.path(f'records/{name}'), V2)
    lines = good('info').decode().splitlines()
    like = re.compile(r'(\S+(?: \d+)?) +(\S+) +(\d{4}-\d\d-\d\d \d\d:\d\d) +(\d+:\d\d:\d\d) +(\S+)  (.*)')
    shown = [like.fullmatch(line).groups() for line in lines]
    sizes = [size for *_, size, _ in shown]
    local = [datetime.datetime.fromtimestamp(stamp(time)).strftime('%Y-%m-%d %H:%M') for time in TIMES]
    assert [(state, name, start, length, command) for state, name, start, length, _, command in shown] == [
        ('running', 'work', local[1], '0:00:01', 'top'), ('died', 'new', local[2], '0:01:01', 'vi'),
        ('ended 130', 'old', local[0], '1:02:03', 'make world')]
    assert sizes[2] == '5.1K' and sizes[0].isdigit()
    live.die()
    assert good('info').decode().startswith('died ')


def test_the_list_fits_the_terminal_and_is_whole_in_a_pipe(pty, sessions):
    """At a terminal the command is cut, with an ellipsis; in a pipe it is whole."""
    long = 'sh -c "' + 'word ' * 100 + '"'
    for number, name in enumerate(('a', 'a-name-of-thirty-characters-xx', 'x' * 64)):
        sessions(f'{name}-{TIMES[number]}.cast', event(1, 'x', '0'), command=long)
    sessions(f'caf-{TIMES[0]}.cast', event(1, 'x', '0'), command='\u00e9' * 300)
    sessions(f'wide-{TIMES[0]}.cast', event(1, 'x', '0'), command='x' + '\u4f60' * 100)
    assert good('info').decode().count(long) == 3
    for columns in (80, 132, 60, 1):
        shown = pty.terminal(RECORD, 'info', cols=columns)
        assert shown.exit_status() == 0
        lines = shown.output.decode().replace('\r', '').split('\n')[:5]
        widths = [len(line) + line.count('\u4f60') for line in lines]           # each of those takes two columns
        assert all(line.endswith('\u2026') for line in lines), lines
        assert all(width in (columns, columns - 1) for width in widths), lines
        assert columns < 80 or any('sh -c "word' in line for line in lines) and 'x' * 64 in lines[0]
    shown = pty.terminal('/bin/sh', '-c', f'stty cols 0; exec {RECORD} info')
    assert shown.exit_status() == 0 and len(shown.output.decode().split('\r\n')[0]) == 80


def test_the_list_is_empty_when_there_is_nothing(pty, monkeypatch):
    """No folder, or an empty one, is no error: nobody has named a session yet."""
    monkeypatch.setenv('SHIM_RECORDS', pty.path('records'))
    assert good('info') == good('info', '--json') == b''
    os.mkdir(pty.path('records'))
    assert good('info') == b''


def test_a_damaged_recording_does_not_hide_the_others(sessions):
    """It is named, with the line; the others are listed, and the exit status is 1."""
    bad = sessions(f'bad-{TIMES[1]}.cast', 'bad\n')
    sessions(f'good-{TIMES[0]}.cast', event(1, 'x', '0'))
    run = record('info')
    assert run.returncode == 1 and run.stdout.count(b'\n') == 1 and b'good' in run.stdout
    assert run.stderr.startswith(f'record: {bad}:2: '.encode())


def test_the_list_does_not_read_long_recordings_whole(pty, sessions):
    """The last event has the length and the status: a month's recordings are listed at once. (Here what stands before
    is damaged, so that who reads it fails.) JSON counts bytes and events, so there all is read."""
    path = sessions(f'long-{TIMES[0]}.cast', 'damaged\n', output(1, b'x' * 5_000_000 + b'\n'), event(2, 'm', ''),
                    ''.join(output(3 + n / 1000, b'\xff' * 50_000) for n in range(20)), event(3723, 'x', '7'))
    assert re.match(r'ended 7 +long .* 1:02:03 +8\.9M  top -d 1\n$', good('info').decode())
    assert record('info', '--json').returncode == 1
    huge = header(2, timestamp=1, command='top', shim=SHIM) + output(5, b'x' * 3_000_000)
    write(path, huge, '[6, "o", "torn')
    assert re.match(r'died +long .* 0:00:05 +2\.9M  top\n$', good('info').decode())
    assert pty
