#!/usr/bin/python3
"""The guide of `make tour`: reads a lesson to you, does before your eyes what stands in it, and checks that you see
what the lesson says.

    tour.py [LESSON]...      the numbers of lessons, else all; `list`: what there is

At a terminal it waits for Enter at the end of each part (q and Enter leaves); in a pipe it goes on by itself. The
status is 0 when everything was seen, 1 when something was not, 2 for a lesson that there is not.

A lesson is a text (NN-name.md). What is indented by four and begins with `$ ` is a command for sh (`> ` continues it),
with `>>> ` Python (`... ` continues it); below stands what must be seen, where `...` is whatever it is this time. The
commands of a lesson run in a folder of their own, with the programs on PATH, and find Python's texts and numbers in
their environment. `Needs: COMMAND` on a line of its own: where that command fails, what follows is shown and not done,
to the end of the part that begins with `## `, or of the lesson when the line stands at its beginning. Python has the
modules and functions of tools.py, `said`, which is what the last command said, and `pid`, which is the shim that it
started. What a lesson has started is ended with it.
"""
import contextlib
import doctest
import glob
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback

import tools

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get('PTYME_BUILD', os.path.join(ROOT, 'build')))
TIMEOUT = 60           # seconds for one command or statement: only reached when something is wrong
SEEN, WRONG, LEFT = 0, 1, 3     # how a lesson has ended
INDENT = '    '
PROMPTS = {'$ ': '> ', '>>> ': '... '}         # what begins an experiment, and what continues it
READY = re.compile(r'^(?:shim: )?listening on .*, pid (\d+)', re.M)         # of the shim, and of small3
NEEDS = 'Needs: '       # begins the line of a lesson, or of a part of it, with a command that must work here
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
AT_TERMINAL = sys.stdin.isatty() and sys.stdout.isatty()


class Wrong(BaseException):
    """What was seen is not what the lesson says. No Exception: a statement of a lesson that fails may be what is to be
    seen, this may not."""


# ---- a lesson as it is written: words to be read, and experiments


class Experiment:
    """A command or a statement, and what must be seen."""
    def __init__(self, first):
        self.prompt = next(prompt for prompt in PROMPTS if first.startswith(prompt))
        self.source, self.wanted = [first.removeprefix(self.prompt)], []

    def add(self, line):
        more = PROMPTS[self.prompt]
        if line.startswith(more) and not self.wanted:
            self.source.append(line.removeprefix(more))
        else:
            self.wanted.append(line)

    def shown(self):
        return '\n'.join(INDENT + prompt + line for prompt, line in
                         zip([self.prompt] + [PROMPTS[self.prompt]] * len(self.source), self.source))


def read_lesson(path):
    """The lines of a lesson as a list of texts (one line each) and Experiments."""
    parts = []
    with open(path, encoding='utf-8') as file:
        for line in file.read().split('\n'):
            inner = line.removeprefix(INDENT)
            if inner != line and inner.startswith(tuple(PROMPTS)):
                parts.append(Experiment(inner))
            elif inner != line and parts and isinstance(parts[-1], Experiment):
                parts[-1].add(inner)
            else:
                parts.append(line)
    return parts


def lessons():
    """{number: path} of all lessons, in their order."""
    return {int(os.path.basename(path)[:2]): path for path in sorted(glob.glob(os.path.join(HERE, '[0-9][0-9]-*.md')))}


# ---- a lesson as it is done


