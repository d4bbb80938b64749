"""emit.py FILE [STATUS]: prints FILE's bytes through a raw terminal once a byte has come in, ends with STATUS."""
import os
import sys
import termios
import tty

with open(sys.argv[1], 'rb') as f:
    data = memoryview(f.read())
tty.setraw(0, termios.TCSANOW)    # not TCSAFLUSH: what was typed before is kept
os.write(1, b'READY\r\n')
os.read(0, 1)
while data:
    data = data[os.write(1, data[:1 << 16]):]
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
