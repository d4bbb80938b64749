"""Random output for terminals: sentences of the grammar of control sequences, so that most of them do something.

`stream(random, size)` gives a list of tokens (bytes), whole characters or sequences most of them. Left out is what
makes xterm (379) contradict itself or its manual: DECSCA, saved cursors after RIS, DECRC of colours, both kinds of
underline at once, hidden characters, ICH and DCH that cut wide characters, CSI 0 T, `CSI 0 SP q`, reverse wrap
(45), G2 and G3 with their shifts, national sets; and where xterm is alone: what is erased behind the last column,
marks that follow a movement. `Everything` has all that the model knows, with any number."""

ESC, ST = b'\x1b', b'\x1b\\'
WORDS = (b'a', b'word', b'two words', b'x' * 13, b'0123456789' * 3, b'end. ', b'q~`j', b'   ')
WIDE = tuple(
    s.encode() for s in ('\u4e2d', '\u6587\u5b57', '\uac00', 'a\u0308', 'e\u0301\u0323', 'x\u20d7',
                         '\u00e4\u00f6', '\u20ac', '\U0001f600', '\U0001f4a9ok', '\u0e01\u0e34\u0e49',
                         '\u05e9\u05c1', '\u2500\u253c', '\uff21', 'a\u200b')
)
BASIC = (b'31', b'42', b'39', b'49')
EXTENDED = (b'95', b'103', b'38;5;99', b'48;5;200', b'38;2;9;8;7', b'48;2;100;20;30', b'38:5:17', b'48:2::1:2:3')
PENS = (b'0', b'', b'1', b'2', b'3', b'4', b'5', b'7', b'9', b'22', b'23', b'24', b'25', b'27', b'29')
MODES = (
    b'?1', b'?5', b'?6', b'?7', b'?9', b'?12', b'?25', b'?66', b'?1000', b'?1001', b'?1002', b'?1003', b'?1004',
    b'?1005', b'?1006', b'?1007', b'?1015', b'?1016', b'?1036', b'?1039', b'?2004', b'?67', b'4', b'20',
)
SETS = tuple(ESC + s for s in (b'(0', b'(B', b')0', b')B'))
STRINGS = (
    b']0;title\x07', b']2;other' + ST, b'P1;2qab' + ST, b'_Gx' + ST, b'^pm' + ST, b'Xsos' + ST,
    b']8;;http://a.b/c' + ST, b']8;;' + ST,
)
TORN = (
    b'[1\x18m', b'[?25\x1a', b'[31\x1b[4m', b'[3\r1m', b'[3\n2m', b'[\x08C', b'[1;2', b'', b'[?1', b']0;cut\x18',
    b'P$q\x18', b'[1:2 3m', b'[<1m', b'[1$m',
)
EIGHT_BIT = (
    b'\xc2\x9b31m', b'\xc2\x9b5C', b'\xc2\x84', b'\xc2\x8d', b'\xc2\x85', b'\xc2\x9d2;c1\xc2\x9c', b'\xff', b'\xc3',
    b'\xe4\xb8', b'\xed\xa0\x80',
)
# Behind a character in the last column, where the wrap is pending.
AT_EDGE = (b'', b'\b', b'\x1b7', b'\x1b[C', b'\x1b[m', b'\xcc\x88', b'\t')


