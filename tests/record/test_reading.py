"""What `record` reads: asciicast v1, v2 and v3 from any program, torn files, bad files, and files of any size.

Authorities: sections 4 and 6 of the contract, the asciicast documentation (v1, v2, v3), RFC 8259 (JSON).
"""
import json
import os
import random

import pytest

from harness import RECORD, TIMEOUT
from record_tools import (ERROR, OWN_MEMORY, V2, V3, casts, chunks, convert, event, good, header, load, output, peak,
                          printed, read_until, record, resident, write)

CONVERSIONS = ('v2', 'v3', 'raw', 'txt', 'ttyrec')
MIB = 1 << 20


def cat(pty, *parts):
    """What `record cat` prints for a recording of these parts."""
    return good('cat', write(pty.path('x.cast'), *parts))


# --- the formats ------------------------------------------------------------------------------------------------------


def test_version_1_is_read(pty):
    """asciicast v1 is one JSON object; `stdout` holds [delay, data] pairs."""
    text = ('{"version": 1, "width": 80, "height": 24, "duration": 1.515658, "command": "/bin/zsh", "title": "",'
            ' "env": {"TERM": "xterm-256color"}, "stdout": [[0.248848, "\\u001b[1;31mHello \\u001b[32mWorld!'
            '\\u001b[0m\\n"], [1.001376, "one\\rtwo on one line."]]}')
    assert cat(pty, text) == b'\x1b[1;31mHello \x1b[32mWorld!\x1b[0m\none\rtwo on one line.'


def test_version_1_may_stand_on_many_lines(pty):
    """JSON does not care for line ends between tokens, and the documentation's v1 example is printed on many."""
    whole = {'version': 1, 'width': 80, 'height': 24, 'duration': 2.5, 'env': {'TERM': 'xterm', 'SHELL': '/bin/sh'},
             'stdout': [[0.5, 'one '], [1.0, 'two '], [1.0, 'th\u00e9 \U0001f600']]}
    for indent in (None, 0, 2, '\t'):
        assert cat(pty, json.dumps(whole, indent=indent) + '\n') == 'one two th\u00e9 \U0001f600'.encode()


def test_version_1_may_name_its_members_in_any_order(pty):
    """The members of a JSON object have no order (RFC 8259, section 4): `stdout` may come before `version`."""
    text = '{"stdout": [[0.5, "first "], [0.25, "second"]], "height": 24, "width": 80, "title": null, "version": 1}\n'
    assert cat(pty, text) == b'first second'


def test_version_2_is_read(pty):
    """After the example of the asciicast v2 documentation: output, a marker, a resize."""
    assert cat(pty, '{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315, "title": "Demo", "env": '
               '{"TERM": "xterm-256color", "SHELL": "/bin/zsh"}}\n'
               '[0.248848, "o", "\\u001b[1;31mHello \\u001b[32mWorld!\\u001b[0m\\n"]\n'
               '[1.001376, "o", "first draft\\rsecond one."]\n[1.500000, "m", ""]\n[2.143733, "o", "Now... "]\n'
               '[4.050000, "r", "80x24"]\n[6.541828, "o", "Bye!"]\n'
               ) == b'\x1b[1;31mHello \x1b[32mWorld!\x1b[0m\nfirst draft\rsecond one.Now... Bye!'


def test_version_3_is_read_with_comments_blank_lines_and_unknown_events(pty):
    """asciicast v3: lines that begin with # are comments; event codes that a reader does not know are ignored."""
    assert cat(pty, '{"version": 3, "term": {"cols": 80, "rows": 24, "type": "xterm-256color"}, "timestamp": '
               '1504467315, "title": "Demo", "env": {"SHELL": "/bin/zsh"}}\n# event stream follows the header\n'
               '[0.248, "o", "\\u001b[1mHello \\u001b[0m\\n"]\n\n#\n#[0.1, "o", "no"]\n[1.001, "o", "ok\\rbetter."]\n'
               '[3.500, "m", ""]\n[1, "z", {"any": ["thing", 1, null, true]}]\n[0.1, "subtitle", "ta ta"]\n\n\n'
               '[0.143, "o", "Now... "]\n# resized\n[2.050, "r", "90x30"]\n[1.541, "o", "Bye!"]\n[0.887, "x", "0"]\n'
               ) == b'\x1b[1mHello \x1b[0m\nok\rbetter.Now... Bye!'


def test_times_of_version_3_are_intervals(pty):
    """In v3 an event's number is the time since the one before it, whatever kind that was."""
    path = write(pty.path('x.cast'), V3, '[1.5, "o", "a"]\n# c\n[0.25, "m", "x"]\n[0.25, "z", 0]\n[1, "o", "b"]\n')
    events = chunks(load(good('convert', '-t', 'v2', path))[1])
    assert events == [[1.5, b'a'], [3.0, b'b']]


