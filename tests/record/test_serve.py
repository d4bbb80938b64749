"""`record serve`: the shim's questions about the past, asked by hand.

Authority: the fenced text 'questions about the past' (PastMessage), and section 7 of the contract.
"""
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess

import pytest

from harness import RECORD, TIMEOUT
from record_tools import OWN_MEMORY, casts, event, good, header, output, printed, resident, write

READ, PAINT, BYTES, CANNOT = 1, 2, 3, 4
RECORDING, TAIL = 3, 4
MESSAGE = struct.Struct('=IIQQQIHHQ')  # kind, protocol, client, from, to, file, columns, rows, length
MOST_READ, MOST_BYTES, MIB = 4 << 20, 64 << 10, 1 << 20
LINES = ''.join(f'\x1b[3{n % 8}mline {n}\x1b[m\r\n' for n in range(40)).encode()


class Helper:
    """A `record serve` at the other end of a socket pair, with the files that the shim would give it."""

    def __init__(self, pty, recording='', tail='', arguments=()):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(TIMEOUT)
        opened = ''.join(f' {fd}<"${fd - 2}"' if path else f' {fd}<&-' for fd, path in ((3, recording), (4, tail)))
        script = f'exec "${{@:3}}"{opened}'
        self.process = pty.background('bash', '-c', script, 'bash', recording, tail, RECORD, 'serve', *arguments,
                                      stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        theirs.close()

    def ask(self, kind, begin=0, end=0, client=7, file=RECORDING, size=(80, 24)):
        """Gives the answer's kind, its `to`, and its bytes; the rest is as in the question, but the bytes that the model
        has been fed, which a read tells."""
        self.sock.sendall(MESSAGE.pack(kind, 1, client, begin, end, file, *size, 0))
        answer = MESSAGE.unpack(self.receive(MESSAGE.size))
        asked = answer[1:3] + answer[5:8] == (1, client, file, *size)
        if answer[0] == READ:
            self.fed = answer[3]
        else:
            asked = asked and answer[3] == begin
        assert asked and answer[0] in (kind, CANNOT) and (kind == READ or answer[4] == end), answer
        return answer[0], answer[4], self.receive(answer[8])

    def receive(self, count):
        data = b''
        while len(data) < count:
            data += self.sock.recv(count - len(data)) or pytest.fail(f'the helper ended: {self.end()}')
        return data

    def read(self, begin, end, **more):
        """A read that succeeds: gives where it stopped."""
        kind, stopped, data = self.ask(READ, begin, end, **more)
        assert (kind, data) == (READ, b'')
        return stopped

    def read_all(self, path, **more):
        at, end = 0, os.path.getsize(path)
        while at < end:
            at = self.read(at, min(end, at + MOST_READ), **more)
        return self

    def paint(self, history=64 << 10, again=0):
        kind, _, data = self.ask(PAINT, history, again)
        assert kind == PAINT
        return data

    def output(self, begin, end, client=7):
        """The answer to a question for bytes, which may be asked again while the place is looked for."""
        for _ in range(100):
            kind, _, data = self.ask(BYTES, begin, end, client)
            if data or kind == CANNOT:
                return data
        return pytest.fail('never found')

    def end(self):
        """Its status and what it said, after the shim's end of the socket is closed."""
        self.sock.close()
        said, _ = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, said


def size_of(path):
    with open(path, 'rb') as f:
        head = json.loads(f.readline())
    return {'size': (head['width'], head['height'])}


def recording(pty, *events, name='a.cast', width=20, height=6):
    return write(pty.path(name), header(2, width, height), *events)


@pytest.mark.parametrize('path', [p for p in casts('.cast') if '-v3' not in p], ids=os.path.basename)
def test_a_paint_after_reads_in_steps_is_the_paint_of_the_whole(pty, path):
    """However the reads are cut: inside of lines, and between an exact `b` event and its `o`."""
    path = write(pty.path(os.path.basename(path)), pty.read_bytes(path).rstrip(b'\n'), '\n')
    dice, end = random.Random(os.path.basename(path)), os.path.getsize(path)
    helper, at = Helper(pty, path), 0
    for cut in [*sorted(dice.randrange(end) for _ in range(50)), end]:
        at = helper.read(at, cut, **size_of(path))
    assert at == end and helper.paint() == good('paint', path)
    assert helper.fed == len(good('cat', path))
    assert helper.end() == (0, b'')


def test_a_torn_line_is_not_read_and_the_answer_says_where_reading_stopped(pty):
    """Read by single bytes: a line counts when its last byte is there. A `b` waits for its `o`, a size is taken."""
    path = recording(pty, output(1, b'one\r\n'), output(2, b'\xff\xfe\xe4\xb8'), event(3, 'r', '30x5'), '\n',
                     output(4, b'\xad two'), event(5, 'i', 'keys'), event(6, 't', '1.5'), event(7, 'x', '0'))
    data = pty.read_bytes(path)
    helper, at = Helper(pty, path), 0
    for cut in range(len(data) + 1):
        at = helper.read(at, cut, size=(20, 6))
        assert at == data[:cut].rfind(b'\n') + 1
    assert helper.paint() == good('paint', path)


def test_a_first_read_inside_of_a_line_passes_over_its_rest(pty):
    """How a helper begins that is started anew, 32 MiB before the end; from the start of a line nothing is lost."""
    rest = (output(2, b'two\r\n') + output(3, b'\xe4\xb8')).encode()
    path = recording(pty, output(1, b'one\r\n'), rest)
    wanted = good('paint', recording(pty, rest, name='rest.cast'))
    begin, end = os.path.getsize(path) - len(rest), os.path.getsize(path)
    for first in (begin, begin - 1, begin - 9):
        assert Helper(pty, path).read(first, end, size=(20, 6)) == end
    helper = Helper(pty, path)
    assert helper.read(begin - 9, begin - 2, size=(20, 6)) == begin - 9
    assert helper.read(begin - 9, end, size=(20, 6)) == end and helper.paint() == wanted


def test_the_tail_goes_on_where_the_recording_ends(pty):
    """It has no header; a pair that a full disk has parted is one all the same; it is cut to nothing and used again."""
    pair, third = output(2, b'\xfftwo').encode().splitlines(True), output(3, b'three').encode()
    path, tail = recording(pty, output(1, b'one\r\n'), pair[0]), write(pty.path('tail'), pair[1])
    helper = Helper(pty, path, tail).read_all(path, size=(20, 6))
    assert helper.read(0, len(pair[1]), file=TAIL) == len(pair[1])
    write(tail, third)
    assert helper.read(0, len(third), file=TAIL) == len(third)
    assert helper.paint() == good('paint', recording(pty, output(1, b'one\r\n'), *pair, third, name='whole.cast'))
    assert helper.output(0, 99) == b'one\r\n\xfftwo', 'the recording has no more'
    only = Helper(pty, '', tail)
    assert only.read(0, len(third), file=TAIL, size=(9, 9)) == len(third) and b'three' in only.paint()


@pytest.mark.parametrize('kind, begin, end, file', [
    (PAINT, 0, 0, 3), (READ, 0, 9999, 3), (READ, 30, 20, 3), (READ, 0, 0, 4), (READ, 0, 1 << 63, 3),
    (BYTES, 0, 0, 3), (BYTES, 2, 1, 3), (BYTES, 6, 9, 3), (BYTES, 5, 6, 3), (BYTES, (1 << 64) - 9, (1 << 64) - 1, 3),
], ids=str)
def test_what_cannot_be_answered_is_said_and_the_next_question_heard(pty, kind, begin, end, file):
    """No model, a file shorter than said, no such file, output that is not there."""
    path = recording(pty, output(1, b'bytes'))
    helper = Helper(pty, path)
    assert helper.ask(kind, begin, end, file=file)[::2] == (CANNOT, b'')
    assert helper.output(1, 9) == b'ytes'
    assert helper.read_all(path, size=(20, 6)).paint() == good('paint', path) and helper.end() == (0, b'')


@pytest.mark.parametrize('bad', ['rubbish\n', '[1, "o", 3]\n', '[1.0, "b", "%"]\n', '[1.0, "o", "x"\n', '\xff\n', '{}\n'])
def test_a_line_that_is_no_event_cannot_be_read(pty, bad):
    """Nor anything behind it; what stood before it is still given, and reading may begin behind it."""
    path = recording(pty, output(1, b'good'), bad.encode('latin1'), output(2, b'after'))
    helper, end = Helper(pty, path), os.path.getsize(path)
    assert helper.ask(READ, 0, end)[0] == CANNOT and helper.ask(PAINT)[0] == CANNOT
    assert helper.output(0, 99) == b'good' and helper.ask(BYTES, 4, 99)[0] == CANNOT
    assert helper.read(end - 20, end) == end and helper.output(2, 99) == b'od'


def test_a_recording_that_shrinks_cannot_be_read(pty):
    """Somebody has truncated it: an answer, not the helper's end."""
    path = recording(pty, output(1, b'x' * 5000))
    helper, end = Helper(pty, path).read_all(path), os.path.getsize(path)
    os.truncate(path, 100)
    assert helper.ask(READ, 0, end)[0] == CANNOT and helper.ask(BYTES, 9, 99)[0] == CANNOT


@pytest.mark.parametrize('read_first', [False, True], ids=['searched', 'noted by reads'])
def test_bytes_are_the_outputs_for_any_number_of_clients(pty, read_first):
    """Each at a place of its own, in any order: as many as asked for at most, never more than 64 KiB."""
    dice = random.Random(5)
    path = recording(pty, *(output(n, dice.randbytes(dice.choice((1, 90, 9_000, 200_000)))) + event(n, 'i', 'x' * 99)
                            for n in range(30)))
    data, helper = printed(path), Helper(pty, path)
    if read_first:
        helper.read_all(path)
    at = {client: dice.randrange(len(data)) for client in range(1100)}
    for turn in range(500):
        client = dice.randrange(1100) if turn % 3 else dice.randrange(3)
        begin = at[client] if at[client] < len(data) else 0
        end = begin + dice.choice((1, 50, 4000, 1 << 20))
        got = helper.output(begin, end, client)
        assert got and got == data[begin:begin + len(got)] and len(got) <= min(end - begin, MOST_BYTES)
        at[client] = begin + len(got)
    assert helper.end() == (0, b'')


def test_going_on_costs_what_is_read_and_not_what_lies_before(pty):
    """Three clients in turn, far from each other: no MiB is read anew for each 64 KiB (rchar: proc(5))."""
    path = recording(pty, *(output(n, b'x' * 4000) for n in range(4000)))
    helper, at = Helper(pty, path), [0, 5 << 20, 10 << 20]
    helper.output(15 << 20, 99 << 20)

    def rchar():
        with open(f'/proc/{helper.process.pid}/io', encoding='ascii') as f:
            return int(f.readline().split()[1])
    before = rchar()
    for _ in range(60):
        for client in range(3):
            at[client] += len(helper.output(at[client], 99 << 20, client))
    assert at[2] > 13 << 20 and rchar() - before < 6 * 180 * MOST_BYTES


def test_a_far_place_is_looked_for_in_several_questions(pty):
    """64 MiB of the file a question: the others are not held up. What reads have passed is known at once."""
    line = event(1, 'o', 'x' * 999_998 + '\r\n')
    path = recording(pty, *([line] * 140), event(2, 'o', 'last'))
    helper, far = Helper(pty, path), (140 * MIB * 1_000_000 // MIB, 1 << 40)
    assert [helper.ask(BYTES, *far)[2] for _ in range(3)] == [b'', b'', b'last']
    assert helper.ask(BYTES, *far, client=8)[2] == b'last', 'the place is noted for all'
    again = Helper(pty, path).read_all(path)
    assert again.ask(BYTES, *far)[2] == b'last' and again.ask(BYTES, far[0] - 2, far[0])[2] == b'\r\n'


@pytest.mark.parametrize('kept, asked, lines', [
    ('none', 1 << 20, 0), ('64', 1 << 20, 4), ('64K', 64, 4), ('64K', 0, 0), ('1M', 1 << 20, 1995), ('all', 1 << 40, 1995)])
def test_history_is_bounded_by_the_question_and_by_the_option(pty, kept, asked, lines):
    """-H is what the helper keeps, `from` what this client wants of it."""
    path = recording(pty, ''.join(f'{n:014}\r\n' for n in range(2000)).join(('[1, "o", "', '"]\n')).replace('\r\n', '\\r\\n'))
    helper = Helper(pty, path, arguments=['-H', kept]).read_all(path, size=(20, 6))
    shown = [int(number) for number in re.findall(rb'\d{14}', helper.paint(asked))]
    assert shown == list(range(1995 - lines, 2000))


@pytest.mark.parametrize('shown', [
    'text', '\x1b[?1049h\x1b[>5utext', '\x1b[>1u\x1b[?47h\x1b[=3u', '\x1b]2;half a title', '\x1b[1;3', '\x1b[2;3r\x1b[?6h\x1b[3;1H',
    '\x1b[?1;1002;1006;2004h\x1b[?25l\x1b[3 q\x1b[4h\x1b)0\x0e\x1b[41mx', '\x1b]8;;http://example.com/\x1b\\x'])
def test_a_terminal_that_shows_something_already_is_painted_from_the_start(pty, shown):
    """Whatever it has on or is in the middle of; lines that scrolled off, it has already."""
    path = recording(pty, output(1, LINES + b'\x1b[2;5H\x1b[?1000hthe state'))
    helper = Helper(pty, path).read_all(path, size=(20, 6))
    late = recording(pty, output(1, shown.encode() + helper.paint(0, 1)), name='late.cast')
    shown = good('paint', '-H', 'none', late).replace(b'\x1b[0 q', b'')  # (it has been told that the cursor's shape is the usual one)
    assert shown == good('paint', '-H', 'none', path)
    assert b'line 1\r' not in helper.paint(0, 1)


def test_no_signal_of_the_keyboard_or_of_a_service_manager_ends_it(pty):
    """It lives as long as the session, and ends at end of file."""
    path = recording(pty, output(1, b'bytes'))
    helper = Helper(pty, path)
    helper.output(0, 9)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        helper.process.send_signal(number)
        assert helper.output(0, 9) == b'bytes'
    assert helper.end() == (0, b'')


@pytest.mark.parametrize('question', [
    b'half a question', MESSAGE.pack(READ, 2, 0, 0, 0, 3, 80, 24, 0), MESSAGE.pack(0, 1, 0, 0, 0, 3, 80, 24, 0),
    MESSAGE.pack(CANNOT, 1, 0, 0, 0, 3, 80, 24, 0), MESSAGE.pack(PAINT, 1, 0, 0, 0, 3, 80, 24, 1),
    MESSAGE.pack(READ, 1, 0, 0, 0, 0, 80, 24, 0)], ids=['half', 'protocol', 'no kind', 'cannot', 'length', 'file'])
def test_what_is_no_question_ends_it_without_a_word(pty, question):
    """Another version's shim, or no shim: status 1."""
    helper = Helper(pty, recording(pty))
    helper.sock.sendall(question)
    helper.sock.shutdown(socket.SHUT_WR)
    assert helper.sock.recv(1) == b'' and helper.end() == (1, b'')


@OWN_MEMORY
def test_a_helper_is_small_however_much_it_has_read(pty):
    """6 MB with 64K of history at 80x24, in lines of the length that shim writes."""
    line = event(1, 'o', ''.join(f'\x1b[3{n % 8}mline\x1b[m {n} of a log\r\n' for n in range(2000)))
    path = recording(pty, *([line] * 200))
    helper = Helper(pty, path).read_all(path)
    helper.paint()
    helper.output(1 << 20, 9 << 20)
    assert resident(helper.process.pid) < 6_000_000
