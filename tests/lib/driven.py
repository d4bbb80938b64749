"""Programs that draw on a terminal, how they are typed to and resized, and the files that they look at."""
import os

UP, DOWN, RIGHT, LEFT, PAGE = b'\x1b[A', b'\x1b[B', b'\x1b[C', b'\x1b[D', b'\x1b[6~'
PRINTF = 'printf "%b" "$1"; read x; printf "%b" "$2"; read x; printf "%b" "$3"; read x'


def printed(*parts):
    """A shell that prints these, one at each line that is typed."""
    return ['sh', '-c', 'stty -echo; ' + PRINTF, 'sh', *(p.replace('\x1b', '\\0033') for p in parts)]


PROGRAMS = {
    'bash': (
        ['bash', '--norc', '--noprofile', '-i'],
        [
            b'ls --color=always /usr/share | head -30\r', b'echo half typed \xe4\xb8\xad\xe6\x96\x87 text' + LEFT * 4,
            b'\x05 and more words' * 5, b'\x15\x12ls', b'\x07\x15clear; seq 40\r', (20, 70),
            b'printf "\\e[1;31mred \\e[7mrev\\e[m \\e[38;5;200mx\\e[m\\n"\r', b'exit\r']),
    'vim': (
        ['vim.tiny', '-u', 'NONE', '--cmd', 'set mouse=a nocp nu hls', 'text'],
        [
            b'100Gohello \xc3\xa4\xc3\xb6\xc3\xbc', b'\x1b500Gzt', b'/words\r', b':sp\r', (30, 100), b'\x06\x06',
            b'10dd', b'u', b':set list\r', b':q\r', (24, 80), b':%s/half', b'\x1b:q!\r']),
    'less': (
        ['less', '-i', '-N', 'text'],
        [b'100g', DOWN * 3, b'/words\r', b'n', (20, 60), PAGE, b'/half a', b'\x15\x08h', b'q', b'q']),
    'man': (['man', 'ls'], [b' ', b'/color\r', b'n', DOWN, b'q']),
    'htop': (['htop', '-d', '20'], [b't', DOWN * 3, b'\x1bOS', b'abc', (30, 100), b'\x1b', b'q']),
    'top': (['top', '-d', '50'], [b'f', b'q', b'z', b'x', b'c', b'q']),
    'nano': (
        ['nano', '-m', 'text'],
        [b'hello \xc3\xa4', b'\x1b/', b'\x17some', b'\x03', b'\x0b\x0b\x0b', (20, 90), b'\x07', b'\x18', b'\x18', b'n'],
    ),
    'mc': (
        ['mc', '-u', '-x', '.', '/usr/share/man/man1'],
        [
            b'\x1b9\r', b'\x1b\x1b', b'\x1b7', b'newdir', b'\x1b\x1b', b'\t' + PAGE + PAGE, (30, 100), b'\x0f', b'\x0f',
            b'\x1b0', b'\r']),
    'dialog': (
        [
            'sh', '-c',
            'dialog --menu pick 15 40 5 1 one 2 two 3 three; dialog --inputbox name 10 40; '
            'dialog --gauge wait 10 40 40 </dev/null; dialog --checklist c 15 40 5 1 one on 2 two off; clear'],
        [b'\x1bOB', b'\r', b'abc', b'\r', b'\x1b[B ', b'\r']),
    'tmux': (
        ['tmux', '-L', 'casts', '-f', '/dev/null', 'new', 'bash --norc --noprofile'],
        [
            b'ls --color /etc\r', b'\x02"', b'top -d 50\r', b'\x02%', b'echo side by side\r', (30, 110), b'\x02[',
            UP * 5, b'q', b'\x02:', b'kill-server\r']),
    'screen': (
        ['screen', '-c', '/dev/null', '-e', '^Aa', 'bash', '--norc', '--noprofile'],
        [b'', b' ', b'ls --color /etc\r', b'\x01c', b'seq 50\r', b'\x01S\x01\t\x010', b'\x01"', b'\r', b'\x01\\y']),
    'emacs': (
        ['emacs', '-nw', '-Q', 'text'],
        [
            PAGE, b'\x18' + b'2', b'\x18o\x13words', b'\x07', b'\x1bxman', (30, 100), b'\x07', b'\x18' + b'1', b'hello',
            b'\x18\x03n', b'yes\r']),
    'nvim': (
        ['nvim', '-u', 'NONE', '--cmd', 'set mouse=a nu', 'text'],
        [
            b'100Gohello \xc3\xa4', b'\x1b:vsp\r', b'/words\r', b':terminal\r', (30, 100), b'\x0b:help\r',
            b':set list\r', b':qa!\r']),
    'mutt': (['mutt', '-n', '-F', '/dev/null', '-f', 'mbox'], [b'\r', b'?', b'q', b'q', b'/two', b'\r', b'q']),
    'tig': (['tig', '-C', 'repo'], [DOWN, b'\r', b'h', b'q', b':!touch', (30, 100), b'\x15\x08', b't', b'q', b'Q']),
    'kak': (
        ['kak', '-n', 'text'], [b'10j', b'ohello \xe4\xb8\xad', b'\x1b%swords\r', b':set', (30, 90), b'\x1b', b':q!\r'],
    ),
    'micro': (['micro', 'text'], [b'hello', PAGE, b'\x05', b'set', (30, 90), b'\x1b', b'\x06words\r', b'\x11', b'n']),
    'w3m': (['w3m', 'page.html'], [DOWN * 3, b' ', b'\t\t', b'/text\r', (20, 70), b'H', b'B', b'q', b'y']),
    'lynx': (['lynx', '-cfg=/dev/null', 'page.html'], [DOWN, b' ', b'h', b'Q', b'y\r']),
    'irssi': (
        ['irssi', '--home=irssi', '-n', 'me', '--noconnect'],
        [b'/help\r', b'/window new\r', b'hello \xc3\xa4\xe4\xb8\xad', (20, 70), b'\x1b1', b'\x15/quit\r', b'']),
    'aptitude': (['aptitude', '-s'], [DOWN, b'\r', DOWN * 2, b'?', b'q', (30, 90), b'\x14', b'\x1b', b'q', b'y']),
    'fish': (
        ['fish', '--no-config'],
        [b'echo "half', b' typed" | cat\r', b'ls /usr\r', b'ec\t', b'\x03', b'seq 5', (20, 70), UP, b'\x03', b'exit\r'],
    ),
    'zsh': (
        ['zsh', '-f'],
        [
            b'bindkey -e; RPROMPT=right\r', b'echo "half', b' typed"\r', b'ls /usr/\t\t', b'\x03', (20, 70), b'\x12seq',
            b'\x07\x15', b'exit\r']),
    'fzf': (
        ['sh', '-c', 'seq 200 | fzf --height 10; seq 1000 | fzf --multi --border'],
        [b'1', UP, b'\r', b'99', b'\t\t', b'\x7f', b'\r']),
    'gdb': (
        ['gdb', '-q', '-nx', '-tui', '/bin/true'],
        [b'help\r', b'q\r', b'layout asm\r', b'info files\r', (30, 90), b'\x18a', b'echo \xc3\xa4\\n\r', b'q\r']),
    'watch': (['watch', '-t', '-n', '1', 'ls', '-l', '/'], [b'', (20, 70), b'', b'\x03']),
    'vttest-cursor': (['vttest'], [b'1\r', b'\r', b'\r', b'\r', b'\r', b'\r', b'\r', b'0\r']),
    'vttest-screen': (['vttest'], [b'2\r', *([b'\r'] * 15), b'0\r']),
    'vttest-sets': (['vttest'], [b'3\r', b'8\r', b'\r', b'9\r', b'\r', b'0\r', b'0\r']),
    'vttest-edit': (['vttest'], [b'8\r', *([b'\r'] * 12), b'0\r']),
    'progress-cr': (
        [
            'sh', '-c',
            'i=0; while [ $i -lt 900 ]; do i=$((i+1)); printf "\\rstep %d of 9000 \\033[32m###\\033[m..." $i; done; '
            'echo; echo done'],
        [b'']),
    'progress-up': (
        [
            'sh', '-c',
            'echo; echo; echo; i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf "\\033[3Aone %d\\033[K\\ntwo %d\\033[K\\n'
            'three %d\\033[K\\n" $i $((i*2)) $((i*3)); done'],
        [b'']),
    'never-redraws': (
        printed(
            '\x1b[2J\x1b[5;10Ha picture \x1b[44;1mthat\x1b[K\x1b[m stays\x1b[10;70Hlong line at the edge',
            '\x1b[20;1H\x1b[1J\x1b[Hgone', '\x1b[12;12Hend'),
        [b'\r', (30, 90), b'\r', b'\r']),
    'alternates': (
        printed(
            'main one\r\n\x1b[31mred\x1b[?47halt 47\x1b[5;5Hthere',
            '\x1b[?47lback\x1b[?1047h1047\x1b[3;3H\x1b[42mgreen\x1b[J',
            '\x1b[?1047lback\x1b[?1049h\x1b[m1049\x1b[?1049lend\x1b[?1048h\x1b[9;9H\x1b[?1048l!'),
        [b'\r', b'\r', b'\r']),
    'regions': (
        printed(
            '\x1b[2J\x1b[5;20r\x1b[20;1Hone\r\ntwo\r\nthree\x1b[5;1H\x1bMabove',
            '\x1b[?6h\x1b[Horigin\x1b[99;1Hlast\r\nmore\x1b[2Lx\x1b[M\x1b[3S\x1b[2T',
            '\x1b[?6l\x1b[r\x1b[24;1Hwhole\r\nscroll\x1b7\x1b[3;10r\x1b8!'),
        [b'\r', b'\r', b'\r']),
    'characters': (
        printed(
            'wide \u4e2d\u6587\uac00\uff21 e\u0301\u0323 a\u0308o\u0302 \u0e17\u0e35\u0e48 \u05e9\u05c1\u05b8 \u1ec7 x\u20d7\r\n'
            'emoji \U0001f600\U0001f680 \u2764 \u2728 |\r\n', 'x' * 79 + '\u4e2d' + 'y' * 78 + '\u6587\u5b57',
            '\x1b[3;40H\x1b[P\x1b[2@\x1b[41m\u4e2d\x1b[4D\x1b[X\b-\x1b(0lqqk\x1b(B \u2500\u2510'),
        [b'\r', b'\r', b'\r'])}