@pytest.mark.parametrize('version', [2, 3])
def test_unknown_events_are_skipped(pty, version):
    """Both documents: a tool ignores the event codes that it does not understand, whatever their data is."""
    assert cat(pty, header(version), '[0.1, "o", "a"]\n[0.2, "q", "b"]\n[0.3, "weird", [1, {"o": "c"}]]\n[0.3, "", 4]\n'
               '[0.4, "O", "d"]\n[0.5, "oo", "e"]\n[0.6, "i", "f"]\n[0.7, "m", "g"]\n[0.8, "o", "h"]\n') == b'ah'


@pytest.mark.parametrize('version', [1, 2, 3])
def test_crlf_line_ends_are_read(pty, version):
    """A recording that went through a Windows editor or a mail: JSON counts \\r as white space."""
    text = {1: '{"version": 1, "width": 80,\r\n"height": 24, "stdout": [\r\n[0.1, "a\\r\\n"],\r\n[0.2, "b"]\r\n]}\r\n',
            2: V2.replace('\n', '\r\n') + '[0.1, "o", "a\\r\\n"]\r\n[0.2, "o", "b"]\r\n',
            3: V3.replace('\n', '\r\n') + '# c\r\n[0.1, "o", "a\\r\\n"]\r\n\r\n[0.2, "o", "b"]\r\n'}[version]
    assert cat(pty, text) == b'a\r\nb'


def test_every_json_escape_is_read(pty):
    """RFC 8259, section 7: the eight short escapes and \\uXXXX with hexadecimal digits of either case."""
    assert cat(pty, V2, r'[1, "o", "\"\\\/\b\f\n\r\t"]', '\n',
               r'[2, "o", "\u0041\u00e9\u00E9\u20ac\u0000\u001b\u007f"]',
               '\n') == b'"\\/\b\f\n\r\t' + 'A\u00e9\u00e9\u20ac'.encode() + b'\x00\x1b\x7f'


def test_surrogate_pairs_are_one_character(pty):
    """RFC 8259: a character outside the basic plane is escaped as a UTF-16 surrogate pair; here both ends of the
    range."""
    assert cat(pty, V2, r'[1, "o", "<\ud83d\ude00\uD83D\uDE00\ud800\udc00\udbff\udfff\uffff>"]', '\n'
               ) == '<\U0001f600\U0001f600\U00010000\U0010ffff\uffff>'.encode()


@pytest.mark.parametrize('lone', [r'\ud83d', r'\ude00', r'\ud83dx', r'\ud83d\n', r'\ud83d\u0041', r'\ude00\ud83d'])
def test_a_lone_surrogate_never_becomes_bytes_that_are_not_utf8(pty, lone):
    """A lone surrogate has no UTF-8 (RFC 3629, section 3): U+FFFD in its place, or a bad file, but never three stray
    bytes."""
    run = record('cat', write(pty.path('x.cast'), V2, f'[1, "o", "a{lone}b"]\n'))
    if run.returncode == 0:
        text = run.stdout.decode()
        assert text[0] == 'a' and text[-1] == 'b' and '\ufffd' in text, text
    else:
        assert run.returncode == 1 and ERROR.match(run.stderr.decode())['line'] == '2'


def test_characters_written_as_they_are_come_out_as_they_are(pty):
    """JSON strings may hold any character of U+0020 and up unescaped, DEL and U+2028 too."""
    text = 'plain \u00e9 \u20ac \U0001f600 \u4f60\u597d \x7f \u2028 \ufeff \x80\x9b'
    assert cat(pty, V2, '[1, "o", "' + text + '"]\n') == text.encode()


@pytest.mark.parametrize('number, value', [
    ('1', 1), ('0', 0), ('-0', 0), ('-0.0', 0), ('1.0', 1), ('1.50', 1.5), ('2e0', 2), ('2E0', 2), ('2e+1', 20),
    ('25e-1', 2.5), ('0.25E+1', 2.5), ('1.5e1', 15), ('0.000001', 0.000001), ('1e-6', 0.000001),
    ('3.0000000000000000000000000000000000', 3), ('0.1000000000000000055511151231257827', 0.1),
    ('123456.789012', 123456.789012)])
def test_times_may_be_numbers_in_every_json_form(pty, number, value):
    """RFC 8259, section 6: an optional fraction, an optional exponent of either case and sign, any number of digits."""
    path = write(pty.path('x.cast'), V2, f'[{number}, "o", "x"]\n[200000, "o", "y"]\n')
    found = chunks(load(good('convert', '-t', 'v2', path))[1])
    assert found == [[pytest.approx(value, abs=5e-7), b'x'], [200000, b'y']]


