"""small3.cpp, the shim in 300 lines of lesson 11: what it claims, seen from outside."""
import os
import re
import signal
import subprocess
import types

import pytest

from common import Recording
from harness import BUILD, PYTHON, ROOT, alive, children, wait_until

SOURCE = os.path.join(ROOT, 'tests', 'tour', 'small3.cpp')
STRICT = '-std=c++20 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror'.split()
MUCH = b''.join(n.to_bytes(4, 'big') + bytes(range(256)) for n in range(38462))     # 10 MB, of all bytes
# A program that makes its terminal raw once a client is there, and says so: a byte is a byte from READY on.
RAW = ('import os, sys, tty; os.read(0, 99); tty.setraw(0); print("READY", flush=True); os.read(0, 1)\n'
       'data = b"".join(n.to_bytes(4, "big") + bytes(range(256)) for n in range(38462))\n')


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """small3, compiled without a warning."""
    target = str(tmp_path_factory.mktemp('small3') / 'small3')
    build = subprocess.run(['c++', *STRICT, '-o', target, SOURCE], capture_output=True, text=True, check=False,
                           timeout=120)
    assert (build.returncode, build.stderr) == (0, '')
    return target


@pytest.fixture(name='small')
def small_fixture(pty, built):
    """small(PROGRAM...): starts it in the test's folder; gives its address, its pid and the program's."""
    def start(*argv):
        run = pty.run(built, '0', *argv)
        ready = re.fullmatch(r'listening on 127\.0\.0\.1:(\d+), pid (\d+)\n', run.stdout)
        assert ready and (run.returncode, run.stderr) == (0, ''), run
        pid = int(ready[2])
        pty.keep(pid, lambda: alive(pid) and os.kill(pid, signal.SIGKILL))
        return types.SimpleNamespace(address=ready[1], pid=pid, program=children(pid)[0],
                                     wait_gone=lambda: wait_until(lambda: not alive(pid), what='the end of small3'))
    return start


def log(pty, **options):
    return Recording(pty.path('small3.cast'), **options)


def test_nc_sees_the_program_and_types_into_it(pty, small):
    """What nc sends is typed, what is printed comes back (with the echo); the end closes the connection; the log has it
    all, and the status."""
    session = small('sh', '-c', 'read name; echo "hello, $name"; exit 5')
    wanted = 'é "\r\nhello, é "\r\n'
    assert pty.run('nc', '127.0.0.1', session.address, text=False, input='é "\n'.encode()).stdout.decode() == wanted
    session.wait_gone()
    recording = log(pty)
    assert (recording.output.decode(), recording.of('x')) == (wanted, ['5'])


def test_ping_goes_on_while_nobody_looks(pty, small):
    """A program that prints by itself: somebody attaches, leaves, and another one sees it still there, and ends it."""
    session = small('ping', '-i', '0.2', '127.0.0.1')
    for _ in range(2):
        viewer = pty.attach('-R', session.address)
        viewer.wait_output(b'bytes from 127.0.0.1: icmp_seq=')
        viewer.send(b'\x1c')
        assert viewer.exit_status() == 0 and alive(session.program)
    last = pty.attach('-R', session.address)
    last.wait_output(b'icmp_seq=')
    last.send(b'\x03')
    last.wait_output(b'packets transmitted')
    session.wait_gone()
    assert log(pty).of('x') == ['0'] and last.exit_status() in (0, 254)


def test_vi_through_attach(pty, small):
    """A full-screen program at 80 columns: the text is on the screen, and in the file."""
    session = small('sh', '-c', 'read x; exec vim.tiny -u NONE note')
    editor = pty.attach('-R', session.address)
    wait_until(lambda: not editor.child.getecho(), what='raw mode')
    editor.send(b'\r')
    editor.wait_text('"note" [New')
    editor.send(b'ifrom vi\x1b')
    editor.wait_text('from vi')
    editor.send(b':wq\r')
    session.wait_gone()
    assert pty.read('note') == 'from vi\n'


def test_two_clients_share_the_terminal(pty, small):
    """Both see what one types; when one leaves, even by a reset, the other one has the terminal still."""
    session = small('cat')
    anna, ben = pty.client(session.address), pty.client(session.address)
    for typist in (anna, ben):
        typist.send(b'hi\n')
        assert [client.read_until(b'hi\r\nhi\r\n') for client in (anna, ben)] == [b'hi\r\nhi\r\n'] * 2
    ben.reset()
    anna.send(b'alone\n\x04')
    assert anna.read_all() == b'alone\r\nalone\r\n'
    session.wait_gone()


def test_slow_client_loses_nothing_and_one_that_takes_nothing_is_dropped(pty, small):
    """10 MB arrive exact, though another client reads nothing: the program waits for that one, a second long."""
    session = small(PYTHON, '-c', RAW + 'sys.stdout.buffer.write(data)')
    deaf, reader = pty.client(session.address, rcvbuf=4096), pty.client(session.address, b'\n')
    reader.read_until(b'READY\n')
    reader.send(b'!')
    assert (reader.read_all() == MUCH) is True, 'not the same bytes'
    session.wait_gone()
    assert len(deaf.read_all()) < len(MUCH)


