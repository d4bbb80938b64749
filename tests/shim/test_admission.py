"""Who may come in (section 2, 'Who may come in'): other users of the machine, web pages and viewers do not, whatever
they try; what they do try slows nobody down."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from common import NO_WINDOW
from harness import PYTHON, SHIM, TIMEOUT, alive, cpu_seconds, hello, needs_peer_user, needs_tcp_owner, wait_until
from told import (DAEMON, NOBODY, PROGRAMS, SLACK, Told, as_user, descriptors, needs_root, open_folder,
                   programs_for_all, stranger, until_calm)

EVIL = b'touch /tmp/evil\n'
LOOPBACKS = ['127.0.0.1:0', '[::1]:0']
HTTP = {name: head + b'\r\nHost: localhost:43210\r\n\r\n' + EVIL for name, head in {
    'get': b'GET / HTTP/1.1', 'post': b'POST / HTTP/1.1', 'head': b'HEAD /x?y=z HTTP/1.1', 'put': b'PUT /a HTTP/1.1',
    'delete': b'DELETE /a HTTP/1.1', 'options': b'OPTIONS * HTTP/1.1', 'patch': b'PATCH /a HTTP/1.1',
    'connect': b'CONNECT localhost:43210 HTTP/1.1', 'trace': b'TRACE / HTTP/1.1', 'old': b'GET / HTTP/1.0',
    'absolute': b'GET http://localhost:43210/ HTTP/1.1', 'two': b'PRI * HTTP/2.0'}.items()}
TLS = {f'tls 3.{minor}': b'\x16\x03' + bytes([minor]) + b'\x00\x30\x01\x00\x00\x2c\x03\x03' + EVIL * 3
       for minor in (0, 1, 2, 3)}
STUN = {'stun binding': b'\x00\x01\x00\x10\x21\x12\xa4\x42' + b'transaction!' + b'\x00\x06\x00\x0c' + EVIL,
        'stun allocate': b'\x00\x03\x00\x08\x21\x12\xa4\x42' + b'transaction!' + b'\x00\x19\x00\x04\x06\x00\x00\x00',
        'stun empty': b'\x00\x01\x00\x00\x21\x12\xa4\x42' + b'transaction!'}
OPENINGS = {**HTTP, **TLS, **STUN}


def visitor(address):
    """A plain TCP connection to the shim at once, with nothing sent and no delay in sending."""
    host, port = address.rsplit(':', 1)
    sock = socket.create_connection((host.strip('[]'), int(port)), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def send_to(sock, data):
    """Sends as much as the other side lets: it may have closed already."""
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def closed(sock):
    """Reads to the end, which must come: whether it does within the time-out."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except socket.timeout:
        return False
    return True


def opens_in_two(told, legit, first, rest):
    """A visitor sends `first`, the shim has two turns, the visitor sends `rest`: asserts that it is closed and that
    nothing was typed. What could still be text is held back for a moment only, so a trial in which this machine let
    more than half of that moment (200 ms) pass between the two tells nothing, and another is made."""
    while True:
        sock, begun = visitor(told.shim.address), time.monotonic()
        typed = b''
        if first:
            sock.sendall(first)
            typed = told.typed_before(legit) + told.typed_before(legit)
        send_to(sock, rest)
        in_time = time.monotonic() - begun < 0.1
        if in_time:
            assert closed(sock), f'{first!r} and the rest was not closed'
        sock.close()
        typed += told.typed_before(legit)
        if in_time:
            assert typed == b'', f'after {first!r} and the rest'
            return


def guarded(pty, address, *argv, uid=None):
    """A shim at the address whose program tells what reaches it, run as `uid` if one is given, in a folder that all
    may enter. A Unix-domain address is a name there."""
    folder = open_folder(pty)
    if '/' in address:
        address = os.path.join(folder, os.path.basename(address))
    options = {'cwd': folder} if uid is None else {'cwd': folder, **as_user(uid)}
    told = Told(pty, *argv, address, folder=folder, shim=programs_for_all(folder), **options)
    told.prints(b'secret\n')
    return told