def test_white_space_stands_anywhere_between_tokens(pty):
    """RFC 8259, section 2: spaces and tabs around every token; also before the first."""
    assert cat(pty, ' \t{ "version"\t:2 ,"width" : 80, "height":\t24 } \t\n', ' [ 1.0 ,\t"o" , "a" ] \n',
               '[2,"o","b"]\n', '\t[3\t,\t"o"\t,\t"c"\t]\t\n') == b'abc'


def test_names_and_codes_may_be_escaped(pty):
    """An escaped character is the same string: "\\u006f" is "o", "\\u0076ersion" is "version"."""
    assert cat(pty, '{"\\u0076ersion": 2, "wid\\u0074h": 80, "height": 24}\n',
               '[1, "\\u006f", "a"]\n[2, "\\u006d", "b"]\n'
               ) == b'a'


def test_header_members_may_come_in_any_order_with_unknown_ones(pty):
    """An object has no order, and members that a reader does not know are no reason to refuse a file."""
    first = ('{"x": [1, [2, {"version": 1, "a": "]}"}]], "env": {"version": "3", "TERM": "a\\"}b"}, "height": 24, '
             '"theme": {"fg": "#d0d0d0", "width": 9}, "n": null, "t": true, "f": false, "e": {}, "l": [], "width": 80, '
             '"version": 2}\n')
    assert cat(pty, first, '[1, "o", "a"]\n') == b'a'


def test_a_size_may_be_a_string(pty):
    """r-lib's asciicast wrote `"width":"80"` for some years; what is no number there is refused as ever."""
    assert cat(pty, '{"version": 2, "width": "132", "height": "43"}\n', event(1, 'o', 'a')) == b'a'
    assert '132x43' in good('info', pty.path('x.cast')).decode()
    assert load(good('convert', '-t', 'v3', pty.path('x.cast')))[0]['term'] == {'cols': 132, 'rows': 43}
    for bad in ('', ' 80', '8e1', 'wide', '65536'):
        run = record('cat', write(pty.path('x.cast'), '{"version": 2, "width": "%s", "height": "43"}\n' % bad))
        assert run.returncode == 1 and b'size' in run.stderr, bad


def test_a_recording_without_events_is_empty(pty):
    """A session may have printed nothing at all."""
    for first in (V2, V3, V2.rstrip('\n'), '{"version": 1, "width": 80, "height": 24, "stdout": []}'):
        assert cat(pty, first) == b''
        good('info', pty.path('x.cast'))


def test_a_whole_last_line_counts_though_its_newline_is_missing(pty):
    """Other programs and editors leave the last newline out; the event is there, so it is shown."""
    for first in (V2, V3):
        assert cat(pty, first, '[1, "o", "a"]\n[1, "o", "b"]') == b'ab'


def test_exact_bytes_stand_in_for_the_output_that_follows_them(pty):
    """Section 4: a `b` event holds the exact bytes of the `o` event behind it, in base64; `record` uses it in its
    place."""
    parts = [b'\xff', b'ok', bytes(range(256)), b'caf\xc3\xa9 \xc3', b'\xa9', b'\x80' * 1000, 'é'.encode(),
             b'\xed\xa0\x80']
    text = ''.join(output(n, part) for n, part in enumerate(parts))
    assert text.count('"b"') == 6
    for first in (V2, V3):
        assert cat(pty, first, text) == b''.join(parts)


@pytest.mark.parametrize('length', range(1, 9))
def test_base64_of_every_length_is_read(pty, length):
    """RFC 4648, section 4: one or two = pad what is not a multiple of three bytes."""
    data = bytes(random.Random(length).choices(range(128, 256), k=length))
    assert cat(pty, V2, output(1, data), output(2, data[::-1])) == data + data[::-1]


# --- golden recordings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', casts(), ids=os.path.basename)
def test_golden_recordings_are_read_to_the_byte(path):
    """Recordings of asciinema 2.2, of the documentation and of our shim (tests/casts/README.md say which is which)."""
    data = printed(path)
    assert data and good('cat', path) == data
    with open(path, 'rb') as f:
        assert good('cat', '-', stdin=f) == data


@pytest.mark.parametrize('path', casts(), ids=os.path.basename)
def test_golden_recordings_have_an_information_block_and_convert_to_everything(path):
    """Every command reads every file."""
    assert good('info', path).strip()
    for kind in CONVERSIONS:
        assert convert(kind, path)


