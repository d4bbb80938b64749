#!/usr/bin/python3
"""Writes the seeds of the fuzz targets, tests/fuzz/corpus/TARGET/*: what real clients send, and what real programs have
printed (from the golden recordings in tests/casts). Run by hand when a target's input changes its form; a few bytes
before the data are the target's own: a plan of cuts (fuzz.hpp), and choices.
"""
import base64
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
CASTS = HERE.parent / "casts"
WHOLE, PIECES = b"\0", b"\x05\x00\x0b\x86\x40\x82"  # plans: one piece; of 1, 12, 7 (marked), 65 and 3 (marked) bytes


def output_of(name):
    """The bytes that the recorded program printed."""
    output, exact = b"", None
    for line in (CASTS / name).read_text().splitlines()[1:]:
        _, kind, text = json.loads(line)
        if kind == "b":
            exact = base64.b64decode(text)
        elif kind == "o":
            output += text.encode() if exact is None else exact
            exact = None
    return output


def window(rows, columns):
    """A window-change message."""
    return b"\xff\xffss" + struct.pack(">4H", rows, columns, 0, 0)


def terminal_bytes():
    """Pieces of real output, each small, and what a late client must not be asked."""
    vim = output_of("vim.cast")
    return {
        "bash": output_of("bash.cast")[:800], "vim-begin": vim[:1500], "vim-end": vim[-700:],
        "dialog": output_of("dialog.cast")[:1200], "less": output_of("less.cast")[:900],
        "bytes": output_of("shim-bytes.cast"), "latin1": output_of("latin1.cast"),
        "questions": b"\x1b[c\x1b[>c\x1b[6n\x1b[?6n\x1b[5n\x1b[?2026$p\x1b[14t\x1b[>q\x1b[?u\x05\x1bZ\x1b]11;?\x07"
                     b"\x1b]52;c;?\x1b\\\x1bP$qm\x1b\\\x1bP+q544e\x1b\\\x1b_Gi=31,a=q;AAAA\x1b\\\xc2\x9bc text",
        "modes": b"\x1b7\x1b[?1049h\x1b[2;20r\x1b[?1;1002;1006;2004h\x1b[?25l\x1b=\x1b[4h\x1b(0\x0e"
                 b"\x1b[1;38;5;9;48;2;1;2;3m\x1b[4:3m\x1b[58:2::1:2:3m\x1b[2 q\x1b[>4;2m\x1b[>1u"
                 b"\x1b8\x1b[H\x1b[2Jtext\x1b[?1049l\x1b[!p\x1bc",
        "broken": b"\x1b\x1b[5\x1b[c n\xc2\x05\x9b\xc2\xc2\x9bc\x1b]0;\xe2\x82\x18\x1b[999999999999;;;:::m\x1bP1;2\xff"}


def input_seeds():
    hello = window(24, 80)
    typed = "ls -l\r\x03\x1b[A caf\u00e9 \u20ac\x7f".encode()
    stun = struct.pack(">HHI", 1, 0, 0x2112A442) + bytes(range(12))
    return {
        "hello-typed": WHOLE + hello + typed,
        "hello-resized": PIECES + hello + typed + window(50, 132) + b"more\xff\xff" + window(0, 9) + b"\xff\xffsX\xff",
        "hello-no-window": PIECES + window(0, 0) + b"binary\0\xff\xffss12345678", "hello-cut": PIECES + hello[:9],
        "typed": PIECES + typed, "pasted": WHOLE + b"for i in 1 2 3; do echo $i; done\r" * 3,
        "http": PIECES + b"POST /x HTTP/1.1\r\nHost: localhost:43210\r\n\r\nrm -rf ~\n",
        "http-other": PIECES + b"BREW coffee://pot HTCPCP/1.0\r\n",
        "tls": PIECES + b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(16),
        "tls-1.3": PIECES + b"\x16\x03\x04\x01\x00\x01\x00\x00\xfc\x03\x03",
        "tls-5": WHOLE + b"\x16\x03\x05\x01\x00\x01\x00\x00\xfc", "stun": PIECES + stun,
        "stun-framed": PIECES + b"\0\x14" + stun}


def encoder_seeds(printed):
    seeds = {f"{name}-{choices}": PIECES + bytes([choices]) + text[:600]
             for name, text in printed.items() if name in ("bash", "vim-begin", "bytes", "latin1")
             for choices in (3, 0xF4)}
    characters = "A\u00e9\u20ac\U0001f600\ufffd\ud7ff\ue000".encode()
    broken = b"\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82\xf0\x9f\x98\xffA\x80\xf8"
    return seeds | {"characters": b"\x02\x00\x82\x0b" + characters * 3, "broken": b"\x02\x00\x82\x09" + broken * 3}


def reader_seeds(printed):
    head = b'{"version": 2, "width": 20, "height": 5}\n'
    seeds = {f"screen-{name}": b"\x01" + PIECES + text[:1000] for name, text in printed.items()}
    return seeds | {
        "long-line": head + b'[0.5, "o", "\x02\xa0x\\u00e9\\ud83d\\ude00"]\n[1, "x", "0"]\n',
        "long-base64": head + b'[0.5, "b", "\x02\xa0AAAA"]\n[0.5, "o", "?"]\n[0.6, "i", "q"]\n',
        "deep": head[:-2] + b', "a": ' + b"[" * 60 + b"]" * 60 + b'}\n[1, "z", [[[{}]]]]\n[2, "m", "a"]',
        "deep-long": head[:-2] + b', "a": \x02\x30[\x02\x30]}\n[1, "z", \x02\x30[\x02\x30]]\n',
        "screen-region": b"\x01" + WHOLE +
                         b"\x1b[2;99r\x1b[9;99H\n\n\x1b[L\x1b[3M\x1bM\x1b[99S\x1b[2T\x1b[5;2r\n\x1b[99@x\x1b[P\x1b[9b",
        "torn": head + b'[0.1, "o", "a\\', "header-only": head[:-1]}


def option_seeds():
    lines = {
        "tcp": ["-H", "64K", "-s", "80x24", "127.0.0.1:0", "vim", "a b"],
        "unix": ["--record", "x.cast", "-i", "--max-record=2G", "-w", "./a.sock", "bash", "-l"],
        "v6": ["-fn", "-v", "[::1]:0", "--history", "none", "43210", "top"],
        "wrong": ["-s", "0x70000", "-m", "99999999999999999999K", "host:", "--record"],
        "all": ["--history=all", "--no-record", "[::ffff:1.2.3.4]:65536", "x"]}
    return {name: "\n".join(words).encode() for name, words in lines.items()}


def main():
    printed = terminal_bytes()
    corpus = {
        "input": input_seeds(), "model": {name: PIECES + text[:700] for name, text in printed.items()},
        "encoder": encoder_seeds(printed), "reader": reader_seeds(printed), "options": option_seeds()}
    for target, seeds in corpus.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
