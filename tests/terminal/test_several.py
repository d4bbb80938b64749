"""Several real terminals at one session: two tmux panes and an xterm, all of which answer what the program asks. It
gets one answer, the leader's; nothing is left for the next command; the size follows who types (section 3)."""
import os
import re
import subprocess

import pytest

from common import NO_WINDOW, Recording
from harness import ATTACH, PYTHON, Pty, hello, wait_until
from oracles import Xterm
from panes import Pane

ST = rb'(?:\x07|\x1b\\)'
# What asks, what answers, and an example; those that tmux answers, too; those that only xterm does.
BOTH = [(rb'\x1b\[0?c', rb'\x1b\[\?[\d;]+c', b'\x1b[c'), (rb'\x1b\[>0?c', rb'\x1b\[>[\d;]+c', b'\x1b[>c'),
        (rb'\x1b\[5n', rb'\x1b\[0n', b'\x1b[5n'), (rb'\x1b\[6n', rb'\x1b\[\d+;\d+R', b'\x1b[17;17H\x1b[6n'),
        (rb'\x1b\[>0?q', rb'\x1bP>\|[^\x1b]*\x1b\\', b'\x1b[>q')]
XTERMS = [(rb'\x1b\[=0?c', rb'\x1bP!\|\w+\x1b\\', b'\x1b[=c'), (rb'\x1b\[\?6n', rb'\x1b\[\?[\d;]+R', b'\x1b[?6n'),
          (rb'\x1b\[\?(?!6n)\d+n', rb'\x1b\[\?[\d;]+n',
           b'\x1b[?15n\x1b[?25n\x1b[?26n\x1b[?55n\x1b[?56n\x1b[?75n\x1b[?85n'),
          (rb'\x1b\[\??\d+\$p', rb'\x1b\[\??\d+;\d\$y', b'\x1b[4$p\x1b[?7$p\x1b[?2026$p'),
          (rb'\x1b\](?:4;\d+|1\d);\?' + ST, rb'\x1b\](?:4;\d+|1\d);rgb:[\da-f/]+' + ST,
           b'\x1b]4;1;?\x07\x1b]10;?\x1b\\\x1b]11;?\x07\x1b]12;?\x1b\\'),
          (rb'\x1bP\$q[^\x1b]*\x1b\\', rb'\x1bP[01]\$r[^\x1b]*\x1b\\', b'\x1bP$qm\x1b\\\x1bP$qx\x1b\\'),
          (rb'\x1bP\+q[^\x1b]*\x1b\\', rb'\x1bP[01]\+r[^\x1b]*\x1b\\', b'\x1bP+q544e\x1b\\'),
          (rb'\x1b\[1[3-9]t', rb'\x1b\[[3-9];\d+;\d+t', b'\x1b[13t\x1b[14t\x1b[18t\x1b[19t'),
          (rb'\x1b\[2[01]t', rb'\x1b\][lL][^\x1b]*\x1b\\', b'\x1b[20t\x1b[21t'),
          (rb'\x1b\[\?\dm', rb'\x1b\[>\d;?\d*m', b'\x1b[?1m\x1b[?4m'),
          (rb'\x1b\[[12]\$w', rb'\x1bP[12]\$u[^\x1b]*\x1b\\', b'\x1b[1$w\x1b[2$w')]
TELL = hello(0, 0, 4)
OPTIONS = ['-xrm', '*allowWindowOps: true', '-xrm', '*allowTcapOps: true', '-xrm', '*disallowedTcapOps:']
NOISE = rb'\x1b\[[IO]'
ASKS = b''.join(example for _, _, example in BOTH + XTERMS).decode('latin-1')
# (It echoes when it reads what is typed: then it has asked all that it asks at its start. The answer to t_RV would make
# vim ask more.)
ECHO = ''' -c 'call feedkeys(":echo \\"RE\\" . \\"ADY\\"\\r")' '''
# How it is started, what it shows when it has asked, how it is left.
PROGRAMS = {
    'every question': (f"stty raw -echo; printf %s '{ASKS}READY'; IFS= read -rd $'\\1' x; stty sane", b'READY', b'\1'),
    'resize': ('resize', b'LINES', b''),
    'vim': ("vim -u NONE -N -i NONE --cmd 'set t_RV='" + ECHO, b'READY', b':q!\r'),
    'nvim': ('nvim -u NONE -i NONE' + ECHO, b'READY', b':q!\r'),
    "ipython's line editor": (f'{PYTHON} -c "import prompt_toolkit as p; p.prompt(\'In \')"', b'In', b'\r')}


