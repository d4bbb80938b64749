"""Recordings that nobody here made: those of asciinema, its player, its server and agg, of termtosvg and of
r-lib/asciicast, each read by every command and by a decoder that owes nothing to record.cpp.

The files are others' and not kept here, only facts about them (foreign.json beside this: whose, how large, the hashes
of the file and of its output). Put them, under any name, into a folder that PTYME_FOREIGN names, and this reads them.
"""
import hashlib
import json
import os
import shutil
import subprocess

import pytest

from record_tools import ERROR, chunks, convert, frames, good, load, record

FOLDER = os.environ.get('PTYME_FOREIGN', '')
with open(os.path.join(os.path.dirname(__file__), 'foreign.json'), encoding='utf-8') as facts_file:
    FACTS = json.load(facts_file)


def files(refused=False):
    """The paths of those files that are known, by the hash of what is in them: those that are recordings, or those that
    are to be refused."""
    found = []
    for name in sorted(os.listdir(FOLDER)) if FOLDER else []:
        with open(os.path.join(FOLDER, name), 'rb') as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        if digest in FACTS and ('refused' in FACTS[digest]) == refused:
            found.append(pytest.param(os.path.join(FOLDER, name), FACTS[digest], id=name))
    return found or [pytest.param(None, None, marks=pytest.mark.skip('PTYME_FOREIGN names no folder with them'))]


def decoded(path):
    """Header, events and output of a recording. Where v2's clock was set back, time stands still."""
    with open(path, 'rb') as f:
        head, events = load(f.read())
    now = 0
    for event in events:
        now = event[0] = max(now, event[0])
    return head, events, [[time, data] for time, data in chunks(events)]


def size(head):
    term = head.get('term', {})
    return int(term.get('cols', head.get('width'))), int(term.get('rows', head.get('height')))


def test_the_facts_are_of_more_than_sixty_recordings():
    """Issue 12 asks for 60 or more that nobody here made."""
    assert sum({'from', 'bytes', 'output', 'sha256'} <= set(fact) for fact in FACTS.values()) >= 60


@pytest.mark.parametrize(('path', 'fact'), files())
def test_every_command_says_what_an_independent_decoder_says(pty, path, fact):
    """cat, info, play and all that convert makes, of a file and of a pipe."""
    head, events, pieces = decoded(path)
    data = b''.join(piece for _, piece in pieces)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (fact['output'], fact['sha256'])
    with open(path, 'rb') as f:
        whole = f.read()
    assert good('cat', path) == good('cat', '-f', path) == good('cat', '-', input=whole) == data
    assert good('play', '-s', '1000', '-i', '0.001', path) == data
    for first, last in ((0, 1), (len(data) // 3, len(data) // 2)):
        assert good('cat', '--from', first, '--to', last, path) == data[first:last]

    told = json.loads(good('info', '--json', path))
    assert (told['version'], told['bytes']) == (head['version'], len(data))
    assert (told['width'], told['height']) == size(head)
    assert told['timestamp'] == (head.get('timestamp') and int(head['timestamp']))
    assert (told['command'], told['title']) == (head.get('command') or '', head.get('title') or '')
    assert told['events'] == len(events)
    assert told['length'] == pytest.approx(max((e[0] for e in events), default=0), abs=1e-3)

    assert convert('raw', path) == data
    for kind in ('v2', 'v3'):
        again, there = load(convert(kind, path))
        assert size(again) == size(head) and [e[1:] for e in there] == [e[1:] for e in events]
        assert [e[0] for e in there] == pytest.approx([e[0] for e in events], abs=1e-3)
        assert again.get('title') == head.get('title') and again.get('command') == head.get('command')
    assert [piece for _, piece in frames(convert('ttyrec', path))] == [piece for _, piece in pieces]
    text = convert('txt', path).decode()
    assert not any(c < ' ' and c not in '\n\t' or '\x7f' <= c < '\xa0' for c in text)
    for command in (['screen'], ['screen', '-e'], ['paint']):
        good(*command, path)

    convert('script', '-o', pty.path('script'), path)
    with open(pty.path('script.timing'), encoding='utf-8') as f:
        lengths = [int(line.split()[2]) for line in f if line.startswith('O ')]
    assert lengths == [len(piece) for _, piece in pieces if piece]
    if shutil.which('scriptreplay') and lengths and len(data) < 1 << 20:
        replay = ['scriptreplay', '--maxdelay', '0.0001', '--log-timing', 'script.timing', '--log-out', 'script']
        run = subprocess.run(replay, cwd=pty.folder, capture_output=True, timeout=60, check=False)
        assert run.returncode == 0 and run.stdout.rstrip(b'\n') == data.rstrip(b'\n')


@pytest.mark.parametrize(('path', 'fact'), files())
def test_a_recording_of_others_that_is_cut_anywhere_gives_what_is_left(pty, path, fact):
    """A torn download: the whole events before the cut, no error, in a file as in a pipe."""
    with open(path, 'rb') as f:
        whole = f.read()
    data = good('cat', path)
    first = 0 if b'"stdout"' in whole else whole.index(b'\n') + 1               # the header of v2 and v3
    for part in range(1, 8):
        cut = first + (len(whole) - first) * part // 8
        torn = pty.path('torn.cast')
        with open(torn, 'wb') as f:
            f.write(whole[:cut])
        run = record('cat', torn)
        assert run.returncode == 0 and data.startswith(run.stdout), (cut, run.stderr)
        assert record('cat', '-', input=whole[:cut]).stdout == run.stdout
    assert fact


@pytest.mark.parametrize(('path', 'fact'), files(refused=True))
def test_what_is_no_recording_is_refused_with_its_line(pty, path, fact):
    """The invalid examples of asciinema's server, a size that is a sentence: one error, the same for each command."""
    said = {command: record(*command.split(), path) for command in ('cat', 'info', 'play -s 1000', 'convert -t v3')}
    found = ERROR.match(said['cat'].stderr.decode())
    assert found and found['file'] == path and int(found['line']) == fact['refused'] and pty
    assert {(run.returncode, run.stderr) for run in said.values()} == {(1, said['cat'].stderr)}