@needs_tcp_owner
@needs_root
@pytest.mark.parametrize('address', LOOPBACKS)
def test_tcp_peer_of_another_user_is_refused(pty, address):
    """Loopback is open to every user of the machine, so the peer's owner is looked up: another user's connection is
    closed, sees no output, and types nothing."""
    told = guarded(pty, address)
    assert stranger(pty, NOBODY, told.shim.address, 'talk', EVIL.hex(), '', hello(24, 80).hex()) == [['', 'closed']] * 3
    assert told.typed_before(pty.client(told.shim.address, NO_WINDOW)) == b''


@needs_tcp_owner
@needs_root
@pytest.mark.parametrize('address', LOOPBACKS)
def test_tcp_peers_of_a_shim_that_is_not_roots(pty, address):
    """A shim of another user than root lets that user and root in, and no third one."""
    told = guarded(pty, address, uid=NOBODY)
    assert stranger(pty, DAEMON, told.shim.address, 'talk', EVIL.hex(), '') == [['', 'closed']] * 2
    root = pty.client(told.shim.address, NO_WINDOW)
    assert root.read_until(b'secret\n') and told.typed_before(root) == b''
    (got, _), = stranger(pty, NOBODY, told.shim.address, 'talk', b'mine\n'.hex())
    assert b'secret' in bytes.fromhex(got)
    assert told.typed_before(root) == b'mine\n'


@needs_peer_user
@needs_root
@pytest.mark.parametrize('uid', [None, NOBODY])
def test_unix_peer_of_another_user_is_refused(pty, uid):
    """The socket's mode is 0600, and the peer's user is asked too: with the mode opened, another user still gets
    nothing. Its owner and root come in."""
    told = guarded(pty, '/sock', uid=uid)
    assert stat.S_IMODE(os.stat(told.shim.address).st_mode) == 0o600
    assert stranger(pty, DAEMON, told.shim.address, 'talk', EVIL.hex()) == [['', 'not connected: PermissionError']]
    os.chmod(told.shim.address, 0o777)
    assert stranger(pty, DAEMON, told.shim.address, 'talk', EVIL.hex(), '') == [['', 'closed']] * 2
    root = pty.client(told.shim.address, NO_WINDOW)
    assert root.read_until(b'secret\n') and told.typed_before(root) == b''
    if uid:
        assert b'secret' in bytes.fromhex(stranger(pty, uid, told.shim.address, 'talk', b'mine\n'.hex())[0][0])
        assert told.typed_before(root) == b'mine\n'


@needs_peer_user
@needs_root
@pytest.mark.parametrize('uid', [None, NOBODY])
@pytest.mark.parametrize('address', ['127.0.0.1:0', '[::1]:0', '/sock'])
@pytest.mark.parametrize('how', ['vanish', 'reset'])
def test_closed_socket_of_another_user_gets_nothing_in(pty, address, uid, how):
    """A socket that its owner has closed shows user 0 and inode 0 in /proc/net/tcp, and one that was reset is not
    there at all; what was sent is still readable. Neither may pass for root's."""
    told = guarded(pty, address, uid=uid)
    if '/' in address:
        os.chmod(told.shim.address, 0o777)
    os.kill(told.shim.pid, signal.SIGSTOP)          # so that every connection is closed before it is accepted
    try:
        assert stranger(pty, DAEMON, told.shim.address, how, '8', EVIL.hex()) == 8
    finally:
        os.kill(told.shim.pid, signal.SIGCONT)
    client = pty.client(told.shim.address, NO_WINDOW)
    assert told.typed_before(client) == b''
    assert told.typed_before(client) == b''


@needs_tcp_owner
@needs_root
def test_viewers_address_asks_for_the_user_too(pty):
    """Output is as private as input: another user is refused at the viewers' address as well."""
    told = guarded(pty, '127.0.0.1:0', '-v', '127.0.0.1:0')
    assert stranger(pty, NOBODY, told.shim.view, 'talk', '', EVIL.hex()) == [['', 'closed']] * 2
    assert pty.client(told.shim.view, NO_WINDOW).read_until(b'secret\n')


