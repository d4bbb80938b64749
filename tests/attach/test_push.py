"""attach -p: status 0 means that the shim has taken all of the input, 254 that some may be lost (section 5)."""
import os
import shutil
import signal
import socket
import subprocess

import pytest

from attaching import piped, start_piped
from common import NO_WINDOW, program
from harness import ATTACH, TIMEOUT, children, goodbye, hello, needs_listener_user, wait_until
from told import DAEMON, Told, as_user, needs_root, open_folder

PUSH = hello(0, 0, 2)
TAKEN = b'\xff\xffok'
CUT_SHORT = 'the session did not take all of the input\n'


def test_push_ends_with_the_answer(pty, server):
    """A hello that wants no output, the input, its end: then the shim's word that it has it, and nothing else."""
    process = start_piped(pty, '-p', './fake.sock')
    process.stdin.write(b'words\n')
    process.stdin.close()
    assert server.accept().read_all() == PUSH + b'words\n'
    server.connection.sendall(TAKEN)
    assert process.wait(TIMEOUT) == 0
    assert process.stdout.read() == b'' and process.stderr.read() == b''


@pytest.mark.parametrize('answer', [b'', TAKEN[:3], goodbye(0), goodbye(3), b'ok', TAKEN + b'more'], ids=bytes.hex)
def test_push_without_the_answer_is_254(pty, server, answer):
    """The end of the connection alone says nothing: a refusal looks the same, and so does a shim that was killed."""
    process = start_piped(pty, '-p', './fake.sock')
    process.stdin.close()
    assert server.accept().read_all() == PUSH
    server.connection.sendall(answer)
    server.connection.close()
    assert process.wait(TIMEOUT) == 254
    assert process.stdout.read() == b'' and process.stderr.read().decode() == f'attach: ./fake.sock: {CUT_SHORT}'


@pytest.mark.parametrize('address', ['0', './a.sock'])
def test_push_into_a_session_that_is_killed_in_the_middle_is_254(pty, address):
    """Nobody has read what still was in the socket."""
    told = Told(pty, '-n', address)
    process = pty.background(ATTACH, '-p', told.shim.address, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b'x\n' * (1 << 16))
    os.kill(told.shim.pid, signal.SIGKILL)
    process.stdin.close()
    assert process.wait(TIMEOUT) == 254


@pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_UNIX])
def test_push_to_a_server_that_closes_at_once_is_254(pty, family):
    """So does a shim that has no descriptor left, or does not know who comes: none of thirty may seem to be heard."""
    listener = socket.socket(family)
    pty.keep(listener, listener.close)
    listener.bind(('127.0.0.1', 0) if family == socket.AF_INET else pty.path('a.sock'))
    listener.listen()
    address = str(listener.getsockname()[1]) if family == socket.AF_INET else './a.sock'
    for _ in range(30):
        process = start_piped(pty, '-p', address)
        listener.accept()[0].close()
        process.stdin.close()
        assert process.wait(TIMEOUT) == 254
        assert process.stderr.read().decode() == f'attach: {address}: {CUT_SHORT}'


@needs_listener_user
@needs_root
def test_push_to_another_users_session_is_refused(pty):
    """Of thirty none may seem to have been taken: at a port the shim asks who comes, and attach who listens."""
    copy = shutil.copy(ATTACH, open_folder(pty))
    shim = pty.shim('-n', '0', *program('deaf.py'))
    for _ in range(30):
        run = pty.run(copy, '-p', shim.address, input='words\n', cwd='/', **as_user(DAEMON))
        assert run.returncode in (254, 255), run


def test_push_is_no_client_that_the_program_notices(pty):
    """Nothing is sent to it, and no window follows it: the others' session is as before."""
    shim = pty.shim('-n', '-s', '99x33', './a.sock', *program('hex.py'))
    terminal = pty.attach('./a.sock', rows=33, cols=99)
    terminal.wait_output(b'{33 99}')
    for _ in range(3):
        assert piped(pty, '-p', './a.sock', data=b'p') == (0, b'', '')
    terminal.ends(b'Q', 9)
    assert terminal.output.count(b'{') == 1 and terminal.output.count(b'<70>') == 3 and shim.pid


@pytest.mark.parametrize('address', ['0', './a.sock'])
def test_push_whose_words_end_the_program_has_been_taken(pty, address):
    """echo exit | attach -p: the end of the input may come after the program's, but nothing of it was lost."""
    for _ in range(20):
        shim = pty.shim('-n', address, 'sh', '-c', 'echo READY; read x; exit 7')
        client = pty.client(shim.address if address == '0' else pty.path('a.sock'), NO_WINDOW)
        client.read_until(b'READY')
        process = start_piped(pty, '-p', shim.address)
        process.stdin.write(b'exit\n')
        process.stdin.flush()
        client.read_until(b'exit')
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0
        client.close()
        shim.wait_gone()


def test_push_behind_the_programs_end_is_254(pty):
    """What comes when the program has ended is read by nobody."""
    shim = pty.shim('-n', './a.sock', 'sh', '-c', 'read x; exit 7')
    process = start_piped(pty, '-p', './a.sock')
    process.stdin.write(b'exit\n')
    process.stdin.flush()
    wait_until(lambda: not children(shim.pid), what='the end of the program')
    try:
        process.stdin.write(b'more\n')
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(TIMEOUT) == 254


def test_push_that_stays_does_not_keep_an_ended_session(pty):
    """Its input may never end: the session does not wait for long, and says that it has ended."""
    shim = pty.shim('-n', './a.sock', 'sh', '-c', 'read x; exit 7')
    process = start_piped(pty, '-p', './a.sock')
    process.stdin.write(b'exit\n')
    process.stdin.flush()
    shim.wait_gone(5)
    assert process.wait(TIMEOUT) == 254


def test_push_to_viewers_is_254(pty):
    """What is sent to shim -v's address is thrown away."""
    pty.shim('-n', '-v', './view.sock', './a.sock', *program('hex.py'))
    assert piped(pty, '-p', './view.sock', data=b'words\n')[0] == 254


def test_push_begins_a_session(pty):
    """With a PROGRAM: started, given its input, and left."""
    assert piped(pty, '-p', './a.sock', 'sh', '-c', 'read x; echo "$x" > got', data=b'words\n')[0] == 0
    wait_until(lambda: os.path.exists(pty.path('got')) and open(pty.path('got'), encoding='ascii').read() == 'words\n',
               what='the words')
