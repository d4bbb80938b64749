"""shim: how it starts, what its program is given, how it ends, and each option (sections 1, 2 of the contract)."""
import json
import os
import re
import signal
import socket
import stat
import time

import pytest

from common import NO_WINDOW, Recording, processes_with, program, run_session
from harness import SHIM, TIMEOUT, alive, children, goodbye, hello, needs_handlers, stat_fields, wait_until
from told import Told

STATE = program('state.py')
HEX = program('hex.py')


def state_of(pty, *options, address='0', **run):
    """What a program that a shim has started finds (state.py)."""
    output, status = run_session(pty, '-n', '-w', *options, address, *STATE, **run)
    assert status == 0
    return json.loads(output)


# ---- starting


def test_start_prints_one_line_and_returns_while_the_program_runs(pty):
    """The command returns 0 after one line on standard output; the pid is the daemon's, the program its child."""
    shim = pty.shim('0', 'sleep', '60')
    assert shim.run.stderr == '' and shim.run.stdout.count('\n') == 1
    assert re.fullmatch(r'127\.0\.0\.1:[1-9][0-9]*', shim.address)
    assert alive(shim.pid) and alive(shim.program())
    assert pty.read_bytes(f'/proc/{shim.program()}/cmdline') == b'sleep\x0060\x00'


def test_recording_is_named_after_the_port_and_the_time_in_the_current_directory(pty):
    """Without -r the recording is shim-<port>-<UTC time>.cast in the current directory."""
    shim = pty.shim('0', 'sleep', '60', env=dict(os.environ, TZ='Asia/Tokyo'))
    name = os.path.basename(shim.recording)
    port = shim.address.rpartition(':')[2]
    found = re.fullmatch(rf'shim-{port}-(\d{{8}}T\d{{6}})Z\.cast', name)
    assert found and os.listdir(pty.folder) == [name]
    then = time.strptime(found[1] + 'UTC', '%Y%m%dT%H%M%S%Z')
    assert abs(time.mktime(then) - time.timezone - time.time()) < 60


def test_recording_of_a_unix_socket_is_named_after_the_socket(pty):
    """Without -r the recording of a Unix-domain socket is shim-<socket name>-<UTC time>.cast."""
    shim = pty.shim('./work.sock', 'sleep', '60')
    assert re.fullmatch(r'shim-work\.sock-\d{8}T\d{6}Z\.cast', os.path.basename(shim.recording))


def test_no_record_leaves_no_file_and_says_so(pty):
    """-n: no recording; the readiness line says `not recording`."""
    shim = pty.shim('-n', '0', 'sleep', '60')
    assert shim.recording is None and shim.run.stdout.endswith(', not recording\n')
    assert os.listdir(pty.folder) == []


def test_options_end_at_the_address(pty):
    """What stands behind ADDRESS is the program's: -n and --help there are not the shim's."""
    state = state_of(pty)
    assert state['arguments'] == []
    output, status = run_session(pty, '-n', '-w', '0', *STATE, '-n', '--help', '--', '-r')
    assert (json.loads(output)['arguments'], status) == (['-n', '--help', '--', '-r'], 0)


def test_long_options_mean_what_the_short_ones_do(pty):
    """Each option has a long name, its value behind `=` or as the next word."""
    shim = pty.shim('--record=a.cast', '--record-input', '--max-record', '1M', '--size=70x20', '--history', '64K',
                    '--wait', '--view', '0', '0', *HEX)
    assert shim.recording == pty.path('a.cast') and shim.view
    client = pty.client(shim.address, NO_WINDOW)
    assert client.read_until(b'READY').startswith(b'{20 70}')
    client.send(b'Q')
    shim.wait_gone()
    run = pty.run(SHIM, '--foreground', '--no-record', '0', 'sh', '-c', 'exit 6')
    assert run.returncode == 6


def failed_start(pty, *arguments):
    """Runs a shim that cannot start; gives the status and the message, after a look for what it may have left."""
    before, mark = sorted(os.listdir(pty.folder)), f'CORE_TEST={time.monotonic_ns()}'
    run = pty.run(SHIM, *arguments, env=dict([*os.environ.items(), mark.split('=')]))
    assert run.stdout == ''
    assert re.fullmatch(r'shim: .+: .+\n', run.stderr), run.stderr
    assert sorted(os.listdir(pty.folder)) == before, 'a failed start left a file'
    assert processes_with(mark) == [], 'a failed start left a process'
    return run.returncode, run.stderr


