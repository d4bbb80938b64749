"""Prints as one line of JSON what the program was given: descriptors, environment, folder, ids, size; status 0."""
import fcntl
import json
import os
import struct
import sys
import termios

descriptors = {}
for name in os.listdir('/proc/self/fd'):
    try:
        descriptors[name] = os.readlink('/proc/self/fd/' + name)
    except FileNotFoundError:       # the one that listed the folder
        pass
rows, cols = struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]
state = {
    'descriptors': descriptors,
    'environment': {key: os.environ.get(key) for key in ('TERM', 'SHIM_ADDRESS', 'CORE_TEST')}, 'folder': os.getcwd(),
    'arguments': sys.argv[1:], 'pid': os.getpid(), 'ppid': os.getppid(), 'pgid': os.getpgrp(), 'sid': os.getsid(0),
    'foreground': os.tcgetpgrp(0), 'tty': os.ttyname(0), 'controlling': os.open('/dev/tty', os.O_RDWR) >= 0,
    'size': [rows, cols], 'umask': os.umask(0)}
print(json.dumps(state), flush=True)
