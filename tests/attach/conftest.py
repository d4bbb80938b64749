"""What the tests of this folder share: a server and a session folder of the test's own; a foreign terminal
(lib/oracles.py)."""
import shutil
import tempfile

import pytest

from attaching import Server
from oracles import Xterm


@pytest.fixture
def server(pty):
    """At ./fake.sock, in the shim's place."""
    one = Server(pty)
    return pty.keep(one, one.close)


@pytest.fixture
def folder(pty, monkeypatch):
    """The session folder of this test, which does not exist yet (pytest's own has too long a path for sockets); its
    recordings go to the test's own folder."""
    above = tempfile.mkdtemp(prefix='names')
    pty.keep(above, lambda: shutil.rmtree(above))
    monkeypatch.setenv('SHIM_DIR', above + '/sessions')
    monkeypatch.setenv('SHIM_RECORDS', pty.path('records'))
    return above + '/sessions'


@pytest.fixture(scope='session')
def xterm():
    terminal = Xterm()
    yield terminal
    terminal.end()
    Xterm.end_server()
