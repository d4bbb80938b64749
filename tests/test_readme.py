"""README.md is true: its transcripts are run, its unit and its container's entry point are tried, its links and tables
lead somewhere.

A transcript is an indented block that begins with `$ `. Those of a section (`## …`) are typed into one bash, in their
order, in an empty home folder; what the terminal then shows must be what stands there. `^\\` or `^C`, alone or behind a
prompt, is that key; a command that stands there a second time is only shown again. `...` is whatever it is this time, and so are dates, times, pids and sizes. What a reader need not
see stands in `<!-- run: COMMAND -->`.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from harness import BUILD, READY, ROOT, alive, needs_handlers, needs_peer_user, wait_until

PROMPT = '$ '
KEYS = {'^\\': b'\x1c', '^C': b'\x03', '^D': b'\x04'}
VARIES = [(r'\d{8}T\d{6}Z', 'STAMP'), (r'\d{4}-\d\d-\d\d', 'DATE'), (r'\b\d+:\d\d(:\d\d)?\b', 'TIME'),
          (r'\bTIME +\d+(?= +\S)', 'TIME BYTES'), (r'\b1\d{9}\b', 'EPOCH'), (r'(\bpid"?:?) \d+', r'\1 N'), (r'\b\d+\.\d{3,}\b', 'SECONDS'),
          (r'pts/\d+', 'pts/N'), (r'\b(process(?: group)?|client:?) \d+', r'\1 N'), (r'(?m) +$', ''), (r' +', ' ')]


REFERENCE = 'tests/install/reference.md'


def readme(name='README.md'):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def sections(name='README.md'):
    """{title: text} of the README, or of another page."""
    parts = re.split(r'^## (.*)\n', readme(name), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def transcripts(text):
    """What is to be run, in order: ('run', command) or ('transcript', lines)."""
    found = []
    for match in re.finditer(r'^<!-- run: (.*?) -->\n|^((?:    .*\n)(?:    .*\n|\n(?=    ))*)', text, re.M):
        lines = re.sub('^    ', '', match[2] or '', flags=re.M).split('\n')[:-1]
        if match[1]:
            found.append(('run', match[1]))
        elif lines[0].startswith(PROMPT):
            found.append(('transcript', lines))
    return found


# What these sections show, a build with PORTABLE=1 cannot.
NEEDS = {'Watch it': needs_peer_user}
SHOWN = {title: transcripts(text) for title, text in sections().items() if transcripts(text)}


class Reader:
    """Somebody who types what the README says into a bash of his own."""
    def __init__(self, pty, home, port):
        self.home, self.port = home, port
        pty.write(home + '/.bashrc', "PS1='$ '; HISTFILE=; bind 'set enable-bracketed-paste off'\n")
        env = {'HOME': home, 'PATH': BUILD + ':' + os.environ['PATH'], 'SHIM_DIR': home + '/.s', 'USER': 'you',
               'SHELL': '/bin/bash', 'TREE': pty.folder}
        self.terminal = pty.terminal('bash', '--noprofile', '--rcfile', home + '/.bashrc', env=env, cwd=home, rows=90,
                                     cols=240)
        self.sees([PROMPT])

    def constant(self, text):
        """The text without what is different each time."""
        text = text.replace(self.home + '/.s', '/tmp/shim-1000').replace(self.home, '/home/you').replace(str(self.port), '43210')
        for varies, constant in VARIES:
            text = re.sub(varies, constant, text)
        return text

    def sees(self, lines):
        """Waits until the terminal shows exactly that."""
        wanted = re.escape(self.constant('\n'.join(lines)).rstrip())
        wanted = re.sub(r'(?<![^\n])\\\.\\\.\\\.\\\n', r'(?:.*\\n)*?', wanted).replace(r'\.\.\.', '.*')
        self.terminal.wait(lambda t: re.fullmatch(wanted, self.constant(t.text()).rstrip()), what='\n'.join(lines))

    def types(self, text, key=b'\r'):
        self.terminal.send(text.replace('43210', str(self.port)).encode() + key)

    def clears(self):
        self.types('', b'\x0c')
        self.sees([PROMPT])

    def follows(self, lines):
        """Types each command of a transcript when all above it is to be seen."""
        self.clears()
        seen, last = [], ''
        for line in lines:
            typed = line.removeprefix(PROMPT)
            if typed in KEYS:
                self.sees([*seen, PROMPT] if line != typed else seen)
                self.types('', KEYS[typed])
                if line == '^\\':
                    continue                # nothing is seen of it
                line = line.replace('^\\', '')
            elif line not in seen and (line.startswith(PROMPT) or (line.startswith('> ') and last)):
                self.sees([*seen, line[:2]])
                self.types(line[2:])
            last = line if line[:2] in (PROMPT, '> ') else ''
            seen.append(line)
        self.sees([*seen, PROMPT])


@pytest.fixture
def home(pty):
    folder = tempfile.mkdtemp(prefix='h', dir='/tmp')
    pty.keep(folder, lambda: shutil.rmtree(folder))
    return folder


@pytest.mark.parametrize('title', [pytest.param(title, marks=NEEDS.get(title, ())) for title in SHOWN])
def test_transcripts_are_what_a_reader_sees(tree, home, title):
    """Each command of the section, typed at a terminal, shows what the README says."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    reader = Reader(tree, home, port)
    try:
        for kind, what in SHOWN[title]:
            if kind == 'run':
                reader.clears()
                reader.types(what)
                reader.sees([PROMPT + what, PROMPT])
            else:
                reader.follows(what)
    finally:
        for name in os.listdir(home + '/.s') if os.path.exists(home + '/.s') else []:
            tree.run(BUILD + '/attach', '-k', name, env={**os.environ, 'SHIM_DIR': home + '/.s'})