class Grammar:
    def __init__(self, random, size):
        self.random, (self.rows, self.cols) = random, size
        self.coloured, wide = random.random() < 0.5, random.random() < 0.5
        self.kinds = (
            (14, self.text), (6 if wide else 0, self.wide), (8, self.line), (8, self.move), (6, self.pen),
            (4, self.erase), (0 if wide else 4, self.edit), (2, self.scroll), (2, self.region), (3, self.mode),
            (1, self.screen), (2, self.save), (2, self.charset), (1, self.tab), (1, self.string), (0.5, self.torn),
            (1, self.repeat), (0.3, self.style), (0.2, self.soft_reset), (0.1, self.align), (0.6, self.at_edge),
            (0.3, self.eight_bit))

    def token(self):
        return self.random.choices([k for _, k in self.kinds], [w for w, _ in self.kinds])[0]()

    def one(self, *choices):
        return self.random.choice(choices)

    def number(self, top):
        if self.random.random() < 0.15:
            return b''
        return b'%d' % self.one(0, 1, 1, 2, 3, self.random.randrange(1, top + 1), top, top + 3)

    def csi(self, *parameters, finals):
        return ESC + b'[' + b';'.join(parameters) + self.one(*finals)

    def text(self):
        return self.one(*WORDS)

    def wide(self):
        return self.one(*WIDE)

    def line(self):
        return self.one(b'\r\n', b'\r\n', b'\n', b'\r', b'\b', b'\b\b', b'\x0b', ESC + b'E', ESC + b'D', ESC + b'M')

    def move(self):
        row, col = self.number(self.rows), self.number(self.cols)
        return self.one(
            self.csi(row, col, finals=(b'H', b'f')), self.csi(row, finals=(b'A', b'B', b'd', b'e', b'E', b'F')),
            self.csi(col, finals=(b'C', b'D', b'G', b'`', b'a')))

    def at_edge(self):
        return (
            self.csi(self.number(self.rows), b'%d' % self.cols, finals=(b'H',))
            + self.one(b'R', b'\xc3\xa4')
            + self.one(*AT_EDGE))

    def pen(self):
        pens = [self.one(*PENS) for _ in range(self.one(1, 1, 1, 2, 3))]
        if self.coloured and self.random.random() < 0.5:
            pens.append(self.one(*BASIC))
        if self.coloured and self.random.random() < 0.4:
            pens.append(self.one(*EXTENDED))
        return self.csi(*pens, finals=(b'm',))

    def erase(self):
        return b'\x1b[D' + self.one(
            self.csi(self.one(b'', b'0', b'1', b'2'), finals=(b'J', b'K', b'K')),
            self.csi(self.number(self.cols), finals=(b'X',)), b'\x1b[?J', b'\x1b[?1K', b'\x1b[?2J', b'\x1b[?K')

    def edit(self):
        return b'\x1b[D' + self.one(self.csi(self.number(9), finals=(b'@', b'P')), self.csi(self.number(5), finals=(b'L', b'M')))

    def scroll(self):
        return self.csi(self.one(b'', b'1', b'2', b'7'), finals=(b'S', b'T'))

    def region(self):
        return self.one(b'\x1b[r', self.csi(self.number(self.rows), self.number(self.rows), finals=(b'r',)))

    def mode(self):
        mode = self.one(*MODES)
        several = self.random.random() < 0.2 and mode.startswith(b'?')
        return self.csi(mode + (b';25' if several else b''), finals=(b'h', b'l'))

    def screen(self):
        return self.csi(self.one(b'?1049', b'?1047', b'?47'), finals=(b'h', b'l'))

    def save(self):
        return (
            self.one(ESC + b'7', b'\x1b[s') if self.coloured else self.one(ESC + b'7', ESC + b'8', b'\x1b[s', b'\x1b[u')
        )

    def charset(self):
        return self.one(b'\x0e', b'\x0f', *SETS)

    def tab(self):
        return self.one(b'\t', b'\t', ESC + b'H', b'\x1b[g', b'\x1b[3g', self.csi(self.number(3), finals=(b'I', b'Z')))

    def string(self):
        return ESC + self.one(*STRINGS)

    def torn(self):
        return ESC + self.one(*TORN)

    def repeat(self):
        return self.one(*WORDS[:3]) + self.csi(self.number(15), finals=(b'b',))

    def style(self):
        return self.one(b'\x1b[%d q' % self.one(1, 2, 3, 4, 5, 6), ESC + b'=', ESC + b'>')

    def soft_reset(self):
        return b'\x1b[m\r\x1b[!p'  # (faint, and a pending wrap, are not reset by it)

    def align(self):
        return b'\x1b#8'

    def eight_bit(self):
        return self.one(*EIGHT_BIT)


class Everything(Grammar):
    """... what xterm contradicts itself about, too, and any sequence with any numbers."""

    def __init__(self, random, size):
        super().__init__(random, size)
        self.kinds += (
            (20, self.any_csi),
            (3, lambda: self.csi(b'?%d' % self.one(45, 69, 1045, 1048, 2026, 1000, 1003, 1006), finals=(b'h', b'h', b'l', b's', b'r'))),
            (3, lambda: b'\x1b[?69h' + self.csi(self.number(self.cols), self.number(self.cols), finals=(b's',))),
            (3, lambda: self.csi(*(self.number(9) for _ in range(5)), finals=(b'$x',))),
            (3, lambda: ESC + self.one(b'#3', b'#6', b'*0', b'N', b'O', b'(A', b'c', b'H', b']4;1;red\x07', b']104\x07', b']12;blue\x07', b'P1$', b']2;')),
            (3, lambda: self.one(*AT_EDGE, b'\x1b[K', b'\x1b[P', b'\x1b[@', b'\x1b[1J', b'\x1b[2K', '\u0301'.encode(), '\U0001f468\u200d'.encode())),
        )

    def any_csi(self):
        numbers = [self.one(self.number(self.cols), b'99999', b'4:3', b'18446744073709551616') for _ in range(self.one(0, 1, 1, 2, 5))]
        final = bytes([self.random.randrange(0x40, 0x7F)])
        return ESC + b'[' + self.one(b'', b'', b'', b'?', b'>', b'<', b'=') + b';'.join(numbers) + self.one(b'', b'', b'', b' ', b"'", b'$', b'!', b'"') + final


def stream(random, size, length=60, kind=Grammar):
    grammar = kind(random, size)
    return [grammar.token() for _ in range(length)]
