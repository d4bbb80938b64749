"""The recording (section 4): strict asciicast v2, byte exact, written before a client sees the bytes."""
import base64
import fcntl
import json
import os
import random
import re
import signal
import stat
import struct
import threading
import time

import pytest

from common import NO_WINDOW, Recording, program, run_session, strict_json
from harness import RECORD, SHIM, goodbye, hello, wait_until

EUROPE = 'a é € 𝄞 z'.encode()       # sequences of 1, 2, 3 and 4 bytes


def record_run(pty, *argv, options=()):
    """Runs a program with one no-window client to its end; gives the recording and what the client got."""
    output, status = run_session(pty, '-r', 'a.cast', '-w', *options, '0', *argv)
    recording = Recording(pty.path('a.cast'))
    assert recording.output == output and recording.events[-1][1:] == ('x', str(status))
    return recording, output


def emitted(pty, data):
    """The recording of a program that prints `data` through a raw terminal."""
    pty.write('bytes', data)
    shim = pty.shim('-r', 'a.cast', '0', *program('emit.py', 'bytes'))
    client = pty.client(shim.address, NO_WINDOW)
    client.read_until(b'READY\r\n')
    client.send(b'g')
    assert client.read_all() == data + goodbye(0)
    shim.wait_gone()
    recording = Recording(pty.path('a.cast'))
    assert recording.output == b'READY\r\n' + data
    return recording


def record_cat(pty, path):
    run = pty.run(RECORD, 'cat', path, text=False)
    assert (run.returncode, run.stderr) == (0, b'')
    return run.stdout


# ---- the format


def test_header_tells_what_the_contract_lists(pty):
    """Header: version, width, height, timestamp (an integer), command, env (TERM, SHELL), shim (pid, address)."""
    shim = pty.shim('-r', 'a.cast', '-s', '100x30', '0', 'sh', '-c', 'echo "two words"; read x',
                    env=dict(os.environ, TERM='vt220', SHELL='/bin/some shell'))
    header = Recording(shim.recording).header
    assert (header['version'], header['width'], header['height']) == (2, 100, 30)
    assert type(header['timestamp']) is int and abs(header['timestamp'] - time.time()) < 60
    assert isinstance(header['command'], str) and 'two words' in header['command']
    assert header['env'] == {'TERM': 'vt220', 'SHELL': '/bin/some shell'}
    assert header['shim'] == {'pid': shim.pid, 'address': shim.address}
    assert set(header) == {'version', 'width', 'height', 'timestamp', 'command', 'env', 'shim'}


def test_header_is_strict_json_whatever_the_command_and_the_environment_hold(pty):
    """Arguments are bytes: quotes, newlines, control characters and what is not UTF-8 still make one JSON line."""
    odd = b'"\\\n\t\x01\x7f\xff\xc3\xa9\xed\xa0\x80</script>'
    run = pty.run('sh', '-c', 'exec "$0" -f -r a.cast 0 echo "$1"', SHIM,
                  os.fsdecode(odd), env=dict(os.environ, TERM=os.fsdecode(b'x\xfe"y'), SHELL='\x1b'), text=False)
    assert run.returncode == 0
    recording = Recording(pty.path('a.cast'))
    assert 'é' in recording.header['command'] and recording.header['env']['SHELL'] == '\x1b'
    assert recording.output == odd.replace(b'\n', b'\r\n') + b'\r\n'


def test_every_line_is_strict_json_and_the_file_ends_with_a_newline(pty):
    """Readers of JSON lines (jq, players) take each line; times have six decimals and never go back."""
    recording, _ = record_run(pty, 'sh', '-c', 'for i in 1 2 3 4 5; do echo $i; sleep 0.02; done')
    times = [time for time, _, _ in recording.events]
    assert times == sorted(times) and times[-1] >= 0.08
    assert [code for _, code, _ in recording.events][-1] == 'x'
    assert times[0] < 5, 'times do not count from the start'


def test_escapes_and_control_bytes_are_one_utf_8_string(pty):
    """Control characters, quotes, backslashes, NUL and DEL in the output: exact after JSON, without a b event."""
    data = bytes(range(128)) + b'\x1b[31m"quoted\\"\x1b[0m' + EUROPE + '\u2028\ufeff\ufffd'.encode()
    recording = emitted(pty, data)
    assert recording.of('b') == []
    assert ''.join(recording.of('o')).encode() == b'READY\r\n' + data


def test_bytes_that_are_not_utf_8_stand_in_a_b_event_right_before_their_o_event(pty):
    """Latin-1 output: U+FFFD in the o event, and right before it the exact bytes of that event in base64."""
    recording = emitted(pty, b'caf\xe9 \xff\xfe end')
    codes = [code for _, code, _ in recording.events if code in 'ob']
    assert codes == ['o', 'b', 'o'], recording.events
    assert base64.b64decode(recording.of('b')[0]) == b'caf\xe9 \xff\xfe end'
    assert re.fullmatch('caf\ufffd \ufffd+ end', recording.of('o')[1])