def test_input_is_bounded_and_exact(pty, small):
    """10 MB to a program that reads when it likes: no byte is lost, and output goes on meanwhile."""
    session = small(PYTHON, '-c', RAW + 'print(data == sys.stdin.buffer.read(len(data)))')
    client = pty.client(session.address, b'\n')
    client.read_until(b'READY\n')
    client.send(b'!')
    client.send(MUCH)
    assert client.read_all() == b'True\n'
    session.wait_gone()


def test_grandchild_on_the_terminal_does_not_delay_the_end(pty, small):
    """The program's exit is the end, though a child of its own still holds the slave; what was printed last arrives."""
    session = small('sh', '-c', 'trap "" HUP; read x; sleep 60 & echo $!; exit 3')
    client = pty.client(session.address, b'\n')
    grandchild = int(client.read_all())
    pty.keep(grandchild, lambda: os.kill(grandchild, signal.SIGKILL))
    session.wait_gone()
    assert alive(grandchild) and log(pty).of('x') == ['3']


def test_closed_terminal_is_not_the_end(pty, small):
    """EIO is not the end: a program that has closed its terminal may open it again."""
    session = small('sh', '-c', 'read x; t=$(tty); exec <&- >&- 2>&-; until test -e go; do sleep .01; done; '
                                'exec >$t; echo after')
    client = pty.client(session.address, b'\n')
    client.read_until(b'\r\n')
    assert client.nothing_comes()
    pty.write('go', '')
    assert client.read_all() == b'after\r\n'


@pytest.mark.parametrize('victim', ['small3', 'program'])
def test_kill_9_loses_nothing_that_was_seen(pty, small, victim):
    """Of the shim: the log has what the client saw, and the kernel hangs the terminal up. Of the program: 137."""
    session = small('sh', '-c', 'read x; echo seen; exec sleep 60')
    client = pty.client(session.address, b'\n')
    client.read_until(b'seen\r\n')
    os.kill(session.pid if victim == 'small3' else session.program, signal.SIGKILL)
    assert client.read_all() == b''
    session.wait_gone()
    wait_until(lambda: not alive(session.program), what='the end of the program')
    assert log(pty).output == b'\r\nseen\r\n' and log(pty).of('x') == ([] if victim == 'small3' else ['137'])


def test_log_has_whole_characters_and_no_bad_bytes(pty, small):
    """A character that a read has cut is whole in the log; what is no UTF-8 is U+FFFD there, and exact for clients."""
    session = small('sh', '-c', r'stty -echo; read x; printf "\303"; read x; printf "\251\377\355\240\200|\342\202"')
    client = pty.client(session.address)
    wait_until(lambda: b' -echo ' in subprocess.run(['stty', '-a', '-F', f'/proc/{session.program}/fd/0'],
                                                  stdout=subprocess.PIPE, check=False, timeout=10).stdout, what='stty')
    client.send(b'\n')
    client.read_until(b'\xc3')
    client.send(b'\n')
    assert client.read_all() == b'\xa9\xff\xed\xa0\x80|\xe2\x82'
    session.wait_gone()
    assert re.fullmatch('é\ufffd+\\|\ufffd+', log(pty).output.decode())


def test_failed_start_says_why_and_leaves_nothing(pty, built):
    """A program that is not there, a port that is taken, a log that exists: told before the command returns."""
    run = pty.run(built, '0', './nothing')
    assert (run.returncode, run.stderr) == (1, 'small3: ./nothing: No such file or directory\n')
    assert os.listdir(pty.folder) == []
    taken = pty.shim('-n', '0', 'cat').address.rpartition(':')[2]
    run = pty.run(built, taken, 'cat')
    assert (run.returncode, run.stderr) == (1, f'small3: {taken}: Address already in use\n')
    assert os.listdir(pty.folder) == []
    pty.write('small3.cast', '')
    run = pty.run(built, '0', 'cat')
    assert (run.returncode, run.stderr) == (1, 'small3: small3.cast: File exists\n')


def test_record_reads_the_log(pty, small):
    """record takes it for a recording like ours."""
    session = small('sh', '-c', 'read x; echo "a tab:\tthe end"; exit 2')
    pty.client(session.address, b'\n').read_all()
    session.wait_gone()
    assert 'a tab:  the end' in pty.run(os.path.join(BUILD, 'record'), 'screen', 'small3.cast').stdout


def test_confessions_name_sections_of_the_shim():
    """A comment that says 'The ring' names a section of shim.cpp, and each section is named somewhere."""
    with open(os.path.join(ROOT, 'shim.cpp'), encoding='utf-8') as f:
        sections = set(re.findall(r'^// (?:=== )?\d+\. (.*?)(?: =+)?$', f.read(), re.M))
    if 'The ring' not in sections:
        pytest.skip('the sections of shim.cpp do not have their titles yet')
    with open(SOURCE, encoding='utf-8') as f:
        comments = ' '.join(re.findall(r'^ *.*?// ?(.*)$', f.read(), re.M))
    named = set(re.findall(r"(?<!\w)'([A-Z][^']*)'", comments))
    assert named == sections