@pytest.mark.parametrize('address', ['127.0.0.1:{port}', '{port}', './taken.sock'])
def test_address_in_use_is_a_failed_start(pty, address):
    """A bind that fails: 125 and the reason; the shim that listens there is not disturbed."""
    shim = pty.shim('-n', './taken.sock' if '/' in address else '0', *HEX)
    address = address.format(port=shim.address.rpartition(':')[2])
    status, message = failed_start(pty, '-r', 'x.cast', address, 'sleep', '60')
    assert status == 125
    # musl says 'Address in use', glibc 'Address already in use'.
    assert ('a session runs there: attach ./taken.sock' if '/' in address else 'in use') in message
    client = pty.client(shim.address if '/' not in address else pty.path('taken.sock'), NO_WINDOW + b'a')
    client.read_until(b'<61>')


def test_port_can_be_taken_again_at_once(pty):
    """A connection that our end has closed first stays in TIME_WAIT for a minute (tcp(7)): it keeps no session from its port."""
    shim = pty.shim('-n', '0', *HEX)
    client = pty.client(shim.address, NO_WINDOW + b'Q')
    client.read_all()
    shim.wait_gone()
    client.close()
    assert pty.shim('-n', shim.address, 'sleep', '60').address == shim.address


def test_viewers_address_in_use_is_a_failed_start(pty):
    """The viewers' bind fails like the other one, and takes the first socket with it."""
    shim = pty.shim('-n', '0', 'sleep', '60')
    status, message = failed_start(pty, '-v', shim.address, './a.sock', 'sleep', '60')
    assert status == 125 and 'in use' in message


def test_allow_remote_listens_everywhere(pty):
    """--allow-remote: the address need not be loopback."""
    shim = pty.shim('-n', '--allow-remote', '0.0.0.0:0', *HEX)
    assert shim.address.startswith('0.0.0.0:')
    pty.client('127.0.0.1:' + shim.address.rpartition(':')[2], NO_WINDOW + b'a').read_until(b'<61>')


def test_existing_recording_is_refused_and_kept(pty):
    """-r FILE is created exclusively: an existing FILE is refused, never overwritten."""
    pty.write('a.cast', 'precious')
    status, message = failed_start(pty, '-r', 'a.cast', '0', 'sleep', '60')
    assert status == 125 and 'a.cast' in message
    assert pty.read('a.cast') == 'precious'


def test_recording_through_a_dangling_link_is_refused(pty):
    """O_EXCL does not follow a symbolic link: nobody can make the shim write elsewhere (open(2))."""
    os.symlink(pty.path('elsewhere'), pty.path('a.cast'))
    assert failed_start(pty, '-r', 'a.cast', '0', 'sleep', '60')[0] == 125


@pytest.mark.parametrize('options', [['-r', 'x.cast'], ['-r', 'x.cast', '-w'], ['-r', 'x.cast', '-f']], ids=' '.join)
@pytest.mark.parametrize('name, status', [('no-such-program-anywhere', 127), ('./absent', 127), ('./plain', 126),
                                          ('./folder', 126)])
def test_program_that_cannot_be_executed_is_126_or_127(pty, options, name, status):
    """exec's failure is reported by the start: 127 when PROGRAM is not found, 126 when it cannot be executed."""
    pty.write('plain', 'no program')
    os.mkdir(pty.path('folder'))
    found, message = failed_start(pty, *options, './a.sock', name)
    assert found == status and name in message


def test_shim_attach_says_what_was_meant(pty, monkeypatch):
    """Who types `shim attach work` wants to come back to a session; a session named attach is possible all the same."""
    monkeypatch.setenv('SHIM_DIR', pty.path('folder'))
    os.mkdir(pty.path('folder'), 0o700)
    assert failed_start(pty, '-n', 'attach', 'no-work') == (
        127, 'shim: no-work: No such file or directory; shim starts programs: to come back to a session, attach no-work\n')


