"""copier.py COUNT: copies COUNT bytes from its raw terminal back to it, blocking, then prints END; status 4."""
import os
import sys
import termios
import tty


def write_all(data):
    while data:
        data = data[os.write(1, data):]


left = int(sys.argv[1])
tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
write_all(b'READY\r\n')
while left:
    got = os.read(0, 4096)
    left -= len(got)
    write_all(got)
write_all(b'END')
sys.exit(4)
