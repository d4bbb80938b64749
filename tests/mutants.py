#!/usr/bin/env python3
"""Small faults put into the programs, one at a time: mutants.py [--stale] [NUMBER...]. Says which of them the tests do
not notice; first, and with --stale only, which do not fit the programs any more.

tests/mutants.md lists them: the text of a program, what stands there instead, and the tests that shall fail for it. The
checkout itself is not changed: each fault goes into a copy, of which only that program is built."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = ('shim', 'attach', 'record')
ROW = re.compile(r'^\| (\d+) \| (\w+) \| `` (.+?) `` \| `` ?(.*?) ?`` \| `(\w+/\w+)` ([\w ]+) \|$', re.MULTILINE)


def build(source, out):
    """Whether it compiles; quick to build is all that is asked of it."""
    return subprocess.run(['c++', '-std=c++20', '-O0', '-w', '-o', out, source], check=False, capture_output=True,
                          timeout=300).returncode == 0


def test(folder, where, name):
    """pytest's status: 0 passed, 1 failed, 5 that there is no such test."""
    argv = ['/usr/bin/python3', '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', f'tests/{where}.py', '-k', name]
    try:
        return subprocess.run(argv, cwd=ROOT, env={**os.environ, 'PTYME_BUILD': folder}, check=False, timeout=300,
                              capture_output=True).returncode
    except subprocess.TimeoutExpired:
        return 1


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


def why_stale(program, was, where):
    """Why this mutant cannot be made, or '' when it can."""
    count = read(program + '.cpp').count(was)
    if count != 1:
        return f'the text stands {count} times in {program}.cpp'
    return '' if os.path.exists(os.path.join(ROOT, f'tests/{where}.py')) else f'there is no tests/{where}.py'


def try_mutant(folder, program, was, instead, where, name):
    """What becomes of it, in a word. The test that fails for it must pass without it."""
    source, out = os.path.join(folder, program + '.cpp'), os.path.join(folder, program)
    with open(source, 'w', encoding='utf-8') as f:
        f.write(read(program + '.cpp').replace(was, instead))
    whole = out + '.whole'
    shutil.copy(out, whole)
    if not build(source, out):
        result = 'STALE: does not compile'
    else:
        result = {0: 'SURVIVES', 1: 'caught', 5: 'STALE: no such test'}.get(test(folder, where, name), 'STALE: pytest')
    os.replace(whole, out)
    return 'STALE: the test fails without it, too' if result == 'caught' and test(folder, where, name) != 0 else result


def main():
    wanted = [word for word in sys.argv[1:] if word != '--stale']
    rows = [row for row in ROW.findall(read('tests/mutants.md')) if not wanted or row[0] in wanted]
    stale = [row for row in rows if why_stale(row[1], row[2], row[4])]
    for number, program, was, _, where, _ in stale:
        print(f'{number}: STALE: {why_stale(program, was, where)} ({was})', flush=True)
    rows, missed = [row for row in rows if row not in stale], len(stale)
    if '--stale' in sys.argv:
        sys.exit(missed > 0)
    with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
        os.chmod(folder, 0o755)     # (some tests run as another user)
        for program in PROGRAMS:
            assert build(os.path.join(ROOT, program + '.cpp'), os.path.join(folder, program)), program
        for number, *row in rows:
            result = try_mutant(folder, *row)
            missed += result != 'caught'
            print(f'{number}: {result} ({row[0]}: {row[1]}; {row[3]} {row[4]})', flush=True)
    print(f'{len(rows) + len(stale)} faults, {missed} not caught')
    sys.exit(missed > 0)


main()
