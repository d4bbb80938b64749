"""Issue 5, item 4: the user's terminal is as it was after every way out of attach; in a tmux pane and with a model."""
import os
import pathlib
import signal
import time

import pytest
from pyte import charsets

from common import program
from driven import PROGRAMS
from harness import ATTACH, alive, children, wait_until
from late import Session
from oracles import text_of
from panes import Pane
from screens import Model

WAYS = ['detach', 'exit', 'lost', 'SIGTERM', 'SIGHUP', 'SIGINT']
STATUS = {'detach': 0, 'exit': 3, 'lost': 254, 'SIGTERM': 143, 'SIGHUP': 129, 'SIGINT': 130}


def leave(way, shim, attach_pid, type_key):
    """Makes attach end: by its key, by the program's end, by the shim's sudden death, by a signal."""
    if way == 'detach':
        type_key(b'\x1c')
    elif way == 'exit':
        type_key(b'x')
    elif way == 'lost':
        program = children(shim.pid)
        os.kill(shim.pid, signal.SIGKILL)
        for pid in program:
            os.kill(pid, signal.SIGKILL)
    else:
        os.kill(attach_pid, getattr(signal, way))


@pytest.mark.parametrize('where', ['screen', 'main'])
@pytest.mark.parametrize('way', WAYS)
def test_terminal_is_as_it_was_after(pty, way, where):
    """A model and termios: modes, colours, character sets, and what stty -g says are as before; what the user saw is
    there again (alternate screen) or still there (main screen); the message stands on a line of its own."""
    shim = pty.shim(pty.path('sock'), *program('painter.py', where))
    script = ('printf "before 1\\nbefore 2\\n"; stty -g > one; echo $$ > pid; "$0" "$1"; s=$?; '
              'stty -g > two; printf "[status %d]" $s; read x')
    terminal = pty.terminal('sh', '-c', script, ATTACH, './sock')
    model = Model()
    show(terminal, model, lambda: 'READY' in model.screen.text())
    attach = children(int(pathlib.Path(pty.path('pid')).read_text()))[0]
    leave(way, shim, attach, terminal.send)
    show(terminal, model, lambda: '[status' in model.screen.text())
    text = [row for row in model.screen.text().split('\n') if row]
    assert f'[status {STATUS[way]}]' == text[-1], text
    one, two = (pathlib.Path(pty.path(name)).read_text() for name in ('one', 'two'))
    assert one == two, 'termios is not as it was'
    if where == 'screen':
        assert text[:2] == ['before 1', 'before 2'] and not any('READY' in row for row in text)
    else:
        assert 'READY' in model.screen.text(), 'the program\'s text is overwritten'
    fresh = Model().screen.state()
    state = model.screen.state()
    wrong = {key: (state[key], fresh[key]) for key in fresh if key != 'cursor' and state[key] != fresh[key]}
    assert not wrong, wrong
    if way in ('detach', 'exit', 'lost'):
        message = {'detach': '[detached from ./sock]', 'exit': '[./sock ended with status 3]',
                   'lost': '[connection to ./sock lost]'}[way]
        assert message in text, 'the message does not stand alone'


def show(terminal, model, true):
    """Reads the terminal into the model until `true()`. What attach asks it last is answered."""
    seen = getattr(model, 'seen', 0)
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, model.screen.text()
        terminal.feed()
        if b'\x1b[5n' in terminal.output[seen:]:
            terminal.send(b'\x1b[0n')
        model.feed(terminal.output[seen:])
        seen = model.seen = len(terminal.output)