def test_interpreter_that_is_missing_is_127(pty):
    """execve(2) gives ENOENT for a script whose #! interpreter is missing, though the script is there."""
    pty.write('script', '#!/no/such/interpreter\n')
    os.chmod(pty.path('script'), 0o755)
    assert failed_start(pty, '0', './script')[0] == 127


def test_exec_that_fails_after_the_wait_is_told_in_the_session(pty):
    """With --wait the program is looked up at the start; an exec that fails later is output and a status."""
    pty.write('script', '#!/no/such/interpreter\n')
    os.chmod(pty.path('script'), 0o755)
    output, status = run_session(pty, '-r', 'a.cast', '-w', '0', './script')
    assert status == 127
    assert b'./script: No such file or directory' in output
    recording = Recording(pty.path('a.cast'))
    assert (recording.output, recording.of('x')) == (output, ['127'])


def test_command_substitution_returns_at_once(pty):
    """Nothing of the caller's stays open in the daemon or the program: $(shim …) sees end of file, 2>&1 as well."""
    began = time.monotonic()
    run = pty.run('sh', '-c', 'line=$("$0" -n ./a.sock sleep 60 2>&1); echo "got $line"', SHIM)
    assert time.monotonic() - began < 5
    pid = re.fullmatch(r'got shim: listening on \S+, pid (\d+), not recording\n', run.stdout)[1]
    assert alive(int(pid))
    os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: not alive(int(pid)), what='the end')


def test_inherited_descriptors_stay_open_nowhere(pty):
    """A CI step waits for end of file on any descriptor that it gave, not only on standard output."""
    read_end, write_end = os.pipe()
    shim = pty.shim('-n', '0', 'sleep', '60', pass_fds=[write_end])
    os.close(write_end)
    assert os.read(read_end, 1) == b''
    os.close(read_end)
    assert alive(shim.pid)


def test_descriptors_closed_by_the_caller_do_no_harm(pty):
    """A caller without standard streams: the socket or the master must not become descriptor 0, 1 or 2."""
    script = '"$0" -n ./a.sock "$@" <&- >&- 2>&-'
    assert pty.run('sh', '-c', script, SHIM, *HEX).returncode == 0
    client = pty.client(pty.path('a.sock'), NO_WINDOW + b'aQ')
    whole = client.read_all()
    assert b'<61><51>' in whole and whole.endswith(goodbye(9))


def test_daemon_has_no_terminal_and_survives_the_one_it_was_started_from(pty):
    """The daemon is in a session of its own without a controlling terminal: closing the window ends nothing."""
    terminal = pty.terminal('sh', '-c', '"$0" -n ./a.sock "$@"; echo STARTED; read x', SHIM, *HEX)
    terminal.wait_text('STARTED')
    pid = int(re.search(r'pid (\d+)', terminal.text())[1])
    fields = stat_fields(pid)
    assert fields[4] == '0', 'the daemon has a controlling terminal'
    assert int(fields[3]) != os.getsid(terminal.child.pid)
    terminal.close()
    client = pty.client(pty.path('a.sock'), NO_WINDOW + b'a')
    client.read_until(b'<61>')
    client.send(b'Q')
    assert client.read_all().endswith(goodbye(9))


# ---- the program


def test_program_leads_a_session_with_the_slave_as_its_controlling_terminal(pty):
    """setsid and TIOCSCTTY: session, process group and foreground group are the program's own; /dev/tty opens."""
    state = state_of(pty)
    assert state['pid'] == state['pgid'] == state['sid'] == state['foreground']
    assert state['controlling'] and state['tty'].startswith('/dev/pts/')


def test_program_has_the_slave_as_standard_streams_and_nothing_else(pty):
    """The three standard streams are the slave; no other descriptor, not even one that the caller left inheritable."""
    read_end, write_end = os.pipe()
    state = state_of(pty, pass_fds=[read_end, write_end])
    os.close(read_end)
    os.close(write_end)
    assert state['descriptors'] == dict.fromkeys('012', state['tty'])


