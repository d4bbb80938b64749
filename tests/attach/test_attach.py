"""attach: addresses, every option, exit status and message, and a terminal that is left as it was found (section 5)."""
import fcntl
import os
import re
import select
import signal
import socket
import struct
import termios
import time

import pytest

from attaching import finish, kept_terminal, piped, restored, start_piped
from common import NO_WINDOW, hex_bytes, program, read_pid, wait_taken
from harness import ATTACH, TIMEOUT, alive, goodbye, hello, stat_fields, wait_until

HEX = program('hex.py')
ESCAPE = b'\x1c'
# What turns off the modes that a full-screen program may have left on.
LEFT_ON = b'\x1b[?1049h\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1h\x1b[?25l\x1b[1;31m'
TURNED_OFF = [rb'\x1b\[\?([\d;]*;)?1049(;[\d;]*)?l', rb'\x1b\[\?([\d;]*;)?1000(;[\d;]*)?l',
              rb'\x1b\[\?([\d;]*;)?1006(;[\d;]*)?l', rb'\x1b\[\?([\d;]*;)?2004(;[\d;]*)?l',
              rb'\x1b\[\?([\d;]*;)?1(;[\d;]*)?l', rb'\x1b\[\?([\d;]*;)?25(;[\d;]*)?h', rb'\x1b\[0?m']


def unread(fd):
    """Bytes that can be read from a descriptor."""
    return struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


def hex_shim(pty, *options):
    """hex.py behind ./a.sock."""
    return pty.shim('-n', *options, './a.sock', *HEX)


# ---- addresses


@pytest.mark.parametrize('listen, address', [('0', '{port}'), ('0', 'localhost:{port}'), ('0', '127.0.0.1:{port}'),
                                             ('localhost:0', '{port}'), ('[::1]:0', '[::1]:{port}'),
                                             ('./a.sock', './a.sock'), ('./a.sock', '{folder}/a.sock')])
def test_every_way_to_write_an_address(pty, listen, address):
    """One grammar: a port on the loopback interface, HOST:PORT, [IPV6]:PORT, a path with a slash."""
    shim = pty.shim('-n', '-w', listen, 'sh', '-c', 'echo here; exit 3')
    where = address.format(port=shim.address.rpartition(':')[2], folder=pty.folder)
    assert piped(pty, where) == (3, b'here\r\n', f'[{where} ended with status 3]\n')


def test_attach_tries_every_address_of_a_name(pty):
    """localhost may be ::1 and 127.0.0.1: the shim listens at one of them, attach tries both (getaddrinfo(3))."""
    found = {info[4][0] for info in socket.getaddrinfo('localhost', 0, type=socket.SOCK_STREAM)}
    for host in sorted(found):
        shim = pty.shim('-n', '-w', f'[{host}]:0' if ':' in host else f'{host}:0', 'sh', '-c', 'exit 6')
        assert piped(pty, 'localhost:' + shim.address.rpartition(':')[2])[0] == 6


# ---- exit statuses and messages


@pytest.mark.parametrize('ending, status', [('exit 0', 0), ('exit 1', 1), ('exit 255', 255), ('kill -TERM $$', 143),
                                            ('kill -KILL $$', 137)])
def test_exit_status_is_the_programs(pty, ending, status):
    """The program's own status when it ended, and a message that tells it, at a terminal too."""
    shim = pty.shim('-n', '-w', '0', 'sh', '-c', 'echo end; ' + ending)
    terminal = kept_terminal(pty, shim.address)
    assert terminal.exit_status() == status
    assert restored(pty) == f'[{shim.address} ended with status {status}]\n'
    assert b'end\r\n' in terminal.output and b'\xff' not in terminal.output


def test_detach_key_leaves_the_program_running(pty):
    """Ctrl-backslash detaches: status 0, a message, terminal restored, and the program goes on for the next client."""
    hex_shim(pty)
    terminal = kept_terminal(pty, './a.sock')
    terminal.wait_output(b'READY')
    terminal.send(b'a')
    terminal.wait_output(b'<61>')
    terminal.ends(ESCAPE)
    assert restored(pty) == '[detached from ./a.sock]\n'
    again = pty.attach('./a.sock')
    again.wait_output(b'<61>')
    again.ends(b'Q', 9)
    assert b'<1c>' not in again.output


