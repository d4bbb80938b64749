"""A server that collects what clients send: collector.py ADDRESS [WAIT]. ADDRESS: 127.0.0.1, ::1, :: (which takes IPv4
too), or a path. Prints the port (or the path), accepts one connection when a line comes on standard input (at once
without WAIT), reads it to its end, and prints what came in hex."""
import os
import socket
import sys

where = sys.argv[1]
if '/' in where:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    os.chmod(where, 0o777)
else:
    listener = socket.socket(socket.AF_INET6 if ':' in where else socket.AF_INET)
    if where == '::':
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((where, 0))
listener.listen()
print(where if '/' in where else listener.getsockname()[1], flush=True)
if sys.argv[2:]:
    sys.stdin.readline()
listener.settimeout(20)
connection = listener.accept()[0]
connection.settimeout(20)
parts = []
try:
    while part := connection.recv(4096):
        parts.append(part)
    connection.sendall(b'thanks')
except OSError:
    pass
print(b''.join(parts).hex(), flush=True)
