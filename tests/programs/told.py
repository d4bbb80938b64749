"""Does on its terminal what it is told over a Unix-domain socket (argv 1), and answers each line there when it is done.

The terminal is put into raw mode first, so every byte passes unchanged both ways. Commands:
    flood N         print the next N bytes of an endless known pattern (tests/lib/told.py: pattern)
    print HEX       print these bytes
    read N          read N bytes, answer with them
    until HEX       read up to these bytes, answer with everything read
    echo N          read N bytes and print each back
    interrupt       let Ctrl-C end a flood: CAUGHT is printed then
    size            answer ROWS COLS
    close, reopen   close the terminal; open it again through /dev/tty
    exit STATUS     leave
The bytes printed so far (flood and print) stand, always current, in the file argv 1 + '.count'.
"""
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import termios
import tty

FILLER = bytes(10 if i % 68 == 67 else 33 + i * 7 % 90 for i in range(4080))
flooded, read_ahead = 0, bytearray()


class Interrupted(Exception):
    """Ctrl-C came."""


def interrupted(*_):
    raise Interrupted


def put(data):
    view = memoryview(data)
    while view:
        n = os.write(1, view)
        view = view[n:]
        count[:8] = struct.pack('=Q', struct.unpack('=Q', count[:8])[0] + n)


def flood(size):
    global flooded
    end = flooded + int(size)
    try:
        while flooded < end:
            first = flooded // 4096
            block = b''.join(b'%015d\n' % n + FILLER for n in range(first, first + 16))[flooded % 4096:]
            block = block[:end - flooded]
            put(block)
            flooded += len(block)
    except Interrupted:
        put(b'CAUGHT')
    return str(flooded)


def take(end):
    """What has been read, up to `end()` of it (None: not enough yet); the rest stays for the next command."""
    global read_ahead
    while end() is None:
        more = os.read(0, 65536)
        if not more:
            break
        read_ahead += more
    at = end()
    data, read_ahead = read_ahead[:at], read_ahead[at:]
    return bytes(data).hex()


def read(size):
    return take(lambda: int(size) if len(read_ahead) >= int(size) else None)


def echo(size):
    left = int(size)
    while left > 0:
        data = os.read(0, min(left, 65536))
        put(data)
        left -= len(data)
    return 'done'


def interrupt():
    attributes = termios.tcgetattr(0)
    attributes[3] |= termios.ISIG
    termios.tcsetattr(0, termios.TCSANOW, attributes)
    signal.signal(signal.SIGINT, interrupted)
    return 'done'


def size():
    return '%d %d' % struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]


def close():
    for fd in (0, 1, 2):
        os.close(fd)
    return 'done'


def reopen():
    fd = os.open('/dev/tty', os.O_RDWR)
    for other in (0, 1, 2):
        if other != fd:
            os.dup2(fd, other)
    return 'done'


def printed(data):
    put(bytes.fromhex(data))
    return 'done'


def until(end):
    wanted = bytes.fromhex(end)
    return take(lambda: read_ahead.index(wanted) + len(wanted) if wanted in read_ahead else None)


COMMANDS = {'flood': flood, 'print': printed, 'read': read, 'until': until, 'echo': echo, 'interrupt': interrupt,
            'size': size, 'close': close, 'reopen': reopen, 'exit': lambda status: os._exit(int(status))}
tty.setraw(0)
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
with open(sys.argv[1] + '.count', 'r+b') as file:
    count = mmap.mmap(file.fileno(), 8)
control.sendall(b'ready\n')
for line in control.makefile('r'):
    word, *rest = line.split()
    control.sendall(COMMANDS[word](*rest).encode() + b'\n')
