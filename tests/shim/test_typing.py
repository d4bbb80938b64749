"""Bad input (issue 3, item 3): every option, address and size that makes no sense is told in one line, at once, with
the right status, and nothing is started; and no byte of a client can upset the shim."""
import os
import random
import re
import struct

import pytest

from harness import ATTACH, RECORD, SHIM, TIMEOUT, alive, goodbye, hello, wait_until
from told import Told, resident

BAD_SIZES = ['', '80', '80x', 'x24', '80x24x3', '80*24', '-1x24', '80x-1', '80.5x24', ' 80x24', '80x24 ', '0x0', '0x24',
             '80x0', '65536x24', '80x65536', '99999999999999999999x24', '0x50x24', '８０x24', 'widexhigh']
BAD_AMOUNTS = ['', '-1', 'K', '64KB', '64k8', '6 4', ' 64', '1e3', '0x10', '99999999999999999999', '99999999999999999G',
               '64KK', '12Q', '１', 'some', '6.5M']
LONG = '/' + 'a' * 200       # sun_path has room for 108 bytes
BAD_ADDRESSES = [LONG, '', '.hidden', 'a b', 'n' * 65, '65536', '99999999999', '-1', '+80', '80 ', ' 80', ':80', 'localhost:', 'localhost:65536', 'localhost:-1', 'localhost:+1', 'localhost:ssh',
                 'localhost: 80', 'localhost:80x', '[::1]', '[::1]:', '[::1]80', '[::1:80', '::1]:80', '::1:80', '[]:80', '[localhost]x:80', '１２３']


def refused(pty, argv, status, program):
    """Runs it; asserts the status, that one line on standard error names the program and a reason, and that nothing
    else has happened. Gives the line."""
    before = sorted(os.listdir(pty.folder))
    done = pty.run(*argv, timeout=TIMEOUT)
    assert done.returncode == status, (argv, done.returncode, done.stderr)
    assert done.stdout == ''
    assert re.fullmatch(program + r': .*: .+\n', done.stderr), (argv, done.stderr)
    assert sorted(os.listdir(pty.folder)) == before
    return done.stderr


@pytest.mark.parametrize('option', ['-s', '--size'])
def test_shim_refuses_bad_window_sizes(pty, option):
    """COLSxROWS are two numbers from 1 to 65535 (a winsize has 16 bits for each), decimal, and nothing else."""
    for size in BAD_SIZES:
        line = refused(pty, [SHIM, option, size, '0', 'touch', 'started'], 2, 'shim')
        assert size in line


@pytest.mark.parametrize('option', ['-m', '--max-record', '-H', '--history'])
def test_shim_refuses_bad_amounts(pty, option):
    """SIZE is a decimal number and perhaps K, M or G, within 64 bits."""
    for size in BAD_AMOUNTS:
        line = refused(pty, [SHIM, option, size, '0', 'touch', 'started'], 2, 'shim')
        assert size in line


def test_bad_addresses_are_refused(pty):
    """One grammar (section 1): PORT, HOST:PORT, [V6]:PORT, or a path with a slash; one status."""
    for address in BAD_ADDRESSES:
        assert address in refused(pty, [SHIM, '--', address, 'touch', 'started'], 2, 'shim')
        assert address in refused(pty, [ATTACH, '--', address], 2, 'attach')
        refused(pty, [SHIM, '-v', address, '0', 'touch', 'started'], 2, 'shim')


@pytest.mark.parametrize('program, argv', [
    *((SHIM, argv) for argv in (
        [], ['0'], ['--'], ['-n'], ['-x', '0', 'true'], ['--no-such', '0', 'true'], ['-s'], ['-r'], ['--record'], ['-H'], ['-v'],
        ['-m'], ['-nx', '0', 'true'], ['--wait=yes', '0', 'true'], ['--allow-remote=1', '0', 'true'], ['-'])),
    *((ATTACH, argv) for argv in (
        ['--'], ['-x', '0'], ['--no-such', '0'], ['-e'], ['--escape'], ['--quiet=1', '0'], ['-e', '', '0'], ['-k'], ['-p'],
        ['-q'], ['-r'], ['-pR', '1'], ['-e', '^\\^\\', '0'], ['-e', 'word', '0'], ['-e', '^1', '0'], ['-e', 'ä', '0'], ['-']))])
