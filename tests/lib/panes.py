"""A real terminal for the tests: a pane of a tmux server of its own."""
import os
import shlex
import subprocess
import time

from harness import TIMEOUT, children, wait_until

FLAGS = ('alternate_on', 'cursor_flag', 'insert_flag', 'keypad_cursor_flag', 'keypad_flag', 'mouse_any_flag',
         'mouse_all_flag', 'mouse_button_flag', 'mouse_standard_flag', 'mouse_sgr_flag', 'mouse_utf8_flag',
         'origin_flag', 'wrap_flag', 'scroll_region_lower', 'scroll_region_upper')


class Pane:
    """A shell in a tmux pane of 80x24; `-L` and `-f /dev/null` keep it apart from any tmux of the user."""
    def __init__(self, pty, name='late'):
        self.name = f'{name}-{os.getpid()}-{time.monotonic_ns()}'
        self.folder = pty.folder
        env = {'PATH': os.environ['PATH'], 'HOME': pty.folder, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8',
               'TMUX_TMPDIR': pty.folder}
        self.env = env
        self.tmux('new-session', '-d', '-x', '80', '-y', '24', '-s', 'x', "exec env 'PS1=$ ' bash --norc --noprofile")
        self.server = int(self.ask('#{pid}'))
        pty.keep(self, self.end)
        self.tmux('set', '-g', 'status', 'off')
        self.wait('$')

    def tmux(self, *argv):
        run = subprocess.run(['tmux', '-L', self.name, '-f', '/dev/null', *argv], env=self.env, cwd=self.folder,
                             timeout=TIMEOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert run.returncode == 0, (argv, run.stderr)
        return run.stdout

    def ask(self, what):
        return self.tmux('display-message', '-p', what).rstrip('\n')

    def flags(self):
        return dict(zip(FLAGS, self.ask(' '.join(f'#{{{flag}}}' for flag in FLAGS)).split(' ')))

    def cursor(self):
        return tuple(int(n) for n in self.ask('#{cursor_y} #{cursor_x}').split())

    def rows(self):
        return [row.rstrip() for row in self.tmux('capture-pane', '-p').split('\n')[:24]]

    def coloured(self):
        return self.tmux('capture-pane', '-p', '-e')

    def wait(self, text):
        wait_until(lambda: any(text in row for row in self.rows()), what=f'{text!r}')

    def wait_rows(self, true, what):
        wait_until(lambda: true(self.rows()), what=what)

    def type(self, text):
        self.tmux('send-keys', '-l', text)

    def key(self, name):
        self.tmux('send-keys', name)

    def command(self, *argv):
        self.type(shlex.join(map(str, argv)))
        self.key('Enter')

    def shell(self):
        return int(self.ask('#{pane_pid}'))

    def child(self):
        """The pid of what the shell runs now."""
        return wait_until(lambda: children(self.shell()), what='the command')[0]

    def end(self):
        subprocess.run(['tmux', '-L', self.name, 'kill-server'], env=self.env, check=False, timeout=TIMEOUT,
                       stdin=subprocess.DEVNULL, capture_output=True)
