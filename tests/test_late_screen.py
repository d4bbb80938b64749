"""Issue 5, item 1: a client that comes late sees what a client that was always there sees, for nine screen programs."""
import pytest

from late_screen import differences
from late_sessions import BUDGET, COLS, FLOOD_LINES, OTHER_COLS, OTHER_ROWS, PROGRAMS, ROWS, Session, read_quiet, same_screen

# dialog waits for 500 ms without another size change before it draws (its dlg_will_resize), whatever a shim does; so
# where the history does not reach back to its last drawing, a late client sees it after that time.
SLOW = {'dialog': BUDGET * 3}
LEFTOVERS = b'what the user did before\r\n' * 9 + b'$ attach somewhere'


def late_clients(session, budget):
    """Three clients come, one after the other: a new one, one whose terminal shows something else already (it came
    back), one of another size. Gives back what each saw differently: {kind: [sentence]}."""
    wrong = {}
    for kind, size, always in (('new', (ROWS, COLS), session.always), ('back', (ROWS, COLS), session.always),
                               ('other size', (OTHER_ROWS, OTHER_COLS), session.wide)):
        late = session.come(size)
        if kind == 'back':
            late.model.feed(LEFTOVERS)
        found = same_screen(late, always, session.reference, budget)
        if found:
            wrong[kind] = found
        late.close()
        read_quiet(session.reference, late.began + 10)      # nano drops a key that comes together with a size change
    return wrong


def check(session, name, budget=BUDGET):
    wrong = {}
    for state, keys, awaited in PROGRAMS[name][1]:
        session.drive(keys, awaited)
        found = late_clients(session, budget)
        if found:
            wrong[state] = found
    assert not wrong, '\n'.join(f'{name}, {state}, {kind}: {" / ".join(what)}'
                                for state, kinds in wrong.items() for kind, what in kinds.items())


@pytest.mark.parametrize('name', PROGRAMS)
def test_late_client_sees_the_same_after_10_mb_of_output(pty, name):
    """Every cell, the cursor and the modes are equal within 300 ms, though the history does not reach back to the
    beginning of the output (contract, section 7)."""
    check(Session(pty, 'flooded', PROGRAMS[name][0], flood=FLOOD_LINES), name)


@pytest.mark.parametrize('name', [name for name in PROGRAMS if name != 'bash'])
def test_late_client_sees_the_same_though_the_program_began_before_the_history(pty, name):
    """A full-screen program sets its modes once, at its start: when that is not in the tail of the output any more,
    the shim tells them, and the program draws the rest (a shell cannot: it does not know what it printed)."""
    check(Session(pty, 'short', PROGRAMS[name][0], '-H', '1K'), name, SLOW.get(name, BUDGET))


def test_late_client_of_a_fresh_shell_sees_all_of_it(pty):
    """A tail that is longer than the whole output begins at its first byte."""
    session = Session(pty, 'plain', PROGRAMS['bash'][0])
    for _, keys, awaited in PROGRAMS['bash'][1][:3]:
        session.drive(keys, awaited)
        late = session.come()
        assert not same_screen(late, session.always, session.reference)
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
        assert not same_screen(late, session.always, session.reference)
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
            wrong = same_screen(late, session.always, session.reference)
            assert not wrong, (name, wrong)
            late.close()


def test_two_late_clients_of_different_sizes_leave_the_program_at_the_later_size(pty):
    """The size that a redraw set for a moment (one row less) is never set back over a newer one."""
    session = Session(pty, 'race', PROGRAMS['vim.tiny'][0])
    session.drive(*PROGRAMS['vim.tiny'][1][1][1:])
    for rows in range(25, 30):
        same, other = session.come(), session.come((rows, COLS))
        wrong = same_screen(other, other, [same, *session.reference], BUDGET, lambda a, _: rows_used(a, rows))
        assert not wrong, wrong
        other.close()
        wrong = same_screen(same, session.always, session.reference, BUDGET * 3, differences)
        same.close()
        assert not wrong, wrong
        read_quiet(session.reference, same.began + 10)


def rows_used(model, rows):
    """vim's last row has the mode, the one above is text: so it knows how many rows there are."""
    text = model.screen.text().split('\n')
    return [] if '-- INSERT --' in text[rows - 1] and 'line' in text[rows - 2] else ['vim does not fill the screen']
