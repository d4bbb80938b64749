"""The wire (section 3): raw for raw clients, hello and goodbye for aware ones, split anywhere, under flow control."""
import random
import threading

import pytest

from common import NO_WINDOW, hex_bytes, program, wait_ready, wait_taken
from harness import TIMEOUT, goodbye, hello

HEX = program('hex.py')
RAW_CAT = ['sh', '-c', 'stty raw -echo; echo READY; exec cat']


def hex_session(pty, *options):
    """A shim with hex.py at a Unix-domain socket: there SIOCOUTQ tells when the shim has read (wait_taken)."""
    shim = pty.shim('-n', *options, './a.sock', *HEX)
    wait_ready(pty, pty.path('a.sock'))
    return shim, pty.path('a.sock')


def read_both(client, *wanted):
    """Reads until each of `wanted` has come, in whatever order: a signal and a byte overtake each other."""
    seen = b''
    while missing := [one for one in wanted if one not in seen]:
        seen += client.read_until(missing[0])
    return seen


def random_bytes(count, seed):
    return random.Random(seed).randbytes(count)


# ---- raw clients


def test_raw_client_gets_the_bytes_unmodified_and_no_goodbye(pty):
    """shim to client: the bytes that the program printed, and for a raw client nothing after them."""
    everything = bytes(range(256)) * 4 + b'\xff\xffss\0\x18\0\x50\0\0\0\0' + b'\xff\xffxx\0' + b'\r\n\0\xff'
    pty.write('bytes', everything)
    shim = pty.shim('-n', '0', *program('emit.py', 'bytes', 3))
    raw, aware = pty.client(shim.address), pty.client(shim.address, NO_WINDOW)
    for client in (raw, aware):
        client.read_until(b'READY\r\n')
    raw.send(b'g')
    assert raw.read_all().endswith(everything)      # (READY may have been painted: then more of the paint stands before it)
    assert aware.read_all() == everything + goodbye(3)


def test_raw_client_sends_its_bytes_unmodified(pty):
    """client to shim: every byte value reaches a raw terminal as it is; CR and NL are not swapped, 0 not dropped."""
    shim, address = hex_session(pty)
    client = pty.client(address)
    client.read_until(b'READY\r\n')
    data = b'a' + bytes(value for value in range(256) if value != ord('Q')) * 2
    client.send(data + b'Q')
    assert hex_bytes(client.read_all()) == data + b'Q'
    shim.wait_gone()


def test_message_that_does_not_stand_at_the_beginning_is_data(pty):
    """Only a connection that begins with the hello is aware: a raw one stays raw, whatever its bytes look like."""
    _, address = hex_session(pty)
    client = pty.client(address, b'a')
    client.read_until(b'<61>')
    client.send(hello(11, 22) + b'b' + hello(0, 0) + b'Q')
    seen = client.read_all()
    assert hex_bytes(seen) == hello(11, 22) + b'b' + hello(0, 0) + b'Q'
    assert b'{11 22}' not in seen and not seen.endswith(goodbye(9))


@pytest.mark.parametrize('first', [b'\xff', b'\xff\xff', b'\xff\xffs', b'\xff\xffss', b'\xff\xffss\0\x18\0'])
def test_beginning_that_is_no_hello_is_data(pty, first):
    """A connection whose first bytes only look like a hello is raw, and not one of them is lost."""
    _, address = hex_session(pty)
    client = pty.client(address)
    client.send(first)
    wait_taken(client.sock)
    if len(first) < 4:
        client.send(b'XQ')
        assert hex_bytes(client.read_all()) == first + b'XQ'
    else:
        client.half_close()     # the message can no longer become whole
        seen = b''
        while hex_bytes(seen) != first:
            seen += client.read_until(b'>')
        pty.client(address, NO_WINDOW + b'Q')
        assert hex_bytes(client.read_all()) == b'Q'


def test_lone_ff_is_typed_text_too(pty):
    """A raw client that sends only 0xFF and then nothing more (its sending side closed) has sent one byte."""
    _, address = hex_session(pty)
    client = pty.client(address, b'\xff')
    client.half_close()
    client.read_until(b'<ff>')