class Stage:
    """Where the experiments of one lesson run: a folder, an environment, a Python namespace."""
    def __init__(self, folder):
        self.shims = []
        self.environment = dict(os.environ, PATH=f'{BUILD}:{os.environ["PATH"]}', PS1='$ ', TERM='xterm',
                                LC_ALL='C.UTF-8', SHIM_DIR=folder + '/sessions', SHIM_RECORDS=folder + '/records')
        os.environ.update(self.environment)
        os.chdir(folder)
        self.names = {name: value for name, value in vars(tools).items() if not name.startswith('_')}
        self.names.update(source=ROOT, tour=HERE)

    def do(self, experiment):
        """Does it; gives back what it said."""
        signal.alarm(TIMEOUT)
        try:
            return (self.run if experiment.prompt == '$ ' else self.python)(experiment.source)
        finally:
            signal.alarm(0)

    def run(self, source):
        variables = {name: str(value) for name, value in self.names.items() if isinstance(value, (str, int))}
        run = subprocess.run(['sh', '-c', '\n'.join(source)], env={**self.environment, **variables}, check=False,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = run.stdout.decode(errors='replace')
        self.names['said'] = said
        for pid in map(int, READY.findall(said)):
            self.shims.append(pid)
            self.names['pid'] = pid
        return said + (f'[exit status {run.returncode}]\n' if run.returncode else '')

    def python(self, source):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                exec(compile('\n'.join(source) + '\n', 'lesson', 'single'), self.names)  # pylint: disable=exec-used
            except Exception as error:  # pylint: disable=broad-except
                print(traceback.format_exception_only(error)[-1].rstrip())
        return said.getvalue()

    def end(self):
        """Ends what the lesson has started."""
        tools.end_all()
        for pid in self.shims:
            tools.end_shim(pid)


def see(experiment, stage):
    """One experiment live, and whether what is seen is what the lesson says."""
    print(emphasis(experiment.shown()), flush=True)
    seen = stage.do(experiment)
    if seen:
        print(INDENT + seen.removesuffix('\n').replace('\n', '\n' + INDENT), flush=True)
    wanted = '\n'.join(experiment.wanted).rstrip('\n')
    if not doctest.OutputChecker().check_output(wanted + '\n', seen + '\n', SAME):
        raise Wrong(f'this is not what the lesson says:\n{wanted}')


def emphasis(text):
    return f'\033[1m{text}\033[m' if AT_TERMINAL else text


def works(command):
    """Whether that command works here; says what follows from it when it does not."""
    if subprocess.run(['sh', '-c', command], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL).returncode == 0:
        return True
    print(f'({command.split()[0]} does not work here. What follows is shown as it is elsewhere, and not done.)')
    return False


def pause():
    """Waits for Enter at a terminal."""
    if AT_TERMINAL and input('\033[2m--- Enter goes on, q leaves ---\033[m ').strip() == 'q':
        raise EOFError


def give(path):
    """Gives the lesson: its words, and its experiments live."""
    with tempfile.TemporaryDirectory(prefix='tour') as folder:
        stage = Stage(folder)
        try:
            lacking = {}                                 # {part of the lesson: whether something is missing for it}
            title = None
            for part in read_lesson(path):
                if isinstance(part, Experiment):
                    if lacking.get(None) or lacking.get(title):
                        print('\n'.join([part.shown(), *(INDENT + line for line in part.wanted)]).rstrip(' '))
                    else:
                        see(part, stage)
                    continue
                if part.startswith(NEEDS):
                    lacking[title] = not works(part.removeprefix(NEEDS))
                    continue
                if part.startswith('## '):
                    pause()
                    title = part
                print(emphasis(part) if part.startswith('#') else part)
            pause()
        finally:
            stage.end()


def give_apart(number, path):
    """Gives the lesson in a process of its own, with which all goes that the lesson has opened; gives its status."""
    pid = os.fork()
    if pid != 0:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = WRONG
    try:
        give(path)
        status = SEEN
    except Wrong as wrong:
        print(f'tour: lesson {number}: {wrong}', file=sys.stderr)
    except (KeyboardInterrupt, EOFError):
        status = LEFT
    finally:
        sys.stdout.flush()
        os._exit(status)  # pylint: disable=protected-access


def too_late(number, frame):
    raise Wrong(f'this took longer than {TIMEOUT} s')


def titles(there):
    for path in there.values():
        with open(path, encoding='utf-8') as file:
            print(file.readline().removeprefix('# ').rstrip())


def main(arguments):
    there = lessons()
    if arguments == ['list']:
        titles(there)
        return 0
    if not all(word.isdigit() and int(word) in there for word in arguments):
        print(f'tour: there are the lessons {min(there)} to {max(there)}', file=sys.stderr)
        return 2
    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGINT, signal.SIG_IGN)         # it is for the lesson
    for number in map(int, arguments or there):
        status = give_apart(number, there[number])
        if status != SEEN:
            return 0 if status == LEFT else 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
