"""A terminal that nobody here wrote, for all tests of this folder (lib/oracles.py)."""
import pytest

from oracles import Xterm


@pytest.fixture(scope='session')
def xterm():
    terminal = Xterm()
    yield terminal
    terminal.end()
    Xterm.end_server()
