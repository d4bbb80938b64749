"""Leaves a terminal in the worst state that a full-screen program can: painter.py screen|main, prints READY.

A typed `x` ends it with status 3 without putting anything right; everything else is ignored.
"""
import os
import sys
import tty

MODES = (b'\x1b[?1003;1006;1004;2004;1h\x1b=\x1b)0\x0e\x1b[5;20r\x1b[?6h\x1b[?25l\x1b[?7l\x1b[4h\x1b[5 q'
         b'\x1b[?5h\x1b[>4;2m\x1b[>1u\x1b[1;3;4;7;38;5;200;44m')

tty.setraw(0)
os.write(1, (b'\x1b[?1049h' if sys.argv[1] == 'screen' else b'') + MODES + b'\x1b[3;10HREADY')
while os.read(0, 1) != b'x':
    pass
sys.exit(3)
