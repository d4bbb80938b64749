"""Random output for the tests of issue 5: what programs print, and what no program should print."""

ST = b'\x1b\\'
PRIVATE = (1, 5, 6, 7, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1049, 2004)
PENS = (b'0', b'1', b'3', b'4', b'7', b'9', b'22', b'23', b'24', b'27', b'29', b'31', b'39', b'44', b'49', b'95',
        b'103', b'', b'38;5;99', b'48;5;7', b'38;2;9;8;7', b'48;2;1;2;3')
FRAGMENTS = (
    (b'\x1b(0', b'\x1b(B', b'\x1b)0', b'\x1b)B', b'\x0e', b'\x0f'),
    (b'\x1b7', b'\x1b8', b'\x1b[s', b'\x1b[u', b'\x1b[?1048h', b'\x1b[?1048l'),
    (b'\x1b=', b'\x1b>', b'\x1b[4h', b'\x1b[4l', b'\x1b[5 q', b'\x1b[0 q'),
    (b'\x1b[r', b'\x1b[3;12r', b'\x1b[5r', b'\x1b[;9r', b'\x1b[9;3r', b'\x1b[1;24r', b'\x1b[0;0r', b'\x1b[2;99r'),
    (b'\x1b]0;t\x07', b'\x1b]0;x' + ST, b'\x1bP1;2qab' + ST, b'\x1b_Gx' + ST, b'\x1b^pm' + ST, b'\x1bXsos' + ST,
     b'\x1b]11;\x1b[1m'),
    (b'\x1b[1\x18m', b'\x1b[?25\x1a l', b'\x1b[31\x1b[4m', b'\x1b[3\r1m', b'\x1b[?1;', b'\x1b[', b'\x1b', b'\x1b(',
     b'\x1b[1:2 3m', b'\x1b[<1m', b'\x1b[>4;1m', b'\x1b[?1m', b'\x1b[=1h', b'\x1b[1$m', b'\x1b[?1049$h'),
    (b'\xc3\xa4', b'\xe2\x82\xac', b'\xf0\x9f\x98\x80', b'\xc2\x9b1m', b'\xff', b'\xc3'),
    (b'text', b'more words\r\n', b'\x1b[H', b'\x1b[2J', b'\x1b[10;10H', b'\x1b[K', b'\n', b'\r\n\r\n', b'\x1bM',
     b'x' * 200),
    (b'text', b'more words\r\n'))


def fragment(random):
    kind = random.randrange(len(FRAGMENTS) + 7)
    if kind < len(FRAGMENTS):
        return random.choice(FRAGMENTS[kind])
    if kind < len(FRAGMENTS) + 3:
        modes = (b'%d' % random.choice(PRIVATE) for _ in range(random.choice((1, 1, 1, 2, 3))))
        return b'\x1b[?' + b';'.join(modes) + random.choice((b'h', b'l'))
    if kind < len(FRAGMENTS) + 5:
        return b'\x1b[' + b';'.join(random.choice(PENS) for _ in range(random.choice((0, 1, 1, 2, 3)))) + b'm'
    if kind < len(FRAGMENTS) + 6:
        return random.choice((b'\x1bc', b'\x1b[!p')) if random.random() < 0.3 else b''
    return bytes(random.randrange(256) for _ in range(random.randrange(6)))


def stream(random):
    return b''.join(fragment(random) for _ in range(random.randrange(1, 25)))