@pytest.mark.parametrize('address', ['0', './a.sock'])
def test_lost_connection_is_254(pty, address):
    """A shim that is killed says no goodbye: 254 and a message; the terminal is restored."""
    shim = pty.shim('-n', address, *HEX)
    terminal = kept_terminal(pty, shim.address)
    terminal.wait_output(b'READY')
    os.kill(shim.pid, signal.SIGKILL)
    assert terminal.exit_status() == 254
    assert restored(pty) == f'[connection to {shim.address} lost]\n'


def test_lost_connection_while_typing_is_254(pty, server):
    """A write to a connection that the server has closed gives EPIPE, not a death by SIGPIPE."""
    terminal = kept_terminal(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'READY')
    terminal.wait_output(b'READY')
    server.connection.close()
    terminal.ends(b'typed', 254)
    assert restored(pty) == '[connection to ./fake.sock lost]\n'


@pytest.mark.parametrize('address', ['{free}', 'localhost:{free}', './absent.sock', './plain',
                                     'no-such-host.invalid:1'])
def test_failing_to_attach_is_255(pty, address):
    """Nobody listens, no such socket, not a socket, no such host: 255 and `attach: ADDRESS: why`."""
    pty.write('plain', 'no socket')
    with socket.create_server(('127.0.0.1', 0)) as listener:
        free = listener.getsockname()[1]
    address = address.format(free=free)
    status, output, said = piped(pty, address)
    assert (status, output) == (255, b'')
    assert re.fullmatch(r'attach: .*' + re.escape(address) + r'.*: .+\n', said), said


@pytest.mark.parametrize('number', [getattr(signal, 'SIG' + name) for name in (
    'TERM', 'HUP', 'INT', 'QUIT', 'USR1', 'USR2', 'ALRM', 'VTALRM', 'PROF', 'XCPU', 'PWR', 'RTMIN', 'RTMAX')])
def test_signal_restores_the_terminal_and_gives_128_plus_n(pty, number):
    """Restored on every way out, signals included; the modes of a full-screen program as well."""
    pty.shim('-n', '-H', 'none', './a.sock', 'sh', '-c', 'read x; printf "$0"; sleep 60',
             LEFT_ON.decode('latin-1') + 'SET')
    terminal = kept_terminal(pty, './a.sock')
    terminal.send(b'\n')
    terminal.wait_output(b'SET')
    attach = child_named(terminal.child.pid, 'attach')
    os.kill(attach, number)
    assert terminal.exit_status() == 128 + number
    restored(pty)
    after = terminal.output.partition(b'SET')[2]
    assert all(re.search(off, after) for off in TURNED_OFF), after


def test_file_that_may_not_grow_is_an_error_of_write(pty, server):
    """SIGXFSZ would end attach with the terminal raw (getrlimit(2)): EFBIG instead, and a message."""
    terminal = pty.terminal('env', '--default-signal=XFSZ', 'sh', '-c',  # (Python ignores it, and exec(3) keeps that)
                            'ulimit -f 1; stty -g >before; "$0" ./fake.sock >log; s=$?; '
                            '[ "$(stty -g)" = "$(cat before)" ] || s=1; exit $s', ATTACH)
    server.accept().read(12)
    server.connection.sendall(b'x' * 4096)
    assert terminal.exit_status() == 255 and b'standard output: File too large' in terminal.output


def child_named(parent, name):
    """The pid of the child of `parent` that runs `name`, as soon as it does."""
    def look():
        with open(f'/proc/{parent}/task/{parent}/children', encoding='ascii') as f:
            for pid in f.read().split():
                with open(f'/proc/{pid}/comm', encoding='utf-8') as comm:
                    if comm.read().strip() == name:
                        return int(pid)
        return None
    return wait_until(look, what=f'{name} under {parent}')


# ---- the terminal