@pytest.mark.parametrize('bad', [b'\x80', b'\xc0\xaf', b'\xc1\xbf', b'\xe0\x80\xaf', b'\xed\xa0\x80', b'\xed\xbf\xbf',
                                 b'\xf0\x80\x80\xaf', b'\xf4\x90\x80\x80', b'\xf5\x80\x80\x80', b'\xfe', b'\xe2\x82',
                                 b'\xf0\x9d\x84', b'\xc3', b'\xe2\x28\xa1', b'\xf8\x88\x80\x80\x80'], ids=bytes.hex)
def test_each_kind_of_bad_utf_8_is_told_and_kept(pty, bad):
    """Overlong forms, surrogates, over U+10FFFF, lone and cut sequences are not UTF-8 (RFC 3629)."""
    recording = emitted(pty, b'<' + bad + b'>')
    assert len(recording.of('b')) == 1
    assert re.search('<\ufffd+\\(?\ufffd*>', ''.join(recording.of('o')))


def test_command_that_prints_nothing_has_a_header_and_an_exit_event(pty):
    """The shortest recording: a header and the status in decimal."""
    recording, output = record_run(pty, 'sh', '-c', 'exit 200')
    assert output == b'' and [event[1:] for event in recording.events if event[1] != 'r'] == [('x', '200')]


def test_window_sizes_are_r_events(pty):
    """Each change of the window size is an r event, COLSxROWS, before the output that it brings."""
    shim = pty.shim('-r', 'a.cast', '0', *program('hex.py'))
    client = pty.client(shim.address, hello(30, 100))
    client.read_until(b'{30 100}')
    client.resize(31, 101)
    client.read_until(b'{31 101}')
    client.send(b'Q')
    client.read_all()
    shim.wait_gone()
    events = [event[1:] for event in Recording(shim.recording).events]
    assert ('r', '100x30') in events and ('r', '101x31') in events
    seen = ''.join(text for code, text in events[:events.index(('r', '101x31'))] if code == 'o')
    assert '{31 101}' not in seen
    sizes = [text for code, text in events if code == 'r']
    assert all(re.fullmatch(r'[1-9][0-9]*x[1-9][0-9]*', text) for text in sizes)
    assert sizes[-1] == '101x31'


# ---- characters that a read has cut


@pytest.mark.parametrize('character', ['é', '€', '𝄞'])
def test_character_cut_at_each_byte_stays_whole(pty, character):
    """A cut sequence is kept back for the next turn, from the recording and from the clients alike."""
    data = character.encode()
    pieces = [piece for cut in range(1, len(data)) for piece in (b'<' + data[:cut], data[cut:] + b'>')]
    recording, output = record_run(pty, *program('pieces.py', 0.02, *(piece.hex() for piece in pieces)))
    assert output == b''.join(pieces) and recording.of('b') == []
    assert ''.join(recording.of('o')) == output.decode()


def test_character_in_single_bytes_stays_whole(pty):
    """A program that writes byte by byte: four reads make one character."""
    recording, output = record_run(pty, *program('pieces.py', 0.01, *(f'{byte:02x}' for byte in EUROPE)))
    assert output == EUROPE and recording.of('b') == []


def test_cut_character_that_is_never_finished_comes_within_100_ms(pty):
    """What is kept back is kept 100 ms at most: then clients and recording get it as it is."""
    shim = pty.shim('-r', 'a.cast', '0', *program('pieces.py', 60, b'begin\xe2\x82'.hex()))
    client = pty.client(shim.address)
    client.read_until(b'begin')
    began = time.monotonic()
    client.read_until(b'\xe2\x82')
    assert time.monotonic() - began < 2
    assert Recording(shim.recording).output == b'begin\xe2\x82'


def test_cut_character_before_another_one_is_not_kept_longer(pty):
    """Bytes that can no longer become a character are let go; the next character is whole."""
    recording, output = record_run(pty, *program('pieces.py', 0.02, 'e282', 'c3', 'a9', '41'))
    assert output == b'\xe2\x82\xc3\xa9A'
    assert ''.join(recording.of('o')).endswith('éA')


def test_output_that_ends_inside_a_character_is_delivered(pty):
    """The last byte is delivered at the end of the program even when a sequence is not complete."""
    _, output = record_run(pty, *program('pieces.py', 0, b'end\xf0\x9d\x84'.hex()))
    assert output == b'end\xf0\x9d\x84'


# ---- exact bytes