# --- torn files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('version', [2, 3])
def test_a_file_torn_at_any_byte_keeps_every_whole_event(pty, version):
    """Section 4: killing the shim leaves a torn last line at worst, and every reader copes with that."""
    lines = [header(version, command='a "b" c', env={'TERM': 'xterm'}), output(0.5, 'h\u00e9llo "w" \\\r\n'.encode()),
             output(0.75, b'\xff\x00\xfe'), event(1, 'm', 'x'), event(1.5, 'r', '90x30'),
             output(2, 'z\U0001f600\t'.encode()),
             event(2.5, 'x', '0')]
    data = ''.join(lines).encode()
    wholes = [load(data[:n])[1] for n in range(len(data) + 1) if n == len(data) or data[n - 1:n] == b'\n' and n]
    path = pty.path('x.cast')
    for cut in range(len(lines[0].encode()), len(data) + 1):
        write(path, data[:cut])
        shown = good('cat', path)
        events = max((w for w in wholes if len(w) <= data[:cut].count(b'\n') - 1), key=len)
        at_least = b''.join(d for _, d in chunks(events))
        line = data[:cut].rpartition(b'\n')[2]
        if line.endswith(b']'):                          # only the newline is missing: the event is whole
            at_least = b''.join(d for _, d in chunks(load(data[:cut])[1]))
        allowed = {at_least}
        if (events and events[-1][1] == 'b') or b'"b"' in line:     # the pair is torn: its bytes may count or not
            allowed.add(at_least + b'\xff\x00\xfe')
        assert shown in allowed, (cut, data[:cut][-60:], shown)


@pytest.mark.parametrize('version', [2, 3])
def test_a_torn_file_has_information_and_converts(pty, version):
    """The other commands cope as well, in silence."""
    data = (header(version) + output(1, b'ab\xff') + output(2, 'z\u00e9"'.encode())).encode()
    path = pty.path('x.cast')
    for cut in range(len(header(version)), len(data)):
        write(path, data[:cut])
        good('info', path)
        convert(('v2', 'v3', 'txt', 'ttyrec', 'raw')[cut % 5], path)


def test_a_torn_header_is_no_crash(pty):
    """Killed before its first line was whole, a recording holds nothing, so nothing comes out of it."""
    for first in (V2, V3):
        for cut in range(1, len(first) - 1):
            run = record('cat', write(pty.path('x.cast'), first[:cut]))
            assert run.stdout == b'' and run.returncode in (0, 1), (cut, run.returncode)
            assert run.returncode == 0 or ERROR.match(run.stderr.decode())['line'] == '1'


@pytest.mark.parametrize('before', ['{"version": 1, "width": 90, "height": 20, "stdout": [', '{"version": 1,\n"stdout": [\n',
                                    '{\n"stdout": ['], ids=['a line', 'lines', 'stdout first'])
def test_version_1_is_one_document_and_read_whole_or_not_at_all(pty, before):
    """Torn, it is no JSON: an error that names the line, from a file and from a pipe alike."""
    data = before + '[0.5, "one"],\n[0.5, "two"'
    for run in (record('cat', write(pty.path('x.json'), data)), record('cat', '-', input=data.encode())):
        assert (run.returncode, run.stdout) == (1, b''), run
        assert ERROR.match(run.stderr.decode())['line'] == str(data.count('\n') + 1)


# --- bad files --------------------------------------------------------------------------------------------------------

