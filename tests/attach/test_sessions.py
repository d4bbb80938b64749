"""attach alone lists the sessions, -k ends one, and each message says what is and what to do (section 5)."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from attaching import (ALONE, END, LEAVE, TAKEN, TELL, finish, kept_terminal, piped, restored, start_piped,
                       told)
from common import processes_with, program, wait_taken
from harness import (ATTACH, SHIM, TIMEOUT, children, goodbye, hello, needs_handlers, needs_peer_user,
                     wait_until)
from told import DAEMON, as_user, needs_root, open_folder

ESCAPE = b'\x1c'


def listed(pty):
    """The lines of `attach`."""
    run = pty.run(ATTACH)
    assert (run.returncode, run.stderr) == (0, '')
    return run.stdout.splitlines()


def kill_all(shim):
    """A shim that is killed leaves its socket, and its program to be killed as well."""
    for pid in (shim.pid, *children(shim.pid)):
        os.kill(pid, signal.SIGKILL)
    shim.wait_gone()


# ---- the list


def test_no_session_no_line(pty, folder):
    """Nothing runs, nothing is printed, nothing is made; with an empty folder as well."""
    assert listed(pty) == [] and not os.path.exists(folder)
    os.mkdir(folder, 0o700)
    assert listed(pty) == []


def test_list_tells_name_pid_beginning_clients_command_and_recording(pty, folder):
    """Each session is asked: an address for viewers is no session of its own, and who is attached is told."""
    one = pty.shim('-v', 'show', 'work', 'sh', '-c', 'sleep 1000; : two  words')
    two = pty.shim('-n', 'me@host', 'sleep', '1001')
    three = pty.shim('-r', 'own.cast', 'x', *program('hex.py'))
    pty.shim('-n', './path', 'sleep', '1003')
    terminal = pty.attach('x')
    terminal.wait_output(b'READY')
    lines = listed(pty)
    minute = r'\d\d\d\d-\d\d-\d\d \d\d:\d\d'
    assert len(lines) == 3 and folder
    assert re.fullmatch(rf'me@host  pid {two.pid}  since {minute}  0 attached  sleep 1001  not recording', lines[0])
    assert re.fullmatch(rf"work     pid {one.pid}  since {minute}  0 attached  sh -c 'sleep 1000; : two  words'  "
                        'recording ' + re.escape(one.recording), lines[1])
    assert re.fullmatch(rf'x        pid {three.pid}  since {minute}  1 attached  \S.*hex.py  recording '
                        + re.escape(pty.path('own.cast')), lines[2])
    days = [time.strftime('%F', time.localtime(time.time() - ago)) for ago in (0, 60)]
    assert lines[0].split('since ')[1][:10] in days
    shown = pty.terminal(ATTACH, cols=50)
    assert shown.exit_status() == 0
    assert [len(line) for line in shown.text().split('\n')[:3]] == [50] * 3 and '…' in shown.text()


def test_list_prints_no_control_sequences(pty, folder):
    """A command may hold anything; a list must not do anything to the terminal."""
    pty.shim('-n', 'work', 'sh', '-c', 'sleep 1000', '\x1b[2J\x07\n\u009b\u202e\x7f')
    line = listed(pty)[0]
    assert folder and 'sh -c ' in line and not re.search('[\x00-\x1f\x7f-\x9f\u202e]', line)


def test_list_fits_the_terminal_whatever_characters_it_shows(pty, folder):
    pty.shim('-n', 'work', 'sh', '-c', 'sleep 1000', '\u4f60\u597d' * 40)
    terminal = pty.terminal(ATTACH, cols=100)
    assert terminal.exit_status() == 0 and folder
    line = terminal.output.decode().split('\r\n')[0]
    assert line.endswith('\u2026') and 95 <= sum(2 if c > '\u3000' else 1 for c in line) <= 100, line


@needs_peer_user
def test_list_asks_all_at_once_and_waits_for_none(pty, folder):
    """Ten that stand still: listed as that, with the pid that the kernel tells, after 0.3 s in all."""
    shims = [pty.shim('-n', f's{number}', 'sleep', '1000') for number in range(10)]
    for shim in shims:
        os.kill(shim.pid, signal.SIGSTOP)
        pty.keep(shim, lambda pid=shim.pid: os.kill(pid, signal.SIGCONT))
    began = time.monotonic()
    assert listed(pty) == [f's{n}  pid {shim.pid}  does not answer' for n, shim in enumerate(shims)] and folder
    assert time.monotonic() - began < 2


def test_nothing_to_list_is_said_at_a_terminal(pty, folder):
    """Standard output stays empty: scripts count its lines."""
    terminal = pty.terminal(ATTACH)
    assert terminal.exit_status() == 0 and folder
    assert terminal.text().strip() == '[no session runs (shim NAME PROGRAM starts one)]'


def test_list_removes_what_a_killed_shim_left(pty, folder):
    """A socket at which nobody listens (ECONNREFUSED) is no session; other files in the folder stay."""
    kill_all(pty.shim('-n', 'work', 'sleep', '1000'))
    for name in ('notes', '.hidden'):
        open(os.path.join(folder, name), 'w', encoding='ascii').close()
    os.symlink('work', os.path.join(folder, 'link'))
    assert listed(pty) == []
    assert sorted(os.listdir(folder)) == ['.hidden', 'link', 'notes']


def test_listing_is_no_event_for_a_session(pty, folder):
    """Who connects and goes at once starts no program that waits for its first client, and is no client to others."""
    pty.shim('-n', '-w', 'waiting', 'touch', 'started')
    pty.shim('-n', 'work', *program('hex.py'))
    terminal = pty.attach('work')
    terminal.wait_output(b'READY')
    for _ in range(20):
        assert len(listed(pty)) == 2
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.4, what='the time in which a client is awaited')
    assert folder and not os.path.exists(pty.path('started'))
    terminal.send(b'Q')
    assert terminal.exit_status() == 9 and terminal.output.count(b'{') == 1


def test_list_of_a_folder_that_others_reach_is_refused(pty, folder):
    """The same check as everywhere, with its cure."""
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    run = pty.run(ATTACH)
    assert (run.returncode, run.stdout) == (255, '') and f'chmod 700 {folder}' in run.stderr


# ---- ending a session


@pytest.mark.parametrize('options', [['-n'], []], ids=['not recorded', 'recorded'])
@pytest.mark.parametrize('spelling', ['work', '{folder}/work', './a.sock'])
def test_kill_ends_a_session_and_says_its_status(pty, folder, options, spelling):
    """SIGTERM to the shim, which ends the program; when attach returns, the address is free and the shim has ended."""
    address = spelling.format(folder=folder)
    shim = pty.shim(*options, './a.sock' if '.sock' in spelling else 'work', 'sleep', '1000')
    status, out, said = piped(pty, '-k', address)
    assert (status, out, said) == (0, b'', f'[{address} ended with status 143]\n')
    assert piped(pty, '-k', address)[0] == 255
    shim.wait_gone()


@needs_handlers
def test_kill_tells_the_programs_own_status(pty, folder):
    """A program may end as it likes."""
    shim = pty.shim('-n', 'work', 'sh', '-c', 'trap "exit 3" TERM; echo ready; while :; do sleep 0.02; done')
    client = pty.client(os.path.join(folder, 'work'))
    client.read_until(b'ready')
    client.close()
    assert piped(pty, '--kill', 'work') == (0, b'', '[work ended with status 3]\n')
    shim.wait_gone()


def test_kill_does_not_start_a_program_that_waits(pty, folder):
    """The session ends without it."""
    pty.shim('-n', '-w', 'work', 'touch', 'started')
    assert folder and piped(pty, '-k', 'work') == (0, b'', '[work ended with status 143]\n')
    assert not os.path.exists(pty.path('started'))


def test_kill_waits_for_a_program_that_takes_its_time(pty, folder):
    """It returns when the session has ended, not when it was told to."""
    shim = pty.shim('-n', '-g', '1', 'work', 'sh', '-c', 'trap "" TERM HUP; echo ready; while :; do sleep 1; done')
    pty.client(os.path.join(folder, 'work')).read_until(b'ready')
    began = time.monotonic()
    assert piped(pty, '-q', '-k', 'work') == (0, b'', '')
    assert 0.8 < time.monotonic() - began < 8
    shim.wait_gone()


def test_kill_at_a_port(pty):
    """Any address, also one behind a forwarder: the session is told by the connection itself."""
    shim = pty.shim('-n', '0', 'sleep', '1000')
    assert piped(pty, '-k', shim.address) == (0, b'', f'[{shim.address} ended with status 143]\n')
    shim.wait_gone()


@needs_peer_user
@pytest.mark.parametrize('answer', [b'', b'HTTP/1.0 400 Bad Request', TAKEN[:3], goodbye(0)], ids=repr)
def test_kill_harms_no_server_that_is_no_shim(pty, server, answer):
    """It gets the twelve bytes, and no signal; attach tells whose it is."""
    process = start_piped(pty, '-k', './fake.sock')
    assert server.serve(answer) == [END]
    status, out, said = finish(process)
    assert (status, out) == (255, b'') and said.startswith('attach: ./fake.sock: no answer: no shim listens there')
    assert f'(pid {os.getpid()})' in said


def test_answer_over_a_slow_line_stands_behind_a_paint(pty, server):
    """The hello took more than 200 ms to reach the shim, which has taken attach for a raw client until then."""
    process = start_piped(pty, '-k', './fake.sock')
    server.serve(b'a paint\xff' * 9000 + TAKEN + goodbye(3))
    server.connection.close()
    assert finish(process) == (0, b'', '[./fake.sock ended with status 3]\n')


def test_kill_of_a_session_that_is_killed_meanwhile(pty, server):
    """The shim said that it ends, and then nothing more: 254."""
    process = start_piped(pty, '-k', './fake.sock')
    server.serve(TAKEN)
    server.connection.close()
    assert finish(process) == (254, b'', '[./fake.sock: connection lost]\n')


@needs_peer_user
def test_kill_of_a_session_that_stands_still(pty, folder):
    """It is not waited for for ever: after 2 s its pid is told."""
    shim = pty.shim('-n', 'work', 'sleep', '1000')
    os.kill(shim.pid, signal.SIGSTOP)
    status, _, said = piped(pty, '-k', 'work')
    os.kill(shim.pid, signal.SIGCONT)
    assert status == 255 and folder and f'stands still, or only for viewers (pid {shim.pid})' in said


@pytest.mark.parametrize('arguments, status', [(['-k', 'work'], 255), (['-k', './a.sock'], 255), (['-k', 'wo rk'], 2),
                                               (['-k', 'work', 'bash'], 2)])
def test_kill_of_what_is_not_there(pty, folder, arguments, status):
    """As with attaching: 255 when nobody is there, 2 when it is no address."""
    assert folder and piped(pty, *arguments)[:2] == (status, b'')


# ---- a new session


def test_new_session_is_announced(pty, folder):
    """In one line, before anything of its own is shown: the recording, and the way out; the second time not."""
    command = ['work', 'sh', '-c', 'echo here; read x; exit 5']
    terminal = kept_terminal(pty, *command)
    terminal.wait_output(b'here')
    terminal.ends(ESCAPE)
    said = restored(pty)
    assert re.fullmatch(r'\[work: new session, recording \S+\.cast, Ctrl-\\ leaves it\]\n\[detached from work\]\n',
                        said), said
    assert os.path.exists(os.path.join(pty.folder, re.search(r'recording (\S+),', said)[1]))
    terminal = kept_terminal(pty, *command)
    terminal.wait_output(b'here')
    terminal.send(b'\n')
    assert terminal.exit_status() == 5 and folder
    assert restored(pty) == '[work ended with status 5]\n'


@pytest.mark.parametrize('key, name', [('^A', 'Ctrl-A'), ('^]', 'Ctrl-]'), ('~', '~'), ('none', None)])
def test_announcement_names_the_key(pty, folder, key, name):
    """... as a user would call it."""
    terminal = kept_terminal(pty, '-e', key, 'work', 'true')
    assert terminal.exit_status() == 0 and folder
    way_out = f', {re.escape(name)} leaves it' if name else ''
    assert re.match(r'\[work: new session, recording \S+' + way_out + r'\]\n', restored(pty))


def test_announcement_may_be_hidden(pty, folder):
    """-q."""
    terminal = kept_terminal(pty, '-q', 'work', 'true')
    assert terminal.exit_status() == 0 and folder
    assert restored(pty) == ''


def test_warnings_of_the_shim_are_passed_on(pty, folder):
    """What it says beside its readiness line is for the user."""
    shutil.copy(ATTACH, pty.path('attach'))
    pty.write('shim', f'#!/bin/sh\necho "shim: something is missing" >&2\nexec "{SHIM}" "$@"\n')
    os.chmod(pty.path('shim'), 0o755)
    run = pty.run(pty.path('attach'), 'work', 'true')
    assert run.returncode == 0 and folder and 'shim: something is missing\n' in run.stderr
    pty.write('shim', '#!/bin/sh\nkill -KILL $$\n')
    assert pty.run(pty.path('attach'), 'work', 'true').returncode == 128 + signal.SIGKILL


def test_two_that_begin_the_same_session_at_once_share_it(pty, folder):
    """One of the two shims finds the name taken: its attach comes to the other's session."""
    mark = 'SAME=1'
    environment = dict(os.environ, SAME='1')
    several = [pty.background(ATTACH, 'work', 'sh', '-c', 'echo begun; read x; exit 4', env=environment,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    for one in several:
        assert one.stdout.readline() == b'begun\r\n'
    several[0].stdin.write(b'\n')
    several[0].stdin.flush()
    assert [one.wait(TIMEOUT) for one in several] == [4] * 6
    wait_until(lambda: not processes_with(mark), what='the end of all')
    assert os.listdir(folder) == []


def test_session_that_was_running_already_says_what_it_runs(pty, folder):
    """attach work make, where work runs something else: one line; none when it is the same."""
    pty.shim('-n', 'work', 'sh', '-c', 'echo "a  b"; read x; exit 3')
    for command, said in (['make'], "[work was running already: sh -c 'echo \"a  b\"; read x; exit 3']\n"), \
                         (['sh', '-c', 'echo "a  b"; read x; exit 3'], ''):
        terminal = kept_terminal(pty, 'work', *command)
        terminal.wait_text('a  b')
        terminal.send(ESCAPE)
        assert terminal.exit_status() == 0 and restored(pty) == said + '[detached from work]\n' and folder


# ---- alone


def test_detach_others(pty, folder):
    """A terminal that was forgotten elsewhere leaves, with its settings; a watcher and the session stay."""
    pty.shim('-n', 'work', *program('hex.py'))
    forgotten = kept_terminal(pty, 'work')
    forgotten.wait_output(b'READY')
    watcher = pty.attach('-r', 'work')
    watcher.wait_output(b'READY')
    terminal = pty.attach('-d', 'work')
    terminal.wait_output(b'READY')
    assert forgotten.exit_status() == 0 and restored(pty) == '[detached from work: by another attach]\n' and folder
    terminal.send(b'Q')
    assert terminal.exit_status() == 9 and watcher.exit_status() == 9


@pytest.mark.parametrize('cut', range(5))
def test_word_to_leave_may_come_cut(pty, server, cut):
    """The last bytes before the close, like the goodbye; what only looks like it is output."""
    process = start_piped(pty, './fake.sock')
    server.accept().read(12)
    server.connection.sendall(b'out' + LEAVE + LEAVE[:cut])
    wait_taken(server.connection)
    server.connection.sendall(LEAVE[cut:])
    server.connection.close()
    assert finish(process) == (0, b'out' + LEAVE, '[detached from ./fake.sock: by another attach]\n')


def test_detach_others_of_what_is_no_shim(pty, server):
    """Nobody says that the others leave: 255, and nothing is attached to."""
    process = start_piped(pty, '-d', './fake.sock')
    assert server.serve(b'') == [ALONE]
    status, _, said = finish(process)
    assert status == 255 and 'no answer' in said


# ---- sessions in sessions


def test_sessions_that_would_show_each_other_are_refused(pty, folder):
    """In `out` runs attach inn, in that attach out: both would print for ever. Another one may be attached to."""
    pty.shim('-n', '-w', 'other', 'sh', '-c', 'exit 7')
    script = f'for x in out inn other; do "{ATTACH}" $x; echo "status $?"; done'
    pty.shim('-n', '-w', 'out', ATTACH, 'inn', 'sh', '-c', script)
    told = pty.client(os.path.join(folder, 'out'), hello(24, 80)).read_until(goodbye(0))
    assert re.findall(rb'status (\d+)\r\n', told) == [b'255', b'255', b'7']
    assert b'this terminal is in that session' in told


@pytest.mark.parametrize('outer, refused', [('work', True), ('/nowhere/work\nwork\n', True), ('other\n\n', False),
                                            ('', False)])
def test_address_in_shim_outer_is_refused(pty, folder, outer, refused):
    """Each shim adds its own address to those that it was started in."""
    pty.shim('-n', 'work', 'sh', '-c', 'read x; exit 5')
    status, _, said = piped(pty, 'work', data=b'\n', env=dict(os.environ, SHIM_OUTER=outer))
    assert status == (255 if refused else 5) and folder
    assert not refused or 'env -u SHIM_OUTER attach work' in said


@pytest.mark.parametrize('same', [True, False])
def test_terminal_of_the_session_itself_is_refused_whatever_the_environment_says(pty, server, same):
    """tell names its terminal by machine and device number; a session of that name elsewhere is another one."""
    terminal = pty.attach('./fake.sock', env=dict(os.environ, SHIM_OUTER='x'))
    device = os.stat(os.readlink(f'/proc/{terminal.child.pid}/fd/0')).st_rdev
    host = socket.gethostname() if same else 'elsewhere'
    assert server.serve(told(name='x', later='lines', host=host, tty=device)) == [TELL]
    if not same:
        server.accept().connection.sendall(b'here')
        server.connection.close()
    assert terminal.exit_status() == (255 if same else 254)
    assert ('this terminal is that session' in terminal.text()) is same


# ---- sessions that have ended


def test_session_that_has_just_ended_gives_its_status(pty, folder):
    """shim job … && attach -qr job; echo $? is right however fast the job was; later it is 255, and said when."""
    shim = pty.shim('job', 'sh', '-c', 'exit 3')
    shim.wait_gone()
    status, out, said = piped(pty, 'job')
    assert (status, out) == (3, b'') and re.fullmatch(r'\[job ended with status 3, \d s ago\]\n', said) and folder
    assert piped(pty, '-qr', 'job') == (3, b'', '')
    for option in ('-k', '-p', '-d'):
        assert piped(pty, option, 'job')[0] == 255
    for name in ('job-20000101T000000Z', 'jo'):
        assert piped(pty, name)[0] == 255
    os.utime(shim.recording, (0, time.time() - 3600))
    status, _, said = piped(pty, 'job')
    day = time.strftime('%F', time.localtime(time.time() - 3600))
    assert status == 255 and f'attach: job: ended with status 3 on {day} ' in said and 'record play job' in said


def test_session_whose_shim_was_killed(pty, folder):
    """Its recording has no end."""
    kill_all(pty.shim('job', 'sleep', '1000'))
    status, _, said = piped(pty, 'job')
    assert status == 255 and 'its shim was killed on ' in said and folder


def test_fast_job_many_times(pty, folder):
    """Whether attach comes before the end, in it, or behind it."""
    for number in range(20):
        pty.shim(f'job{number}', 'sh', '-c', 'exit 3')
        assert piped(pty, '-qr', f'job{number}')[::2] == (3, ''), number
    assert folder


# ---- messages


def says(pty, *arguments):
    """The one line that attach says when it could not attach."""
    status, out, said = piped(pty, *arguments)
    assert (status, out) == (255, b'') and re.fullmatch(r'attach: [^\n]+\n', said), said
    return said[len('attach: '):-1]


def test_messages_say_what_is_and_what_to_do(pty, folder):
    """One line each: nobody there, a socket that a killed shim left, a file, a port, a host."""
    assert says(pty, 'work') == 'work: no session of that name, and none has been (attach lists those that run)'
    assert says(pty, './no.sock') == './no.sock: nobody listens there (attach ./no.sock PROGRAM starts a session)'
    for name in ('dead', './dead.sock'):
        kill_all(pty.shim('-n', name, 'sleep', '1000'))
        assert says(pty, name) == (f'{name}: nobody listens: its shim was killed '
                                   f'(attach {name} PROGRAM starts a session)')
    pty.write('a.cast', '{"version": 2}\n')
    assert says(pty, './a.cast') == "./a.cast: a file, not a session's socket (record play shows a recording)"
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = str(listener.getsockname()[1])
    assert says(pty, port) == f'{port}: nobody listens there (attach {port} PROGRAM starts a session)'
    assert folder


@needs_root
def test_message_of_a_session_that_is_another_users(pty):
    """A socket of mode 0600 lets nobody else connect (unix(7): write permission)."""
    shared = open_folder(pty)
    shutil.copy(ATTACH, shared)
    pty.shim('-n', './a.sock', 'sleep', '1000', cwd=shared)
    run = pty.run(os.path.join(shared, 'attach'), './a.sock', cwd=shared, **as_user(DAEMON))
    assert (run.returncode, run.stderr) == (255, "attach: ./a.sock: another user's session: no permission\n")


def test_refusal_by_the_shim_is_likely_when_nothing_came(pty, server):
    """The connection closed twice, and no byte: 254, and what that means."""
    process = start_piped(pty, './fake.sock')
    for _ in range(2):
        server.accept().connection.close()
    said = '[./fake.sock: its shim does not let this user in, or the session has ended]\n'
    assert finish(process) == (254, b'', said)


def test_keys_that_were_typed_ahead_do_not_make_it_another_end(pty, server):
    """A session that is just ending is attached to once more, whether a key was hit meanwhile or not."""
    terminal = pty.attach('./fake.sock')
    server.accept()
    terminal.send(b'ls\r')
    server.read(15)
    server.connection.close()
    server.accept().connection.close()
    terminal.wait_output(b'[./fake.sock: its shim does not let this user in, or the session has ended]')


def test_silent_session_whose_shim_is_killed_is_a_lost_connection(pty):
    """It was attached to for longer than a refusal takes."""
    shim = pty.shim('-n', './a.sock', 'sleep', '1000')
    process = start_piped(pty, '-r', './a.sock')
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.3, what='some time')
    kill_all(shim)
    assert finish(process) == (254, b'', '[connection to ./a.sock lost]\n')