def test_terminal_is_raw_while_attached(pty):
    """Raw mode: no echo, no line editing, no signals from keys, no output processing; each key goes out at once."""
    hex_shim(pty)
    terminal = kept_terminal(pty, './a.sock')
    terminal.wait_output(b'READY')
    iflag, oflag, _, lflag, _, _, cc = termios.tcgetattr(terminal.child.child_fd)
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
    assert not iflag & (termios.ICRNL | termios.IXON | termios.ISTRIP | termios.INLCR) and not oflag & termios.OPOST
    assert cc[termios.VMIN] in (1, b'\x01')
    keys = b'\x03\x1a\x11\x13\x04\r\n\x7f\x00'
    terminal.send(keys)
    terminal.wait(lambda t: hex_bytes(t.output) == keys, what='the keys')
    terminal.ends(b'Q', 9)
    restored(pty)


def test_piped_output_is_the_programs_bytes_only(pty):
    """Where standard output is no terminal nothing is added: no messages, no sequences."""
    shim = pty.shim('-n', '-w', '0', 'printf', LEFT_ON.decode('latin-1'))
    assert piped(pty, shim.address)[:2] == (0, LEFT_ON)


def test_window_size_goes_out_with_the_attach_and_with_each_resize(pty):
    """The hello holds the terminal's size, and each SIGWINCH sends the message again."""
    hex_shim(pty)
    terminal = pty.attach('./a.sock', rows=33, cols=99)
    terminal.wait_output(b'{33 99}')
    for rows, cols in ((40, 111), (10, 20)):
        terminal.resize(rows, cols)
        terminal.wait_output(b'{%d %d}' % (rows, cols))
    terminal.ends(b'Q', 9)


def test_terminal_that_goes_away_ends_attach(pty):
    """Closing the window: SIGHUP or end of file ends attach, which does not stay behind."""
    hex_shim(pty)
    terminal = pty.attach('./a.sock')
    terminal.wait_output(b'READY')
    pid = terminal.child.pid
    terminal.hang_up()
    wait_until(lambda: not alive(pid), what='the end of attach')


def test_stopped_attach_gives_the_terminal_back_and_takes_it_again(pty):
    """SIGTSTP (job control): the shell gets its own settings; after fg the terminal is raw again and the keys go on."""
    hex_shim(pty)
    terminal = pty.shell()
    terminal.send(f'{ATTACH} ./a.sock\r'.encode())
    terminal.wait_output(b'READY')
    os.kill(child_named(terminal.child.pid, 'attach'), signal.SIGTSTP)
    terminal.wait_output(b'Stopped')
    terminal.wait(lambda t: t.text().rstrip().endswith('prompt>'), what='the prompt')
    terminal.send(b'stty -a | tr " " "\\n" | grep -x -e "-*icanon" -e "-*isig" -e "-*opost"; echo $((6 * 7)); fg\r')
    terminal.wait_text('\n42\n')
    assert re.search(r'\nisig\nicanon\nopost\n|\nopost\nisig\nicanon\n', terminal.text()), terminal.text()
    wait_until(lambda: not termios.tcgetattr(terminal.child.child_fd)[3] & termios.ICANON, what='the raw mode')
    terminal.send(b'x')
    terminal.wait_output(b'<78>')
    terminal.send(b'Q')
    wait_until(lambda: termios.tcgetattr(terminal.child.child_fd)[3] & termios.ISIG, what='the end of the raw mode')
    terminal.wait_output(b'ended with status 9]')
    terminal.wait(lambda t: t.text().rstrip().endswith('prompt>'), what='the prompt')
    terminal.ends(b'exit $?\r', 9)


def test_attach_in_the_background_can_be_killed(pty):
    """It stops before it touches the terminal, whose settings are the shell's then; kill(1) sends SIGTERM, and SIGCONT."""
    hex_shim(pty)
    terminal = pty.shell()
    terminal.send(f'{ATTACH} ./a.sock &\r'.encode())
    attach = child_named(terminal.child.pid, 'attach')
    wait_until(lambda: stat_fields(attach)[0] == 'T', what='the stop')
    terminal.send(b'jobs; kill %1; wait %1; echo $((6 * 7))\r')
    terminal.wait_text('\n42\n')
    assert not alive(attach)
    terminal.send(f'{ATTACH} ./a.sock &\r'.encode())
    wait_until(lambda: stat_fields(child_named(terminal.child.pid, 'attach'))[0] == 'T', what='the stop')
    terminal.send(b'fg\r')
    terminal.wait_output(b'READY')
    terminal.send(b'\x1c')
    terminal.wait_output(b'[detached from ./a.sock]')
    terminal.send(b'stty -a | tr " " "\\n" | grep -x -e "-*icanon" -e "-*echo"; echo $((6 * 8))\r')
    terminal.wait_text('\n48\n')
    assert '\nicanon\necho\n' in terminal.text(), terminal.text()