def test_8_mib_of_arbitrary_bytes_are_the_same_everywhere(pty):
    """Through a raw terminal: three clients, the recording and `record cat` hold the same 8 MiB."""
    data = random.Random(8).randbytes(8 << 20)
    pty.write('bytes', data)
    shim = pty.shim('-r', 'a.cast', '0', *program('emit.py', 'bytes', 1))
    clients = [pty.client(shim.address), pty.client(shim.address, NO_WINDOW), pty.client(shim.address, NO_WINDOW)]
    for client in clients:
        client.read_until(b'READY\r\n')
    got = {}
    threads = [threading.Thread(target=lambda n=n: got.update({n: clients[n].read_all()}), daemon=True)
               for n in range(3)]
    for thread in threads:
        thread.start()
    clients[0].send(b'g')
    for thread in threads:
        thread.join(60)
    assert got[0] == data and got[1] == got[2] == data + goodbye(1)
    shim.wait_gone()
    assert Recording(shim.recording).output == b'READY\r\n' + data
    assert record_cat(pty, shim.recording) == b'READY\r\n' + data


def test_large_text_is_recorded_without_b_events(pty):
    """UTF-8 stays readable: a megabyte of three-byte characters, cut by reads anywhere, makes no b event."""
    recording = emitted(pty, ('€uro ' * 200000).encode())
    assert recording.of('b') == []


# ---- the file


def test_recording_is_private(pty):
    """File mode 0600, whatever the umask: a session holds what its user saw."""
    shim = pty.shim('-r', 'a.cast', '0', 'sleep', '60', umask=0)
    assert stat.S_IMODE(os.stat(shim.recording).st_mode) == 0o600


def test_header_is_there_when_the_start_returns(pty):
    """Whoever reads the readiness line can read the recording."""
    shim = pty.shim('-r', 'a.cast', '-w', '0', 'true')
    lines = pty.read(shim.recording).split('\n')
    assert strict_json(lines[0])['version'] == 2 and lines[1:] == ['']


def lock_holder(path):
    """The pid that holds a write lock on the file, None if nobody does (fcntl(2), F_GETLK)."""
    with open(path, 'rb') as f:
        asked = struct.pack('hhqqi4x', fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else pid


def test_lock_tells_whether_the_session_is_alive(pty):
    """While the shim writes, the daemon holds a record lock: F_GETLK tells a reader its pid; not the program's."""
    shim = pty.shim('-r', 'a.cast', '0', *program('hex.py'))
    assert lock_holder(shim.recording) == shim.pid
    client = pty.client(shim.address, NO_WINDOW + b'Q')
    client.read_all()
    shim.wait_gone()
    assert lock_holder(shim.recording) is None


def test_lock_is_held_in_the_foreground_too(pty):
    """With -f the shim itself is the daemon: the pid of the readiness line holds the lock."""
    process = pty.background(SHIM, '-f', '-r', 'a.cast', './a.sock', *program('hex.py'), stdout=-1, stderr=-1)
    line = process.stderr.readline().decode()
    assert f'pid {process.pid},' in line and lock_holder(pty.path('a.cast')) == process.pid
    pty.client(pty.path('a.sock'), NO_WINDOW + b'Q').read_all()
    assert process.wait(10) == 9
    process.stdout.close()


def test_bytes_are_in_the_recording_before_a_client_sees_them(pty):
    """One write a turn, before the bytes go to any client: whatever a client has got can be read in the file."""
    shim = pty.shim('-r', 'a.cast', '-w', '0', 'sh', '-c', 'seq 1 200000')
    client = pty.client(shim.address, b'x')
    seen, looks = b'', 0
    while data := client.sock.recv(1 << 14):
        seen += data
        if looks < 12:
            looks += 1
            assert Recording(shim.recording, torn=True).output.startswith(seen)
    assert looks == 12 and seen.endswith(b'200000\r\n')


def test_pauses_are_recorded(pty):
    """t is in seconds: a pause of the program is a distance between events of the same length."""
    recording, _ = record_run(pty, *program('pieces.py', 0.5, '61', '62'))
    first, second = [time for time, code, _ in recording.events if code == 'o']
    assert 0.45 < second - first < 1.5


def test_events_and_header_hold_nothing_but_what_players_know(pty):
    """asciinema's reader takes [number, string, string] and the codes o, i, r, m, x; b is skipped by its rule."""
    shim = pty.shim('-i', '-r', 'a.cast', '0', *program('hex.py'))
    client = pty.client(shim.address, hello(25, 81) + b'a')
    client.read_until(b'<61>')
    os.kill(shim.pid, signal.SIGUSR1)
    wait_until(lambda: Recording(shim.recording).of('m'), what='the marker')
    client.send(b'Q')
    client.read_all()
    shim.wait_gone()
    rows = [json.loads(line) for line in pty.read(shim.recording).splitlines()[1:]]
    assert all(type(row) is list and len(row) == 3 for row in rows)
    assert all(type(row[0]) is float and type(row[1]) is type(row[2]) is str for row in rows)
