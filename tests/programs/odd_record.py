#!/usr/bin/python3 -SE
"""A `record` beside a shim that does what the file `how` beside it says; its pid is added to the file `pids`.

    exit               ends at once
    silent             reads what it is asked and answers nothing; `deaf` does not even read
    say HEX            answers the first question with these bytes, and nothing any more
    slow SECONDS       becomes the real `record` (the link `real` beside it) after that time; `held` when the file `go`
                       is beside it
    die KIND COUNT     passes everything on between the shim and the real `record`, and dies by SIGKILL when COUNT bytes
                       of the first answer of that KIND are out (0: the question has been heard; -1: all bytes)
"""
import os
import select
import signal
import socket
import struct
import sys

HEADER = struct.Struct('=IIQQQIHHQ')
folder = os.path.dirname(os.path.abspath(sys.argv[0]))
real = os.path.join(folder, 'real')


def exactly(fd, count):
    data = b''
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def write(data):
    while data:
        data = data[os.write(0, data):]


def pass_on(kind, count):
    mine, its = socket.socketpair()
    os.posix_spawn(real, sys.argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, its.fileno(), fd) for fd in (0, 1)])
    its.close()
    while True:
        mine.sendall(exactly(0, HEADER.size))
        answer = exactly(mine.fileno(), HEADER.size)
        answer += exactly(mine.fileno(), HEADER.unpack(answer)[-1])
        if HEADER.unpack_from(answer)[0] == kind:
            write(answer if count < 0 else answer[:count])
            os.kill(os.getpid(), signal.SIGKILL)
        write(answer)


with open(os.path.join(folder, 'pids'), 'a', encoding='ascii') as f:
    f.write(f'{os.getpid()}\n')
with open(os.path.join(folder, 'how'), encoding='ascii') as f:
    how, *words = f.read().split()
if how == 'silent':
    while os.read(0, 1 << 16):
        pass
elif how == 'deaf':
    signal.pause()
elif how == 'say':
    exactly(0, HEADER.size)
    write(bytes.fromhex(words[0]))
    while os.read(0, 1 << 16):
        pass
elif how in ('slow', 'held'):
    select.select([], [], [], float(words[0]) if words else 0)
    while how == 'held' and not os.path.exists(os.path.join(folder, 'go')):
        select.select([], [], [], 0.01)
    os.execv(real, sys.argv)
elif how == 'die':
    pass_on(int(words[0]), int(words[1]))
