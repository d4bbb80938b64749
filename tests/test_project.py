"""The project itself: files that compile alone, shared fences, make's targets, and the two sessions of the README."""
import os
import re
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from checkout import ENVIRONMENT, SOURCES, make
from common import processes_with, program
from harness import BUILD, PYTHON, ROOT, STATIC, alive, wait_until

SANITIZED = 'sanitize' in BUILD


def read(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def fences(name):
    """The fenced parts of a source file: {title: text}."""
    found = re.findall(r'^// >>> (.+?): .*?\n(.*?)^// <<< (.+?)\n', read(name), re.M | re.S)
    assert all(begin == end for begin, _, end in found)
    return {begin: text for begin, text, _ in found}


# ---- sources


def test_top_level_holds_what_the_contract_lists():
    """Makefile, three source files, tests, build, README and LICENSE: nothing else that a person would see."""
    made = {'build'} | {name for name in os.listdir(ROOT) if name.endswith('.cast')}       # .gitignore has these
    visible = {name for name in os.listdir(ROOT) if not name.startswith('.')} - made
    assert visible == {'Makefile', *SOURCES, 'tests', 'README.md', 'LICENSE'}


def test_fences_are_the_same_in_each_file():
    """What the files share is repeated byte for byte between fence comments."""
    shim, attach, record = map(fences, SOURCES)
    names = {'errors and the owning descriptor', 'recordings of named sessions'}
    assert set(attach) == names | {'session names', 'addresses', 'the owner of a TCP socket'}
    assert set(record) == names | {'questions about the past'}
    assert set(shim) == set(attach) | set(record)
    assert attach.items() <= shim.items() and record.items() <= shim.items()
    assert all(text.count('\n') <= 80 for text in shim.values())


def test_each_file_compiles_alone_by_the_one_line_command(pty):
    """c++ -std=c++20 -O2 -o shim shim.cpp: no header, no flag and no library of our own. (-O2 takes longer, that is all.)"""
    builds = []
    for source in SOURCES:
        target = pty.path(source.partition('.')[0])
        command = ['c++', '-std=c++20', '-O0', '-o', target, os.path.join(ROOT, source)]
        builds.append((target, pty.background(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)))
    for target, build in builds:
        said, _ = build.communicate(timeout=400)
        assert (build.returncode, said) == (0, b'')
        assert pty.run(target, '--version').returncode == 0


@pytest.mark.parametrize('name', ['shim', 'attach', 'record'])
def test_help_and_version_are_on_standard_output(pty, name):
    """-h, --help, -V, --version: no error. (What help says is looked at by test_readme.py.)"""
    runs = [pty.run(os.path.join(BUILD, name), option) for option in ('-h', '--help', '-V', '--version')]
    assert {(run.returncode, run.stderr) for run in runs} == {(0, '')}
    assert runs[0].stdout == runs[1].stdout != '' and runs[2].stdout == runs[3].stdout
    assert re.match(rf'{name} .*\d', runs[2].stdout)


@pytest.mark.parametrize('name', ['shim', 'attach', 'record'])
def test_programs_need_the_c_library_and_nothing_else(pty, name):
    """ldd of each program: libc (and libm), the loader, the kernel's vdso; the C++ runtime is inside. Of a static one,
    nothing at all."""
    run = pty.run('ldd', os.path.join(BUILD, name))
    if STATIC:
        assert 'not a dynamic executable' in run.stderr
        return
    allowed = {'linux-vdso', 'libc', 'libm', 'ld-linux-x86-64', 'ld-linux-aarch64', 'ld-linux'}
    if SANITIZED:
        allowed |= {'libasan', 'libubsan', 'libstdc++', 'libgcc_s'}
    needed = {os.path.basename(line.split()[0]).partition('.')[0] for line in run.stdout.splitlines()}
    assert run.returncode == 0 and needed <= allowed, run.stdout


def test_licence_is_mit():
    """A LICENSE file (MIT)."""
    text = read('LICENSE')
    assert text.startswith('MIT License') and 'WITHOUT WARRANTY OF ANY KIND' in text


@pytest.mark.parametrize('source', SOURCES)
def test_what_not_every_system_has_stands_in_one_place(source):
    """What is not POSIX is asked for by a feature that a header defines, where a system is named there is no better
    question; what is done without it stands in one table."""
    text = read(source)
    includes, _, rest = text.partition('\nnamespace {\n')
    assert not re.search(r'__linux__|__APPLE__|BSD__', includes)
    assert len(re.findall(r'__linux__|__APPLE__|__\w*BSD__', rest)) <= 1
    assert 'What not every system has' in text or not re.search(r'^ *#if', rest, re.M)


def test_what_a_portable_build_is_not_tested_for_is_named_in_the_sources():
    """A test that `make test PORTABLE=1` leaves out needs something that a source lists in that section."""
    needed = set(re.findall(r"needs\('([^']+)'", read('tests/lib/harness.py')))
    listed = {name for source in SOURCES for name in re.findall(r'^//   ([\w/]+)(?:\(\d\))?  ', read(source), re.M)}
    assert needed and needed <= listed, needed - listed


# ---- make


def test_make_builds_all_three_into_build(pty):
    """make without a word builds shim, attach and record into build/, each from its one file."""
    for name in ('Makefile', *SOURCES):
        os.symlink(os.path.join(ROOT, name), pty.path(name))
    plan = make(pty, '-n').stdout
    for name in ('shim', 'attach', 'record'):
        assert re.search(rf'-o build/{name} {name}\.cpp\b', plan), plan
        alone = make(pty, '-n', name).stdout
        assert re.findall(r'-o build/(\w+) ', alone) == [name]


def test_make_rebuilds_nothing_that_is_current(tree):
    """A second make compiles nothing; a source that has changed is compiled, and only that."""
    before = {name: os.stat(os.path.join(BUILD, name)).st_mtime_ns for name in ('shim', 'attach', 'record')}
    for target in ('all', 'shim', 'attach', 'record'):
        run = make(tree, target)
        assert run.returncode == 0 and '-std=c++20' not in run.stdout, run.stdout
    assert before == {name: os.stat(os.path.join(BUILD, name)).st_mtime_ns for name in before}
    plan = make(tree, '-n', '-W', 'attach.cpp', 'all').stdout
    assert re.findall(r'-o build/(\w+) ', plan) == ['attach']


def test_make_attach_without_sock_says_what_to_write(tree):
    """make attach alone has nowhere to attach to: it says so, with an example, and does no harm."""
    run = make(tree, 'attach')
    assert run.returncode == 0 and re.search(r'make attach SOCK=\S*\d', run.stdout)


def test_make_clean_removes_what_was_built_and_no_source(tree):
    """build/ holds what is built; nothing is built elsewhere."""
    before = set(os.listdir(tree.folder))
    assert make(tree, 'clean').returncode == 0
    assert set(os.listdir(tree.folder)) == before - {'build'}
    assert os.path.exists(os.path.join(BUILD, 'shim'))      # the link went, not what it points to


# ---- the sessions of the README


def session(tree, *argv):
    """make shim && ./build/shim PORT PROGRAM… on a free port: (port, pid of the shim)."""
    port = tree.run('/usr/bin/python3', '-SEc',
                    'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])').stdout.strip()
    run = tree.run('sh', '-c', 'make shim && exec ./build/shim "$@"', 'sh', port, *argv, env=ENVIRONMENT)
    ready = rf'^shim: listening on 127\.0\.0\.1:{port}, pid (\d+), recording shim-{port}-\S+\.cast$'
    found = re.search(ready, run.stdout, re.M)
    assert run.returncode == 0 and found, (run.stdout, run.stderr)
    pid = int(found[1])
    tree.keep(pid, lambda: alive(pid) and os.kill(pid, signal.SIGTERM))
    return port, pid


def test_session_of_the_seed(tree):
    """make shim && ./build/shim PORT ping …, then make attach SOCK=localhost:PORT: its lines are seen, Ctrl-C ends it,
    its statistics are seen, attach exits with its status."""
    ping = ['/usr/bin/ping', '127.0.0.1'] if os.access('/usr/bin/ping', os.X_OK) else program('ticker.py')
    line, statistics = ('tick 2', '--- statistics')
    if 'ping' in ping[0]:
        line, statistics = ('bytes from 127.0.0.1', 'ping statistics')
    port, pid = session(tree, *ping)
    terminal = tree.terminal('make', 'attach', f'SOCK=localhost:{port}', env=ENVIRONMENT)
    terminal.wait_text(line)
    terminal.send(b'\x03')
    terminal.wait_text(statistics)
    assert terminal.exit_status() == 0, terminal.text()
    assert f'[localhost:{port} ended with status 0]' in terminal.text()
    wait_until(lambda: not alive(pid), what='the end of the shim')


def test_make_attach_tells_a_status_that_is_not_zero(tree):
    """make has a status of its own for a command that failed (2); the line that it prints tells attach's."""
    port, _ = session(tree, 'sh', '-c', 'read x; exit 5')
    terminal = tree.terminal('make', 'attach', f'SOCK={port}', env=ENVIRONMENT)
    terminal.ends(b'\r', 2)
    assert 'Error 5' in terminal.text()


def test_demo_without_a_terminal_shows_a_session_and_its_recording(tree):
    """make demo with no terminal on standard input: some seconds of the session, its end, the replay, status 0."""
    mark = f'CORE_TEST={tree.folder}'
    run = make(tree, 'demo', env={**ENVIRONMENT, 'TMPDIR': tree.folder, 'CORE_TEST': tree.folder})
    assert run.returncode == 0, (run.stdout, run.stderr)
    assert 'shim: listening on 127.0.0.1:' in run.stdout
    lines = re.findall(r'^line \d+, .*$', run.stdout, re.M)
    assert len(lines) >= 4 and lines[:len(lines) // 2] == lines[len(lines) // 2:], 'the replay is not what was shown'
    assert processes_with(mark) == [], 'the demo left a process'


def test_demo_at_a_terminal_says_how_to_detach(tree):
    """make demo at a terminal: attached, with the detach key told; what goes on can be come back to."""
    terminal = tree.terminal('make', 'demo', env={**ENVIRONMENT, 'TMPDIR': tree.folder}, cols=120)
    terminal.wait(lambda t: re.search(r'^line \d', t.text(), re.M), what='the first line')
    pid = int(re.search(r'pid (\d+)', terminal.text())[1])
    tree.keep(pid, lambda: alive(pid) and os.kill(pid, signal.SIGTERM))
    assert 'detach' in terminal.text()
    terminal.ends(b'\x1c')
    assert alive(pid) and re.search(r'make attach SOCK=\S+', terminal.text())


def test_picture_of_the_readme_is_what_its_script_sees(tree):
    """tests/demo.svg is what tests/picture.py makes of a run of today: well-formed, small, and no word of it invented."""
    made = tree.run(PYTHON, 'tests/picture.py', env={**ENVIRONMENT, 'PTYME_BUILD': BUILD}, timeout=90)
    assert (made.returncode, made.stderr) == (0, '')
    texts = [text.text for text in xml.etree.ElementTree.fromstring(made.stdout).iter('{http://www.w3.org/2000/svg}text')]
    assert texts.count('A program need not die with its') == 2 and '[detached from work]' in texts
    assert made.stdout == read('tests/demo.svg') and len(made.stdout) < 30_000
