"""Prints a numbered line five times a second, as ping does; Ctrl-C makes it print statistics and end with status 0."""
import signal
import sys
import time


def statistics(*_):
    print(f'--- statistics: {count} lines printed', flush=True)
    sys.exit(0)


signal.signal(signal.SIGINT, statistics)
count = 0
while True:
    count += 1
    print(f'tick {count}', flush=True)
    time.sleep(0.2)
