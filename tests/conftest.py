import pytest

from harness import Pty


@pytest.fixture
def pty(tmp_path):
    """Starts shims, clients and terminals in a folder of the test's own, and ends them with the test."""
    with_folder = Pty(tmp_path)
    yield with_folder
    with_folder.end()