def test_program_has_default_signals_and_an_empty_mask(pty):
    """An exec keeps ignored signals and the mask (signal(7)): the shim undoes its caller's, and its own."""
    def ignore():
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGWINCH, signal.SIGUSR2, signal.SIGRTMAX})
    output, status = run_session(pty, '-n', '-w', '0', 'cat', '/proc/self/status', preexec_fn=ignore)
    masks = dict(re.findall(r'(Sig\w+):\s+([0-9a-f]+)', output.decode()))
    assert status == 0
    library = 3 << 31   # 32 and 33 are glibc's own, which sigaction(2) refuses; make leaves them ignored
    assert {int(masks[name], 16) & ~library for name in ('SigBlk', 'SigIgn', 'SigCgt')} == {0}, masks


def test_program_keeps_term_or_gets_one(pty):
    """TERM is the caller's; xterm-256color when the caller has none."""
    assert state_of(pty, env=dict(os.environ, TERM='vt100'))['environment']['TERM'] == 'vt100'
    without = {key: value for key, value in os.environ.items() if key != 'TERM'}
    assert state_of(pty, env=without)['environment']['TERM'] == 'xterm-256color'


def test_program_keeps_the_environment_the_folder_and_the_umask(pty):
    """The daemon's own folder and umask are not the program's business: it has the caller's."""
    os.mkdir(pty.path('deep'))
    state = state_of(pty, cwd=pty.path('deep'), env=dict(os.environ, CORE_TEST='kept'), umask=0o027)
    assert state['folder'] == os.path.realpath(pty.path('deep'))
    assert state['environment']['CORE_TEST'] == 'kept' and state['umask'] == 0o027


def test_shim_address_in_the_environment_is_where_the_shim_listens(pty):
    """SHIM_ADDRESS leads to the session's own socket, with the port that the kernel chose."""
    shim = pty.shim('-n', '-w', '0', *STATE)
    client = pty.client(shim.address, NO_WINDOW)
    assert json.loads(client.read_all()[:-5])['environment']['SHIM_ADDRESS'] == shim.address
    inside = state_of(pty, address=pty.path('a.sock'))['environment']['SHIM_ADDRESS']
    assert os.path.realpath(inside) == os.path.realpath(pty.path('a.sock'))


# ---- options


def test_first_window_size_is_80x24_or_what_size_says(pty):
    """--size's default: the starting terminal's size, else 80x24; -s COLSxROWS: columns first."""
    assert state_of(pty)['size'] == [24, 80]
    assert state_of(pty, '-s', '100x30')['size'] == [30, 100]


def test_first_window_size_is_the_starting_terminals(pty):
    """Started at a terminal, the program gets that terminal's size."""
    script = '"$0" -n ./a.sock "$@"; echo STARTED; read x'
    terminal = pty.terminal('sh', '-c', script, SHIM, *HEX, rows=33, cols=99)
    terminal.wait_text('STARTED')
    client = pty.client(pty.path('a.sock'), NO_WINDOW + b'Q')
    assert b'{33 99}' in client.read_all()


def test_wait_starts_the_program_when_the_first_client_is_there(pty):
    """-w: nothing runs before a client comes; its first bytes start the program and are its input."""
    shim = pty.shim('-n', '-w', '0', 'sh', '-c', 'touch started; read line; echo "got $line"')
    with pytest.raises(AssertionError):
        wait_until(lambda: os.path.exists(pty.path('started')), 0.4)
    client = pty.client(shim.address, b'early\n')
    assert b'got early\r\n' in client.read_all()


def test_wait_starts_the_program_200_ms_after_a_silent_client_came(pty):
    """-w: a client that says nothing (nc) starts the program too, 200 ms after it came."""
    shim = pty.shim('-n', '-w', '0', 'echo', 'started')
    began = time.monotonic()
    client = pty.client(shim.address)
    client.read_until(b'started')
    assert 0.15 < time.monotonic() - began < 2


def test_wait_starts_at_once_on_a_half_closed_client(pty):
    """-w: a client that has already closed its sending side has no first bytes, and still sees the whole output."""
    shim = pty.shim('-n', '-w', '0', 'echo', 'started')
    client = pty.client(shim.address)
    client.half_close()
    assert client.read_all() == b'started\r\n'


