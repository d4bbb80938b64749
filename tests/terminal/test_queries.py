"""Issue 5, item 2: what a terminal answers to old questions never reaches the program."""
import time

import pytest

from harness import ATTACH, RECORD, goodbye, hello
from listener import Listener, listen
from screens import Model
from sessions import BUDGET, Watcher, read_quiet, wait_for

ST, BEL = b'\x1b\\', b'\x07'
QUERIES = [
    b'\x1b[c', b'\x1b[0c', b'\x1b[>c', b'\x1b[>0c', b'\x1b[=c', b'\x1b[=0c', b'\x1bZ',      # DA1 DA2 DA3 DECID
    b'\x1b[5n', b'\x1b[6n', b'\x1b[?6n', b'\x1b[?15n', b'\x1b[?25n', b'\x1b[?26n', b'\x1b[?53n', b'\x1b[?996n',    # DSR
    b'\x1b[?2026$p', b'\x1b[?1$p', b'\x1b[4$p',                                                             # DECRQM
    b'\x1bP$qm' + ST, b'\x1bP$q q' + ST, b'\x1bP$qr' + ST, b'\x1bP$q"p' + ST,                              # DECRQSS
    b'\x1bP+q544e' + ST, b'\x1bP+q524742;436f' + ST,                                                     # XTGETTCAP
    b'\x1b]4;1;?' + BEL, b'\x1b]4;1;?' + ST, b'\x1b]4;1;?;2;?' + ST, b'\x1b]5;0;?' + ST,                    # colours
    b'\x1b]10;?' + BEL, b'\x1b]11;?' + ST, b'\x1b]12;?' + BEL, b'\x1b]17;?' + ST, b'\x1b]19;?' + ST,
    b'\x1b]10;?;?' + ST,
    b'\x1b]52;c;?' + BEL, b'\x1b]52;;?' + ST, b'\x1b]52;pc;?' + ST,                                      # the clipboard
    b'\x1b[>q', b'\x1b[>0q',                                                                              # XTVERSION
    b'\x1b[?u', b'\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA' + ST,                                                 # kitty
    b'\x1b[?4m', b'\x1b[x', b'\x1b[0x', b'\x1b[1x',                                        # XTQMODKEYS, DECREQTPARM
    b'\x1b[11t', b'\x1b[13t', b'\x1b[14t', b'\x1b[14;2t', b'\x1b[16t', b'\x1b[18t', b'\x1b[19t', b'\x1b[21t', # XTWINOPS
    b'\x1b[1$w', b'\x1b[2$w', b'\x1b[1;1;1;1;24;80*y', b'\x1b[?1;1;0S',           # DECRQPSR, DECRQCRA, XTSMGRAPHICS
    b'\x05',                                                                                                # answerback
    b'\xc2\x9bc', b'\xc2\x9b6n', b'\xc2\x90$qm\xc2\x9c', b'\xc2\x9d11;?\xc2\x9c',    # 8-bit controls in UTF-8
    b'\x1b[6\x00n', b'\x1b[\x1b[6n', b'\x1b]11\x1b[6n', b'\x1b[12\x18\x1b[5n',
    b'\x1b[0006n', b'\x1b[6;n',                                            # (all these are odd, and still queries)
]
NOT_QUERIES = [
    b'\x1b[22;0;0t', b'\x1b[23;0;0t', b'\x1b]11;#102030' + BEL, b'\x1b]4;1;rgb:11/22/33' + ST,
    b'\x1b]52;c;aGVsbG8=' + BEL, b'\x1b[2 q', b'\x1b[>4;1m', b'\x1b[>1u', b'\x1b[!p', b'\x1b]0;title?' + BEL,
    b'\x1b]8;;http://example.org/?a' + ST, b'\x1b]2;11;?' + BEL, b'\x1b[1;31m', b'\x1b[3g',
    b'\x1bP1;2q#0~' + ST, b'\x1b_Ga=d' + ST, b'\x1b]112' + BEL, b'\x1b[s', b'\x1b[u',
]
EVERYTHING = b''.join(QUERIES)