BAD_HEADERS = {
    'empty': '', 'text': 'hello\n', 'array': '[1, "o", "x"]\n', 'string': '"version"\n', 'a newline alone': '\n',
    'no version': '{"width": 80, "height": 24}\n', 'version 4': '{"version": 4, "width": 80, "height": 24}\n',
    'version 0': '{"version": 0, "width": 80, "height": 24}\n',
    'unclosed object': '{"version": 2, "width": 80, "height": 24\n[1, "o", "a"]\n',
    'an event on its line': V2[:-1] + '[1, "o", "a"]\n', 'an event behind it, torn': V2[:-1] + ' [1, "o", "a"]',
    'junk behind the object': '{"version": 2, "width": 80, "height": 24} x\n',
    'no colon': '{"version" 2, "width": 80, "height": 24}\n',
    'no comma': '{"version": 2 "width": 80, "height": 24}\n',
    'a member without a name': '{2, "width": 80, "height": 24}\n',
    'single quotes': "{'version': 2, 'width': 80, 'height': 24}\n",
    'machine code': b'\x7fELF\x02\x01\x01\x00\x00\x00\n\x00\x01\n',
    'zeros': b'\0' * 4096, 'a comment first': '# a comment\n' + V3,
    'a raw word': '{"version": 2, "width": 80, "height": 24, "x": yes}\n',
}
BAD_EVENTS = {
    'object': '{"a": 1}', 'text': 'hello', 'number': '12', 'empty array': '[]', 'time alone': '[1.0]',
    'no data': '[1.0, "o"]',
    'time is a string': '["1.0", "o", "x"]', 'time is null': '[null, "o", "x"]', 'code is a number': '[1.0, 2, "x"]',
    'data is a number': '[1.0, "o", 5]', 'data is null': '[1.0, "o", null]', 'data is an array': '[1.0, "o", ["x"]]',
    'unclosed': '[1.0, "o", "x"', 'closed by a brace': '[1.0, "o", "x"}', 'closed twice': '[1.0, "o", "x"]]',
    'junk behind': '[1.0, "o", "x"] x', 'two on a line': '[1.0, "o", "x"] [1.0, "o", "x"]',
    'unknown escape': r'[1.0, "o", "\q"]',
    'hex escape': r'[1.0, "o", "\x41"]', 'bad digits': r'[1.0, "o", "\u12G4"]', 'too few digits': r'[1.0, "o", "\u12"]',
    'a raw control character': '[1.0, "o", "\x1b[1m"]', 'a raw tab': '[1.0, "o", "a\tb"]',
    'unclosed string': '[1.0, "o", "x]',
    'an escaped quote at the end': r'[1.0, "o", "x\"]', 'leading zero': '[01.0, "o", "x"]',
    'no digit before the point': '[.5, "o", "x"]',
    'no digit after the point': '[1., "o", "x"]', 'plus sign': '[+1, "o", "x"]', 'no exponent': '[1e, "o", "x"]',
    'NaN': '[NaN, "o", "x"]', 'Infinity': '[Infinity, "o", "x"]', 'a minus alone': '[-, "o", "x"]',
    'two points': '[1.2.3, "o", "x"]',
    'hexadecimal': '[0x10, "o", "x"]', 'comma at the end': '[1.0, "o", "x",]', 'no comma': '[1.0 "o", "x"]',
    'two commas': '[1.0,, "o", "x"]',
    'single quotes': "[1.0, 'o', 'x']", 'not base64': '[1.0, "b", "!!!!"]', 'base64 cut': '[1.0, "b", "QUJDR"]',
    'base64 padded wrongly': '[1.0, "b", "Q=JD"]', 'bytes that are a number': '[1.0, "b", 7]',
}


@pytest.mark.parametrize('why', BAD_HEADERS)
def test_a_bad_header_is_named_with_its_line(pty, why):
    """Section 6: `record: FILE:LINE: why`, exit 1, whatever the command."""
    path = write(pty.path('bad.cast'), BAD_HEADERS[why])
    for command in (('cat',), ('info',), ('convert', '-t', 'raw'), ('play',)):
        run = record(*command, path)
        found = ERROR.match(run.stderr.decode())
        assert run.returncode == 1 and found and found['file'] == path, (command, run)
        assert found['line'] in ('1', '2') if why == 'unclosed object' else found['line'] == '1'


@pytest.mark.parametrize('why', BAD_EVENTS)
def test_a_bad_event_is_named_with_its_line(pty, why):
    """What stands before the bad line is shown; the bad line is named, and the exit status is 1."""
    path = write(pty.path('bad.cast'), V2, '[0.5, "o", "one"]\n[0.6, "m", ""]\n', BAD_EVENTS[why],
                 '\n[2, "o", "two"]\n')
    run = record('cat', path)
    found = ERROR.match(run.stderr.decode())
    assert run.returncode == 1 and found and (found['file'], found['line']) == (path, '4'), run
    assert b'one'.startswith(run.stdout)


def test_a_bad_event_stops_every_command_with_status_1(pty):
    """info, convert and play name the line too; in v3 comments and blank lines are counted."""
    path = write(pty.path('bad.cast'), V3, '# c\n\n[0.01, "o", "one"]\n[0.01, "o" "x"]\n[0.01, "o", "two"]\n')
    for command in (('cat',), ('info',), ('play',), *(('convert', '-t', kind) for kind in CONVERSIONS)):
        run = record(*command, path)
        found = ERROR.match(run.stderr.decode())
        assert run.returncode == 1 and found and found['line'] == '5', (command, run)


@pytest.mark.parametrize('frames', ['{"a": 1}', '[1]', '[["x", 1]]', '[[0.1]]', '[[0.1, "a"]',
                                    '[[0.1, "a"] [0.2, "b"]]', 'null'])
def test_a_bad_version_1_file_is_named(pty, frames):
    """v1 is one document; the line is where the reader stands in it."""
    path = write(pty.path('bad.json'), f'{{"version": 1, "width": 80, "height": 24, "stdout": {frames}}}\n')
    run = record('cat', path)
    assert run.returncode == 1 and ERROR.match(run.stderr.decode()), run