def test_signal_that_comes_during_a_stop_ends_attach_when_it_goes_on(pty, server):
    """Not only at the next byte: a session may print none for days."""
    terminal = pty.shell()
    terminal.send(f'{ATTACH} -R ./fake.sock\r'.encode())
    server.accept(raw=True).connection.sendall(b'READY')
    terminal.wait_output(b'READY')
    attach = child_named(terminal.child.pid, 'attach')
    os.kill(attach, signal.SIGTSTP)
    terminal.wait_output(b'Stopped')
    os.kill(attach, signal.SIGTERM)
    os.kill(attach, signal.SIGCONT)
    wait_until(lambda: not alive(attach), what='the end of attach')


# ---- the detach key


def test_detach_key_is_found_while_the_screen_is_stuck_at_the_sessions_end(pty, server):
    """What the terminal has not taken yet waits; the key does not."""
    terminal = pty.attach('./fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'x' * 60_000 + goodbye(3))
    server.connection.close()
    attach, master = terminal.child.pid, terminal.child.child_fd
    wait_until(lambda: unread(master) > 1000, what='a terminal that is full')
    terminal.send(b'\x1c')
    wait_until(lambda: not alive(attach), timeout=5, what='the end of attach')


def test_detach_key_is_found_inside_what_was_read(pty):
    """A read may hold many keys: those before the detach key go to the program, those behind it do not."""
    hex_shim(pty)
    terminal = kept_terminal(pty, './a.sock')
    terminal.wait_output(b'READY')
    terminal.ends(b'abc' + ESCAPE + b'def')
    client = pty.client(pty.path('a.sock'))
    seen = client.read_until(b'<63>')
    client.send(b'Q')
    assert hex_bytes(seen + client.read_all()) == b'abcQ'
    restored(pty)


@pytest.mark.parametrize('option', [['-e', '^X'], ['-e', '^x'], ['--escape=^X'], ['--escape', '^X'],
                                    ['-e', '\x18']], ids=repr)
def test_escape_sets_another_detach_key(pty, option):
    """-e ^X or a character: that key detaches, and Ctrl-backslash goes to the program."""
    hex_shim(pty)
    terminal = pty.attach(*option, './a.sock')
    terminal.wait_output(b'READY')
    terminal.send(ESCAPE)
    terminal.wait_output(b'<1c>')
    terminal.ends(b'\x18')


def test_escape_none_makes_every_key_the_programs(pty):
    """-e none: no detach key."""
    hex_shim(pty)
    terminal = pty.attach('-e', 'none', './a.sock')
    terminal.wait_output(b'READY')
    terminal.send(bytes(range(1, 32)))
    terminal.wait(lambda t: hex_bytes(t.output) == bytes(range(1, 32)), what='the control keys')
    terminal.ends(b'Q', 9)


# ---- read-only, raw, quiet


@pytest.mark.parametrize('option', ['-r', '--read-only'])
def test_read_only_sends_nothing_and_still_learns_the_status(pty, option):
    """-r: keys reach nobody; the output is seen; the detach key works; the status comes with the goodbye."""
    hex_shim(pty)
    terminal = kept_terminal(pty, option, './a.sock', rows=33, cols=99)
    terminal.wait_output(b'READY')
    terminal.send(b'abc')
    other = pty.client(pty.path('a.sock'))
    other.send(b'd')
    terminal.wait_output(b'<64>')
    other.send(b'Q')
    assert terminal.exit_status() == 9
    assert restored(pty) == '[./a.sock ended with status 9]\n'
    assert hex_bytes(terminal.output) == b'dQ' and b'{33 99}' not in terminal.output


def test_read_only_shuts_the_sending_side_down_at_once(pty, server):
    """-r: a hello without a window, then end of file; with -R not even the hello."""
    process = start_piped(pty, '-r', './fake.sock')
    assert server.accept().read_all() == NO_WINDOW
    server.connection.sendall(b'out' + goodbye(4))
    server.connection.close()
    assert finish(process) == (4, b'out', '[./fake.sock ended with status 4]\n')
    process = start_piped(pty, '-r', '-R', './fake.sock')
    assert server.accept(raw=True).read_all() == b''
    server.connection.close()
    assert finish(process) == (254, b'', '[connection to ./fake.sock lost]\n')


@pytest.mark.parametrize('option', ['-R', '--raw'])
def test_raw_sends_no_message(pty, server, option):
    """-R: only the keys go out, also after a resize: for a server that does not know the messages."""
    terminal = kept_terminal(pty, option, './fake.sock')
    server.accept(raw=True)
    server.connection.sendall(b'READY')
    terminal.wait_output(b'READY')
    terminal.send(b'a')
    assert server.read(1) == b'a'
    terminal.resize(40, 100)
    terminal.send(b'b')
    assert server.read(1) == b'b'
    server.connection.sendall(b'\xff\xffxx\x05')    # from such a server these are bytes like any others
    server.connection.close()
    assert terminal.exit_status() == 254
    assert restored(pty) == '[connection to ./fake.sock lost]\n'
    assert b'\xff\xffxx\x05' in terminal.output


@pytest.mark.parametrize('option', ['-q', '--quiet'])
def test_quiet_says_nothing_of_its_own(pty, option):
    """-q: no messages at the end, the statuses stay; errors are still told."""
    shim = hex_shim(pty)
    terminal = kept_terminal(pty, option, './a.sock')
    terminal.wait_output(b'READY')
    terminal.send(ESCAPE)
    assert (terminal.exit_status(), restored(pty)) == (0, '')
    terminal = kept_terminal(pty, option, './a.sock')
    terminal.wait_output(b'READY')
    terminal.send(b'Q')
    assert (terminal.exit_status(), restored(pty)) == (9, '')
    shim.wait_gone()
    status, _, said = piped(pty, option, './a.sock')
    assert status == 255 and said.startswith('attach: ')


def test_attach_at_the_viewers_address_watches_and_learns_the_status(pty):
    """shim -v: attach there sees all, its keys reach nobody, and the goodbye tells the status as everywhere."""
    pty.shim('-n', '-v', './view.sock', './a.sock', *HEX)
    terminal = kept_terminal(pty, './view.sock', rows=33, cols=99)
    terminal.wait_output(b'READY')
    terminal.send(b'v')
    client = pty.client(pty.path('a.sock'), NO_WINDOW + b'c')
    terminal.wait_output(b'<63>')
    client.send(b'Q')
    assert terminal.exit_status() == 9
    assert restored(pty) == '[./view.sock ended with status 9]\n'
    assert hex_bytes(terminal.output) == b'cQ' and b'{33 99}' not in terminal.output


# ---- pipes


def test_piped_input_is_sent_whole_and_output_awaited_to_the_end(pty, server):
    """No terminal: a hello without a window, the input to its end, exactly, then shutdown; output until the goodbye."""
    data = bytes(range(256)) * 40 + hello(24, 80) + ESCAPE + b'end\xff'
    process = start_piped(pty, './fake.sock')
    process.stdin.write(data)
    process.stdin.close()
    process.stdin = None
    assert server.accept().read_all() == NO_WINDOW + data
    server.connection.sendall(b'late output' + goodbye(2))
    server.connection.close()
    assert finish(process) == (2, b'late output', '[./fake.sock ended with status 2]\n')


def test_piped_input_reaches_the_program(pty):
    """echo … | attach ADDRESS: the program gets the line, its answer is on standard output."""
    shim = pty.shim('-n', '-w', '0', 'sh', '-c', 'stty -echo; echo READY; read x; echo "got $x"; exit 4')
    client = pty.client(shim.address)
    client.read_until(b'READY')
    assert piped(pty, shim.address, data=b'hi\n')[:2] == (4, b'READY\r\ngot hi\r\n')


def test_two_mib_both_ways_through_pipes(pty):
    """Both directions full at once, at the pace of the slower: nothing lost, no deadlock."""
    data = os.urandom(2 << 20)
    shim = pty.shim('-r', 'a.cast', '0', *program('copier.py', len(data)))
    pty.client(shim.address).read_until(b'READY')       # from now on the program's terminal is raw
    assert piped(pty, shim.address, data=data)[:2] == (4, b'READY\r\n' + data + b'END')


@pytest.mark.parametrize('recorded', ['recorded', 'not recorded'])
def test_output_to_a_reader_that_is_slow(pty, recorded):
    """A full pipe holds attach back, and attach the shim: every byte arrives in the end. With its input closed attach
    is a viewer, which paces nobody: then it is the recording that holds what the ring does not."""
    shim = pty.shim(*(['-r', 'a.cast'] if recorded == 'recorded' else ['-n']), '-w', '0', 'seq', '1', '300000')
    process = start_piped(pty, shim.address)
    if recorded == 'recorded':
        process.stdin.close()
        process.stdin = None
    output = b''
    while more := os.read(process.stdout.fileno(), 1 << 14):
        output += more
        select.select([], [], [], 0.002)        # slow on purpose
    assert process.wait(TIMEOUT) == 0
    assert output == b''.join(b'%d\r\n' % n for n in range(1, 300001))


def test_reader_that_goes_away_ends_attach(pty):
    """attach … | head: a closed standard output is an end in silence, and the session goes on: detached."""
    shim = pty.shim('-n', './a.sock', *program('ticker.py'))
    process = start_piped(pty, '-r', './a.sock')
    assert os.read(process.stdout.fileno(), 4) == b'tick'
    process.stdout.close()
    process.stdout = None
    assert process.wait(TIMEOUT) == 0
    assert alive(shim.pid)


# ---- the goodbye


@pytest.mark.parametrize('cut', range(6))
def test_goodbye_may_arrive_cut_at_any_byte(pty, server, cut):
    """The last five bytes before the close are the goodbye, in whatever pieces they come; they are never output."""
    process = start_piped(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'out' + goodbye(7)[:cut])
    wait_taken(server.connection)
    if cut < 5:
        server.connection.sendall(goodbye(7)[cut:])
    server.connection.close()
    assert finish(process) == (7, b'out', '[./fake.sock ended with status 7]\n')


@pytest.mark.parametrize('status', [0, 10, 120, 137, 255])
def test_goodbye_in_single_bytes(pty, server, status):
    """Byte by byte, for statuses that look like other bytes of the message ('x' is 120, 0xFF is 255)."""
    process = start_piped(pty, './fake.sock')
    server.accept().read(12)
    for byte in b'o\xff' + goodbye(status):
        server.connection.sendall(bytes([byte]))
        wait_taken(server.connection)
    server.connection.close()
    assert finish(process)[:2] == (status, b'o\xff')


@pytest.mark.parametrize('tail', [b'\xff', b'\xff\xff', b'\xff\xffx', b'\xff\xffxx', b'\xff\xffxx\x07more',
                                  b'\xff\xffxx\x07\xff', b'\xff\xffyy\x07', b'\xffx\xffx\x07'], ids=bytes.hex)
def test_what_only_looks_like_a_goodbye_is_output(pty, server, tail):
    """Only the last five bytes before the close count: the rest is the program's output, and the connection is lost."""
    process = start_piped(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'out' + tail)
    wait_taken(server.connection)
    server.connection.close()
    assert finish(process) == (254, b'out' + tail, '[connection to ./fake.sock lost]\n')


def test_output_that_looks_like_a_goodbye_before_the_goodbye(pty, server):
    """Twice the same five bytes: the first are output, the last are the goodbye."""
    process = start_piped(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(goodbye(3) + goodbye(4))
    server.connection.close()
    assert finish(process)[:2] == (4, goodbye(3))


# ---- push


@pytest.mark.parametrize('address', ['0', './a.sock'])
def test_push_loses_no_byte_of_a_long_input(pty, address):
    """300 KiB pushed to a program that prints them back: attach leaves early, every byte still arrives."""
    data = os.urandom(300 << 10)
    shim = pty.shim('-n', address, *program('copier.py', len(data)))
    client = pty.client(shim.address if address == '0' else pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'READY\r\n')
    assert piped(pty, '-p', shim.address, data=data)[:2] == (0, b'')
    assert client.read_all() == data + b'END' + goodbye(4)


def test_push_does_not_wait_for_a_program_that_reads_nothing(pty):
    """-p does not wait for output, nor for the program to read: a short line is left in the connection."""
    shim = pty.shim('-n', '0', *program('deaf.py'))
    client = pty.client(shim.address)
    pid = read_pid(client.read_until(b'tick'))
    began = time.monotonic()
    assert piped(pty, '-p', shim.address, data=b'wordsEND')[0] == 0
    assert time.monotonic() - began < 5
    os.kill(pid, signal.SIGUSR1)
    client.read_until(b'COUNT 8 ')


# ---- ADDRESS PROGRAM


def test_address_with_a_program_begins_a_session_or_comes_back_to_it(pty):
    """One command to begin or to come back: the second time the same program is there."""
    script = 'stty -echo; echo "I am $$"; while read x; do [ "$x" = end ] && exit 5; echo "got $x"; done'
    command = ['./a.sock', 'sh', '-c', script]
    first = kept_terminal(pty, *command)
    first.wait_text('I am ')
    pid = int(re.search(r'I am (\d+)', first.text())[1])
    first.send(ESCAPE)
    assert first.exit_status() == 0 and alive(pid)
    assert '[detached from ./a.sock]\n' in restored(pty)
    second = kept_terminal(pty, *command)
    second.send(b'hello\n')
    second.wait_text('got hello')
    assert f'I am {pid}' in second.text()
    second.ends(b'end\n', 5)
    assert '[./a.sock ended with status 5]\n' in restored(pty)
    assert len([name for name in os.listdir(pty.folder) if name.endswith('.cast')]) == 1


def test_address_with_a_program_loses_no_output(pty):
    """The program starts when attach is there (shim -w): a program that ends at once is seen whole."""
    for number in range(10):
        status, output, _ = piped(pty, './a.sock', 'sh', '-c', f'echo quick {number}; exit {number}')
        assert (status, output) == (number, b'quick %d\r\n' % number)


def test_address_with_a_program_at_a_port(pty):
    """A port works like a path; the program's own options are its own."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        free = listener.getsockname()[1]
    assert piped(pty, str(free), 'sh', '-c', 'echo "$1"; exit 3', 'sh', '-q')[:2] == (3, b'-q\r\n')


def test_address_with_a_program_starts_at_the_terminals_size(pty):
    """The program finds the attaching terminal's size when it starts."""
    terminal = pty.attach('./a.sock', 'stty', 'size', rows=31, cols=77)
    assert terminal.exit_status() == 0
    assert b'31 77\r\n' in terminal.output


def test_address_with_a_program_after_a_killed_shim(pty):
    """A stale socket is nobody listening: a new session begins there."""
    shim = hex_shim(pty)
    os.kill(shim.pid, signal.SIGKILL)
    shim.wait_gone()
    assert piped(pty, './a.sock', 'sh', '-c', 'exit 6')[0] == 6


def test_address_with_a_program_that_is_not_found(pty):
    """The shim says why it could not start, and its status is passed on: 127, as a shell has it."""
    status, output, said = piped(pty, './a.sock', 'no-such-program-anywhere')
    assert (status, output) == (127, b'')
    assert 'no-such-program-anywhere' in said
    assert os.listdir(pty.folder) == []


def test_address_with_a_program_uses_the_shim_beside_it(pty):
    """The shim that stands beside this attach is started, though PATH has none."""
    status, output, _ = piped(pty, './a.sock', 'echo', 'found', env={'PATH': '/usr/bin:/bin'})
    assert (status, output) == (0, b'found\r\n')


# ---- itself


@pytest.mark.parametrize('listen, spelling', [('0', '$SHIM_ADDRESS'), ('0', '{port}'), ('0', 'localhost:{port}'),
                                              ('./a.sock', '$SHIM_ADDRESS'), ('./a.sock', './a.sock'),
                                              ('./a.sock', '{folder}/./a.sock')])
def test_session_is_not_attached_to_itself(pty, listen, spelling):
    """A session inside itself would print its own output for ever: refused with 255, however the address is written."""
    shim = pty.shim('-n', '-w', listen, 'sh', '-c', 'eval "where=$1"; "$0" "$where"; echo "status $?"', ATTACH,
                    spelling.format(port='${SHIM_ADDRESS##*:}', folder=pty.folder))
    client = pty.client(shim.address if listen == '0' else pty.path('a.sock'), NO_WINDOW)
    seen = client.read_all().decode('utf-8', 'replace')
    assert 'status 255' in seen and 'attach: ' in seen


