"""What the tests of attach share: ways to run it, and a server of the test's own in the shim's place."""
import fcntl
import socket
import struct
import subprocess
import termios

from harness import ATTACH, TIMEOUT, hello

# Keeps the terminal's settings from before and after, and what attach says; exits as attach did.
TELL, END, ALONE, TAKEN, LEAVE = hello(0, 0, 4), hello(0, 0, 3), hello(0, 0, 5), b'\xff\xffok', b'\xff\xffdd'
KEEP = 'stty -g >before; "$0" "$@" 2>said; status=$?; stty -g >after; exit $status'


def kept_terminal(pty, *arguments, **options):
    """attach at a terminal, in a shell that writes down the settings and the messages: see restored()."""
    return pty.terminal('sh', '-c', KEEP, ATTACH, *arguments, **options)


def restored(pty):
    """Asserts that the terminal's settings are what they were; gives what attach said on standard error."""
    assert pty.read('before') == pty.read('after'), 'the terminal was not restored'
    return pty.read('said')


def piped(pty, *arguments, data=b'', **options):
    """attach with pipes for standard streams, run to its end: (status, output, messages)."""
    run = pty.run(ATTACH, *arguments, input=data, text=False, **options)
    return run.returncode, run.stdout, run.stderr.decode()


def start_piped(pty, *arguments):
    """attach with pipes, still running."""
    return pty.background(ATTACH, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, data=b''):
    """Closes standard input after `data` and reads to the end: (status, output, messages)."""
    output, said = process.communicate(data, timeout=TIMEOUT)
    return process.returncode, output, said.decode()


def told(**lines):
    """A session's answer to *tell* (section 3)."""
    text = ''.join(f'{name}: {value}\n' for name, value in lines.items()).encode()
    return b'\xff\xfftt' + struct.pack('!H', len(text)) + text


def message(kind, data):
    """An answer (b'a') or noise (b'n')."""
    return b'\xff\xff' + kind * 2 + struct.pack('!H', len(data)) + data


def leave(terminal, status=0):
    """Answers the question that attach asks of a terminal which has sent reports; attach has ended then."""
    terminal.wait_output(b'\x1b[5n')
    terminal.send(b'\x1b[0n')
    assert terminal.exit_status() == status


def is_taken(terminal):
    """Whether attach has read all that was typed: the input queue of its terminal is empty (ioctl_tty(2), FIONREAD)."""
    with open(f'/proc/{terminal.child.pid}/fd/0', 'rb', buffering=0) as slave:
        return fcntl.ioctl(slave, termios.FIONREAD, bytes(4)) == bytes(4)


class Server:
    """A server of the test's own at ./fake.sock, to see exactly what attach sends and to answer anything."""
    def __init__(self, pty):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(pty.path('fake.sock'))
        self.listener.listen()
        self.listener.settimeout(TIMEOUT)
        self.connection = None

    def accept(self, raw=False):
        """The next connection; one that only asks what the session is is closed (attach -R never asks)."""
        while True:
            self.connection = self.listener.accept()[0]
            self.connection.settimeout(TIMEOUT)
            if raw or self.connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) != TELL:
                return self
            self.connection.close()

    def serve(self, *answers):
        """Accepts a connection for each of the `answers`: gives what their clients say first, 12 bytes of it, and tells
        them the answer; b'' closes the connection at once."""
        said = []
        for answer in answers:
            self.accept(raw=True)
            said.append(self.read(12))
            self.connection.sendall(answer)
            if not answer:
                self.connection.close()
        return said

    def read(self, count):
        data = b''
        while len(data) < count:
            more = self.connection.recv(count - len(data))
            assert more, f'attach closed after {data!r}'
            data += more
        return data

    def read_all(self):
        data = b''
        while more := self.connection.recv(65536):
            data += more
        return data

    def close(self):
        self.listener.close()
        if self.connection:
            self.connection.close()
