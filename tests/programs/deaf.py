"""Reads nothing and prints a tick every 20 ms until SIGUSR1; then reads to `END` and prints count and SHA-256.

The process id stands in the READY line, so that a test can send the signal.
"""
import hashlib
import os
import signal
import termios
import time
import tty

listening = False


def listen(*_):
    global listening
    listening = True


tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
signal.signal(signal.SIGUSR1, listen)
os.write(1, b'READY %d\r\n' % os.getpid())
while not listening:
    os.write(1, b'tick\r\n')
    time.sleep(0.02)
parts, tail = [], b''
while not tail.endswith(b'END'):
    parts.append(os.read(0, 65536))
    tail = (tail + parts[-1])[-3:]
whole = b''.join(parts)
os.write(1, b'COUNT %d SHA %s.' % (len(whole), hashlib.sha256(whole).hexdigest().encode()))