def test_usage_errors(pty, program, argv):
    """Missing operands, unknown options, options without their argument, escape keys that are none: usage, status 2,
    nothing started. (Only attach alone lists: `attach -k` must not seem to have ended anything.)"""
    done = pty.run(program, *argv, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (2, ''), done.stderr
    assert done.stderr.startswith(os.path.basename(program) + ': ') and 0 < len(done.stderr.splitlines()) <= 2
    assert os.listdir(pty.folder) == []


@pytest.mark.parametrize('argv, status', [
    ([LONG, 'touch', 'started'], 2), (['-v', LONG, '0', 'touch', 'started'], 2),
    (['no.such.host.invalid:80', 'touch', 'started'], 125), (['/no/such/folder/sock', 'touch', 'started'], 125),
    (['-r', 'no/such/folder/cast', '0', 'touch', 'started'], 125), (['-r', '', '0', 'touch', 'started'], 2),
    (['-r', '.', '0', 'touch', 'started'], 125), (['0', 'no-such-program'], 127), (['0', './no-such-program'], 127),
    (['0', '/'], 126), (['0', '/etc/passwd'], 126), (['0', ''], 127), (['-w', '0', 'no-such-program'], 127)])
def test_failed_starts_are_told_in_one_line(pty, argv, status):
    """`shim: what: why` on standard error and the status of the contract; no file, socket or process is left."""
    refused(pty, [SHIM, *argv], status, 'shim')


def test_sizes_at_the_border_are_taken(pty):
    """1 and 65535 fit a winsize; 0 amounts are amounts; K, M and G multiply by 1024."""
    for size, seen in (('1x1', '1 1'), ('65535x65535', '65535 65535'), ('080x024', '24 80')):
        told = Told(pty, '-n', '-s', size, '0')
        assert told.tell('size') == seen
        told.shim.stop()
    for option in (['-H', '0'], ['-H', '17179869183G'], ['-H', 'none'], ['-H', 'all'], ['-m', '10G'], ['-m', '1K']):
        told = Told(pty, *option, '-r', option[1] + option[0], '0')
        assert told.tell('size') == '24 80'
        told.shim.stop()


def test_last_of_record_and_no_record_counts(pty):
    """Of -r and -n the last one counts, also when they stand in one word or as long options."""
    assert pty.shim('-n', '-rcast', '0', 'true').recording
    assert not pty.shim('--record=cast2', '--no-record', '0', 'true').recording
    assert sorted(os.listdir(pty.folder)) == ['cast']


def test_attach_to_nobody_is_told(pty):
    """Nobody listens, no such socket, no such name, a file that is no socket: status 255, one line."""
    for address in ('1', '127.0.0.1:1', '[::1]:1', './nobody', 'no.such.host.invalid:1', '/etc/passwd'):
        line = refused(pty, [ATTACH, address], 255, 'attach')
        assert address in line


def test_hello_in_any_state_and_size_is_survived(pty):
    """Sizes of a window are what a client says: one cell, the most that 16 bits hold, none."""
    told = Told(pty, '0')
    client = pty.client(told.shim.address, hello(1, 1))
    for rows, cols in ((65535, 65535), (1, 65535), (65535, 1), (24, 80)):
        client.resize(rows, cols)
        wait_until(lambda r=rows, c=cols: told.tell('size') == f'{r} {c}', what='the size')
    client.send(hello(0, 50) + hello(50, 0) + hello(0, 0))
    assert told.typed_before(pty.client(told.shim.address)) in (b'', hello(0, 50) + hello(50, 0) + hello(0, 0))


def test_random_input_of_many_clients_is_survived(pty):
    """Clients send random bytes with pieces of the protocol among them, whole and torn, and leave: the shim lives, does
    not grow, and ends in order."""
    told = Told(pty, '-i', '0')
    choose, before = random.Random(11), None
    pieces = [b'\xff', b'\xff\xff', b'\xff\xffs', b'\xff\xffss', b'\xff\xffxx\x01', hello(24, 80), hello(9, 9)[:7],
              struct.pack('!2s2s4H', b'\xff\xff', b'ss', 65535, 1, 2, 3), b'GET ', b'\x16\x03\x01', b'\x00\x01', b'x',
              b'\x1b[6n', 'ä'.encode(), b'\xf0\x9f']
    for turn in range(300):
        count = choose.randrange(40)
        data = b''.join(choose.choice(pieces) + choose.randbytes(choose.randrange(9)) for _ in range(count))
        client = pty.client(told.shim.address)
        for start in range(0, len(data), 50):
            try:
                client.send(data[start:start + 50])
            except OSError:
                break
        if turn % 3:
            client.close()
        else:
            client.reset()
        if turn == 100:
            before = resident(told.shim.pid)
    client = pty.client(told.shim.address, hello(24, 80))
    client.send(b'<end>')
    assert told.typed_until(b'<end>').endswith(b'<end>')
    assert resident(told.shim.pid) - before < 1 << 19 and alive(told.shim.pid)
    told.start('exit', 5)
    assert client.read_all().endswith(goodbye(5))
    told.shim.wait_gone()
    done = pty.run(RECORD, 'cat', told.shim.recording, text=False)
    assert done.returncode == 0