@pytest.mark.parametrize('cut', [0, 1, 4, 7, 11])
def test_wait_sets_the_window_size_before_the_exec(pty, cut):
    """-w: a program that asks for its size at once finds the first client's, in whatever pieces the hello came."""
    shim = pty.shim('-n', '-w', '-s', '90x20', '0', 'stty', 'size')
    client = pty.client(shim.address)
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(hello(31, 77)[:cut])
    client.send(hello(31, 77)[cut:])
    assert client.read_all() == b'31 77\r\n' + goodbye(0)


def test_wait_without_a_client_ends_on_sigterm(pty):
    """A shim that still waits has no program to hang up: SIGTERM ends it and removes its socket."""
    shim = pty.shim('-n', '-w', './a.sock', 'touch', 'started')
    os.kill(shim.pid, signal.SIGTERM)
    shim.wait_gone()
    assert os.listdir(pty.folder) == []


def test_view_at_a_unix_socket_that_is_removed_at_the_end(pty):
    """-v takes any ADDRESS; its socket file has mode 0600 and goes at the end, like the other one."""
    shim = pty.shim('-n', '-v', './view.sock', './a.sock', *HEX)
    assert stat.S_IMODE(os.stat(pty.path('view.sock')).st_mode) == 0o600
    viewer = pty.client(pty.path('view.sock'))
    viewer.read_until(b'READY')
    pty.client(pty.path('a.sock'), NO_WINDOW + b'Q').read_all()
    viewer.read_all()
    shim.wait_gone()
    assert os.listdir(pty.folder) == []


@needs_handlers
def test_foreground_ends_on_ctrl_c(pty):
    """-f at a terminal: Ctrl-C is SIGINT to the shim, which hangs its program up and takes its status."""
    script = 'trap "exit 5" HUP; touch ready; while :; do read x; done'
    terminal = pty.terminal(SHIM, '-f', '-n', './a.sock', 'sh', '-c', script)
    terminal.wait_text('listening on')
    wait_until(lambda: os.path.exists(pty.path('ready')), what='the program')
    terminal.ends('\x03', 5)
    assert os.listdir(pty.folder) == ['ready']


TYPIST = 'stty -echo; echo READY; read secret; stty echo; echo AGAIN; read open; echo "$secret.$open."'


def test_record_input_keeps_what_is_typed_but_no_password(pty):
    """-i: `i` events hold what clients type, except while the terminal does not echo."""
    shim = pty.shim('-i', '-r', 'a.cast', '0', 'sh', '-c', TYPIST)
    client = pty.client(shim.address)
    client.read_until(b'READY')
    client.send(b'hush\n')
    client.read_until(b'AGAIN')
    client.send('öffen\n'.encode())
    client.read_until('hush.öffen.'.encode())
    shim.wait_gone()
    assert ''.join(Recording(pty.path('a.cast')).of('i')) == 'öffen\n'


def test_input_is_not_recorded_without_the_option(pty):
    """Input holds passwords: without -i there is no `i` event."""
    shim = pty.shim('-r', 'a.cast', '0', 'sh', '-c', 'read line; echo "$line"')
    pty.client(shim.address, b'typed\n').read_all()
    shim.wait_gone()
    assert Recording(pty.path('a.cast')).of('i') == []


def test_record_input_with_bytes_that_are_not_utf_8(pty):
    """In `i` events bytes that are not UTF-8 are U+FFFD and no more: no b event. The hello is not input."""
    shim = pty.shim('-i', '-r', 'a.cast', '0', 'sh', '-c', 'stty raw echo; echo READY; head -c 6 >/dev/null')
    client = pty.client(shim.address, hello(40, 50))
    client.read_until(b'READY')
    client.send(b'ab\xc3\x28\xfec')
    client.read_all()
    shim.wait_gone()
    recording = Recording(pty.path('a.cast'))
    assert re.fullmatch('ab\ufffd\\(\ufffdc', ''.join(recording.of('i')))


