"""200 short programs with each way to end: last byte and status are right each time."""
import os
import signal

import pytest

from common import NO_WINDOW, Recording, program, read_pid
from harness import SHIM, alive, goodbye, wait_until

# What the program does after its go; its status; its output up to there is READY and the echo of the line.
STATUSES = [(f'printf "last {n}"; exit {n}', n) for n in (0, 1, 2, 3, 42, 126, 127, 128, 254, 255)]
SIGNALS = [(f'ulimit -c 0; printf "last {number}"; kill -{number} $$', 128 + number)
           for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL, signal.SIGUSR1,
                          signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM)]
WAYS = [
    *STATUSES, *SIGNALS,
    ('exec true', 0), ('exec false', 1), ('exec sh -c "printf other; exit 9"', 9),
    ('seq 1 3000; exit 7', 7),                      # the end comes while a lot is still in the terminal
    ('printf "\\303"; exit 8', 8),                  # the end comes inside a character
    ('exec <&- >&- 2>&-; exit 6', 6),               # EOF before the exit
    ('stty -opost; printf "a\\nb"; exit 5', 5),
    ('(sleep 0.01; printf child) & exit 4', None),  # a child of the program may print or be too late
    ('trap "printf trapped; exit 11" TERM; kill $$; sleep 5', 11),
    ('printf "last\\n" >/dev/tty; exit 12', 12),
]


def expected_of(script):
    """The exact output where it is simple enough to tell from the script."""
    if script.startswith('printf "last ') or script.startswith('ulimit'):
        return b'last ' + script.split('"')[1].split()[1].encode()
    if script.startswith('seq'):
        return b''.join(b'%d\r\n' % n for n in range(1, 3001))
    return {'exec true': b'', 'exec false': b'', 'printf "\\303"; exit 8': b'\xc3', 'exec <&- >&- 2>&-; exit 6': b'',
            'exec sh -c "printf other; exit 9"': b'other', 'stty -opost; printf "a\\nb"; exit 5': b'a\nb',
            'trap "printf trapped; exit 11" TERM; kill $$; sleep 5': b'trapped',
            'printf "last\\n" >/dev/tty; exit 12': b'last\r\n'}.get(script)


@pytest.mark.parametrize('turn', range(3))
def test_clients_and_recording_hold_the_last_byte(pty, turn):
    """A raw client, an aware one and the recording: the same bytes to the last, and the right status."""
    def begun(number, script):
        shim = pty.shim('-wr', f'{turn}-{number}.cast', '0', 'sh', '-c', 'stty -echo; echo READY; read go; ' + script)
        raw, aware = pty.client(shim.address), pty.client(shim.address, NO_WINDOW)
        return shim, raw, aware, aware.read_until(b'READY\r\n')
    all_begun = [begun(number, script) for number, (script, _) in enumerate(WAYS)]
    for (script, status), (shim, raw, aware, head) in zip(WAYS, all_begun):
        aware.send(b'go\n')
        seen = aware.read_all()
        assert seen[-5:-1] == goodbye(0)[:4], (script, seen[-50:])
        output = seen[:-5]
        assert raw.read_all() == head + output, script
        shim.wait_gone()
        recording = Recording(shim.recording)
        assert recording.output == head + output, script
        assert recording.events[-1][1:] == ('x', str(seen[-1])), script
        if status is not None:
            assert seen[-1] == status, script
        if expected_of(script) is not None:
            assert output == expected_of(script), script


@pytest.mark.parametrize('turn', range(3))
def test_program_that_ends_at_once_is_seen_whole(pty, turn):
    """With --wait the program may be gone before the shim has looked twice: nothing is lost by its speed."""
    for number, (script, status) in enumerate(WAYS):
        shim = pty.shim('-r', f'{turn}-{number}.cast', '-w', '0', 'sh', '-c', script)
        seen = pty.client(shim.address, NO_WINDOW).read_all()
        shim.wait_gone()
        recording = Recording(shim.recording)
        assert seen == recording.output + goodbye(int(recording.of('x')[0])), script
        if status is not None:
            assert seen[-1] == status, script
        if expected_of(script) is not None:
            assert seen[:-5] == expected_of(script), script


@pytest.mark.parametrize('mode', ['quiet', 'loud'])
def test_grandchild_that_keeps_the_slave_changes_nothing(pty, mode):
    """The program's exit is the end, with its last byte and status, while a grandchild holds the slave or prints."""
    for number in range(10):
        shim = pty.shim('-r', f'{number}.cast', '-w', '0', *program('holder.py', mode, 20 + number))
        seen = pty.client(shim.address, NO_WINDOW).read_all()
        shim.wait_gone()
        grandchild = read_pid(seen)
        if mode == 'quiet':
            assert alive(grandchild), 'the grandchild did not hold the slave'
            os.kill(grandchild, signal.SIGKILL)
        wait_until(lambda: not alive(grandchild), what='the end of the grandchild')     # pylint: disable=W0640
        assert b'last' in seen and seen.endswith(goodbye(20 + number))
        assert mode == 'loud' or seen.endswith(b'last' + goodbye(20 + number))
        assert Recording(shim.recording).output == seen[:-5]


def test_foreground_has_each_status(pty):
    """--foreground: the shim ends as the program did, by its status or its signal, and the recording says the same."""
    for number, (script, status) in enumerate(WAYS):
        run = pty.run(SHIM, '-f', '-r', f'{number}.cast', '0', 'sh', '-c', script, text=False)
        recording = Recording(pty.path(f'{number}.cast'))
        ended = run.returncode if run.returncode >= 0 else 128 - run.returncode
        assert (recording.output, recording.of('x')) == (run.stdout, [str(ended)]), script
        assert status is None or ended == status, script
