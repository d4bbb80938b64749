"""shim: clients of a program that takes no input, or has ended in the moment in which they come (section 2, 'Clients')."""
import os
import signal

import pytest

from common import NO_WINDOW, Recording, wait_taken
from harness import alive, goodbye, hello, wait_until
from told import Told, descriptors

PUSH = hello(0, 0, 2)
TAKEN = b'\xff\xffok'


PASTE = b'p' * (88 << 10)


def others_than_the_paste(told, size):
    """Lets the program read the paste and the `size` bytes that were typed beside it; gives those."""
    whole = bytes.fromhex(told.tell('read', len(PASTE) + size))
    assert whole.count(b'p') == len(PASTE)
    return whole.replace(b'p', b'')


def choked(pty, *options):
    """A session whose program takes no input, after 88 KB of it have been typed by a client that has left."""
    told = Told(pty, '-s', '80x24', *options, pty.path('a.sock'))
    client = pty.client(told.shim.address, NO_WINDOW)
    client.send(PASTE)
    client.close()
    return told


@pytest.mark.parametrize('typed', [b'', b'x'])
@pytest.mark.parametrize('first', [b'', hello(24, 80), NO_WINDOW], ids=['raw', 'window', 'none'])
def test_visits_to_a_program_that_takes_no_input_leave_no_descriptor(pty, first, typed):
    """The end of a client is noticed whatever the queue for the program is like."""
    told = choked(pty)
    stays = pty.client(told.shim.address, hello(24, 80))
    told.meet_clients(stays)
    before = descriptors(told.shim.pid)
    for _ in range(60):
        pty.client(told.shim.address, first + typed).close()
    told.meet_clients(stays)
    wait_until(lambda: descriptors(told.shim.pid) <= before, what='the descriptors to be closed')


def test_visits_of_viewers_leave_no_descriptor(pty):
    """What viewers send is thrown away, so it never waits."""
    told = choked(pty, '-v', pty.path('view.sock'))
    before = descriptors(told.shim.pid)
    for _ in range(60):
        pty.client(told.shim.view, b'typed').close()
    last = pty.client(told.shim.view)
    told.meet_clients(last)                         # whoever came before it has been let in
    last.close()
    wait_until(lambda: descriptors(told.shim.pid) <= before, what='the descriptors to be closed')


def test_what_visitors_have_typed_while_the_program_took_nothing_reaches_it(pty):
    """They typed, left, and nobody could come back to them: it is all there, each whole, in the order in which they came
    (among what others typed at the time)."""
    told = choked(pty)
    words = [b'<%d>' % n for n in range(60)]
    stays = pty.client(told.shim.address, NO_WINDOW)
    for word in words:
        pty.client(told.shim.address, NO_WINDOW + word).close()
        told.meet_clients(stays)
    assert others_than_the_paste(told, len(b''.join(words))) == b''.join(words)


def test_window_follows_while_the_program_takes_no_input(pty):
    """A hello and a new size are no input: they do not stand in its queue."""
    told = choked(pty)
    client = pty.client(told.shim.address, hello(30, 100) + b'x' * 10000)
    wait_until(lambda: told.tell('size') == '30 100', what='the size')
    wait_taken(client.sock)                                      # (who types later leads again)
    other = pty.client(told.shim.address, hello(31, 101))
    wait_until(lambda: told.tell('size') == '31 101', what='the size')
    other.resize(32, 102)
    wait_until(lambda: told.tell('size') == '32 102', what='the size')
    client.close()


@pytest.mark.parametrize('address', ['0', 'a.sock'])
@pytest.mark.parametrize('crowd', [1, 100])
def test_client_that_comes_just_before_the_end_gets_the_output_and_the_goodbye(pty, address, crowd):
    """When the program ends, hellos may stand unread, or be on their way: they are read before the goodbyes are said."""
    told = Told(pty, pty.path(address) if '.' in address else address)
    told.prints(b'words')
    program = told.shim.program()
    os.kill(told.shim.pid, signal.SIGSTOP)
    try:
        said = [pty.client(told.shim.address, NO_WINDOW) for _ in range(crowd)]
        late, raw = pty.client(told.shim.address), pty.client(told.shim.address)
        os.kill(program, signal.SIGTERM)
        wait_until(lambda: not alive(program), what='the end of the program')
    finally:
        os.kill(told.shim.pid, signal.SIGCONT)
    late.send(NO_WINDOW)
    for client in (*said, late):
        assert client.read_all() == b'words' + goodbye(128 + signal.SIGTERM)
    assert b'words' in raw.read_all()                            # on a terminal, as far as we know: it is painted


def test_goodbye_of_a_client_whose_hello_came_when_the_queue_was_full(pty):
    """The same when the program took no input any more."""
    told = choked(pty)
    client = pty.client(told.shim.address, NO_WINDOW)
    told.start('exit', 5)
    assert client.read_all() == goodbye(5)


def test_first_word_of_a_raw_client_is_recorded(pty):
    """What could still become another protocol waits for a moment; then it is input like all other, with -i too."""
    shim = pty.shim('-i', '-r', 'a.cast', './a.sock', 'sh', '-c', 'stty raw echo; echo READY; head -c 3 >/dev/null')
    client = pty.client(pty.path('a.sock'))
    client.read_until(b'READY')
    client.send(b'GET')
    client.read_all()
    shim.wait_gone()
    assert ''.join(Recording(pty.path('a.cast')).of('i')) == 'GET'


def test_push_is_sent_no_output_and_told_when_all_has_been_taken(pty):
    """A hello without a window, with 2 for its pixels: the client brings input and wants to know just that it is here."""
    told = Told(pty, './a.sock')
    client = pty.client(pty.path('a.sock'), PUSH + b'typed')
    assert told.typed_until(b'typed') == b'typed'
    told.prints(b'more')
    assert client.nothing_comes(0.3)
    client.send(b' on\n')
    client.half_close()
    assert client.read_all() == TAKEN
    assert told.typed_until(b'\n') == b' on\n'


def test_push_that_the_end_cuts_short_is_told_so(pty):
    """It gets the goodbye, and so knows that not all of its input has been taken."""
    told = choked(pty)
    client = pty.client(told.shim.address, PUSH + b'typed')
    told.start('exit', 3)
    assert client.read_all() == goodbye(3)


@pytest.mark.parametrize('size', [0, 1, 150000])
def test_push_of_any_size_to_a_program_that_takes_it_late(pty, size):
    """What is in the shim's queue has been taken; what is not, waits."""
    told = choked(pty)
    client = pty.client(told.shim.address, PUSH + b'y' * size)
    client.half_close()
    if size < 16 << 10:
        assert client.read_all() == TAKEN
    else:
        assert client.nothing_comes(0.3)
    assert others_than_the_paste(told, size) == b'y' * size
    if size >= 16 << 10:
        assert client.read_all() == TAKEN