def answering(listener, pty, aware=True):
    """A client whose terminal answers whatever it is asked, straight into the session."""
    answers = []

    def reply(data):
        answers.append(data)
        watcher.send(data)
    watcher = Watcher(listener.shim.address, aware=aware, reply=reply)
    watcher.answers = answers
    return pty.keep(watcher, watcher.close)


def settled(*watchers, seconds=BUDGET):
    """Reads what the shim has for a late client: the history, the modes, and a redraw."""
    read_quiet(watchers, time.monotonic() + seconds, seconds / 2)


def ask_live(listener, watcher):
    """Proves that the way is open: a question asked now is answered, and that is all that the program reads."""
    assert (listener.input(), watcher.answers) == (b'', []), 'something answered what nobody asks any more'
    listener.print(b'\x1b[c')
    wait_for([watcher], lambda: watcher.answers, 'the question')
    wait_for([watcher], listener.input, 'the answer')
    assert listener.input() == b'\x1b[?62;22c' and watcher.answers == [b'\x1b[?62;22c']


def test_model_answers_every_query():
    """The terminal of these tests is a sharp one: were a query replayed, the test would see an answer."""
    for query in QUERIES:
        answers = []
        Model(reply=answers.append).feed(query)
        assert answers, query
    for other in NOT_QUERIES:
        answers = []
        Model(reply=answers.append).feed(other)
        assert not answers, other


@pytest.mark.parametrize('history', ['64K', 'all'])
@pytest.mark.parametrize('aware', [True, False], ids=['aware', 'raw'])
def test_late_client_is_not_asked_what_was_asked_before(pty, history, aware):
    """History is sent without the queries in it (contract, section 7), be they whole or split over events."""
    listener, always = listen(pty, '-H', history)
    for query in QUERIES:
        listener.print(b'text ' + query + b' more text\r\n')
    for query in QUERIES:
        mark = b'\r\nsplit %d ' % len(always.got)
        listener.print(mark)
        always.read_until(lambda mark=mark: mark in always.got)
        for i in range(len(query)):                             # each byte in an event of its own
            want = len(always.got) + 1
            listener.print(query[i:i + 1])
            if query[i] < 0xc0:                                 # (the first byte of a character waits for its second)
                always.read_until(lambda want=want: len(always.got) >= want)
    listener.print(b'\r\nEND')
    always.read_until(lambda: always.got.endswith(b'\r\nEND'))
    late = answering(listener, pty, aware)
    late.read_until(lambda: 'END' in late.model.screen.text())
    settled(late)
    ask_live(listener, late)


def test_live_bytes_and_recording_keep_the_queries(pty):
    """Queries are left out of what is painted, never out of the live bytes, the recording or `record cat`."""
    listener = Listener(pty)
    always = pty.client(listener.shim.address, hello(0, 0))
    always.read_until(b'READY')
    printed = b'\r\n'.join(QUERIES)
    listener.print(printed)
    assert always.read_bytes(len(printed)) == printed
    listener.end()
    assert always.read_all() == goodbye(0)
    listener.shim.wait_gone()
    run = pty.run(RECORD, 'cat', listener.shim.recording, text=False)
    assert (run.returncode, run.stdout) == (0, b'READY' + printed)


def test_attach_in_a_terminal_that_answers_types_nothing(pty):
    """The same with the real client: come, detach, come back; the program reads nothing."""
    listener = Listener(pty)
    listener.print(EVERYTHING + b'\r\nEND')
    for _ in range(2):
        terminal = pty.terminal(ATTACH, listener.shim.address)
        model, answers = Model(reply=answers_to(terminal)), terminal.answers
        seen = 0
        end = time.monotonic() + BUDGET + 2
        while time.monotonic() < end and not (b'END' in terminal.output and time.monotonic() > end - 2):
            terminal.feed()
            model.feed(terminal.output[seen:])
            seen = len(terminal.output)
        assert 'END' in model.screen.text()
        assert (answers, listener.input()) == ([], b'')
        terminal.send(b'\x1c')
        assert terminal.exit_status() == 0
    assert listener.input() == b''


def answers_to(terminal):
    terminal.answers = []

    def reply(data):
        terminal.answers.append(data)
        terminal.send(data)
    return reply
