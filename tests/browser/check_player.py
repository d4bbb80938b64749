"""asciinema-player in headless Chromium shows our recordings as pyte does: `make test-browser`, not part of `make
test`.

The set-up is Debian's chromium and `npm ci` into build/browser; the recordings are those that our shim makes here and
now, and the golden ones. A terminal inside the player (avt) and pyte are two independent readings of the same bytes.
"""
import json
import os
import subprocess

import pytest

from harness import ROOT, hello
from record_tools import CASTS, casts, good, load, screen_at

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = os.environ.get('PTYME_BROWSER', os.path.join(ROOT, 'build', 'browser'))


def moments(events, count=6):
    """Times in the middle of the longest pauses, and one after the end: there no rounding decides what is on the
    screen."""
    gaps = sorted(((b[0] - a[0], (a[0] + b[0]) / 2) for a, b in zip(events, events[1:])), reverse=True)[:count]
    return sorted(at for gap, at in gaps if gap > 0.02) + [events[-1][0] + 1]


def compare(paths):
    """Each recording, at each moment: the same text on both screens."""
    jobs = []
    for path in paths:
        with open(path, 'rb') as f:
            jobs.append({'file': path, 'times': moments(load(f.read())[1])})
    run = subprocess.run(['node', os.path.join(HERE, 'show.mjs'), MODULES], input=json.dumps(jobs),
                         capture_output=True, text=True,
                         check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(jobs)
    for job, screens in zip(jobs, answers):
        with open(job['file'], 'rb') as f:
            head = load(f.read())[0]
        for time, lines in zip(job['times'], screens):
            size = head.get('term', head)
            wanted = screen_at(job['file'], time, size.get('cols', size.get('width')),
                               size.get('rows', size.get('height'))).text()
            assert '\n'.join(line.rstrip() for line in lines).rstrip('\n') == wanted, (job['file'], time)


def record_session(pty, name, program, *keys):
    """A recording of our shim: `keys` are typed one by one, each once the answer to the one before has come."""
    shim = pty.shim('-r', pty.path(name), '-w', '-s', '80x24', pty.path(name + '.sock'), *program)
    client = pty.client(shim.address, hello(24, 80))
    for key, answer in keys:
        client.send(key)
        client.read_until(answer)
    client.read_all()
    shim.wait_gone()
    return shim.recording


@pytest.fixture(autouse=True, scope='module')
def modules():
    """Without the packages there is nothing to test: that is a failure of the set-up, and said as one."""
    assert os.path.isdir(os.path.join(MODULES, 'node_modules', 'asciinema-player')), f'npm ci into {MODULES} first'


def test_the_player_shows_a_session_of_our_shim(pty):
    """Colours, wide characters, progress bars, bytes that are no UTF-8 (U+FFFD there), scrolling."""
    script = (r'printf "caf\303\251 \033[1;31mred\033[0m \346\227\245\346\234\254 [\377]\n"; '
              r'for n in 1 2 3; do printf "\r%s0%%" $n; sleep 0.1; done; echo; seq 40; sleep 0.1; '
              r'printf "\033[2J\033[5;10Hplaced\033[10;1H"')
    path = record_session(pty, 'script.cast', ['/bin/sh', '-c', script])
    assert b'\xff' in good('cat', path)
    compare([path])


def test_the_player_shows_an_editor_of_our_shim(pty):
    """A full-screen program on the alternate screen, at several times, and the main screen after it."""
    with open(pty.path('text'), 'w', encoding='utf-8') as f:
        f.writelines(f'{n} a line of the text\n' for n in range(1, 101))
    path = record_session(pty, 'vim.cast', ['/bin/sh', '-c',
                                            f'echo before; vim.tiny -u NONE -N {pty.path("text")}; echo after'],
                          (b'\x06', b'23 a line'), (b'G', b'100 a line'), (b'ggOhello\x1b', b'hello'),
                          (b':q!\r', b'after'))
    compare([path])


def test_the_player_shows_the_golden_recordings():
    """Those of asciinema, written by hand, and of our shim; version 1 only as `convert -t v2` gives it."""
    compare([path for path in casts('.cast') if os.path.basename(path) != 'escapes.cast'])


def test_the_player_shows_what_convert_wrote(pty):
    """convert's v2 and v3 of one session show the same screens as the recording itself."""
    paths = []
    for name in ('vim.cast', 'bash.cast', 'doc-v1.json'):
        for kind in ('v2', 'v3'):
            paths.append(pty.path(f'{name}.{kind}.cast'))
            good('convert', '-t', kind, '-o', paths[-1], os.path.join(CASTS, name))
    compare(paths)
