#!/usr/bin/python3
"""Writes demo.svg, the picture of the README: a session that is started, left, and come back to from elsewhere.

    picture.py > tests/demo.svg

All of it is done: somebody types on two terminals, each of which is the terminal of a shim here, so that there is a
recording of it; what stands in a window of the picture is what `record screen` says of that recording.
"""
import glob
import html
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'tour'))
from tools import connect, end_all, end_shim, hello, screen, until  # noqa: E402  pylint: disable=wrong-import-position

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get('PTYME_BUILD', os.path.join(ROOT, 'build')))
ROWS, COLUMNS = 8, 42
WIDE, HIGH, EDGE, GAP = 7.2, 17, 10, 14            # of a character; between a window and its text; between windows
HEAD = 54                                          # the height of what stands over the text
WIDTH, HEIGHT = round(COLUMNS * WIDE + 2 * EDGE), ROWS * HIGH + 2 * EDGE + HEAD
RECORDING = '/home/babbage/work-20261201T090000Z.cast'      # as long as the real one, and the same each time
LEAVE = '\x1c'


class Desk:
    """Somebody at a terminal called `name`, in a shell."""
    def __init__(self, name):
        self.recording, self.name = name + '.cast', name
        run = subprocess.run(['shim', '-s', f'{COLUMNS}x{ROWS}', '-r', self.recording, './' + name, 'bash', '--norc'],
                             env={**os.environ, 'PS1': f'{name}$ '}, check=True, capture_output=True, text=True, timeout=30)
        self.pid = int(re.search(r'pid (\d+)', run.stdout)[1])
        self.keys = connect('./' + name, hello(0, 0))
        self.sees(name + '$')

    def types(self, keys, seen):
        """Types; gives the screen once `seen` is on it."""
        self.keys.sendall(keys.encode())
        return self.sees(seen)

    def sees(self, seen):
        until(lambda: seen in screen(self.recording), seen)
        return screen(self.recording)


def window(left, title, told, text, cursor):
    """A terminal with that text, and a cursor behind the last `cursor` in it."""
    rows = text.rstrip('\n').split('\n')
    cursor_row = max(row for row, line in enumerate(rows) if cursor in line)
    lines = [f'<g transform="translate({left} 0)">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#161b22" stroke="#6e7681"/>',
             f'<text x="{EDGE}" y="21" fill="#f0f6fc" font-weight="bold">{html.escape(title)}</text>',
             f'<text x="{EDGE}" y="41" fill="#9da7b3" class="told">{html.escape(told)}</text>',
             f'<path d="M0 {HEAD}H{WIDTH}" stroke="#6e7681"/>']
    for row, line in enumerate(rows):
        at = HEAD + EDGE + row * HIGH
        if row == cursor_row:
            column = line.index(cursor) + len(cursor)
            lines.append(f'<rect x="{EDGE + column * WIDE:.1f}" y="{at}" width="{WIDE}" height="{HIGH}" fill="#58a6ff"/>')
        if line.strip():
            lines.append(f'<text x="{EDGE}" y="{at + 13}" textLength="{len(line) * WIDE:.1f}" fill="#c9d1d9" '
                         f'xml:space="preserve">{html.escape(line)}</text>')
    return '\n'.join([*lines, '</g>'])


def constant(text):
    """The text with another name of the recording in it, which may go on in the next line."""
    real = glob.glob(os.environ['SHIM_RECORDS'] + '/work-*.cast')[0]
    stands = re.search('\n?'.join(map(re.escape, real)), text)
    name = iter(RECORDING)
    return text[:stands.start()] + ''.join(c if c == '\n' else next(name) for c in stands[0]) + text[stands.end():]


def windows():
    """(title, what is told about it, the screen, what the cursor stands behind) of the three moments."""
    laptop = Desk('laptop')
    try:
        laptop.types('attach work vi notes\r', '"notes"')
        half = 'A program need not die with its'
        shown = laptop.types(f'iNotes\n\n{half}', half)
        yield 'laptop$ attach work vi notes', 'runs vi in a session called work', shown, half
        shown = laptop.types(LEAVE, 'detached from work]\nlaptop$')
        yield 'Ctrl-\\', 'leaves; vi goes on, the text unsaved', constant(shown).rstrip() + ' ', 'laptop$ '
        office = Desk('office')
        try:
            office.types('attach work\r', half)
            shown = office.types('\nterminal.', '\nterminal.')
            yield 'office$ attach work', 'hours later, at another terminal', shown, 'terminal.'
        finally:
            end_shim(office.pid)
    finally:
        subprocess.run(['attach', '-k', 'work'], check=False, capture_output=True, timeout=30)
        end_shim(laptop.pid)
        end_all()


def main():
    with tempfile.TemporaryDirectory(prefix='', dir='/tmp') as folder:
        os.chdir(folder)
        os.mkdir('bin')
        os.symlink('/usr/bin/vim.tiny', 'bin/vi')
        os.environ.update(PATH=f'{folder}/bin:{BUILD}:{os.environ["PATH"]}', SHIM_DIR=folder + '/s', SHIM_RECORDS=folder,
                          HOME=folder, TERM='xterm', LC_ALL='C.UTF-8', VIMINIT='set nocompatible showmode')
        moments = list(windows())
    width, height = (WIDTH + GAP) * len(moments) - GAP + 2, HEIGHT + 2
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width} {height}" width="{width}" height="{height}" '
          'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">')
    print('<!-- Made by tests/picture.py. --><style>.told { font-family: system-ui, sans-serif; }</style>')
    print('<title>A session is started on a laptop, left, and come back to at the office</title>')
    for number, moment in enumerate(moments):
        print(window(number * (WIDTH + GAP), *moment))
    print('</svg>')


if __name__ == '__main__':
    main()
