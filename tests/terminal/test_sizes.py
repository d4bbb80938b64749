"""Issue 5, item 5: who sets the window size, and that each change reaches the program exactly once."""
import json

from harness import hello, wait_until
from listener import Listener

A, B, C = (24, 90), (40, 120), (30, 100)


def told(listener, *sizes):
    """Waits for the sizes that the program is told from now on to be these, in this order and each once. What comes
    too much is seen at the next call at the latest, and at the end by `nothing_more`."""
    want = ['%dx%d' % size for size in sizes]
    try:
        wait_until(lambda: listener.sizes()[listener.seen:] >= want, 3)
    except AssertionError:
        pass
    got = listener.sizes()[listener.seen:]
    assert got == want, f'told {got}, should be {want}'
    listener.seen += len(want)


def nothing_more(listener, client):
    """Nothing is on its way any more: a byte typed now has been read, and 0.3 s later no size has come."""
    before = listener.input()
    client.send(b'.')
    wait_until(lambda: len(listener.input()) > len(before), what='the input')
    assert client.nothing_comes(0.3)
    told(listener)


def types(listener, client, text):
    """Types, and waits until the program has read it: two sockets have no order between them."""
    before = len(listener.input())
    client.send(text)
    wait_until(lambda: len(listener.input()) >= before + len(text), what='the input')


def start(pty, *options):
    listener = Listener(pty, '-H', 'none', *options)
    wait_until(lambda: listener.sizes() == ['24x80'], what='the first size')
    with open(listener.shim.recording, encoding='utf-8') as recording:
        wait_until(lambda: 'READY' in recording.read(), what='what it prints')     # none of it is live output later
    listener.seen = 1
    return listener


def test_two_clients_of_different_sizes_take_turns(pty):
    """The client that last attached, resized or typed sets the size (contract, Window size); whoever has set it
    already changes nothing by typing on. TIOCSWINSZ sends one SIGWINCH a change, ioctl_tty(2), and each change is
    one `r` event."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)                           # attached
    b = pty.client(listener.shim.address, hello(*B))
    told(listener, B)
    for _ in range(3):
        types(listener, a, b'a')                # typed
        told(listener, A)
        types(listener, a, b'aa')
        types(listener, b, b'b')
        told(listener, B)
        types(listener, b, b'bb')
    a.resize(*C)                                # resized
    told(listener, C)
    types(listener, b, b'b')
    told(listener, B)
    types(listener, a, b'a')
    told(listener, C)
    nothing_more(listener, a)
    with open(listener.shim.recording, encoding='utf-8') as f:
        events = [json.loads(line) for line in f.readlines()[1:]]
    recorded = [event[2] for event in events if event[1] == 'r']
    assert recorded == ['x'.join(reversed(size.split('x'))) for size in listener.sizes()[1:]]


def test_same_size_again_tells_the_program_nothing(pty):
    """A client that repeats its size (as some terminals do on every focus change) costs no redraw. That the window has
    other pixels is told the program, but is no size of the recording."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    for _ in range(5):
        a.resize(*A)
    nothing_more(listener, a)
    a.send(hello(*A, 720, 480))
    told(listener, A)
    nothing_more(listener, a)
    assert pty.read(listener.shim.recording).count('"90x24"') == 1, 'a size is recorded that is none'


def test_when_the_owner_leaves_the_most_recent_of_those_that_remain_sets_the_size(pty):
    """... when it leaves, the most recent of those that remain does: by an orderly end and by a reset."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    b = pty.client(listener.shim.address, hello(*B))
    told(listener, B)
    c = pty.client(listener.shim.address, hello(*C))
    told(listener, C)
    a.send(b'a')
    told(listener, A)
    a.close()                                   # c came after b
    told(listener, C)
    c.close()
    told(listener, B)
    d = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    b.close()                                   # not the owner: nothing changes
    nothing_more(listener, d)
    d.close()                                   # nobody is left: the size stays
    late = pty.client(listener.shim.address)
    nothing_more(listener, late)


def test_raw_client_and_client_without_a_window_never_set_the_size(pty):
    """Viewers and raw clients never set it, be they the last to come or to type; nor does a hello of 0 x 0."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    raw = pty.client(listener.shim.address)
    raw.send(b'raw')
    windowless = pty.client(listener.shim.address, hello(0, 0))
    windowless.send(b'typed' + hello(10, 20))
    wait_until(lambda: b'typed' + hello(10, 20) in listener.input(), what='the input')
    nothing_more(listener, a)
    raw.close()
    windowless.close()
    nothing_more(listener, a)


def test_resize_in_pieces_reaches_the_program_once(pty):
    """A message may arrive in pieces, split anywhere (contract, The wire): one change of size all the same, and
    nothing of it is typed."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    for number in range(1, len(hello(*A))):
        size = (24, 90 + number)
        message = hello(*size)
        a.send(message[:number])
        assert a.nothing_comes(0.02)
        a.send(message[number:])
        told(listener, size)
    assert listener.input() == b''
    nothing_more(listener, a)


def test_size_and_what_is_typed_keep_their_order(pty):
    """What a client typed before it resized is read before the program hears of the size, and the reverse."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A) + b'first')
    told(listener, A)
    a.send(b'x' + hello(*B) + b'y')
    told(listener, B)
    nothing_more(listener, a)
    assert listener.input() == b'firstxy.'
    assert listener.sizes() == ['24x80', '24x90', '40x120']


def test_dragging_a_window_ends_at_its_last_size(pty):
    """Two hundred sizes at once: the kernel may merge the signals, but there is none too many and the last is right."""
    listener = start(pty)
    a = pty.client(listener.shim.address, hello(*A))
    told(listener, A)
    sizes = [(24 + i % 50, 91 + i) for i in range(200)]
    a.send(b''.join(hello(*size) for size in sizes))
    last = '%dx%d' % sizes[-1]
    wait_until(lambda: listener.sizes()[-1] == last, what='the last size')
    assert a.nothing_comes(0.1)
    listener.seen = len(listener.sizes())
    assert listener.seen <= 2 + len(sizes)
    nothing_more(listener, a)