def test_max_record_stops_the_recording_and_not_the_session(pty):
    """-m SIZE: the recording stops there with a marker event; the session goes on."""
    shim = pty.shim('-m', '300K', '-r', 'a.cast', '-w', '0', 'sh', '-c', 'seq 1 50000; exit 3')
    whole = pty.client(shim.address, NO_WINDOW).read_all()
    shim.wait_gone()
    expected = b''.join(b'%d\r\n' % n for n in range(1, 50001))
    assert whole == expected + goodbye(3)
    recording = Recording(pty.path('a.cast'))
    assert recording.of('m') == ['shim: recording stopped at its limit']
    assert 200 * 1024 < os.path.getsize(pty.path('a.cast')) <= 300 * 1024
    assert recording.output and expected.startswith(recording.output)
    assert [code for _, code, _ in recording.events if code != 'o'][0] == 'm'
    told = Told(pty, '-m', '2K', '-r', 'b.cast', pty.path('sock'))
    [client] = told.clients(1)
    while not Recording(told.shim.recording, torn=True).of('m'):
        told.prints(b'.')                       # an event of its own, so that the last one comes close to the limit
        client.read_until(b'.')
    told.start('exit', 3)
    assert client.read_all() == goodbye(3)
    told.shim.wait_gone()
    assert os.path.getsize(told.shim.recording) <= 2 << 10, 'the marker and the exit event have no place below the limit'


def test_sigusr1_writes_a_marker(pty):
    """SIGUSR1: a marker event between the output that was before it and the output that came after."""
    shim = pty.shim('-r', 'a.cast', '0', *HEX)
    client = pty.client(shim.address)
    client.read_until(b'READY')
    os.kill(shim.pid, signal.SIGUSR1)
    wait_until(lambda: Recording(shim.recording).of('m'), what='the marker')
    client.send(b'Q')
    client.read_all()
    shim.wait_gone()
    codes = [code for _, code, _ in Recording(shim.recording).events if code in 'mox']
    assert re.fullmatch('o+mo+x', ''.join(codes))
    assert Recording(shim.recording).of('m') == ['']


def test_sigusr1_does_no_harm_without_a_recording(pty):
    """SIGUSR1's default action would end the shim; with -n there is nothing to mark."""
    shim = pty.shim('-n', '0', *HEX)
    os.kill(shim.pid, signal.SIGUSR1)
    client = pty.client(shim.address, NO_WINDOW + b'Q')
    assert client.read_all().endswith(goodbye(9))


# ---- Unix-domain sockets


@pytest.mark.parametrize('umask', [0, 0o022, 0o777])
def test_unix_socket_has_mode_0600(pty, umask):
    """A Unix-domain socket has mode 0600, whatever the umask (unix(7): connecting needs write permission)."""
    pty.shim('-n', './a.sock', 'sleep', '60', umask=umask)
    assert stat.S_IMODE(os.stat(pty.path('a.sock')).st_mode) == 0o600


@pytest.mark.parametrize('how', ['exit', 'SIGTERM'])
def test_unix_socket_is_removed_at_the_end(pty, how):
    """The socket file goes with the session, whichever way that ends."""
    shim = pty.shim('-n', './a.sock', *HEX)
    client = pty.client(pty.path('a.sock'))
    client.read_until(b'READY')
    if how == 'exit':
        client.send(b'Q')
    else:
        os.kill(shim.pid, signal.SIGTERM)
    client.read_all()
    shim.wait_gone()
    assert os.listdir(pty.folder) == []


def test_stale_socket_is_taken_over(pty):
    """A socket file that nobody listens at (its shim was killed) is replaced: unix(7), ECONNREFUSED."""
    shim = pty.shim('-n', './a.sock', 'sleep', '60')
    os.kill(shim.pid, signal.SIGKILL)
    shim.wait_gone()
    assert os.path.exists(pty.path('a.sock'))
    pty.shim('-n', './a.sock', *HEX)
    pty.client(pty.path('a.sock'), NO_WINDOW + b'a').read_until(b'<61>')


def test_file_that_is_no_socket_is_not_taken_over(pty):
    """A foreign file at ADDRESS is refused and kept."""
    pty.write('a.sock', 'precious')
    status, message = failed_start(pty, '-n', './a.sock', 'sleep', '60')
    assert status == 125 and './a.sock' in message
    assert pty.read('a.sock') == 'precious'


# ---- ending


