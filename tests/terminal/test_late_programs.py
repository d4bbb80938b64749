"""A client that comes late sees what one who never left sees, in every state of many programs, from then on, and when
the program has been left: a new one, one whose terminal showed something else, one of another size.

Every cell, rendition, cursor, mode, and what stands behind the alternate screen, in xterm (lib/oracles.py): one has
been fed the live bytes from the first one on, the other what the shim sent to one that came late (contract, section 7).
"""
import os
import shlex

import pytest

from driven import PROGRAMS
from late import LEFTOVERS, Session

# What prints all the time, or only lines, is looked at by tests of its own. Those in SUITE are small to install; all of
# them with LATE_PROGRAMS=all (their outputs are in test_differential.py).
FULL_SCREEN = [name for name in PROGRAMS if not name.startswith(('vttest', 'progress', 'bash', 'fish', 'zsh'))]
SUITE = (
    *('vim', 'less', 'htop', 'mc', 'dialog', 'tmux', 'screen', 'nvim', 'tig', 'kak', 'w3m', 'fzf'),
    *('never-redraws', 'alternates', 'regions'))
# Where a window grows on the main screen, xterm and the model have lines that come back from the scrollback otherwise.
OTHERWISE = ('fzf',)


@pytest.mark.parametrize('name', FULL_SCREEN if os.environ.get('LATE_PROGRAMS') == 'all' else SUITE)
def test_late_client_sees_the_same(pty, xterm, name):
    """Three come while the program runs, and stay; another comes with another size, and leaves; then the program is
    left, and the shell's screen is there again for all of them."""
    argv, steps = PROGRAMS[name]
    session, wrong = Session(pty, xterm, flood=30), []
    session.type(b'echo IMPORTANT \xe4\xb8\xad; ' + shlex.join(argv).encode() + b'\r')
    keys = [step for step in steps if isinstance(step, bytes) and step]
    for number, step in enumerate([b'', *keys[:-1]]):
        if step:
            session.type(step)
        if number in (0, 1, len(keys) // 2):
            session.come(steps=[LEFTOVERS] if number else [])
            wrong += [f'at {step!r}: {f}' for f in session.wrong(xterm, session.late[-1])]
        if number == len(keys) // 2 and name not in OTHERWISE:
            other = session.come((30, 100))
            wrong += [f'other size at {step!r}: {f}' for f in session.wrong(xterm, other)]
            session.leave(other)
            session.quiet()
    session.type(keys[-1])
    session.type(b'\x03\r')
    for number, late in enumerate(session.late):
        wrong += [f'{number}, when the program was left: {f}' for f in session.wrong(xterm, late)]
    assert not wrong, '\n'.join(wrong)
