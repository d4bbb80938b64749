"""A client of another user: connects to ADDRESS (argv 1) and does what argv 2 says; answers in JSON.

    talk HEX...       one connection for each HEX: send it, wait for the end, or for the word `secret` to be told;
                      [bytes received in hex, how it ended]
    vanish N HEX      N times: connect, send HEX, close at once
    reset N HEX       the same, closed with a reset
    hold N SECONDS    N silent connections kept open until the end or SECONDS have passed
An address that begins with ::ffff: is reached from an IPv6 socket (an IPv4-mapped peer).
"""
import json
import select
import socket
import struct
import sys


def connect(address):
    if '/' in address:
        sock, target = socket.socket(socket.AF_UNIX), address
    else:
        host, port = address.rsplit(':', 1)
        host = host.strip('[]')
        sock, target = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET), (host, int(port))
    sock.settimeout(5)
    sock.connect(target)
    return sock


def talk(address, data):
    try:
        sock = connect(address)
    except OSError as error:
        return ['', 'not connected: ' + type(error).__name__]
    got = b''
    try:
        sock.sendall(bytes.fromhex(data))
        while True:
            more = sock.recv(65536)
            if not more:
                return [got.hex(), 'closed']
            got += more
            if b'secret' in got:
                return [got.hex(), 'open']
    except socket.timeout:
        return [got.hex(), 'open']
    except OSError:
        return [got.hex(), 'closed']


def leave(address, count, data, linger):
    done = 0
    for _ in range(int(count)):
        try:
            sock = connect(address)
            sock.sendall(bytes.fromhex(data))
            if linger:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            sock.close()
            done += 1
        except OSError:
            pass
    return done


def hold(address, count, seconds):
    socks = [connect(address) for _ in range(int(count))]
    closed = 0
    for sock in socks:
        if select.select([sock], [], [], float(seconds))[0]:
            try:
                closed += sock.recv(1) == b''
            except OSError:
                closed += 1
    return closed


where, what, *rest = sys.argv[1:]
if what == 'talk':
    answer = [talk(where, data) for data in rest]
elif what == 'hold':
    answer = hold(where, *rest)
else:
    answer = leave(where, *rest, what == 'reset')
print(json.dumps(answer))
