"""holder.py quiet|loud STATUS: leaves a grandchild that ignores SIGHUP and holds the slave, and ends.

The grandchild is silent or prints for ever; its pid is in the first line. The last bytes of the program are `last`.
"""
import os
import signal
import sys
import termios
import time
import tty

mode, status = sys.argv[1], int(sys.argv[2])
tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
signal.signal(signal.SIGHUP, signal.SIG_IGN)
child = os.fork()
if child == 0:
    try:
        while mode == 'loud':
            os.write(1, b'y' * 1000)
    except OSError:     # EIO: the master is closed
        os._exit(0)
    time.sleep(60)
    os._exit(0)
os.write(1, b'PID %d.' % child)
os.write(1, b'last')
os._exit(status)