def test_a_file_read_from_standard_input_is_named_too(pty):
    """`-` is standard input; an error there has a name and a line as well."""
    run = record('cat', '-', input=(V2 + '[1, "o", "a"]\nbad\n').encode())
    assert run.returncode == 1 and ERROR.match(run.stderr.decode())['line'] == '3', run


@pytest.mark.parametrize('command', [('cat',), ('info',), ('play',), ('convert', '-t', 'raw')])
def test_a_file_that_cannot_be_read_is_an_error(pty, command):
    """A missing file and a folder: the system's reason, with the file's name, exit 1."""
    for path, why in ((pty.path('missing.cast'), 'No such file or directory'), (pty.folder, 'Is a directory')):
        run = record(*command, path)
        assert run.returncode == 1 and run.stdout == b'' and run.stderr.decode() == f'record: {path}: {why}\n', run


def test_a_full_disk_is_an_error(pty):
    """write(2) that fails with ENOSPC must not look like success: /dev/full(4)."""
    path = write(pty.path('x.cast'), V2, event(1, 'o', 'x' * 100000))
    for command in (('cat',), ('info',), ('convert', '-t', 'v3'), ('convert', '-t', 'txt'), ('play',)):
        with open('/dev/full', 'wb') as full:
            run = record(*command, path, stdout=full)
        assert run.returncode == 1 and b'No space left on device' in run.stderr, (command, run)


# --- what nobody would write, and somebody will -----------------------------------------------------------------------


@pytest.mark.parametrize('depth', [30, 5000, 1000000])
def test_deep_nesting_overflows_no_stack(pty, depth):
    """JSON nests without a limit; a reader that recurses for each bracket ends by SIGSEGV. It is read, or refused."""
    deep, objects = '[' * depth + ']' * depth, '{"a":' * depth + '1' + '}' * depth
    path, tail = pty.path('x.cast'), '\n[1, "o", "a"]\n'
    for text in (f'{V2[:-2]}, "x": {deep}}}', f'{V2[:-2]}, "x": {objects}}}', f'{V3}[1, "z", {deep}]'):
        run = record('cat', write(path, text, tail))
        assert (run.returncode, run.stdout) == (0, b'a') or (run.returncode == 1 and depth > 30), run
    run = record('cat', write(path, V3, '[1, "z", ' + '[' * depth, tail))
    assert run.returncode == 1 and ERROR.match(run.stderr.decode()), run


def test_a_huge_line_is_one_event(pty):
    """A line has no length limit: 16 MiB of output in one event, with escapes, as raw text and as exact bytes."""
    data = b'0123456789abcde\n' * MIB
    path = write(pty.path('x.cast'), V2, event(1, 'o', data.decode()), output(2, b'\xff' + data[:3 * MIB]),
                 event(3, 'o', 'end'))
    assert good('cat', path) == data + b'\xff' + data[:3 * MIB] + b'end'
    assert good('cat', '--from', 16 * MIB, '--to', 16 * MIB + 5, path) == b'\xff0123'


@pytest.mark.parametrize('give', ['file', 'pipe'])
def test_a_huge_element_of_version_1_is_one_event(pty, give):
    """The same in v1, where the document is one: escapes and characters that the window cuts are whole again."""
    text = ''.join(f'{n} \u00e9"\\\n\U0001f600[{{' for n in range(250000))
    whole = {'version': 1, 'width': 80, 'height': 24, 'stdout': [[1, 'a'], [0.5, text], [0.25, '<b>']]}
    for data in (json.dumps(whole, ensure_ascii=False), json.dumps(whole, indent=1)):
        path = write(pty.path('x.json'), data)
        shown = good('cat', path) if give == 'file' else good('cat', '-', input=data.encode())
        assert len(text) > 3 * MIB and shown == f'a{text}<b>'.encode()
    assert load(good('convert', '-t', 'v2', path))[1][-1] == [1.75, 'o', '<b>']
    assert json.loads(good('info', '--json', path))['events'] == 3