@needs_tcp_owner
@needs_root
def test_mapped_peers_are_looked_up_where_they_are(pty):
    """An IPv6 socket may reach an IPv4 address (::ffff:127.0.0.1): its line then stands in /proc/net/tcp6. Many
    programs connect like that, so the user's own are let in, and another user's are not."""
    told = guarded(pty, '127.0.0.1:0')
    mapped = '[::ffff:127.0.0.1]:' + told.shim.address.rsplit(':', 1)[1]
    assert stranger(pty, NOBODY, mapped, 'talk', EVIL.hex()) == [['', 'closed']]
    own = pty.client(mapped, NO_WINDOW)
    assert own.read_until(b'secret\n') and told.typed_before(own) == b''


@needs_tcp_owner
@needs_root
def test_ipv4_peers_of_a_listener_on_all_of_ipv6(pty):
    """[::] takes IPv4 peers as well where the system says so; another user's must not slip through under that name."""
    told = guarded(pty, '[::]:0', '--allow-remote')
    port = told.shim.address.rsplit(':', 1)[1]
    for host in ('127.0.0.1', '[::1]', '[::ffff:127.0.0.1]'):
        (got, how), = stranger(pty, NOBODY, f'{host}:{port}', 'talk', EVIL.hex())
        assert got == '' and how in ('closed', 'not connected: ConnectionRefusedError'), host
    assert told.typed_before(pty.client(f'[::1]:{port}')) == b''


@pytest.mark.parametrize('name', OPENINGS)
def test_what_a_browser_sends_is_closed_before_it_reaches_the_program(pty, name):
    """A web page can make a browser of the same user connect to a loopback port; the connection is closed on its first
    bytes, whole or cut at any byte, and nothing of it is typed."""
    told = Told(pty, '-n', '0')
    legit, opening = pty.client(told.shim.address, NO_WINDOW), OPENINGS[name]
    for cut in range(min(len(opening), 48)):
        opens_in_two(told, legit, opening[:cut], opening[cut:])


def test_http_comes_byte_by_byte(pty):
    """Each byte in a segment of its own is still an HTTP request."""
    told = Told(pty, '-n', '0')
    sock = visitor(told.shim.address)
    for byte in HTTP['post']:
        send_to(sock, bytes([byte]))
    assert closed(sock)
    sock.close()
    assert told.typed_before(pty.client(told.shim.address, NO_WINDOW)) == b''


@pytest.mark.parametrize('head', [
    b'GET /' + b'a' * 3000 + b' HTTP/1.1', b'POST /' + b'%0A' * 30000 + b' HTTP/1.1', b'FROB / HTTP/1.1',
    b'rm /home/me HTTP/1.1'])