@pytest.fixture(scope='module')
def panes(tmp_path_factory):
    """Two shells in tmux panes of 80x24."""
    pty = Pty(tmp_path_factory.mktemp('panes'))
    yield [Pane(pty) for _ in range(2)]
    pty.end()
    Xterm.end_server()


@pytest.mark.parametrize('name', PROGRAMS)
def test_program_that_asks_gets_one_answer(pty, panes, name):
    """Started twice, by somebody who has no terminal: while the xterm leads, and while a pane does that was typed into.
    What script(1) has logged is all that has reached the program."""
    start, shown, leave = PROGRAMS[name]
    env = {'PATH': os.environ['PATH'], 'HOME': pty.folder, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8', 'PS1': '$ ',
           'SHELL': '/bin/sh'}
    with open(pty.path('start'), 'w', encoding='latin-1') as file:
        file.write(start)
    shim = pty.shim('-s', '80x24', '-r', 'x.cast', './a.sock', 'script', '-qf', '-I', 'typed', '-O', 'printed', '-c',
                    'exec bash --norc --noprofile -i', env=env)
    client = pty.client(pty.path('a.sock'), NO_WINDOW)
    client.read_until(b'$ ')
    for pane in panes:
        pane.command('cd', pty.folder)
        pane.command(ATTACH, './a.sock')
    wait_until(lambda: b'clients: 3' in pty.client(pty.path('a.sock'), TELL).read_all(), what='the panes')
    pty.background('xterm', '-geometry', '90x20', *OPTIONS, '-e', ATTACH, './a.sock', stderr=subprocess.DEVNULL,
                   env={**env, 'DISPLAY': Xterm.start_server()})

    def read(name, seen=0):
        with open(pty.path(name), 'rb') as file:
            return file.read().partition(b'\n')[2][seen:]      # (its first line is script's own)

    def send(data, wanted):
        client.send(data)
        client.read_until(wanted)
        return data
    sent, sizes = b'', []
    for kinds, size in (BOTH + XTERMS, '90x20'), (BOTH, '80x24'):
        if sizes:
            panes[0].type(' ')
            sent += b' '
        sizes.append(size)
        wait_until(lambda: Recording(shim.recording, torn=True).of('r') == sizes, what='the size of the leader')
        begin = len(read('typed')), len(read('printed'))

        def counts():
            typed, printed = read('typed', begin[0]), read('printed', begin[1])         # pylint: disable=W0640
            return [(len(re.findall(asks, printed)), len(re.findall(answers, typed))) for asks, answers, _ in kinds]
        sent += send(b'. ./start\r', shown)
        wait_until(lambda: shown in read('printed', begin[1]), what='the log')                  # pylint: disable=W0640
        wait_until(lambda: all(asked == got for asked, got in counts()), what='the answers')    # pylint: disable=W0640
        sent += send(leave, b'$ ') + send(b'echo $((6 * 7))\r', b'\r42\r\n')
        for pane in panes:
            pane.wait('42')
        assert any(asked for asked, _ in counts()) and all(asked == got for asked, got in counts()), counts()
    typed = re.sub(b'|'.join([answer for _, answer, _ in BOTH + XTERMS] + [NOISE]), b'', read('typed'))
    assert typed == sent and Recording(shim.recording, torn=True).of('r') == sizes