# ---- aware clients


@pytest.mark.parametrize('cut', range(1, 12))
def test_hello_may_arrive_cut_at_any_byte(pty, cut):
    """A message may arrive in pieces: the size is set, no byte of the message is input, what follows is."""
    _, address = hex_session(pty)
    client = pty.client(address)
    whole = hello(20 + cut, 90)
    client.send(whole[:cut])
    wait_taken(client.sock)
    client.send(whole[cut:] + b'a')
    assert hex_bytes(read_both(client, b'<61>', b'{%d 90}' % (20 + cut))) == b'a'
    client.send(b'Q')
    assert client.read_all().endswith(goodbye(9))


def test_hello_may_arrive_byte_by_byte_and_in_the_middle_of_typing(pty):
    """It may send the message again at any time: between typed bytes, in pieces of one byte."""
    _, address = hex_session(pty)
    client = pty.client(address)
    for byte in hello(21, 91) + b'ab' + hello(22, 92) + b'c':
        client.send(bytes([byte]))
        wait_taken(client.sock)
    assert hex_bytes(read_both(client, b'<63>', b'{22 92}')) == b'abc'


def test_several_messages_in_one_packet_are_all_taken(pty):
    """Messages and typed bytes mixed in one send: the bytes arrive in order, and the last size holds."""
    _, address = hex_session(pty)
    client = pty.client(address, hello(21, 91) + b'a' + hello(22, 92) + hello(23, 93) + b'b' + hello(24, 94))
    assert hex_bytes(read_both(client, b'<62>', b'{24 94}')) == b'ab'
    client.send(b'Q')
    client.read_all()


@pytest.mark.parametrize('data', [b'\xffa', b'\xff\xffa', b'\xff\xffsa', b'\xff\xff\xffa', b'\xff\xffxx\x07a',
                                  b'\xff\xffSSaaaaaaaa', b'\xffs\xffsa'], ids=bytes.hex)
@pytest.mark.parametrize('pieces', ['whole', 'bytes'])
def test_ff_bytes_of_an_aware_client_that_are_no_message_are_data(pty, data, pieces):
    """0xFF bytes that do not make up a message are passed on in their place, even when they arrive one by one."""
    _, address = hex_session(pty)
    client = pty.client(address, hello(24, 80))
    for piece in [data] if pieces == 'whole' else [data[i:i + 1] for i in range(len(data))]:
        client.send(piece)
        wait_taken(client.sock)
    client.send(b'Q')
    assert hex_bytes(client.read_all()) == data + b'Q'


def test_message_right_after_an_ff_that_is_data_is_found(pty):
    """FF FF FF 's' 's': the first FF is data, the message begins at the second."""
    _, address = hex_session(pty)
    client = pty.client(address, hello(24, 80) + b'\xff' + hello(27, 97) + b'b')
    assert hex_bytes(read_both(client, b'<62>', b'{27 97}')) == b'\xffb'


def test_ff_at_the_end_of_an_aware_clients_input_is_data(pty):
    """What is held back because it may begin a message is input once the client closes its sending side."""
    _, address = hex_session(pty)
    client = pty.client(address, hello(24, 80) + b'\xff\xffs')
    client.half_close()
    seen = client.read_until(b'<73>')
    assert hex_bytes(seen) == b'\xff\xffs'


def test_no_window_client_sets_no_size_and_sends_binary_exactly(pty):
    """Rows and columns 0: nothing after the message is looked at, so binary input stays exact; goodbye is wanted."""
    _, address = hex_session(pty, '-s', '70x20')
    data = b'\xff\xffss\0\x18\0\x50\0\0\0\0' + hello(0, 0) + bytes(v for v in range(256) if v != ord('Q')) + b'\xff\xff'
    client = pty.client(address, NO_WINDOW + data + b'Q')
    seen = client.read_all()
    assert hex_bytes(seen) == data + b'Q' and seen.endswith(goodbye(9))
    assert set(piece.partition(b'}')[0] for piece in seen.split(b'{')[1:]) == {b'20 70'}


