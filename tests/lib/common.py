"""What the core tests share: a strict reader of recordings, sessions run to their end, the kernel's queues."""
import base64
import fcntl
import json
import os
import re
import struct
import termios

from harness import PYTHON, ROOT, hello, wait_until

NO_WINDOW = hello(0, 0)
LINE = re.compile(r'\[(?P<time>[0-9]+\.[0-9]{6}), ?"(?P<code>[obirmtx])", ?(?P<data>".*")\]')


def program(name, *arguments):
    """argv of a helper program of tests/programs; -S and -E because it starts faster and takes nothing of ours."""
    return [PYTHON, '-SE', os.path.join(ROOT, 'tests', 'programs', name), *map(str, arguments)]


def refuse_constant(name):
    raise AssertionError(f'{name} is no JSON')


def strict_json(text):
    """json.loads takes more than RFC 8259 (NaN, lone surrogates): this does not."""
    value = json.loads(text, parse_constant=refuse_constant)
    json.dumps(value, ensure_ascii=False).encode('utf-8')      # a lone surrogate cannot be encoded
    return value


class Recording:
    """A recording read by the letter of the contract: whatever is not as section 4 says is an assertion error.

    `events` are (time, code, text); `output` is the exact bytes, `parts` those and the markers. With `torn`, what follows the last newline is
    ignored; without, there must be nothing."""
    def __init__(self, path, torn=False):
        with open(path, 'rb') as f:
            whole, _, tail = f.read().rpartition(b'\n')
        assert torn or tail == b'', f'the last line is torn: {tail[-200:]!r}'
        first, *lines = whole.decode('utf-8').split('\n')
        self.header = strict_json(first)
        self.events, self.parts, exact, last = [], [], None, 0.0
        for number, line in enumerate(lines, 2):
            found = LINE.fullmatch(line)
            assert found, f'line {number}: {line[:300]!r}'
            text, code, time = strict_json(found['data']), found['code'], float(found['time'])
            assert time >= last, f'line {number}: {time} comes after {last}'
            assert exact is None or code == 'o', f'line {number}: b is followed by {code}'
            last = time
            self.events.append((time, code, text))
            if code == 'b':
                exact = base64.b64decode(text, validate=True)
            elif code == 'o':
                if exact is not None:
                    assert same_but_for_bad_bytes(text, exact), f'line {number}: {text!r} is not {exact!r}'
                self.parts.append(('o', text.encode('utf-8') if exact is None else exact))
                exact = None
            elif code == 'm':
                self.parts.append(('m', text))
        assert torn or exact is None, 'a b event is the last'
        self.output = b''.join(data for kind, data in self.parts if kind == 'o')

    def of(self, code):
        return [text for _, kind, text in self.events if kind == code]


def same_but_for_bad_bytes(text, exact):
    """Whether `text` is `exact` with U+FFFD for what is not UTF-8. How many a run of bad bytes gives is open."""
    def collapse(string):
        return re.sub('\ufffd+', '\ufffd', string)
    return collapse(text) == collapse(exact.decode('utf-8', errors='replace'))


def run_session(pty, *argv, **options):
    """Runs shim OPTION... ADDRESS PROGRAM... (with -w among the options) to its end with one client that has no
    window; gives the program's output and its status."""
    shim = pty.shim(*argv, **options)
    client = pty.client(shim.address, NO_WINDOW)
    whole = client.read_all()
    shim.wait_gone()
    assert whole[-5:-1] == b'\xff\xffxx', f'no goodbye: {whole[-100:]!r}'
    return whole[:-5], whole[-1]


def unread(sock):
    """How many bytes sent into a Unix-domain socket its peer has not read yet: unix(7), SIOCOUTQ."""
    return struct.unpack('i', fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def wait_taken(sock):
    """Until the peer of this Unix-domain socket has read all that was sent: what comes next is a read of its own."""
    wait_until(lambda: unread(sock) == 0, what='the reading of what was sent')


def processes_with(variable):
    """The pids of the processes whose environment holds `variable` (NAME=value): what a command has left behind."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/environ', 'rb') as f:
                if variable.encode() in f.read().split(b'\0'):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def hex_bytes(text):
    """The bytes that hex.py says it got."""
    return bytes(int(byte, 16) for byte in re.findall(rb'<([0-9a-f]{2})>', text))


def read_pid(text):
    """The pid that holder.py or deaf.py tells."""
    return int(re.search(rb'(?:PID|READY) (\d+)', text)[1])


def wait_ready(pty, address):
    """Until the program has printed READY: its terminal is raw, and what comes now is not changed on its way."""
    client = pty.client(address, NO_WINDOW)
    client.read_until(b'READY')
    client.close()