def test_http_requests_with_long_targets_and_methods_of_their_own(pty, head):
    """The page chooses the path, of any length, and under a name of its own (DNS rebinding) the method too."""
    told = Told(pty, '-n', '0')
    legit = pty.client(told.shim.address, NO_WINDOW)
    for cut in (0, len(head) // 2):
        opens_in_two(told, legit, head[:cut], head[cut:] + b'\r\nHost: localhost\r\n\r\n' + EVIL)


def test_stun_message_in_the_frame_of_ice_over_tcp(pty):
    """A page can name any port as an ICE-TCP candidate: RFC 4571 puts two bytes of length before the STUN message,
    whose user name the page has chosen."""
    told = Told(pty, '-n', '0')
    legit, message = pty.client(told.shim.address, NO_WINDOW), STUN['stun binding']
    framed = len(message).to_bytes(2, 'big') + message
    for cut in range(24):
        opens_in_two(told, legit, framed[:cut], framed[cut:])


@pytest.mark.parametrize('text', [
    b'G', b'GET', b'GET\n', b'GETTING started\n', b'GET me a coffee\n', b'POST', b'POST office\n', b'HEAD',
    b'HEADS up\n', b'OPTIONS\n', b'PUT it down\n', b'DELETE', b'PATCH\r', b'CONNECT\n', b'P', b'\x16', b'\x16\x03',
    b'\x16\x16\x16', b'\x16\x04\x01\x00\x30\x01', b'\x00', b'\x00\x01', b'\x00\x01\x00\x00\x21\x12\xa4\x43more', b'\x00hello\n',
    b'\xff\xffsX', b'\xff\xfft', b'\xff\n', b'ls -l\n', b'\x03', b'\n', b'HTTP/1.1 200 OK\r\n'])
def test_text_that_merely_looks_like_it_gets_through_soon(pty, text):
    """Bytes for the program are never lost for a likeness: whatever could still become an opening is held back for a
    moment only."""
    told = Told(pty, '-n', '0')
    client = pty.client(told.shim.address, NO_WINDOW)
    begun = time.monotonic()
    client.send(text)
    assert told.typed_until(text) == text
    assert time.monotonic() - begun < SLACK
    client.send(b'GET / HTTP/1.1\r\n\r\n')             # not the connection's first bytes any more
    assert told.typed_until(b'\r\n\r\n') == b'GET / HTTP/1.1\r\n\r\n'


def test_aware_client_may_begin_with_a_request(pty):
    """After the hello it is no browser: a request pasted through attach reaches the program."""
    told = Told(pty, '-n', '0')
    pasted = HTTP['get']
    for data in (hello(24, 80), hello(0, 0)):
        client = pty.client(told.shim.address, data + pasted)
        assert told.typed_until(EVIL) == pasted
        client.close()


def test_viewers_cannot_type(pty):
    """What comes to the viewers' address is thrown away, window sizes too; so is what follows."""
    told = Told(pty, '-s', '80x24', '-v', '0', '0')
    viewers = [pty.client(told.shim.view, first) for first in (EVIL, hello(50, 132) + EVIL, hello(0, 0) + EVIL)]
    told.meet_clients(*viewers)
    for viewer in viewers:
        viewer.send(EVIL * 1000 + hello(51, 133) + b'\x03\x04')
    client = pty.client(told.shim.address, NO_WINDOW)
    assert told.typed_before(client) == b''
    told.meet_clients(client, *viewers)
    assert told.typed_before(client) == b''
    assert told.tell('size') == '24 80'


def test_silent_connections_are_cheap(pty):
    """Three hundred connections that send nothing take no time while nothing happens, and delay nobody."""
    told = Told(pty, '-n', '0')
    client = pty.client(told.shim.address, NO_WINDOW)
    silent = [visitor(told.shim.address) for _ in range(300)]
    assert told.typed_before(client) == b''
    before, begun = cpu_seconds(told.shim.pid), time.monotonic()
    assert client.nothing_comes(1)
    assert cpu_seconds(told.shim.pid) - before < 0.1 * (time.monotonic() - begun)
    for _ in range(20):
        begun = time.monotonic()
        assert told.typed_before(client) == b''
        assert time.monotonic() - begun < 0.5 * SLACK
    told.meet_clients(client)
    for sock in silent:
        sock.close()


@needs_tcp_owner
@needs_root
@pytest.mark.parametrize('how', ['vanish', 'reset', 'hold'])
def test_flood_of_refused_connections_leaves_the_shim_serving(pty, how):
    """Another user connects as fast as it can, for a second or two: who is attached notices nothing, and no descriptor
    remains."""
    told = guarded(pty, '127.0.0.1:0')
    [client] = told.clients(1)
    before = descriptors(told.shim.pid)
    source = pty.read(os.path.join(PROGRAMS, 'stranger.py'))
    words = {'vanish': ['2000', EVIL.hex()], 'reset': ['2000', EVIL.hex()], 'hold': ['900', '1']}[how]
    flood = pty.background(PYTHON, '-S', '-c', source, told.shim.address, how, *words, **as_user(NOBODY), cwd='/')
    slowest = 0.0
    while flood.poll() is None:
        begun = time.monotonic()
        assert told.typed_before(client) == b''
        slowest = max(slowest, time.monotonic() - begun)
    assert flood.returncode == 0
    assert slowest < 0.5 * SLACK
    late = pty.client(told.shim.address, NO_WINDOW)
    assert told.typed_before(late) == b''
    late.close()
    until_calm(lambda: descriptors(told.shim.pid) == before, 'the number of descriptors before')


@pytest.mark.parametrize('address', ['0.0.0.0:0', '[::]:0', '192.0.2.1:0', '[2001:db8::1]:0', '10.1.2.3:7000'])
@pytest.mark.parametrize('view', [False, True])
def test_address_that_is_not_loopback_needs_allow_remote(pty, address, view):
    """Whoever reaches the port owns the terminal, so the shim will not listen beyond this machine by accident."""
    argv = ['-v', address, '0'] if view else [address]
    done = pty.run(SHIM, *argv, 'touch', 'started')
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'shim: .*: .*\n', done.stderr) and '--allow-remote' in done.stderr
    assert os.listdir(pty.folder) == []


