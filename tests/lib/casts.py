"""The recordings of real programs (casts/terminal), read without a line of the project's own code, cut anywhere."""
import base64
import os
import random
import re

from harness import ROOT
from record_tools import event, header, load, output, write

FOLDER = os.path.join(ROOT, 'tests', 'casts', 'terminal')
NAMES = sorted(name[:-5] for name in os.listdir(FOLDER))
UNFINISHED = re.compile(
    rb'(?:\x1b(?:\[[0-?]*[ -/]*|[ -/]*|[\]P_^X][^\x07\x1b\x18\x1a]*\x1b?)|[\xc2-\xff][\x80-\xbf]{0,2})\Z')


class Cast:
    """A recording as steps: bytes and sizes, in order, each with its time."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)
        with open(path, 'rb') as f:
            head, events = load(f.read())
        self.size, self.steps, self.times, exact = (head['height'], head['width']), [], [], None
        for time, code, data in events:
            if code == 'b':
                exact = base64.b64decode(data)
            elif code in 'or':
                self.times.append(time)
                self.steps.append(
                    tuple(int(n) for n in reversed(data.split('x'))) if code == 'r' else exact or data.encode())
                exact = None
        self.length = sum(len(step) for step in self.steps if isinstance(step, bytes))

    def split(self, cut):
        """What came before byte `cut`, the size then, and what comes after."""
        before, size, at = [], self.size, 0
        for number, step in enumerate(self.steps):
            if not isinstance(step, bytes):
                before.append(step)
                size = step
            elif at + len(step) < cut:
                before.append(step)
                at += len(step)
            else:
                after = [step[cut - at :], *self.steps[number + 1 :]]
                before.append(step[: cut - at])
                while after and (
                    not after[0] or isinstance(after[0], tuple)):  # (a size that comes just there is taken)
                    size = after[0] or size
                    before.append(after.pop(0))
                return before, size, after
        return before, size, []

    def before_resize(self):
        """Itself up to where its terminal was resized, for terminals that make another thing of that than xterm."""
        first = next((n for n, step in enumerate(self.steps) if isinstance(step, tuple)), len(self.steps))
        self.steps[first:], self.times[first:] = [], []
        self.length = sum(map(len, self.steps)) - 1  # (at the last byte the size would be taken)
        return self

    def until(self, time):
        """The steps up to and with that time, and the size then."""
        steps = [step for at, step in zip(self.times, self.steps) if at <= time]
        return steps, next((step for step in reversed(steps) if isinstance(step, tuple)), self.size)

    def whole_times(self):
        """The times at which no sequence and no character is cut, nor are there two events at the same time."""
        out, shown = [], b''
        for number, step in enumerate(self.steps):
            shown = shown[-4096:] + step if isinstance(step, bytes) else b''
            if not UNFINISHED.search(shown) and self.times[number] not in self.times[number + 1 :]:
                out.append(self.times[number])
        return out

    def cuts(self, count, seed):
        """`count` places in it, some in the middle of a sequence, the last its end."""
        chance = random.Random(f'{seed} {self.name}')
        return [*(chance.randrange(1, self.length + 1) for _ in range(count - 1)), self.length]


def cast(name):
    return Cast(os.path.join(FOLDER, name + '.cast'))


def as_recording(steps, size):
    """The recording (bytes) of these steps."""
    events = (event(0, 'r', f'{step[1]}x{step[0]}') if isinstance(step, tuple) else output(0, step) for step in steps)
    return (header(2, size[1], size[0]) + ''.join(events)).encode()


def write_cast(path, tokens, size, chance):
    """A recording of these tokens; its events are cut anywhere."""
    data, parts = b''.join(tokens), []
    while data:
        at = chance.randrange(1, 40)
        parts.append(output(0, data[:at]))
        data = data[at:]
    return Cast(write(path, header(2, size[1], size[0]), *parts))
