"""Prints what reaches it through a raw terminal: <hh> for each byte, {ROWS COLS} at the start and for each SIGWINCH.

`Q` ends it with status 9. READY comes when the terminal is raw, so that nothing typed after it is echoed or changed.
"""
import os
import signal
import sys
import termios
import tty


def say(text):
    os.write(1, text.encode())


def say_size(*_):
    size = os.get_terminal_size(0)
    say(f'{{{size.lines} {size.columns}}}')


tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
signal.signal(signal.SIGWINCH, say_size)
say_size()
say('READY\r\n')
while True:
    data = os.read(0, 65536)
    say(''.join(f'<{byte:02x}>' for byte in data))
    if b'Q' in data:
        sys.exit(9)
