"""A model of the terminal for the tests of issue 5: pyte's screen with a parser of its own.

Debian's pyte (0.8.0) knows neither the alternate screen nor device control strings, takes `CSI > 4 m` for an
underline, drops lines wrongly in DL, and ignores the line-drawing set in UTF-8 mode. What full-screen programs send,
and what a late client must be told, is modelled here after xterm's ctlseqs and the VT510 manual.
"""
import codecs
import copy
import functools
import re

import pyte
from pyte import charsets, modes
from pyte.screens import Char, Margins

CSI = re.compile(r'\x1b\[([^@-~\x18\x1a\x1b]*)(?:([@-~\x18\x1a])|(?=\x1b))')
CSI_BODY = re.compile(r'([<=>?]?)([0-9:;]*)([ -/]*)')
STRING = re.compile(r'\x1b(?:(\])([^\x07\x1b\x18\x1a]*)|([PX^_])([^\x1b\x18\x1a]*))'
                    r'(?:\x07|\x1b\\|\x18|\x1a|(?=\x1b[^\\]))')
ESCAPE = re.compile(r'\x1b([ -/]*)([0-~])')
UNFINISHED = re.compile(r'\x1b(?:\[[^@-~\x18\x1a\x1b]*|'
                        r'\][^\x07\x1b\x18\x1a]*\x1b?|[PX^_][^\x1b\x18\x1a]*\x1b?|[ -/]*)$')
TEXT = re.compile(r'[^\x00-\x1f\x7f-\x9f]+')
CONTROL = re.compile(r'[\x00-\x1f\x7f]')
EIGHT_BIT = {0x80 + i: '\x1b' + chr(0x40 + i) for i in range(32)}     # C1 controls (in UTF-8) are ESC and a letter
ALTERNATE = (47, 1047, 1049)
TRACKING = {9, 1000, 1002, 1003}


@functools.lru_cache(1 << 14)
def cell(pen, char):
    """One cell; there are few different ones, and making them is what costs time here."""
    return pen._replace(data=char)


@functools.lru_cache(1 << 10)
def blank_cell(background):
    return Char(' ', bg=background)


