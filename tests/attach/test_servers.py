"""Who listens: attach sends nothing to a server of another user (section 5). The kernel knows who holds a socket."""
import os
import select
import shutil
import signal
import socket
import subprocess
import time

import pytest

from common import NO_WINDOW, program
from harness import ATTACH, PYTHON, needs_listener_user, wait_until
from told import DAEMON, as_user, needs_root, open_folder


def collector(pty, where, *words, user=None):
    """programs/collector.py as that user: the process, and the address it told."""
    with open(program('collector.py')[-1], encoding='utf-8') as source:
        process = pty.background(PYTHON, '-S', '-c', source.read(), where, *words, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, cwd='/', text=True, **(as_user(user) if user else {}))
    return process, process.stdout.readline().strip()


def unheard(process):
    """Asserts that the collector was sent nothing, whether somebody connected or not."""
    try:
        assert process.communicate(timeout=0.3)[0] == '\n'
    except subprocess.TimeoutExpired:
        pass


def places(folder):
    """Where the server listens, and how attach reaches it."""
    return {'v4': ('127.0.0.1', '{}'), 'v6': ('::1', '[::1]:{}'), 'v4 at a v6 socket': ('::', '127.0.0.1:{}'),
            'mapped': ('::', '[::ffff:127.0.0.1]:{}'), 'another loopback': ('::', '127.0.0.7:{}'),
            'unix': (folder + '/sock', '{}')}


@needs_listener_user
@needs_root
@pytest.mark.parametrize('place', places(''))
@pytest.mark.parametrize('way', [[], ['-r'], ['-p']], ids=['plain', 'watching', 'pushing'])
def test_server_of_another_user_gets_no_byte(pty, place, way):
    """When a shim has ended, any user may take its port: what would be typed there is not for him."""
    where, how = places(open_folder(pty))[place]
    process, address = collector(pty, where, user=DAEMON)
    run = pty.run(ATTACH, *way, how.format(address), input='secret\n')
    assert run.returncode == 255 and run.stdout == ''
    assert run.stderr == (f'attach: {how.format(address)}: a program of user {DAEMON} listens there: not attached '
                          '(take another port; -R does not ask)\n')
    unheard(process)


@needs_listener_user
@needs_root
def test_forwarded_port_is_not_trusted(pty):
    """Something answers, but no program of this machine listens there: another one behind the kernel's packet filter,
    say, for what is known of it."""
    process, address = collector(pty, '127.0.0.1')
    rule = ['-t', 'nat', '-p', 'tcp', '--dport', '1', '-j', 'REDIRECT', '--to-ports', address]
    if not shutil.which('iptables') or pty.run('iptables', '-A', 'OUTPUT', *rule).returncode:
        pytest.skip('no packet filter here')
    pty.keep(rule, lambda: pty.run('iptables', '-D', 'OUTPUT', *rule))
    run = pty.run(ATTACH, '127.0.0.1:1', input='secret\n')
    assert run.returncode == 255 and 'no program of this machine listens there' in run.stderr and '-R' in run.stderr
    assert process.communicate(timeout=20)[0] == '\n'


@needs_root
def test_server_that_answers_first_is_not_trusted(pty):
    """A byte from a stranger says nothing for him, /proc hidden or not: sock_diag(7) needs no file."""
    stranger = pty.background(PYTHON, '-Sc', 'import socket\nl = socket.create_server(("127.0.0.1", 0))\n'
                              'print(l.getsockname()[1], flush=True)\nwhile 1: c = l.accept()[0]; c.send(b"x"); '
                              'print(c.recv(99), flush=True)', stdout=subprocess.PIPE, text=True, cwd='/',
                              **as_user(DAEMON))
    address = stranger.stdout.readline().strip()
    hidden = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /proc; exec "$0" "$@"']
    if pty.run(*hidden, 'true').returncode:
        hidden = []
    run = pty.run(*hidden, ATTACH, address, input='secret\n')
    assert run.returncode == 255 and f'a program of user {DAEMON} listens there' in run.stderr
    assert not select.select([stranger.stdout], [], [], 0.3)[0]


@needs_root
def test_raw_asks_nothing(pty):
    """-R is for servers that are no shim: whose they are is the user's business."""
    process, address = collector(pty, '127.0.0.1', user=DAEMON)
    run = pty.run(ATTACH, '-R', address, input='words\n')
    assert (run.returncode, run.stdout) == (254, 'thanks')
    assert process.communicate(timeout=20)[0] == b'words\n'.hex() + '\n'


@pytest.mark.parametrize('place', places(''))
def test_server_of_ours_is_attached_to(pty, place):
    """Each way to a server of the same user: the hello comes, and then what is typed."""
    where, how = places(open_folder(pty))[place]
    process, address = collector(pty, where)
    run = pty.run(ATTACH, how.format(address), input='words\n')
    assert run.returncode == 254 and run.stdout == 'thanks'
    assert process.communicate(timeout=20)[0] == (NO_WINDOW + b'words\n').hex() + '\n'


@needs_root
def test_server_of_root_is_attached_to(pty):
    """root may read everything anyway."""
    copy = shutil.copy(ATTACH, open_folder(pty))
    process, address = collector(pty, '127.0.0.1')
    run = pty.run(copy, address, input='words\n', cwd='/', **as_user(DAEMON))
    assert run.returncode == 254 and run.stdout == 'thanks'
    assert process.communicate(timeout=20)[0] == (NO_WINDOW + b'words\n').hex() + '\n'


@needs_root
def test_name_with_a_strangers_address_before_ours(pty):
    """localhost is ::1 and 127.0.0.1: another user's server at the first does not keep one from the session."""
    found = [info[4][0] for info in socket.getaddrinfo('localhost', 0, type=socket.SOCK_STREAM)]
    if len(found) < 2:
        pytest.skip('localhost has one address here')
    process, port = collector(pty, found[0], user=DAEMON)
    shim = pty.shim('-n', '-w', (f'[{found[1]}]' if ':' in found[1] else found[1]) + ':' + port, 'sh', '-c', 'exit 6')
    assert shim.pid and pty.run(ATTACH, 'localhost:' + port).returncode == 6
    assert process.communicate(timeout=20)[0] == '\n'


def test_server_that_has_closed_already_is_a_lost_connection(pty):
    """Accepted, greeted and closed: nobody is there to be asked about, nor to read anything."""
    listener = socket.create_server(('127.0.0.1', 0))
    pty.keep(listener, listener.close)
    attach = pty.background(ATTACH, str(listener.getsockname()[1]), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection = listener.accept()[0]
    connection.sendall(b'bye')
    connection.close()
    out, said = attach.communicate(timeout=20)
    assert attach.returncode == 254 and out in (b'bye', b'') and b'lost' in said


def test_stopped_shim_is_attached_to_when_it_goes_on(pty):
    """The same, with patience."""
    shim = pty.shim('-n', '0', *program('hex.py'))
    os.kill(shim.pid, signal.SIGSTOP)
    terminal = pty.attach(shim.address)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.2, what='some time')
    os.kill(shim.pid, signal.SIGCONT)
    terminal.wait_output(b'READY')
    terminal.ends(b'Q', 9)