def test_window_size_is_set_by_the_hello_and_by_each_change(pty):
    """The program gets SIGWINCH and finds the new size (ioctl_tty(2), TIOCSWINSZ); pixels are told as well."""
    _, address = hex_session(pty)
    client = pty.client(address, hello(30, 100, 1000, 600))
    client.read_until(b'{30 100}')
    for rows, cols in ((31, 100), (31, 101), (10, 300), (1, 1), (65535, 65535)):
        client.resize(rows, cols)
        client.read_until(b'{%d %d}' % (rows, cols))


def test_pixels_of_the_window_reach_the_program(pty):
    """The message holds x and y pixels too: struct winsize has a place for them (ioctl_tty(2))."""
    code = ('import fcntl,struct,termios;'
            'print(struct.unpack("4H",fcntl.ioctl(0,termios.TIOCGWINSZ,bytes(8))),flush=True)')
    shim = pty.shim('-n', '-w', '0', '/usr/bin/python3', '-SEc', code)
    assert b'(30, 100, 1000, 600)' in pty.client(shim.address, hello(30, 100, 1000, 600)).read_all()


# ---- several clients, and their ways to leave


def test_every_client_sees_the_same_bytes(pty):
    """Every byte that the program prints goes to every client, whoever typed."""
    shim = pty.shim('-n', '0', *RAW_CAT)
    clients = [pty.client(shim.address) for _ in range(4)]
    for client in clients:
        client.read_until(b'READY')     # who comes after it is painted it
    for number, client in enumerate(clients):
        client.send(b'from %d.' % number)
        for other in clients:
            other.read_until(b'from %d.' % number)
    clients[0].send(b'end')
    assert {client.read_until(b'end') for client in clients} == {b'end'}


def test_client_that_closes_its_sending_side_stays_and_sees_the_rest(pty):
    """shutdown(2) of the sending side: what was sent is input, and the output goes on to the end."""
    _, address = hex_session(pty)
    client = pty.client(address, NO_WINDOW + b'a')
    client.half_close()
    client.read_until(b'<61>')
    other = pty.client(address)
    other.send(b'b')
    client.read_until(b'<62>')
    other.send(b'Q')
    assert client.read_all() == b'<51>' + goodbye(9)


def test_session_goes_on_without_clients(pty):
    """Detaching ends nothing: a client that comes later finds the program where it was."""
    shim = pty.shim('-n', '0', *HEX)
    first = pty.client(shim.address, b'a')
    first.read_until(b'<61>')
    first.close()
    second = pty.client(shim.address, b'b')
    assert hex_bytes(second.read_until(b'<62>')) == b'ab', 'the late client was not sent the history'


# ---- flow control


def send_in_background(client, data):
    """Sends from a thread of its own, as a terminal does; join() of what it gives back tells that all went out."""
    def run():
        client.sock.settimeout(TIMEOUT * 3)
        client.send(data)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_paste_of_1_mib_to_a_program_that_prints_it_back(pty):
    """Both directions full at once: a blocking write to either side would be a deadlock."""
    data = random_bytes(1 << 20, 1)
    shim = pty.shim('-n', '0', *program('copier.py', len(data)))
    client = pty.client(shim.address, NO_WINDOW)
    client.read_until(b'READY\r\n')
    sender = send_in_background(client, data)
    assert client.read_all() == data + b'END' + goodbye(4)
    sender.join(TIMEOUT)
    assert not sender.is_alive()


def test_paste_of_1_mib_before_a_byte_is_read(pty):
    """A client that sends all before it reads: the ring holds what the program prints meanwhile, nothing is lost."""
    data = random_bytes(1 << 20, 2)
    shim = pty.shim('-r', 'a.cast', '0', *program('copier.py', len(data)))
    client = pty.client(shim.address, NO_WINDOW)
    client.read_until(b'READY\r\n')
    client.sock.settimeout(TIMEOUT * 2)
    client.send(data)
    assert client.read_all() == data + b'END' + goodbye(4)
