"""Prints a numbered line five times a second, as ping does; Ctrl-C makes it print statistics and end with status 0.

The signal is blocked and waited for, so that it never comes in the middle of a print.
"""
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
count = 0
while True:
    count += 1
    print(f'tick {count}', flush=True)
    if signal.sigtimedwait({signal.SIGINT}, 0.2):
        break
print(f'--- statistics: {count} lines printed', flush=True)