# ---- units, containers, cron


def block(language):
    """The text of the one block of that language."""
    return re.search(rf'^```{language}\n(.*?)^```', readme(), re.M | re.S)[1]


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='no systemd')
def test_unit_is_a_unit(pty):
    """systemd itself has nothing to say about it, once its user and its folder are there."""
    unit = block('ini').replace('/usr/local/bin', BUILD).replace('User=you', 'User=root')
    pty.write('world.service', unit)
    run = pty.run('systemd-analyze', 'verify', pty.path('world.service'))
    assert (run.returncode, run.stdout, run.stderr) == (0, '', '')


def entry_point(program):
    """The container's process 1, with another program: its words, as the Dockerfile has them."""
    words = json.loads(re.search(r'^ENTRYPOINT (.*)$', block('dockerfile'), re.M)[1])
    return [os.path.join(BUILD, words[0]), *words[1:], *program]


def orphans(pid):
    """What the kernel has given to process 1 of another namespace."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
        return f.read().split()


@needs_handlers
@pytest.mark.skipif(os.geteuid() != 0, reason='only root can make a namespace of pids')
def test_container_entry_point_is_a_process_1(pty):
    """As process 1 it gets the orphans, and reaps them; SIGTERM is not ignored, as process 1 else does; the program's
    last words are in the container's log, and its status is the container's."""
    script = '(sleep 0.1 & echo) & trap "echo bye; exit 3" TERM; echo READY; while :; do sleep 0.1; done'
    process = pty.background('unshare', '--pid', '--fork', '--mount-proc', *entry_point(['sh', '-c', script]),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert READY.match(process.stderr.readline().decode().rstrip('\n'))
    assert b'READY\r\n' in [process.stdout.readline() for _ in range(2)]
    shim = wait_until(lambda: orphans(process.pid), what='process 1')[0]
    wait_until(lambda: len(orphans(shim)) == 2, what='the end of the orphan')   # left: the program, and who copies
    os.kill(int(shim), signal.SIGTERM)
    assert process.stdout.read().endswith(b'bye\r\n')
    assert process.wait() == 3 and not alive(int(shim))


def test_line_for_cron_is_a_command(pty):
    """With the little that cron gives to a command: the mail has the output, and no line of the shim's."""
    command = re.search(r'^    0 3 \* \* \*  /usr/local/bin/(shim .*) make -C .*$', readme(), re.M)[1]
    env = {'PATH': BUILD + ':/usr/bin:/bin', 'HOME': pty.folder, 'SHELL': '/bin/sh', 'SHIM_DIR': pty.path('s')}
    run = pty.run('/bin/sh', '-c', command + ' echo done', env=env)
    assert (run.returncode, run.stdout, run.stderr) == (0, 'done\n', '')


# ---- what it names is there


@pytest.mark.parametrize('page', ['README.md', REFERENCE, 'tests/bench/README.md'])
def test_links_lead_somewhere(page):
    """Each link to a part of a page, and each to a file."""
    for target in re.findall(r'\]\(([^)]*)\)', readme(page)):
        name, _, part = target.partition('#')
        path = os.path.join(os.path.dirname(page), name) if name else page
        if not name.startswith('https:'):
            assert os.path.exists(os.path.join(ROOT, path)), target
            titles = re.findall('^#+ (.*)$', readme(path), re.M) if part else []
            assert not part or part in {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}, target


def test_sections_of_the_sources_are_called_so():
    """The way through the code names sections by number and title."""
    text, count = sections()['Read it'], 0
    for row in re.findall(r'^\| (`\w+\.cpp`.*?) \|', text, re.M):
        for source, named in re.findall(r'`(\w+\.cpp)`((?:(?!`\w+\.cpp).)*)', row):
            with open(os.path.join(ROOT, source), encoding='utf-8') as f:
                code = f.read()
            for number, title in re.findall(r'(\d+)?,? ([A-Z`a-z][^,;]*(?:, but[^;]*)?)', named):
                count += 1
                assert re.search(rf'^// (?:=== )?{number and number + ". "}{re.escape(title)}', code, re.M), (source, title)
    assert count > 12


def test_options_of_the_tables_are_those_of_help(pty):
    """No option is missing in the reference, none is made up."""
    for program in ('shim', 'attach', 'record'):
        said = pty.run(os.path.join(BUILD, program), '--help').stdout
        for command in re.findall(r'^  ([a-z]+)  ', said, re.M):
            said += pty.run(os.path.join(BUILD, program), command, '--help').stdout
        listed = set(re.findall(r'^  (?:-\w, |    )(--[a-z-]+)', said, re.M)) - {'--help', '--version'}
        table = '\n'.join(re.findall(r'^\|.*', sections(REFERENCE)[program], re.M))
        assert set(re.findall(r'`(?:-\w`, `)?(--[a-z-]+)', table)) - {'--help', '--version'} == listed