def test_a_huge_comment_of_version_3_is_passed_over(pty):
    """A comment ends where its line does, however long; what looks like an event in it is none."""
    text = ' [1, "o", "x"] "' * (3 * MIB // 16)
    assert cat(pty, V3, '[1, "o", "a"]\n#', text, '\n[1, "o", "b"]\n# torn', text) == b'ab'
    run = record('cat', write(pty.path('y.cast'), V3, '#', text, '\n[1, "o", "a"]\nbad\n'))
    assert run.stdout == b'a' and ERROR.match(run.stderr.decode())['line'] == '4'


def test_a_huge_header_is_read(pty):
    """A title, an environment or a theme has no length limit; v1 has what stands behind its events too."""
    text = 'x' * (3 * MIB)
    for first in (header(2, title=text), header(3, env={'A': text})):
        assert cat(pty, first, '[1, "o", "a"]\n') == b'a'
        assert text in good('convert', '-t', 'v2', pty.path('x.cast')).decode()
    stdout = '"version": 1, "width": 80, "height": 24, "stdout": [[1, "a"]]'
    for whole in (f'{{"title": "{text}", {stdout}}}', f'{{{stdout}, "title": "{text}"}}'):
        assert cat(pty, whole) == b'a'
        assert text in good('info', pty.path('x.cast')).decode()


@pytest.mark.parametrize('before, line', [('{"version": 2, "title": "', '1'), (V2 + '[1, "o", "', '2')], ids=['header', 'event'])
def test_a_line_is_held_whole_up_to_64_megabytes(pty, before, line):
    """Over that, it is an error, and not a large process."""
    run = record('cat', write(pty.path('x.cast'), before, 'x' * (64 * MIB)))
    assert run.returncode == 1 and ERROR.match(run.stderr.decode()).group('line', 'why') == (line, 'a line is longer than 64 MiB')


def test_many_tiny_events_are_read(pty):
    """A program that prints byte by byte."""
    path = write(pty.path('x.cast'), V2, ''.join(event(n / 1e6, 'o', chr(33 + n % 90)) for n in range(100000)))
    assert good('cat', path) == bytes(33 + n % 90 for n in range(100000))


@pytest.mark.parametrize('time_of', ['1e999', '1e308', '9' * 400, '-1e999', '-5', '1e-999'])
def test_absurd_times_are_no_crash_and_no_hang(pty, time_of):
    """Numbers that no clock holds: read or refused, at once, and nothing is printed twice."""
    path = write(pty.path('x.cast'), V2, f'[0.1, "o", "a"]\n[{time_of}, "o", "b"]\n')
    for command in (('cat',), ('info',), ('convert', '-t', 'v3'), ('convert', '-t', 'ttyrec')):
        run = record(*command, path, timeout=TIMEOUT)
        assert run.returncode in (0, 1), (command, run)
        assert command != ('cat',) or run.stdout in (b'a', b'ab')


@pytest.mark.parametrize('size', ['"axb"', '"80"', '"0x0"', '"99999999999x24"', '"-1x5"', '"80x24x7"', '5'])
def test_a_resize_that_makes_no_sense_is_no_crash(pty, size):
    """Output does not depend on it: read or refused."""
    path = write(pty.path('x.cast'), V2, f'[0.1, "o", "a"]\n[0.2, "r", {size}]\n[0.3, "o", "b"]\n')
    for command in (('cat',), ('info',), ('convert', '-t', 'txt'), ('play',)):
        run = record(*command, path, timeout=TIMEOUT)
        assert run.returncode in (0, 1), (command, run)


def test_random_damage_never_crashes_the_reader(pty):
    """Bytes flipped, dropped and doubled at random in a good recording: exit 0 or 1, never a signal, never a hang."""
    dice = random.Random(6)
    whole = (header(env={'TERM': 'x'}, theme={'fg': '#fff'}) + output(0.1, b'a\xffb')
             + output(0.2, 'h\u00e9 "\\\U0001f600'.encode())
             + event(0.3, 'r', '90x30') + event(0.4, 'm', 'q') + event(0.5, 'x', '3')).encode()
    path = pty.path('x.cast')
    for turn in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            what = dice.randrange(4)
            if what == 0:
                data[at] = dice.randrange(256)
            elif what == 1:
                del data[at:at + dice.randint(1, 20)]
            elif what == 2:
                data[at:at] = data[at:at + dice.randint(1, 20)]
            else:
                data[at:at] = dice.choice([b'"', b'\\', b'[', b'{', b'\n', b'\\u', b'1e9', b'\0', b'\xff'])
            if not data:
                break
        write(path, bytes(data))
        command = (('cat',), ('info',), ('convert', '-t', 'txt'), ('convert', '-t', 'v3'))[turn % 4]
        run = record(*command, path, timeout=TIMEOUT)
        assert run.returncode in (0, 1), (turn, command, run.returncode, bytes(data))
        assert (run.returncode == 1) == bool(run.stderr), (turn, run)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module', name='big')
def big_recording(tmp_path_factory):
    """200 MB of recording: text, escapes, exact bytes, markers."""
    path = tmp_path_factory.mktemp('big') / 'big.cast'
    dice = random.Random(4)
    lines = []
    for n in range(300):
        text = ''.join(dice.choices('abcdefghij \u00e9\u4f60\x1b\r\n\t"\\', k=2000)).encode()
        lines.append(output(0, text if n % 3 else text + b'\xff').replace('[0.000000', '[\0').encode())
    size, now = 0, 0.0
    with open(path, 'wb') as f:
        f.write(V2.encode())
        while size < 200_000_000:
            now += 0.01
            size += f.write(b''.join(lines).replace(b'\0', b'%.6f' % now))
    yield path
    os.unlink(path)


@OWN_MEMORY
@pytest.mark.parametrize('command', [('cat',), ('info',), *(('convert', '-t', kind) for kind in CONVERSIONS),
                                     ('play', '-s', '1000')], ids=' '.join)
def test_memory_stays_flat_for_a_recording_of_200_megabytes(pty, big, command):
    """Section 6: memory does not grow with the recording; issue 4 says under 8 MiB."""
    assert big.stat().st_size > 200_000_000
    if 'txt' in command:                                     # it draws a screen, which takes its time: 40 MB will do
        with open(big, 'rb') as f:
            big = write(pty.path('part.cast'), f.read(40_000_000))
    assert peak([*command, big]) < 8 * MIB


@OWN_MEMORY
def test_memory_stays_flat_when_play_goes_back(pty, big):
    """Issue 4: `every command but going back in play, and that is bounded too`: here twice, over 3 MB of output."""
    with open(big, 'rb') as f:
        path = write(pty.path('part.cast'), f.read(3_000_000).rpartition(b'\n')[0], '\n', event(1000, 'o', '<here>'),
                     event(9000, 'o', 'late'))
    child = pty.terminal(RECORD, 'play', '-t', '1001', path).child
    for key in (b'', b'\x1b[D', b'\x1b[C', b'\x1b[D', b'\x1b[C'):
        os.write(child.child_fd, key)
        if key != b'\x1b[D':
            read_until(child, b'<here>', TIMEOUT * 3)
    assert resident(child.pid) < 8 * MIB


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('argv', [
    [], ['frobnicate', 'F'], ['--frobnicate'], ['cat'], ['cat', '--frobnicate', 'F'],
    ['cat', '--from', 'F'],
    ['cat', '--from', 'x', 'F'], ['cat', '--from', '-1', 'F'], ['cat', '--to', '', 'F'], ['cat', '--to', '1x', 'F'],
    ['cat', '--from'],
    ['info', '-Z', 'F'], ['play'], ['play', 'F', 'F'], ['play', '-s', 'fast', 'F'], ['play', '-s', '0', 'F'],
    ['play', '-s', '0.05', 'F'], ['play', '-s', '1001', 'F'], ['play', '-s', '-2', 'F'], ['play', '-s', '', 'F'],
    ['play', '-s', 'nan', 'F'],
    ['play', '-i', 'x', 'F'], ['play', '-i', '-1', 'F'], ['play', '-t', 'x', 'F'], ['play', '-t', '-1', 'F'],
    ['play', '-s'],
    ['play', '-Z', 'F'], ['convert', 'F'], ['convert', '-t', 'v9', 'F'], ['convert', '-t', 'raw'], ['convert', '-t'],
    ['convert', '-t', 'raw', 'F', 'F'], ['convert', '-t', 'raw', '-o']], ids=' '.join)
def test_usage_errors_exit_2_and_print_no_output(pty, argv):
    """Usage is 2, said on standard error; nothing is read or played."""
    path = write(pty.path('x.cast'), V2, '[0.01, "o", "a"]\n')
    run = record(*[path if a == 'F' else a for a in argv])
    assert (run.returncode, run.stdout) == (2, b'') and run.stderr.startswith(b'record: ') or \
        (argv == [] and run.returncode == 2 and run.stderr), run


@pytest.mark.parametrize('argv', [['--help'], ['cat', '-h'], ['--version'], ['play', '-V']], ids=' '.join)
def test_help_that_cannot_be_written_is_an_error(argv):
    """A full disk is no success, for help neither: /dev/full(4)."""
    with open('/dev/full', 'wb') as full:
        run = record(*argv, stdout=full)
    assert run.returncode == 1 and b'No space left on device' in run.stderr, run


def test_the_keys_are_shown_by_the_help_of_play():
    """Issue 4: what the keys do is shown by `record play --help`."""
    text = good('play', '--help').decode().lower()
    for word in ('space', 'pause', '.', ']', 'marker', '+', '-', 'speed', 'left', 'right', 'q'):
        assert word in text, word


def test_options_and_file_come_in_any_order_and_two_dashes_end_the_options(pty):
    """POSIX utility conventions: `--` ends the options, so that a file may be called -x."""
    write(pty.path('-x.cast'), V2, event(0.01, 'o', 'abc'))
    assert good('cat', '--to', '2', '--', '-x.cast', cwd=pty.folder) == b'ab'
    assert good('cat', '--to=2', './-x.cast', cwd=pty.folder) == b'ab'
