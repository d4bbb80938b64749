"""Sessions by name: a name is a Unix-domain socket in a folder of the user's alone (section 1)."""
import os
import shutil
import stat

import pytest

from harness import ATTACH, SHIM
from told import DAEMON, as_user, needs_root, open_folder


@pytest.mark.parametrize('name', ['work', 'a', '0x', '7up', 'me@host', 'a.b-c_d', 'localhost', 'A' * 64, '@'])
def test_name_is_a_socket_in_the_session_folder(pty, folder, name):
    """bind(2) makes the socket; the shim has made the folder with mode 0700, and tells the name."""
    shim = pty.shim('-n', name, 'sh', '-c', 'read line; exit 5')
    assert shim.address == name
    assert stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)
    assert stat.S_IMODE(os.lstat(folder).st_mode) == 0o700
    run = pty.run(ATTACH, name, input='\n')
    assert (run.returncode, run.stderr) == (5, f'[{name} ended with status 5]\n')
    shim.wait_gone()
    assert os.listdir(folder) == []


@pytest.mark.parametrize('program', [SHIM, ATTACH])
@pytest.mark.parametrize('name', ['wo rk', '.work', 'wörk', '', 'a' * 65, 'work:', 'work\n', '[work]', 'a,b'])
def test_what_is_not_a_name_is_a_usage_error_that_tells_what_is(pty, folder, program, name):
    """The message says what may be written; nothing is made."""
    run = pty.run(program, '--', name, 'true')
    assert run.returncode == 2
    assert name.replace('\n', '\\x0a') in run.stderr
    assert "letters, digits, . _ - @" in run.stderr and 'path with a /' in run.stderr
    assert not os.path.exists(folder)


@pytest.mark.parametrize('program', [SHIM, ATTACH])
def test_path_of_a_named_socket_that_is_too_long(pty, monkeypatch, program):
    """sun_path has room for 107 bytes and a NUL: unix(7)."""
    monkeypatch.setenv('SHIM_DIR', pty.path('d' * 100))
    run = pty.run(program, 'work', 'true')
    assert run.returncode == 2 and '107 bytes' in run.stderr


def test_folder_without_sessions_is_not_made_by_attach(pty, folder):
    """attach only looks: a missing folder is a session that is not there."""
    assert pty.run(ATTACH, 'work').returncode == 255
    assert not os.path.exists(folder)


@pytest.mark.parametrize('umask', ['000', '077', '777'])
def test_folder_has_its_mode_whatever_the_umask(pty, folder, umask):
    """mkdir(2) takes the umask's bits away; with 777 the folder was of mode 000, and no session began."""
    run = pty.run('sh', '-c', f'umask {umask}; "$0" -n work sh -c "read x; exit 5"', SHIM)
    assert (run.returncode, run.stderr) == (0, '')
    assert stat.S_IMODE(os.lstat(folder).st_mode) == 0o700
    assert pty.run(ATTACH, 'work', input='\n').returncode == 5


def spoil(folder, how):
    """Makes a session folder that is not to be trusted."""
    if how == 'symbolic link':
        os.mkdir(folder + '.target', 0o700)
        os.symlink(folder + '.target', folder)
    elif how == 'file':
        open(folder, 'w', encoding='ascii').close()
    else:
        os.mkdir(folder, 0o700)
        if how == 'another user':
            os.chown(folder, DAEMON, DAEMON)
        else:
            os.chmod(folder, int(how, 8))


@needs_root
@pytest.mark.parametrize('program, status', [(SHIM, 125), (ATTACH, 255)])
@pytest.mark.parametrize('how, cure', [('symbolic link', 'SHIM_DIR'), ('file', 'SHIM_DIR'),
                                       ('another user', 'SHIM_DIR'), ('0770', 'chmod 700'), ('0701', 'chmod 700')])
def test_folder_that_others_reach_is_refused(pty, folder, program, status, how, cure):
    """Who may write to the folder could put his own socket in the place of ours, and read what is typed."""
    spoil(folder, how)
    run = pty.run(program, 'work', 'true')
    assert run.returncode == status
    assert folder in run.stderr and cure in run.stderr


@needs_root
def test_default_folder_that_another_user_made_first_is_refused(pty):
    """/tmp is everybody's: a folder of the right name proves nothing, its owner does (lstat(2))."""
    shared = open_folder(pty)
    victim, squatter = 40001, 40002
    os.mkdir(f'/tmp/shim-{victim}', 0o700)
    pty.keep(None, lambda: os.rmdir(f'/tmp/shim-{victim}'))
    os.chown(f'/tmp/shim-{victim}', squatter, squatter)
    environment = {k: v for k, v in os.environ.items() if k != 'SHIM_DIR'}
    for program in (SHIM, ATTACH):
        run = pty.run(shutil.copy(program, shared), 'work', 'true', env=environment, cwd=shared, **as_user(victim))
        assert run.returncode in (125, 255)
        assert f'/tmp/shim-{victim} is not a folder of yours' in run.stderr


@pytest.mark.parametrize('folder', ['sessions', './sessions'])
@pytest.mark.parametrize('program, status', [(SHIM, 125), (ATTACH, 255)])
def test_session_folder_is_absolute(pty, monkeypatch, program, status, folder):
    """A relative one would be another folder for each working directory."""
    monkeypatch.setenv('SHIM_DIR', folder)
    run = pty.run(program, 'work', 'true')
    assert run.returncode == status and 'absolute' in run.stderr
    assert os.listdir(pty.folder) == []


def test_session_folder_that_cannot_be_made(pty, monkeypatch):
    """mkdir(2) makes one folder, not those above it: a $SHIM_DIR in nowhere is a mistake."""
    monkeypatch.setenv('SHIM_DIR', pty.path('no/where'))
    run = pty.run(SHIM, 'work', 'true')
    assert run.returncode == 125 and pty.path('no/where') + ': No such file' in run.stderr


