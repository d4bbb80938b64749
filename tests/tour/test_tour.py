"""Each lesson of `make tour` shows what it says; the guide notices when one does not, and leaves nothing behind."""
import os
import re
import shutil

import pytest

from common import processes_with
from harness import BUILD, PYTHON, ROOT, STATIC, alive, needs_peer_user

HERE = os.path.dirname(os.path.abspath(__file__))
GUIDE = os.path.join(HERE, 'tour.py')
# LeakSanitizer cannot work in a process that strace looks at.
ENVIRONMENT = {**os.environ, 'PTYME_BUILD': BUILD, 'ASAN_OPTIONS': 'detect_leaks=0'}
NEEDS = {'13-a-start.md': pytest.mark.skipif(STATIC, reason="it shows glibc's calls; musl makes others"),
         '20-explained-ctrl-c.md': needs_peer_user}
LESSONS = sorted(name for name in os.listdir(HERE) if name.endswith('.md'))


def give(pty, *lessons, guide=GUIDE, **options):
    return pty.run(PYTHON, guide, *lessons, **{'timeout': 150, 'env': ENVIRONMENT, **options})


@pytest.fixture
def school(pty):
    """A copy of the guide with a lesson of the test's own: write(text), then the guide's path."""
    for name in ('tour.py', 'tools.py'):
        shutil.copy(os.path.join(HERE, name), pty.path(name))

    def write(text):
        pty.write('01-mine.md', text)
        return pty.path('tour.py')
    return write


@pytest.mark.parametrize('lesson', [pytest.param(lesson, marks=NEEDS.get(lesson, ())) for lesson in LESSONS])
def test_lesson_shows_what_it_says(pty, lesson):
    """What a lesson says is seen on the kernel and the programs at hand; what it started has ended with it."""
    mark = f'TOUR_TEST={pty.folder}'
    run = give(pty, str(int(lesson[:2])), env={**ENVIRONMENT, 'TMPDIR': pty.folder, 'TOUR_TEST': pty.folder})
    assert (run.returncode, run.stderr) == (0, ''), run.stdout[-3000:]
    assert processes_with(mark) == [], 'the lesson left a process'
    assert os.listdir(pty.folder) == [], 'the lesson left a file'


@pytest.mark.parametrize('lesson', LESSONS)
def test_lesson_can_be_read_on_80_columns(lesson):
    """A title that begins with the lesson's number, and lines that a terminal of 80 columns does not wrap (but for
    those of an experiment, which are as long as they are)."""
    with open(os.path.join(HERE, lesson), encoding='utf-8') as file:
        title, *lines = file.read().split('\n')
    assert re.match(rf'# {int(lesson[:2])}\. \S', title)
    assert [line for line in lines if len(line) > (100 if line.startswith(' ') else 80)] == []


def test_lessons_are_numbered_from_one_without_a_gap():
    """make tour LESSON=3 is the third in the list."""
    assert [int(name[:2]) for name in LESSONS] == list(range(1, len(LESSONS) + 1))


@pytest.mark.parametrize('lesson', ['5', '12'])
def test_lesson_that_shows_states_of_processes_can_be_given_under_nice(pty, lesson):
    """ps marks what runs under nice with an N behind the state."""
    run = pty.run('nice', PYTHON, GUIDE, lesson, env=ENVIRONMENT, timeout=150)
    assert (run.returncode, run.stderr) == (0, ''), run.stdout[-3000:]
    assert re.search(r' SN\S* +bash', run.stdout)