@pytest.mark.parametrize('way', WAYS)
def test_tmux_pane_is_as_it_was_after(pty, way):
    """In a real terminal: alternate screen, cursor, mouse, keys, keypad, scroll region, wrapping and what stood on
    the screen, and the next command finds a normal prompt."""
    pane = Pane(pty)
    pane.command('echo', 'before')
    pane.wait_rows(lambda rows: rows.count('before') == 1, 'the echo')
    before = pane.flags()
    shim = pty.shim(pty.path('sock'), *program('painter.py', 'screen'))
    pane.command(ATTACH, shim.address)
    pane.wait('READY')
    painted = pane.flags()
    assert painted['alternate_on'] == '1' and painted['cursor_flag'] == '0' and painted['mouse_any_flag'] == '1'
    leave(way, shim, pane.child(), lambda key: pane.type('x') if key == b'x' else pane.key('C-\\'))
    pane.wait_rows(lambda rows: [r for r in rows if r][-1] == '$', 'the prompt')      # (what is typed before is lost)
    pane.type('echo status $?')
    pane.key('Enter')
    pane.wait(f'status {STATUS[way]}')
    pane.wait_rows(lambda rows: [r for r in rows if r][-1] == '$', 'the prompt')
    assert pane.flags() == before
    rows = pane.rows()
    assert 'before' in rows and not any('READY' in row for row in rows)
    last = max(i for i, row in enumerate(rows) if row)
    assert (rows[last], pane.cursor()) == ('$', (last, 2))
    assert '\x1b[' not in pane.coloured().replace('\x1b[39m', '').replace('\x1b[0m', ''), 'colours are left'


@pytest.mark.parametrize('name', ['bash', 'vim', 'less', 'top', 'htop', 'nano', 'mc', 'dialog'])
def test_program_is_detached_from_and_come_back_to_in_a_tmux_pane(pty, vterm, name):
    """The whole way with the real client and a real terminal: come, leave, be back where one was, come again; the
    pane shows each time what a client that was always there sees."""
    argv, keys = PROGRAMS[name]
    session = Session(pty, vterm, argv=argv, name=name)
    for key in keys[:2]:
        session.type(key)
    pane = Pane(pty)
    pane.command('echo', 'before')
    pane.wait('before')
    flags = pane.flags()
    for _ in range(2):
        pane.command(ATTACH, '-q', session.shim.address)
        pane_shows(pane, session)
        pane.key('C-\\')
        pane.wait_rows(lambda rows: [r for r in rows if r][-1] == '$', 'the prompt')    # (typed before it is lost)
        pane.command('echo', 'back')
        pane.wait_rows(lambda rows: 'back' in rows and [r for r in rows if r][-1] == '$', 'the prompt')
        assert pane.flags() == flags
        pane.command('clear')
        pane.wait_rows(lambda rows: [r for r in rows if r] == ['$'], 'the prompt alone')


def plain(rows):
    """capture-pane writes line drawing as the letters of the VT100's set; libvterm a `<` behind a wide character."""
    letters = {ord(char): chr(i) for i, char in enumerate(charsets.VT100_MAP) if i > 0x5e}
    return [row.translate({**letters, ord('<'): None}) for row in rows]


def pane_shows(pane, session):
    """Waits until the pane has the rows and the cursor of the client that was always there."""
    def wrong():
        session.quiet()
        state = session.always.state(session.oracle, deep=False)
        want = plain(text_of(state['cells'])), *state['cursor'], *state['alternate']
        row, column = pane.cursor()
        got = plain(pane.rows()), f'{row},{min(column, 79)}', pane.flags()['alternate_on']    # (80: a wrap is pending)
        return [(a, b) for a, b in zip((*got[0], *got[1:]), (*want[0], *want[1:])) if a != b]
    try:
        wait_until(lambda: not wrong(), 3)
    except AssertionError:
        raise AssertionError(f'the pane has, and should have: {wrong()}') from None


def test_terminal_with_mouse_of_its_own_keeps_what_was_on_before(pty):
    """A pane in which the user's shell has bracketed paste on (bash has, at its prompt) works as before: pasted text
    arrives as text, not as commands."""
    pane = Pane(pty)
    shim = pty.shim(pty.path('sock'), *program('painter.py', 'screen'))
    pane.command(ATTACH, '-q', shim.address)
    pane.wait('READY')
    pane.key('C-\\')
    pane.wait_rows(lambda rows: [r for r in rows if r][-1] == '$', 'the prompt')
    pane.tmux('set-buffer', 'echo pasted\necho twice\n')
    pane.tmux('paste-buffer', '-p')
    pane.wait('echo twice')
    assert 'pasted' not in pane.rows() and 'twice' not in pane.rows()
    pane.key('Enter')
    pane.wait_rows(lambda rows: 'pasted' in rows and 'twice' in rows, 'the output')
    assert alive(shim.pid)