def prepare(home):
    with open(os.path.join(home, 'text'), 'w', encoding='ascii') as f:
        f.writelines(f'line {i} of a text file, with some words\n' for i in range(1, 1001))
    with open(os.path.join(home, 'mbox'), 'w', encoding='ascii') as f:
        for number in ('one', 'two', 'three'):
            f.write(
                f'From me@example.org Mon Nov 23 10:00:00 2026\nFrom: me@example.org\nTo: you@example.org\n'
                f'Subject: number {number}\n\n'
                + ''.join(f'line {i} of letter {number}\n' for i in range(40))
                + '\n')
    with open(os.path.join(home, 'page.html'), 'w', encoding='ascii') as f:
        f.write(
            '<html><title>A page</title><h1>Heading</h1>'
            + ''.join(
                f'<p>Paragraph {i} with <a href="#{i}">a link</a>, <b>bold</b> and <u>underlined</u> text.'
                for i in range(40))
            + '<table border=1><tr><td>one<td>two<tr><td>three<td>four</table>')
    os.system(
        f'cd {home} && git init -q repo && cd repo && for i in 1 2 3 4 5; do echo $i >f$i; git add .; '
        'git -c user.name=me -c user.email=me@example.org commit -q -m "commit number $i"; done')


def environment(home):
    os.makedirs(os.path.join(home, 'screens'), mode=0o700, exist_ok=True)
    return {
        'PATH': os.environ['PATH'] + ':/usr/games', 'HOME': home, 'TERM': 'xterm-256color', 'LC_ALL': 'C.UTF-8',
        'PS1': '$ ', 'SHELL': '/bin/sh', 'LESSHISTFILE': '-', 'USER': 'me', 'TMUX_TMPDIR': home,
        'SCREENDIR': os.path.join(home, 'screens'), 'VISUAL': 'vi'}