class Screen(pyte.Screen):
    """pyte's screen, with two buffers, one saved cursor each, line drawing, and every mode kept by number."""
    def reset(self):
        super().reset()
        self.private = {7, 25}                  # DECAWM and DECTCEM are on in a terminal that was just switched on
        self.ansi, self.keypad, self.cursor_style = {12}, False, 0   # SRM: the terminal itself echoes nothing
        self.main, self.saved = None, {}        # the main buffer while the alternate one is shown; DECSC's memory
        self.g = ['B'] * 4
        self.title, self.last = '', ' '

    @property
    def alternate(self):
        return self.main is not None

    # text
    def draw(self, data):
        if self.g[self.charset] == '0':
            data = data.translate(charsets.VT100_MAP)
        self.last = data[-1]
        if modes.IRM in self.mode or not data.isascii():
            return super().draw(data)
        while data:                             # the fast path: a line's worth at a time, one column a character
            if self.cursor.x >= self.columns:
                if 7 in self.private:
                    self.cursor.x = 0
                    self.index()
                else:
                    self.cursor.x = self.columns - 1
            part, data = data[:self.columns - self.cursor.x], data[self.columns - self.cursor.x:]
            line, attrs, x = self.buffer[self.cursor.y], self.cursor.attrs, self.cursor.x
            for i, char in enumerate(part, x):
                line[i] = cell(attrs, char)
            self.cursor.x = x + len(part)
            if 7 not in self.private and data:
                self.cursor.x, data = self.columns - 1, data[-1]
        return None

    # erasing leaves blanks that have the background colour and nothing else
    def blank(self):
        return blank_cell(self.cursor.attrs.bg)

    def erase_in_line(self, how=0, private=False):
        first, last = {0: (self.cursor.x, self.columns), 1: (0, self.cursor.x + 1)}.get(how, (0, self.columns))
        columns = range(min(first, self.columns - 1), min(last, self.columns))
        self.buffer[self.cursor.y].update(dict.fromkeys(columns, self.blank()))

    def erase_in_display(self, how=0, private=False):
        if how == 3:                            # only what has scrolled away
            return
        rows = {0: range(self.cursor.y + 1, self.lines), 1: range(self.cursor.y)}.get(how, range(self.lines))
        for y in rows:
            self.buffer[y].update(dict.fromkeys(range(self.columns), self.blank()))
        if how in (0, 1):
            self.erase_in_line(how)

    def erase_characters(self, count=None):
        columns = range(self.cursor.x, min(self.cursor.x + (count or 1), self.columns))
        self.buffer[self.cursor.y].update(dict.fromkeys(columns, self.blank()))

    def shift_rows(self, top, bottom, count):
        """Rows [top, bottom] go up by `count` (down if it is negative); what comes in is blank."""
        rows = [self.buffer.pop(y, None) for y in range(top, bottom + 1)]
        for i, _ in enumerate(rows):
            from_row = i + count
            if 0 <= from_row < len(rows):
                if rows[from_row] is not None:
                    self.buffer[top + i] = rows[from_row]
            elif self.cursor.attrs.bg != 'default':
                self.buffer[top + i].update(dict.fromkeys(range(self.columns), self.blank()))

    def edges(self):
        return self.margins or Margins(0, self.lines - 1)

    def insert_lines(self, count=None):
        top, bottom = self.edges()
        if top <= self.cursor.y <= bottom:
            self.shift_rows(self.cursor.y, bottom, -(count or 1))
            self.carriage_return()

    def delete_lines(self, count=None):
        top, bottom = self.edges()
        if top <= self.cursor.y <= bottom:
            self.shift_rows(self.cursor.y, bottom, count or 1)
            self.carriage_return()

    def index(self):
        top, bottom = self.edges()
        if self.cursor.y == bottom:
            self.shift_rows(top, bottom, 1)
        else:
            self.cursor.y = min(self.cursor.y + 1, self.lines - 1)

    def reverse_index(self):
        top, bottom = self.edges()
        if self.cursor.y == top:
            self.shift_rows(top, bottom, -1)
        else:
            self.cursor.y = max(self.cursor.y - 1, 0)

    def set_margins(self, top=None, bottom=None):
        top, bottom = (top or 1) - 1, min(bottom or self.lines, self.lines) - 1
        if top < bottom:
            self.margins = None if (top, bottom) == (0, self.lines - 1) else Margins(top, bottom)
            self.cursor_position()

    def resize(self, lines=None, columns=None):
        """Rows are lost at the bottom unless the cursor is there (xterm's way); nothing is wrapped anew."""
        lines, columns = lines or self.lines, columns or self.columns
        if (lines, columns) == (self.lines, self.columns):
            return
        self.margins = None
        lost = max(0, self.cursor.y - lines + 1)
        if lost:
            self.shift_rows(0, self.lines - 1, lost)
            self.cursor.y -= lost
        for y in list(self.buffer):
            if y >= lines:
                del self.buffer[y]
            else:
                for x in range(columns, self.columns):
                    self.buffer[y].pop(x, None)
        self.lines, self.columns = lines, columns
        self.tabstops = set(range(8, columns, 8))
        self.cursor.x = min(self.cursor.x, columns - 1)

    # cursor
    def save_cursor(self):
        self.saved[self.alternate] = (copy.copy(self.cursor), list(self.g), self.charset)

    def restore_cursor(self):
        cursor, self.g, self.charset = self.saved.get(self.alternate) or (pyte.screens.Cursor(0, 0), ['B'] * 4, 0)
        hidden, self.cursor, self.g = self.cursor.hidden, copy.copy(cursor), list(self.g)
        self.cursor.hidden = hidden
        self.cursor.x, self.cursor.y = min(self.cursor.x, self.columns), min(self.cursor.y, self.lines - 1)

    def select_graphic_rendition(self, *attrs):
        """pyte makes bright colours bold; here they are colours 8 to 15, as in xterm."""
        out, skip = [], 0
        for i, attr in enumerate(attrs):
            if skip:
                skip -= 1
            elif attr in (38, 48):
                skip = {5: 2, 2: 4}.get(attrs[i + 1] if i + 1 < len(attrs) else 0, 0)
            elif 90 <= attr <= 97 or 100 <= attr <= 107:
                out += [38 if attr < 98 else 48, 5, 8 + attr % 10]
                continue
            out.append(attr)
        super().select_graphic_rendition(*out)

    # modes
    def change_private(self, mode, on):
        if mode in ALTERNATE:
            return self.switch(mode, on)
        if mode == 1048:
            return self.save_cursor() if on else self.restore_cursor()
        if mode in TRACKING:                    # xterm has one of them at a time, and a reset of any is the end of it
            self.private -= TRACKING
        (self.private.add if on and mode else self.private.discard)(mode)
        if mode in (6, 7, 25):
            (super().set_mode if on else super().reset_mode)(mode, private=True)
        return None

    def switch(self, mode, on):
        """xterm: 1049 saves the cursor on the way in and restores it on the way out, wherever one is already."""
        self.private -= set(ALTERNATE)
        if on and mode == 1049:
            self.save_cursor()
        if on and not self.alternate:
            self.main, self.buffer = self.buffer, type(self.buffer)(self.buffer.default_factory)
        elif on and mode == 1049:
            self.erase_in_display(2)
        elif not on and self.alternate:
            self.buffer, self.main = self.main, None
        if not on and mode == 1049:
            self.restore_cursor()

    def change_ansi(self, mode, on):
        (self.ansi.add if on else self.ansi.discard)(mode)
        (super().set_mode if on else super().reset_mode)(mode)

    def soft_reset(self):
        """DECSTR, as the VT510 manual lists it."""
        self.private = (self.private - {1, 6}) | {25}
        super().set_mode(25, private=True)
        super().reset_mode(6, private=True)
        super().reset_mode(4)
        self.ansi.discard(4)
        self.keypad, self.margins, self.g, self.charset = False, None, ['B'] * 4, 0
        self.cursor.attrs = self.default_char
        self.saved.pop(self.alternate, None)

    # what is compared
    def cells(self):
        """Every cell with its attributes; where nothing was drawn is a blank of default colours."""
        return [[self.buffer[y][x] if y in self.buffer else Char(' ') for x in range(self.columns)]
                for y in range(self.lines)]

    def state(self):
        """Everything but the cells that a user or a program could notice: a dict of plain values."""
        return {'cursor': (self.cursor.y, self.cursor.x), 'pen': self.cursor.attrs,
                'private': sorted(self.private), 'alternate': self.alternate, 'ansi': sorted(self.ansi),
                'keypad': self.keypad, 'margins': self.margins and tuple(self.margins), 'charset': self.charset,
                'sets': ''.join(self.g[:2]), 'style': self.cursor_style}

    def seen(self):
        """What a user sees of it: characters with their attributes, and where the cursor stands. Of a blank that is not
        struck through, say, only the background is seen."""
        def look(cell):
            blank = cell.data == ' ' and not (cell.underscore or cell.strikethrough or cell.reverse)
            return tuple(self.default_char._replace(bg=cell.bg) if blank else cell)
        cells = [[look(cell) for cell in row] for row in self.cells()]
        return cells, (min(self.cursor.x, self.columns - 1), self.cursor.y), self.cursor.hidden

    def text(self):
        return '\n'.join(''.join(c.data for c in row).rstrip() for row in self.cells()).rstrip('\n')