def test_lesson_says_that_strace_does_not_work_and_goes_on(pty):
    """A container may forbid ptrace(2): lesson 13 is then shown, and nothing of it is done."""
    os.mkdir(pty.path('bin'))
    with open(pty.path('bin/strace'), 'w', encoding='ascii', opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
        file.write('#!/bin/sh\nexit 1\n')
    run = give(pty, '13', env={**ENVIRONMENT, 'PATH': pty.path('bin') + ':' + os.environ['PATH']})
    assert (run.returncode, run.stderr) == (0, '')
    assert '(strace does not work here.' in run.stdout and '    setsid() = ...' in run.stdout


def test_part_that_needs_something_is_shown_and_the_next_part_is_done(pty, school):
    """Needs: COMMAND under a part's title is for this part."""
    run = give(pty, guide=school('# 1. Mine\n\n## One\nNeeds: false\n\n    $ echo $((1 + 1))\n    two\n\n'
                                 '## Two\n\n    $ echo $((2 + 2))\n    4\n'))
    assert run.returncode == 0 and '    two\n' in run.stdout and '    4\n' in run.stdout and 'Needs' not in run.stdout


@pytest.mark.parametrize('experiment', ['    $ echo true', '    >>> 1 + 1', '    $ false', '    >>> os.close(-1)'])
def test_lesson_that_shows_something_else_fails(pty, school, experiment):
    """A command or statement that says other than the lesson, or fails unannounced, ends the tour with status 1."""
    guide = school(f'# 1. Mine\n\n{experiment}\n    something else\n')
    run = give(pty, guide=guide)
    assert run.returncode == 1 and 'this is not what the lesson says:\nsomething else' in run.stderr


def test_lesson_that_says_nothing_of_an_output_fails(pty, school):
    """What a lesson does not announce must not be seen."""
    run = give(pty, guide=school('# 1. Mine\n\n    $ echo surprise\n'))
    assert run.returncode == 1 and 'surprise' in run.stdout


def test_tour_in_a_pipe_goes_on_by_itself(pty, school):
    """Without a terminal nobody can type Enter."""
    run = give(pty, guide=school('# 1. Mine\n\n    $ echo a\n    a\n\n## More\n\n    >>> print("b")\n    b\n'))
    assert (run.returncode, run.stderr) == (0, '')
    assert run.stdout == '# 1. Mine\n\n    $ echo a\n    a\n\n## More\n\n    >>> print("b")\n    b\n\n'


def test_tour_at_a_terminal_waits_for_enter(pty, school):
    """A part is shown when Enter has been typed, and not before; q leaves with status 0."""
    guide = school('# 1. Mine\n\n## One\n\n    $ echo $((1 + 1))\n    2\n\n## Two\n\n    $ echo $((2 + 2))\n    4\n')
    terminal = pty.terminal(PYTHON, guide)
    terminal.wait_text('Enter goes on')
    assert 'echo' not in terminal.text()
    terminal.send(b'\r')
    terminal.wait(lambda t: t.text().count('Enter goes on') == 2)
    assert '    2' in terminal.text() and '    4' not in terminal.text()
    terminal.ends(b'q\r')
    assert '    4' not in terminal.text()


def test_ctrl_c_leaves_the_tour(pty, school):
    """SIGINT goes to the guide and to the lesson (one foreground group): the lesson tidies up, the tour ends."""
    terminal = pty.terminal(PYTHON, school('# 1. Mine\n\n    $ shim -n ./s cat\n    ...\n\n## More\n'), env=ENVIRONMENT)
    terminal.wait_text('Enter goes on')
    pid = int(re.search(r'pid (\d+)', terminal.text())[1])
    terminal.ends(b'\x03')
    assert not alive(pid)


def test_unknown_lesson_is_a_usage_error(pty):
    """Status 2, and the numbers that there are."""
    run = give(pty, '99')
    assert (run.returncode, run.stdout) == (2, '') and f'1 to {len(LESSONS)}' in run.stderr


def test_make_tour_gives_one_lesson(pty):
    """make tour LESSON=1, without the installing that make tour does first."""
    plan = pty.run('make', '-n', '--no-print-directory', 'tour', 'LESSON=1', cwd=ROOT)
    assert plan.returncode == 0 and re.search(r'setup\.sh tour.*\n.*tests/tour/tour\.py 1$', plan.stdout.rstrip(), re.S)