class Net:
    """Two network namespaces joined by a cable: `here` (10.99.1.1) and `there` (10.99.1.2)."""
    def __init__(self, pty):
        self.here, self.there = (f'trust{os.getpid()}{side}' for side in 'ab')
        for ns in (self.here, self.there):
            assert pty.run('ip', 'netns', 'add', ns).returncode == 0
            pty.keep(ns, lambda ns=ns: pty.run('ip', 'netns', 'del', ns))
        cable = ['link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1', 'netns', self.there]
        self.ip(pty, self.here, *cable)
        for ns, name, address in ((self.here, 'veth0', '10.99.1.1/24'), (self.there, 'veth1', '10.99.1.2/24')):
            self.ip(pty, ns, 'address', 'add', address, 'dev', name)
            self.ip(pty, ns, 'link', 'set', name, 'up')
            self.ip(pty, ns, 'link', 'set', 'lo', 'up')

    @staticmethod
    def ip(pty, namespace, *words):
        done = pty.run('ip', '-n', namespace, *words)
        assert done.returncode == 0, done.stderr

    @staticmethod
    def inside(namespace):
        return ['ip', 'netns', 'exec', namespace]


def shim_in(pty, net, address, *options):
    """A shim in the namespace `here`, by default one with --allow-remote, and the port it has there."""
    folder = open_folder(pty)
    script = os.path.join(folder, 'shim-there')
    with open(script, 'w', encoding='ascii') as f:
        f.write(f'#!/bin/sh\nexec ip netns exec {net.here} {SHIM} "$@"\n')
    os.chmod(script, 0o755)
    told = Told(pty, *(options or ['--allow-remote']), address, shim=script, folder=folder)
    told.prints(b'secret\n')
    return told, told.shim.address.rsplit(':', 1)[1]


@needs_tcp_owner
@needs_root
@pytest.mark.skipif(not shutil.which('ip'), reason='needs iproute2')
@pytest.mark.parametrize('address', ['10.99.1.1:0', '0.0.0.0:0'])
def test_allow_remote_lets_other_machines_in_and_still_no_other_user_of_this_one(pty, address):
    """A peer on another machine has no user here, and --allow-remote admits it; a peer on this machine is looked up
    whichever address it came by."""
    net = Net(pty)
    told, port = shim_in(pty, net, address)
    where = f'10.99.1.1:{port}'
    here, there = net.inside(net.here), net.inside(net.there)
    assert stranger(pty, NOBODY, where, 'talk', EVIL.hex(), '', inside=here) == [['', 'closed']] * 2
    os.kill(told.shim.pid, signal.SIGSTOP)
    try:
        for how in ('vanish', 'reset'):
            assert stranger(pty, NOBODY, where, how, '4', EVIL.hex(), inside=here) == 4
    finally:
        os.kill(told.shim.pid, signal.SIGCONT)
    (got, _), = stranger(pty, NOBODY, where, 'talk', b'from afar\n'.hex(), inside=there)
    assert b'secret' in bytes.fromhex(got)
    assert told.typed_until(b'from afar\n') == b'from afar\n'
    stranger(pty, NOBODY, where, 'talk', HTTP['get'].hex(), inside=there)
    (got, _), = stranger(pty, 0, where, 'talk', b'from here\n'.hex(), inside=here)
    assert b'secret' in bytes.fromhex(got)
    assert told.typed_until(b'from here\n') == b'from here\n'
    assert alive(told.shim.pid)


