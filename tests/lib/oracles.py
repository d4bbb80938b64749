"""Terminals that nobody here wrote, and what they show: xterm (under Xvfb), libvterm, a tmux pane.

An oracle is fed `steps`, a list of bytes and of (rows, cols), in a terminal that was just switched on, and gives its
*state*: a dict of plain values. Two states are compared by `differences`. The terminal is used up by that: what is
hidden (the screen behind, the saved cursors, the pending wrap) is asked for by going there.

Where the three differ, xterm counts. The cases that are known, each left out of what is asked of the other two:

| sequence | xterm | libvterm 0.1 | tmux 3.3 |
| --- | --- | --- | --- |
| CSI ? 47 h | what was on the alternate screen is there | is cleared | is cleared |
| e U+0301 | composed to U+00E9 in the cell | two characters | two characters |
| CSI 2 m (faint), 8, 53, 58 | known (58 is not) | unknown | known |
"""
import os
import re
import select
import subprocess
import termios
import time
import tty

from pyte import charsets

from harness import ROOT, TIMEOUT, wait_until

PRIVATE = (
    1, 5, 6, 7, 9, 12, 25, 45, 47, 66, 67, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1034, 1035,
    1036, 1039, 1047, 1048, 1049, 2004)
ANSI = (2, 4, 12, 20)
RUNS = re.compile(rb'[\x00-\x7f]+|[\x80-\xff]+')
SEVERAL = re.compile(rb'\x1b\[\?([0-9]+(?:;[0-9]+)+)([hl])')
RESTORED = ('12', '25')  # libvterm's DECRC restores how the cursor looks, too
# What allows a program to make the window 132 columns wide, and what ends UTF-8.
NOT_FED = re.compile(rb'\x1b\[\?4[02]h')
SGR_SHOWN_ON_BLANK = {'4', '7', '9', '21'}


def differences(mine, theirs, ignored=()):
    """What differs between two states, as short sentences; empty when they are the same."""
    out = []
    for key in sorted(set(mine) | set(theirs)):
        a, b = mine.get(key), theirs.get(key)
        if key in ignored or a == b:
            continue
        if isinstance(a, list) and isinstance(b, list) and a and isinstance(a[0], list):
            if len(a) != len(b):
                out.append(f'{key}: {len(a)} rows, should be {len(b)}')
                continue
            wrong = [(y, x, c, d) for y, (p, q) in enumerate(zip(a, b)) for x, (c, d) in enumerate(zip(p, q)) if c != d]
            wrong = wrong or [(y, 'width', len(p), len(q)) for y, (p, q) in enumerate(zip(a, b)) if len(p) != len(q)]
            out.append(f'{key}: {len(wrong)} cells, first {", ".join("%s,%s: %r should be %r" % w for w in wrong[:3])}')
        elif isinstance(a, list) and isinstance(b, list):
            out.append(f'{key}: {[c for c in a if c not in b]!r}, should be {[c for c in b if c not in a]!r}')
        else:
            out.append(f'{key}: {a!r}, should be {b!r}')
    return out


def text_of(rows):
    """Rows of cells as text, trailing blanks off."""
    return [''.join(cell[0] for cell in row).rstrip() for row in rows]


def direct(sgr):
    """xterm tells a direct colour, once it was saved, as an index of eight digits."""
    return re.sub(r'([34]8):5:(\d{4,})', lambda m: '%s:2::%d:%d:%d' % (m[1], *int(m[2]).to_bytes(3, 'big')), sgr)


