import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
from harness import Pty  # noqa: E402

# A shell without job control starts background commands with these ignored, and an exec keeps that: what the tests start
# is to have them as from a terminal.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def pty(tmp_path):
    """Starts shims, clients and terminals in a folder of the test's own, and ends them with the test."""
    with_folder = Pty(tmp_path)
    yield with_folder
    with_folder.end()
