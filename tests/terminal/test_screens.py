"""Issue 5, item 1: a client that comes late sees what a client that was always there sees, for nine screen programs."""
import pytest

from screens import differences
from sessions import (BUDGET, COLS, FLOOD_LINES, OTHER_COLS, OTHER_ROWS, PROGRAMS, ROWS, Session, read_quiet,
                           same_screen)

# dialog waits for 500 ms without another size change before it draws (its dlg_will_resize), whatever a shim does; so
# where the history does not reach back to its last drawing, a late client sees it after that time.
SLOW = {'dialog': BUDGET * 3}
LEFTOVERS = b'what the user did before\r\n' * 9 + b'$ attach somewhere'


KINDS = {'new': (ROWS, COLS), 'back': (ROWS, COLS), 'other size': (OTHER_ROWS, OTHER_COLS)}


def late_client(session, name, kind, budget):
    """A client comes: a new one, one whose terminal shows something else already (it came back), or one of another
    size. Gives back what it sees differently, as a list of sentences.

    Who was always there and has the other size now is somebody who has just made the window larger; but what a shell
    printed, and a dialog before it draws anew, are as wide as they are: there it is somebody whose window was larger
    all the time."""
    other, drawn_anew = kind == 'other size', name not in ('bash', 'dialog')
    if other and drawn_anew:
        session.always.mirrors.append(session.always.model.resized(*KINDS[kind]))
    late = session.come(KINDS[kind])
    if kind == 'back':
        late.model.feed(LEFTOVERS)
    if other and not drawn_anew:                        # (in a window that is resized the scroll region ends)
        wrong = same_screen(late, lambda: session.wide.model, session.reference, budget, ('margins',))
    else:
        always = session.always
        wrong = same_screen(late, lambda: (always.mirrors or [always.model])[0], session.reference, budget)
    session.always.mirrors.clear()
    late.close()
    read_quiet(session.reference, late.began + 10)      # nano drops a key that comes together with a size change
    return wrong


def check(session, name, kinds=tuple(KINDS), budget=BUDGET, states=slice(None)):
    wrong, checked = [], PROGRAMS[name][1][states]
    for state in PROGRAMS[name][1]:
        session.drive(*state[1:])
        for kind in kinds if state in checked else ():
            if kind == 'back' and state != checked[0]:
                continue                                # once is enough: what follows is the same as for a new one
            found = late_client(session, name, kind, budget)
            if found:
                wrong.append(f'{name}, {state[0]}, {kind}: {" / ".join(found)}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('name', PROGRAMS)
def test_late_client_sees_the_same_after_10_mb_of_output(pty, name):
    """Every cell, the cursor and the modes are equal within 300 ms, though the history does not reach back to the
    beginning of the output (contract, section 7)."""
    check(Session(pty, 'flooded', PROGRAMS[name][0], flood=FLOOD_LINES), name)


@pytest.mark.parametrize('name', [name for name in PROGRAMS if name != 'bash'])
def test_late_client_sees_the_same_though_the_program_began_before_the_history(pty, name):
    """A full-screen program sets its modes once, at its start: when that is not in the tail of the output any more,
    the shim tells them, and the program draws the rest (a shell cannot: it does not know what it printed)."""
    check(Session(pty, 'short', PROGRAMS[name][0], '-H', '1K'), name, ('new', 'other size'), SLOW.get(name, BUDGET),
          slice(0, None, len(PROGRAMS[name][1]) - 1))         # the first and the last state


def test_late_client_of_a_fresh_shell_sees_all_of_it(pty):
    """A tail that is longer than the whole output begins at its first byte."""
    session = Session(pty, 'plain', PROGRAMS['bash'][0])
    for _, keys, awaited in PROGRAMS['bash'][1][:3]:
        session.drive(keys, awaited)
        late = session.come()
        assert not same_screen(late, lambda: session.always.model, session.reference)
        late.close()


def test_same_size_attach_leaves_the_others_screens_as_they_were(pty):
    """The redraw for a late client is a redraw of the same picture: nobody's screen is changed by it, nor is the
    cursor of a half-typed command."""
    session = Session(pty, 'undisturbed', PROGRAMS['less'][0])
    session.drive(*PROGRAMS['less'][1][0][1:])
    for _, keys, awaited in PROGRAMS['less'][1][1:3]:       # (SIGWINCH makes less give up a half-typed prompt)
        session.drive(keys, awaited)
        before = session.always.model.screen.cells(), session.always.model.screen.state()
        late = session.come()
        assert not same_screen(late, lambda: session.always.model, session.reference)
        late.close()
        assert (session.always.model.screen.cells(), session.always.model.screen.state()) == before


def test_ten_clients_at_once_all_see_the_same(pty):
    """Redraws for several late clients at once end in one picture, of one size, for all of them."""
    session = Session(pty, 'ten', PROGRAMS['vim.tiny'][0], '-H', '1K')
    session.drive(*PROGRAMS['vim.tiny'][1][0][1:])
    late = [session.come() for _ in range(10)]
    read_quiet([*session.reference, *late], late[-1].began + BUDGET)
    for one in late:
        assert not differences(one.model, session.always.model), differences(one.model, session.always.model)


def test_session_without_history_still_gets_modes_and_redraw(pty):
    """`--history none`: no old bytes, but the modes and the program's own redraw make the screen complete."""
    for name in ('vim.tiny', 'htop'):
        session = Session(pty, name, PROGRAMS[name][0], '-H', 'none')
        for _, keys, awaited in PROGRAMS[name][1][:2]:
            session.drive(keys, awaited)
            late = session.come()
            wrong = same_screen(late, lambda: session.always.model, session.reference)
            assert not wrong, (name, wrong)
            late.close()


@pytest.mark.parametrize('name', ['bash', 'vim.tiny', 'mc'])
def test_late_client_with_all_history_sees_the_same(pty, name):
    """`--history all`: the whole session, written by `record`, ends in the same screen and the same modes."""
    session = Session(pty, 'all', PROGRAMS[name][0], '-H', 'all')
    for _, keys, awaited in PROGRAMS[name][1]:
        session.drive(keys, awaited)
    for kind in KINDS if name != 'bash' else ('new',):      # (a fresh shell fills no screen that shows something else)
        wrong = late_client(session, name, kind, BUDGET)
        assert not wrong, (kind, wrong)


def test_two_late_clients_of_different_sizes_leave_the_program_at_the_later_size(pty):
    """The size that a redraw set for a moment (one row less) is never set back over a newer one, and no program
    forgets a size for having been told another just before: vim draws one line of text a row, to the last but one."""
    session = Session(pty, 'race', PROGRAMS['vim.tiny'][0])
    session.drive(*PROGRAMS['vim.tiny'][1][1][1:])
    for rows in range(25, 30):
        same, other = session.come(), session.come((rows, COLS))
        while 'line' not in other.model.screen.text().split('\n')[rows - 2]:
            assert read_quiet([same, other, *session.reference], other.began + 2), other.model.screen.text()
        other.close()
        wrong = same_screen(same, lambda: session.always.model, session.reference, BUDGET * 3)
        same.close()
        assert not wrong, wrong
        read_quiet(session.reference, same.began + 10)