class Xterm:
    """xterm under Xvfb in its slave mode (-S): it reads the master of a pseudoterminal whose slave is ours.

    The cells are asked for one by one: DECRQCRA gives the character (checksumExtension), XTREPORTSGR the rendition;
    the rest by DECCIR, DECTABSR, DECRQSS and DECRQM."""

    server = None
    # (a reset forgets neither the screen behind nor what the cursors were saved with)
    RESET = (
        b'\x18\x1b[?3;40l\x1bc\x1b[?47h\x1b[0"q\x1b[2J\x1b[!p\x1b7\x1b[?47l\x1b%G\x1b[0"q\x1b[!p\x1bc\x1b7\x1b[3J'
        b'\x1b]2;\x1b\\\x1b]1;\x1b\\')

    def __init__(self):
        self.display, self.pending = self.start_server(), b''
        master, self.tty = os.openpty()
        tty.setraw(self.tty)
        os.set_blocking(self.tty, False)
        resources = (
            'checksumExtension: 55', 'allowWindowOps: true', 'disallowedWindowOps:', 'saveLines: 2000',
            'allowTitleOps: true', 'disallowedColorOps:', 'disallowedTcapOps:', 'titeInhibit: false',
            'boldColors: false')
        argv = [
            'xterm', '-u8', '-geometry', '80x24', '-fn', 'fixed', *(w for r in resources for w in ('-xrm', '*' + r))]
        env = {**os.environ, 'DISPLAY': self.display, 'LC_ALL': 'C.UTF-8'}
        self.process = subprocess.Popen(
            [*argv, f'-S/{master}'], env=env, pass_fds=[master], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(master)
        self.size = (24, 80)
        self.until(b'\n')  # the window's number

    @classmethod
    def start_server(cls):
        if cls.server is None:
            read, write = os.pipe()
            process = subprocess.Popen(
                ['Xvfb', '-displayfd', str(write), '-screen', '0', '4000x3000x24', '-nolisten', 'tcp'],
                pass_fds=[write], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            os.close(write)
            number = b''
            while not number.endswith(b'\n'):
                assert select.select([read], [], [], TIMEOUT * 3)[0], 'Xvfb does not start'
                number += os.read(read, 100)
            os.close(read)
            cls.server = (process, ':' + number.decode().strip())
        return cls.server[1]

    @classmethod
    def end_server(cls):
        if cls.server:
            cls.server[0].kill()
            cls.server[0].wait()
            cls.server = None

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.tty)

    def until(self, wanted, data=b''):
        """Writes `data` and reads until the answers end with `wanted`; gives them back."""
        end, got = time.monotonic() + TIMEOUT * 2, self.pending
        view = memoryview(data)
        while view or not got.endswith(wanted):
            ready = select.select([self.tty], [self.tty] if view else [], [], max(0, end - time.monotonic()))
            assert ready[0] or ready[1], f'xterm does not answer; got {got[-200:]!r}'
            if ready[1]:
                view = view[os.write(self.tty, view[:4096]) :]
            if ready[0]:
                got += self.read()
        self.pending = b''
        return got

    def feed(self, data):
        """Writes; what it answers meanwhile is kept in `answers`."""
        self.until(b'\x1b[0n', data + b'\x18\x1b[5n') if data else None

    def resize(self, rows, cols):
        if (rows, cols) == self.size:
            return
        self.until(b'', b'')
        wanted = b'\x1b[8;%d;%dt' % (rows, cols)
        self.until(b'\x1b[0n', wanted + b'\x1b[5n')
        end = time.monotonic() + TIMEOUT
        while not self.until(b't', b'\x1b[18t').endswith(wanted):
            assert time.monotonic() < end, 'xterm does not take the size'
        self.size = (rows, cols)

    def begin(self, size):
        self.until(b'\x1b[0n', self.RESET + b'\x1b[5n')
        self.resize(*size)
        self.until(b'\x1b[0n', self.RESET + b'\x1b[5n')

    def play(self, steps):
        """Feeds the steps; a size is taken when all before it is drawn. Gives back the answers."""
        answers, run = b'', b''
        for step in [*steps, None]:
            if isinstance(step, bytes):
                run += NOT_FED.sub(b'', step)
                continue
            if step:
                # (xterm reads in order, but the window's size comes by another way: the bytes first. An unfinished
                # sequence is not disturbed, so nothing can be asked: the queue is looked at instead.)
                answers += self.write(run)
                run = b''
                self.resize_quietly(*step)
        answers += self.write(run)
        return answers

    def write(self, data):
        """All of `data` written and taken by xterm."""
        end, got, view = time.monotonic() + TIMEOUT * 3, b'', memoryview(data)
        while view:
            ready = select.select([self.tty], [self.tty], [], max(0, end - time.monotonic()))
            assert ready[0] or ready[1], 'xterm does not read'
            view = view[os.write(self.tty, view[:4096]) :] if ready[1] else view
            got += self.read() if ready[0] else b''
        return got

    def read(self):
        data = os.read(self.tty, 1 << 16)
        assert data, f'xterm is gone: {self.process.wait()}'
        return data

    def resize_quietly(self, rows, cols):
        """A size in the course of the output; the cells that are new are blank whatever the pen is."""
        pen = re.findall(rb'\x1bP1\$r(.*?m)\x1b\\', self.until(b'\x1b[0n', b'\x1bP$qm\x1b\\\x1b[m\x1b[5n'))[-1]
        self.resize(rows, cols)
        self.until(b'\x1b[0n', b'\x1b[' + pen + b'\x1b[5n')

    def state(self, steps, size=(24, 80), probe=b'', deep=True):
        """The state after the steps and the probe."""
        self.begin(size)
        answers = self.play([*steps, probe])
        modes = b''.join(b'\x1b[?%d$p' % n for n in PRIVATE) + b''.join(b'\x1b[%d$p' % n for n in ANSI)
        ask = (
            b'\x1b[1$w\x1b[2$w'
            + b''.join(b'\x1bP$q%s\x1b\\' % w for w in (b'm', b'r', b's', b' q', b'"q', b'"p'))
            + b'\x1b[?1m\x1b[?2m\x1b[?4m\x1b[21t\x1b[?5n'
        )
        said = self.until(b'\x1b[0n', b'\x18' + ask + modes + b'\x1b[5n').replace(b'\x1b[0n', b'')
        told = (answers + said).decode('latin-1')
        asked = {*('?%d' % n for n in PRIVATE), *map(str, ANSI)}
        out = {'mode ' + n: v for n, v in re.findall(r'\x1b\[(\??\d+);(\d)\$y', said.decode('latin-1')) if n in asked}
        for n, key in enumerate(('pen', 'region', 'columns', 'shape', 'protection', 'level')):
            found = re.findall(r'\x1bP([01]\$r.*?)\x1b\\', told)
            out[key] = direct(found[n - 6])
        deccir = re.findall(r'\x1bP1\$u(.*?)\x1b\\', told)
        out['cursor'] = deccir[-1]
        tabs = re.findall(r'\x1bP2\$u(.*?)\x1b\\', told)[-1]
        out['tabs'] = [int(n) for n in tabs.split('/') if n and int(n) < self.size[1]]
        out['titles'] = re.findall(r'\x1b\]([lL].*?)\x1b\\', told)[-1:]
        out['answers'] = answers
        alternate = out['mode ?47'] == '1'
        rows, cols = self.size
        reach = b'\x1b[?69l\x1b[?6l'  # (rectangles are counted from the region's corner in origin mode)
        out['cells'] = self.cells(reach, rows, cols)
        if deep:
            ask = b'\x1b[1$w\x1bP$qm\x1b\\\x1b[5n'
            out['saved'] = direct(self.until(b'\x1b[0n', b'\x1b8' + ask).decode())
            other = self.cells(reach + b'\x1b[?47' + (b'l' if alternate else b'h'), rows, cols)
            if alternate:  # (what an alternate screen had that was left is not kept)
                out['other'] = other
            out['saved on other'] = direct(self.until(b'\x1b[0n', b'\x1b8' + ask).decode())
        return out

    def cells(self, before, rows, cols):
        ask = b''.join(
            b'\x1b[1;1;%d;%d;%d;%d*y\x1b[%d;%d;%d;%d#|' % (y, x, y, x, y, x, y, x)
            for y in range(1, rows + 1)
            for x in range(1, cols + 1))
        said = self.until(b'\x1b[0n', before + ask + b'\x1b[5n').decode('latin-1')
        got = re.findall(r'\x1bP1!~([0-9A-F]{4})\x1b\\\x1b\[([0-9;:]*)m', said)
        assert len(got) == rows * cols, (len(got), rows * cols, said[:200])
        return [[self.cell(*got[y * cols + x]) for x in range(cols)] for y in range(rows)]

    @staticmethod
    def cell(char, sgr):
        char = int(char, 16)
        sgr = direct(sgr)
        text = (
            '<'
            if char == 0xFFFF
            else f'{char:x}'
            if 0xD800 <= char < 0xE000
            else ' '
            if char in (0, 0xA0)
            else chr(char))
        pen = sgr.split(';')[1:]
        if text == ' ' and not SGR_SHOWN_ON_BLANK & set(pen):
            pen = [p for p in pen if re.match(r'4\d|10\d', p)]
        return text, ';'.join(pen)


class Vterm:
    """libvterm in the process tests/programs/vterm.cpp."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @staticmethod
    def build(folder):
        out = os.path.join(folder, 'vterm')
        subprocess.run(
            [
                'c++', '-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-o', out,
                os.path.join(ROOT, 'tests', 'programs', 'vterm.cpp'), '-lvterm'],
            check=True)
        return out

    def end(self):
        self.process.kill()
        self.process.wait()

    def state(self, steps, size=(24, 80), probe=b'', deep=True):
        out = self.dump(steps, size, probe)
        if deep:
            other = b'\x18\x1b[?6l\x1b[?1047l' if out['alternate'] == ['1'] else b'\x18\x1b[?6l'
            rest = self.dump(steps, size, probe + b'\x18\x1b8\x1b[4l' + b'W')
            out['saved'] = (rest['cursor'], rest['pen'])
            if out['alternate'] == ['1']:
                out['other'] = self.dump(steps, size, probe + other)['cells']
            modes = self.dump(steps, size, probe + b'\x18' + b''.join(b'\x1b[?%d$p' % n for n in PRIVATE))['answers'][0]
            out['modes'] = re.findall(r'\x1b\[\?(\d+;\d)\$y', bytes.fromhex(modes).decode('latin-1'))[-len(PRIVATE) :]
            out['modes'] = [m for m in out['modes'] if m[:-2] not in RESTORED]
            for key in ('visible', 'blink', 'shape'):
                del out[key]
            out['wrap'] = self.dump(steps, size, probe + b'\x18W\x1b(0\x0fq\x0eq')['cells']
        return out

    def dump(self, steps, size, probe=b''):
        write = self.process.stdin.write
        write(b'new %d %d\nfeed 2\n\x1b7' % size)  # (what was never saved is not a default)
        for step in [*steps, probe]:
            if isinstance(step, bytes):  # (it decodes a run by its first byte: ASCII and the rest are runs apart)
                # (... and of several modes in one sequence it takes the first)
                step = SEVERAL.sub(lambda m: b''.join(b'\x1b[?' + n + m[2] for n in m[1].split(b';')), step)
                for run in RUNS.findall(step):
                    write(b'feed %d\n' % len(run) + run)
            else:
                write(b'size %d %d\n' % step)
        write(b'dump\n')
        self.process.stdin.flush()
        out = {'cells': [], 'scrolled': []}
        for line in self.process.stdout:
            # (a cursor that was never saved is restored with a colour that is not a default, but looks like it)
            key, _, value = line.decode('utf-8', 'surrogateescape').rstrip('\n').replace('#000000', '-').partition(' ')
            if key == '.':
                break
            if key in ('row', 'scrolled'):
                out['cells' if key == 'row' else key].append(value.split('\t'))
            else:
                out[key] = [value]
        return out


CAPTURED = re.compile('\x1b\\[([0-9;:]*)m|([\x0e\x0f])|(.)')
TMUX_FLAGS = (
    'alternate_on', 'cursor_x', 'cursor_y', 'cursor_flag', 'insert_flag', 'keypad_cursor_flag', 'keypad_flag',
    'mouse_all_flag', 'mouse_button_flag', 'mouse_standard_flag', 'mouse_sgr_flag', 'mouse_utf8_flag', 'origin_flag',
    'wrap_flag', 'scroll_region_lower', 'scroll_region_upper', 'pane_title', 'pane_tabs')


def parse(rows):
    """What capture-pane -e gives, as (character, rendition); without the blanks at the ends of rows, of which tmux
    tells no background. A combining character has an entry of its own."""
    out, pen, lines = [], {}, False
    for row in rows:
        cells = []
        for codes, other, char in CAPTURED.findall(row):
            if other:
                lines = other == '\x0e'
            elif char:
                shown = [
                    code
                    for kind, code in sorted(pen.items())
                    if char != ' ' or kind == 40 or SGR_SHOWN_ON_BLANK & set(pen.values())]
                cells.append((char.translate(charsets.VT100_MAP) if lines else char, ';'.join(shown)))
            else:
                rendition(pen, codes.split(';'))
        while cells and cells[-1][0] == ' ':
            cells.pop()
        out.append(cells)
    return out


def rendition(pen, codes):
    """SGR as tmux writes it: `pen` has an entry for each kind of attribute that is on."""
    while codes:
        code = codes.pop(0)
        number = int(code.split(':')[0] or 0)
        kind = number // 10 * 10 if 30 <= number < 50 else number - number % 10 - 60 if number >= 90 else number
        if number == 0:
            pen.clear()
        elif number in (38, 48, 58) and ':' not in code:
            pen[kind] = ';'.join([code, *(codes.pop(0) for _ in range(2 if codes[0] == '5' else 4))])
        elif number in (39, 49):
            pen.pop(kind, None)
        else:
            pen[kind] = code


class Tmux:
    """Panes of a tmux server of its own. A pane's program does nothing; what is to be shown is written to its terminal
    device, and that tmux has shown it is known from its answer to a question."""

    def __init__(self, folder, history=100000):
        self.folder, self.name = folder, f'oracle-{os.getpid()}-{time.monotonic_ns()}'
        self.env = {
            'PATH': os.environ['PATH'], 'HOME': folder, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8',
            'TMUX_TMPDIR': folder}
        self.run('new-session', '-d', '-x', '80', '-y', '24', '-s', 'keep', 'sleep 1000000')
        self.run(
            'set', '-g', 'status', 'off', ';', 'set', '-g', 'history-limit', str(history), ';', 'set', '-g',
            'remain-on-exit', 'on')
        self.number = 0

    def run(self, *argv):
        done = subprocess.run(
            ['tmux', '-L', self.name, '-f', '/dev/null', *argv], env=self.env, cwd=self.folder, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT * 2)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def end(self):
        subprocess.run(
            ['tmux', '-L', self.name, 'kill-server'], env=self.env, check=False, stdin=subprocess.DEVNULL,
            capture_output=True)

    def pane(self, size):
        self.number += 1
        return TmuxPane(self, f'p{self.number}', size)

    def state(self, steps, size=(24, 80), probe=b'', deep=True):
        pane = self.pane(size)
        try:
            pane.play([*steps, probe])
            return pane.state()
        finally:
            pane.end()


class TmuxPane:
    def __init__(self, server, name, size):
        self.server, self.name = server, name
        # tmux's child sets the terminal up after the command has returned: only what runs then knows that it is raw.
        ready = os.path.join(server.folder, f'{server.name}-{name}')
        idle = f'stty raw -echo; >{ready}; exec sleep 1000000'
        size_options = ('-x', str(size[1]), '-y', str(size[0]))
        said = server.run('new-session', '-d', '-P', '-F', '#{pane_tty}', *size_options, '-s', name, idle)
        wait_until(lambda: os.path.exists(ready), what='the pane')
        self.tty = os.open(said.decode().strip(), os.O_RDWR | os.O_NOCTTY)
        os.set_blocking(self.tty, False)

    def end(self):
        os.close(self.tty)
        self.server.run('kill-session', '-t', self.name)

    def play(self, steps):
        for step in steps:
            if isinstance(step, bytes):
                self.write(step)
            else:
                self.sync()
                self.server.run('resize-window', '-t', self.name, '-x', str(step[1]), '-y', str(step[0]))

    def write(self, data):
        view, end = memoryview(data), time.monotonic() + TIMEOUT * 3
        while view:
            ready = select.select([self.tty], [self.tty], [], max(0, end - time.monotonic()))
            assert ready[0] or ready[1], 'tmux does not read'
            if ready[0]:
                os.read(self.tty, 1 << 16)
            if ready[1]:
                view = view[os.write(self.tty, view[:4096]) :]

    def sync(self):
        """Until tmux has shown all that was written. (What was unfinished is given up.)"""
        termios.tcflush(self.tty, termios.TCIFLUSH)
        self.write(b'\x18\x1b[5n')
        end, got = time.monotonic() + TIMEOUT * 2, b''
        while not got.endswith(b'\x1b[0n'):
            assert select.select([self.tty], [], [], max(0, end - time.monotonic()))[
                0], f'tmux does not answer; {got[-100:]!r}'
            got += os.read(self.tty, 1 << 16)

    def capture(self, *options):
        return (
            self.server.run('capture-pane', '-p', '-t', self.name, *options).decode('utf-8', 'replace').split('\n')[:-1]
        )

    def state(self):
        self.sync()
        said = self.server.run(
            'display-message', '-p', '-t', self.name, '\t'.join(f'#{{{flag}}}' for flag in TMUX_FLAGS)).decode()
        out = dict(zip(TMUX_FLAGS, said.rstrip('\n').split('\t')))
        out['rows'], out['behind'] = parse(self.capture('-e', '-N')), parse(self.capture('-e', '-N', '-a', '-q'))
        return out

    def history(self):
        """The lines that have scrolled off, and the screen, as text."""
        self.sync()
        return self.capture('-S', '-')
