"""Terminals of other people, one of each for all tests of this folder (lib/oracles.py)."""
import pytest

from oracles import Tmux, Vterm, Xterm


@pytest.fixture(scope='session')
def xterm():
    terminal = Xterm()
    yield terminal
    terminal.end()
    Xterm.end_server()


@pytest.fixture(scope='session')
def vterm(tmp_path_factory):
    terminal = Vterm(Vterm.build(str(tmp_path_factory.mktemp('vterm'))))
    yield terminal
    terminal.end()


@pytest.fixture(scope='session')
def tmux(tmp_path_factory):
    server = Tmux(str(tmp_path_factory.mktemp('tmux')))
    yield server
    server.end()
