import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
from checkout import SOURCES  # noqa: E402
from harness import BUILD, ROOT, Pty  # noqa: E402

# A shell without job control starts background commands with two of these ignored, nohup(1) the third, and an exec keeps
# that: what the tests start is to have them as from a terminal.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# exec(3) tells EACCES of a folder that may not be searched, though the program stands nowhere: 126, where 127 is awaited.
os.environ['PATH'] = ':'.join(folder for folder in os.environ['PATH'].split(':') if os.access(folder, os.X_OK))


@pytest.fixture
def pty(tmp_path, tmp_path_factory, monkeypatch):
    """Starts shims, clients and terminals in a folder of the test's own, and ends them with the test. Named sessions
    are the test's own too."""
    for variable in ('SHIM_DIR', 'SHIM_RECORDS'):
        monkeypatch.setenv(variable, str(tmp_path_factory.mktemp(variable)))
    with_folder = Pty(tmp_path)
    yield with_folder
    with_folder.end()


@pytest.fixture
def tree(pty):
    """A checkout as a user has it, in the test's folder: the sources, and in build/ the programs under test."""
    for name in ('Makefile', 'README.md', 'tests', *SOURCES):
        os.symlink(os.path.join(ROOT, name), pty.path(name))
    os.symlink(BUILD, pty.path('build'))
    return pty
