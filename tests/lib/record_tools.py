"""What the tests of `record` share: recordings written by hand, a reader of recordings that owes nothing to
record.cpp, and what a screen shows.
"""
import base64
import json
import os
import re
import select
import struct
import subprocess
import time

import pytest

from harness import BUILD, PYTHON, RECORD, ROOT, TIMEOUT
from screens import Model

CASTS = os.path.join(ROOT, 'tests', 'casts')
WRITER = os.path.join(ROOT, 'tests', 'programs', 'writer.py')
V2 = '{"version": 2, "width": 80, "height": 24}\n'
V3 = '{"version": 3, "term": {"cols": 80, "rows": 24}}\n'
ERROR = re.compile(r'^record: (?P<file>.+):(?P<line>\d+): (?P<why>.+)\n$')


def casts(*suffixes):
    """The paths of the golden recordings, sorted."""
    return sorted(os.path.join(CASTS, n) for n in os.listdir(CASTS) if n.endswith(suffixes or ('.cast', '.json')))


def event(time, code, data):
    return f'[{time:.6f}, "{code}", {json.dumps(data, ensure_ascii=False)}]\n'


def output(time, data):
    """The line or the two lines (`b`, then `o`) by which section 4 records these bytes of output."""
    text = data.decode('utf-8', 'replace')
    exact = '' if text.encode() == data else event(time, 'b', base64.b64encode(data).decode())
    return exact + event(time, 'o', text)


def header(version=2, width=80, height=24, **more):
    if version == 3:
        return json.dumps({'version': 3, 'term': {'cols': width, 'rows': height}, **more}) + '\n'
    return json.dumps({'version': version, 'width': width, 'height': height, **more}) + '\n'


def write(path, *parts):
    with open(path, 'wb') as f:
        for part in parts:
            f.write(part if isinstance(part, bytes) else part.encode())
    return str(path)


def ticks(count, step, text='tick %d\r\n'):
    """`count` output events, the first at `step` seconds, one every `step` seconds."""
    return ''.join(event(step * n, 'o', text % n) for n in range(1, count + 1))


def load(data):
    """A recording (bytes) as its header and its events [time, code, data], times absolute, comments left out."""
    text = data.decode()
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    events, now = [], 0.0
    if whole and whole.get('version') == 1:
        for delay, printed in whole['stdout']:
            now += delay
            events.append([now, 'o', printed])
        return whole, events
    lines = text.split('\n')
    first = json.loads(lines[0])
    for line in lines[1:]:
        if not line.strip() or (first['version'] == 3 and line.startswith('#')):
            continue
        time, code, printed = json.loads(line)
        now = now + time if first['version'] == 3 else time
        events.append([now, code, printed])
    return first, events


def chunks(events):
    """The output as [time, exact bytes]: what a `b` event says instead of the `o` event behind it."""
    exact, out = None, []
    for time, code, data in events:
        if code == 'b':
            exact = base64.b64decode(data)
        elif code == 'o':
            out.append([time, exact if exact is not None else data.encode('utf-8', 'replace')])
            exact = None
    return out


def printed(path):
    """All the bytes that the recording's program printed."""
    with open(path, 'rb') as f:
        return b''.join(data for _, data in chunks(load(f.read())[1]))


def record(*argv, timeout=TIMEOUT * 3, **options):
    """record ARG...: bytes in and out; nothing on standard input unless the test says."""
    if 'input' not in options:
        options.setdefault('stdin', subprocess.DEVNULL)
    options.setdefault('stdout', subprocess.PIPE)
    return subprocess.run([RECORD, *map(str, argv)], check=False, timeout=timeout, stderr=subprocess.PIPE, **options)


def good(*argv, **options):
    """record ARG... must succeed in silence; gives back its standard output."""
    run = record(*argv, **options)
    assert (run.returncode, run.stderr) == (0, b''), (run.returncode, run.stderr, run.stdout and run.stdout[-300:])
    return run.stdout


def convert(kind, *rest, **options):
    """record convert -t KIND ARG...: what it writes; that this kind has no place for some events may be said."""
    run = record('convert', '-t', kind, *rest, **options)
    assert run.returncode == 0 and (not run.stderr or b'cannot hold' in run.stderr), run
    return run.stdout


OWN_MEMORY = pytest.mark.skipif('sanitize' in BUILD, reason="it would be the sanitizer's memory that is measured")


def frames(data):
    """The frames of a ttyrec: seconds, microseconds, length as 32-bit little-endian numbers, then the bytes."""
    out, at = [], 0
    while at < len(data):
        sec, usec, length = struct.unpack_from('<3I', data, at)
        assert usec < 1000000 and at + 12 + length <= len(data)
        out.append((sec + usec / 1e6, data[at + 12:at + 12 + length]))
        at += 12 + length
    return out


def follow(pty, command, path, *options, **more):
    """record COMMAND -f FILE in the background, its output in a pipe; play plays what is there at once."""
    options = [*options, *(['-s', '1000'] if command == 'play' else [])]
    return pty.background(RECORD, command, '-f', *options, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def resident(pid):
    """The most memory that a process of record has had resident, in bytes: VmHWM of proc(5)."""
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as f:
        fields = dict(line.split(':', 1) for line in f)
    return int(fields['VmHWM'].split()[0]) * 1024 if fields['Name'].strip() == 'record' and 'VmHWM' in fields else 0


def peak(command, **options):
    """Runs record, which must succeed, and gives the most memory it had resident, asked for again and again until it is
    gone (ru_maxrss would count the test's own memory from before the exec)."""
    most, end = 0, time.monotonic() + TIMEOUT * 3
    with subprocess.Popen([RECORD, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          **options) as run:
        while True:
            assert time.monotonic() < end, f'{command} did not end'
            try:
                run.wait(0.002)
                break
            except subprocess.TimeoutExpired:
                pass
            most = max(most, resident(run.pid))
        assert run.returncode == 0, (command, run.returncode, run.stderr.read())
    assert most, f'{command} was never seen'
    return most


def screen(data, cols=80, rows=24):
    """The screen after these bytes."""
    model = Model(rows, cols)
    model.feed(data)
    return model.screen


def screen_at(path, time, cols=80, rows=24):
    """The screen that the session had at `time`."""
    with open(path, 'rb') as f:
        return screen(b''.join(data for at, data in chunks(load(f.read())[1]) if at <= time), cols, rows)


class Growing:
    """A recording that a helper process writes, holding the record lock that section 4 demands of the daemon, or, as
    other programs, without one."""
    def __init__(self, pty, path, first='', lock=True):
        self.path = write(path, first)
        self.process = pty.background(PYTHON, WRITER, path, *([] if lock else ['no-lock']), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b'READY\n'

    def write(self, text):
        """The helper appends `text` and says so; only then this returns."""
        data = text.encode()
        self.process.stdin.write(b'%d\n' % len(data) + data)
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b'WRITTEN\n'

    def die(self):
        """The writer is gone without an exit event; the kernel drops its lock."""
        self.process.kill()
        self.process.wait()


def read_until(stream, wanted, timeout=TIMEOUT):
    """Reads a pipe (unbuffered) or a terminal until `wanted` has come; gives back what came."""
    got, seen = b'', 0
    while wanted not in got[max(seen - len(wanted), 0):]:
        seen = len(got)
        assert select.select([stream], [], [], timeout)[0], f'{wanted!r} did not come; got {got[-300:]!r}'
        data = os.read(stream.fileno(), 1 << 16)
        assert data, f'ended before {wanted!r}; got {got[-300:]!r}'
        got += data
    return got