@needs_handlers
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_hangs_the_terminal_up_and_ends_in_order(pty, number):
    """SIGTERM, SIGINT, SIGHUP: the program gets SIGHUP; its last words and its status arrive as ever."""
    script = 'trap "echo bye; exit 3" HUP; echo READY; while :; do read x; done'
    shim = pty.shim('-r', 'a.cast', './a.sock', 'sh', '-c', script)
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'READY\r\n')
    os.kill(shim.pid, number)
    assert client.read_all() == b'bye\r\n' + goodbye(3)
    shim.wait_gone()
    recording = Recording(pty.path('a.cast'))
    assert (recording.output, recording.events[-1][1:]) == (b'READY\r\nbye\r\n', ('x', '3'))
    assert os.listdir(pty.folder) == ['a.cast']


@needs_handlers
def test_hang_up_reaches_the_foreground_group(pty):
    """A shell's foreground job is in a group of its own: it gets the SIGHUP as when a window is closed."""
    script = 'set -m; sh -c \'trap "touch job; exit" HUP; echo READY; while :; do sleep 0.05; done\'; exit 8'
    shim = pty.shim('-n', '0', 'bash', '-c', 'trap : HUP; ' + script)
    client = pty.client(shim.address, NO_WINDOW)
    client.read_until(b'READY')
    os.kill(shim.pid, signal.SIGTERM)
    client.read_all()
    shim.wait_gone()
    assert os.path.exists(pty.path('job'))


@needs_handlers
def test_stopped_program_is_continued_to_hear_the_hang_up(pty):
    """A stopped process does not run its SIGHUP handler before SIGCONT: both are sent (signal(7))."""
    shim = pty.shim('-n', '0', 'sh', '-c', 'trap "echo bye; exit 3" HUP; echo READY; while :; do read x; done')
    client = pty.client(shim.address, NO_WINDOW)
    client.read_until(b'READY')
    pid = shim.program()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: stat_fields(pid)[0] == 'T', what='the stop')
    os.kill(shim.pid, signal.SIGTERM)
    assert client.read_all().endswith(b'bye\r\n' + goodbye(3))


def test_client_that_reads_slowly_still_gets_the_last_byte(pty):
    """What a client still has to get is delivered, as long as it makes progress; the socket holds but a part."""
    shim = pty.shim('-n', '-w', '0', 'sh', '-c', 'seq 1 100000')
    client = pty.client(shim.address, NO_WINDOW, rcvbuf=1 << 15)
    client.read_until(b'10\r\n')
    wait_until(lambda: not children(shim.pid), what='the end of the program')
    whole = b'10\r\n' + client.read_all()
    assert whole.endswith(b'99999\r\n100000\r\n' + goodbye(0))
    assert whole.count(b'\n') == 100000 - 9


def test_client_that_reads_nothing_does_not_hold_the_end(pty):
    """Delivery at the end is bounded by progress: a stopped client cannot keep the shim for ever."""
    shim = pty.shim('-n', '-w', './a.sock', 'sh', '-c', 'seq 1 100000')
    stuck = pty.client(pty.path('a.sock'), NO_WINDOW, rcvbuf=4096)
    shim.wait_gone(TIMEOUT + 20)
    assert os.listdir(pty.folder) == []
    stuck.close()


def test_daemon_does_not_keep_the_file_system_busy_with_its_standard_streams(pty):
    """The daemon's standard streams are /dev/null or the like: nothing that the caller has given."""
    shim = pty.shim('-n', '0', 'sleep', '60')
    targets = [os.readlink(f'/proc/{shim.pid}/fd/{number}') for number in (0, 1, 2)]
    assert set(targets) <= {'/dev/null'}, targets


def test_master_is_not_in_the_programs_children(pty):
    """Every descriptor of the daemon is close-on-exec: a helper or the program that it starts gets none of them."""
    shim = pty.shim('-r', 'a.cast', '0', 'sleep', '60')
    for number in map(int, os.listdir(f'/proc/{shim.pid}/fd')):
        try:
            flags = int(re.search(r'flags:\s+([0-7]+)', pty.read(f'/proc/{shim.pid}/fdinfo/{number}'))[1], 8)
        except FileNotFoundError:               # closed meanwhile, as the socket to the caller is
            continue
        assert number <= 2 or flags & os.O_CLOEXEC, os.readlink(f'/proc/{shim.pid}/fd/{number}')
