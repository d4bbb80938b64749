"""pieces.py SECONDS HEX...: prints each piece with a pause of SECONDS after it, through a raw terminal.

The pause is what is tested (how long the shim keeps a cut character back), not a wait for something.
"""
import os
import sys
import termios
import time
import tty

tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
for piece in sys.argv[2:]:
    os.write(1, bytes.fromhex(piece))
    time.sleep(float(sys.argv[1]))