class Model:
    """Bytes in, screen out."""
    def __init__(self, rows=24, cols=80):
        self.screen = Screen(cols, rows)
        self.decoder = codecs.getincrementaldecoder('utf-8')('replace')
        self.rest = ''

    def feed(self, data):
        text = self.skip_scrolled(self.rest + self.decoder.decode(data).translate(EIGHT_BIT))
        at, self.rest = 0, ''
        while at < len(text):
            found = TEXT.match(text, at)
            if found:
                self.screen.draw(found[0])
            elif text[at] != '\x1b':
                self.control(text[at])
                at += 1
                continue
            else:
                found = self.escape(text, at)
                if found is None:
                    self.rest = text[at:]
                    return
            at = found if isinstance(found, int) else found.end()

    def skip_scrolled(self, text):
        """Plain lines that would only scroll away are not drawn: 10 MB of them take pyte minutes."""
        screen, keep = self.screen, self.screen.lines * 2 + 2
        end = text.find('\x1b')
        plain = text if end < 0 else text[:end]
        if len(plain) < 4096 or '\x05' in plain or screen.margins or screen.cursor.attrs != Char(' ') \
                or plain.count('\n') != plain.count('\r\n') or plain.count('\n') <= keep:
            return text
        cut = len(plain)
        for _ in range(keep):
            cut = text.rindex('\r\n', 0, cut)
        return text[cut:]

    def control(self, char):
        method = {'\b': 'backspace', '\t': 'tab', '\n': 'linefeed', '\v': 'linefeed', '\f': 'linefeed',
                  '\r': 'carriage_return', '\x0e': 'shift_out', '\x0f': 'shift_in'}.get(char)
        if method:
            getattr(self.screen, method)()

    def escape(self, text, at):
        """One escape sequence at `at`: where it ends, or None when its end has not come yet."""
        for pattern, act in ((CSI, self.csi), (STRING, self.string), (ESCAPE, self.plain_escape)):
            found = pattern.match(text, at)
            if found and not (pattern is ESCAPE and found[2] in '[]PX^_' and not found[1]):
                act(*(group for group in found.groups() if group is not None))
                return found.end()
        return None if UNFINISHED.match(text, at) else at + 1

    def plain_escape(self, between, final):
        screen = self.screen
        if between in ('(', ')', '*', '+'):
            screen.g['()*+'.index(between)] = final
        elif between == '#' and final == '8':
            screen.alignment_display()
        elif not between and final in '=>':
            screen.keypad = final == '='
        elif not between:
            if final == 'E':
                screen.carriage_return()
            method = {'7': 'save_cursor', '8': 'restore_cursor', 'D': 'index', 'E': 'index', 'M': 'reverse_index',
                      'H': 'set_tab_stop', 'c': 'reset'}.get(final)
            if method:
                getattr(screen, method)()

    def string(self, kind, body):
        number, _, value = body.partition(';')
        if kind == ']' and number in ('0', '2'):
            self.screen.title = value

    def csi(self, body, final=''):
        for char in CONTROL.findall(body):              # controls inside a sequence are obeyed
            self.control(char)
        found = CSI_BODY.fullmatch(CONTROL.sub('', body))
        if not found or final in '\x18\x1a':
            return                                      # given up, or not a sequence of the standard
        prefix, parameters, between = found.groups()
        numbers = [int(p.partition(':')[0] or 0) for p in parameters.split(';')] if parameters else []
        if prefix == '?' and final in 'hl' and not between:
            for mode in numbers:
                self.screen.change_private(mode, final == 'h')
        elif prefix:
            return                                      # a question, or what a screen does not show
        elif between == '!' and final == 'p':
            self.screen.soft_reset()
        elif between == ' ' and final == 'q':
            self.screen.cursor_style = (numbers or [0])[0]
        elif not between:
            self.plain_csi(numbers, final)

    def plain_csi(self, numbers, final):
        screen, count = self.screen, numbers[0] if numbers and numbers[0] else 1
        if final in 'hl':
            for mode in numbers:
                screen.change_ansi(mode, final == 'h')
        elif final == 'm':
            screen.select_graphic_rendition(*numbers)
        elif final == 'b':
            screen.draw(screen.last * count)
        elif final in 'ST' and len(numbers) < 2:
            screen.shift_rows(*screen.edges(), count if final == 'S' else -count)
        elif final == 's':
            screen.save_cursor()
        elif final == 'u':
            screen.restore_cursor()
        elif final == 'Z':
            screen.cursor.x = max([t for t in screen.tabstops if t < screen.cursor.x][-count:], default=0)
        elif final in pyte.Stream.csi and final not in 'cn':
            getattr(screen, pyte.Stream.csi[final])(*numbers[:2])


def differences(one, other, ignored=()):
    """What differs between two models, as a list of short sentences; empty when they show the same. `ignored` are
    keys of Screen.state()."""
    a, b, out = one.screen, other.screen, []
    if (a.lines, a.columns) != (b.lines, b.columns):
        return [f'sizes {a.lines}x{a.columns} and {b.lines}x{b.columns}']
    wrong = [(y, x) for y, (p, q) in enumerate(zip(a.cells(), b.cells()))
             for x, (c, d) in enumerate(zip(p, q)) if c != d]
    if wrong:
        y, x = wrong[0]
        out.append(f'{len(wrong)} cells in rows {sorted({y for y, _ in wrong})}, first {y},{x}: '
                   f'{a.buffer[y][x]} and {b.buffer[y][x]}')
    mine, theirs = a.state(), b.state()
    out += [f'{key}: {mine[key]} and {theirs[key]}' for key in mine
            if mine[key] != theirs[key] and key not in ignored]
    return out
