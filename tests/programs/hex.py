"""Prints what reaches it through a raw terminal: <hh> for each byte, {ROWS COLS} at the start and for each SIGWINCH.

`Q` ends it with status 9. READY comes when the terminal is raw, so that nothing typed after it is echoed or changed.
"""
import os
import select
import signal
import sys
import termios
import tty


def say(text):
    os.write(1, text.encode())


def say_size():
    size = os.get_terminal_size(0)
    say(f'{{{size.lines} {size.columns}}}')


# A signal between the last look and the read would stay unseen until a byte comes: so it also makes a pipe readable.
wake, wake_end = os.pipe()
os.set_blocking(wake, False)
os.set_blocking(wake_end, False)
signal.set_wakeup_fd(wake_end)
signal.signal(signal.SIGWINCH, lambda *_: None)
tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
say_size()
say('READY\r\n')
while True:
    ready, _, _ = select.select([0, wake], [], [])
    try:        # a signal that came with the byte was sent before it: its handler has run now, whatever select said
        os.read(wake, 1000)
        say_size()
    except BlockingIOError:
        pass
    if 0 in ready:
        data = os.read(0, 65536)
        say(''.join(f'<{byte:02x}>' for byte in data))
        if b'Q' in data:
            sys.exit(9)