def wait_forgotten(pty, here, port):
    """Until the kernel's table has no socket any more whose other end is at the port."""
    def forgotten():
        lines = pty.run(*here, 'cat', '/proc/net/tcp').stdout.splitlines()[1:]
        return not any(line.split()[2].endswith(f':{int(port):04X}') for line in lines)
    assert until_calm(forgotten, 'the end of FIN_WAIT2')


HOLD_PORTS = """
import socket, sys
held = []
for port in range(40000, 40004):
    for host in ('127.0.0.1', '10.99.1.1'):
        held.append(socket.socket())
        held[-1].bind((host, port))
print('held', flush=True)
sys.stdin.read()
"""


@needs_tcp_owner
@needs_root
@pytest.mark.skipif(not shutil.which('ip'), reason='needs iproute2')
def test_forgotten_socket_of_a_user_who_holds_all_ports_gets_nothing_in(pty):
    """A forgotten socket stands in no table, and while all ports are taken no bind(2) succeeds either: no failure of
    the shim's own questions lets a peer in. (With --allow-remote it is taken for another machine's, whom nobody can ask.)"""
    net = Net(pty)
    here = net.inside(net.here)
    assert pty.run(*here, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/tcp_fin_timeout; '
                   'echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range').returncode == 0
    told, port = shim_in(pty, net, '127.0.0.1:50001', '-n')
    os.kill(told.shim.pid, signal.SIGSTOP)
    try:
        assert stranger(pty, NOBODY, f'127.0.0.1:{port}', 'vanish', '2', EVIL.hex(), inside=here) == 2
        wait_forgotten(pty, here, port)
        become = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups']
        holder = pty.background(*here, *become, PYTHON, '-S', '-c', HOLD_PORTS, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, cwd='/')
        assert holder.stdout.readline() == 'held\n'
        os.kill(told.shim.pid, signal.SIGCONT)
        wait_until(lambda: unaccepted(pty, here, port) == 0, what='the shim to accept')
        holder.stdin.close()
        holder.wait()
    finally:
        os.kill(told.shim.pid, signal.SIGCONT)
    stranger(pty, 0, f'127.0.0.1:{port}', 'talk', b'mine\n'.hex(), inside=here)
    assert told.typed_until(b'mine\n') == b'mine\n'


def unaccepted(pty, here, port):
    """How many connections wait for accept(2) at the port: of a listening socket the table tells that (tcp(7))."""
    for line in pty.run(*here, 'cat', '/proc/net/tcp').stdout.splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f':{int(port):04X}') and words[3] == '0A':
            return int(words[4].split(':')[1], 16)
    raise AssertionError('nobody listens')


@needs_tcp_owner
@needs_root
@pytest.mark.skipif(not shutil.which('ip'), reason='needs iproute2')
def test_allow_remote_where_every_address_can_be_bound(pty):
    """With net.ipv4.ip_nonlocal_bind a bind(2) to any address succeeds: other machines still come in, and other users
    of this one do not."""
    net = Net(pty)
    here, there = net.inside(net.here), net.inside(net.there)
    assert pty.run(*here, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind').returncode == 0
    told, port = shim_in(pty, net, '0.0.0.0:0')
    assert stranger(pty, NOBODY, f'10.99.1.1:{port}', 'talk', EVIL.hex(), inside=here) == [['', 'closed']]
    (got, _), = stranger(pty, NOBODY, f'10.99.1.1:{port}', 'talk', b'from afar\n'.hex(), inside=there)
    assert b'secret' in bytes.fromhex(got)
    assert told.typed_until(b'from afar\n') == b'from afar\n'
