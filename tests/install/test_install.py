"""make install: the programs, their manual pages and completion, both made of --help and reference.md."""
import os
import re
import stat

import pytest

from checkout import make
from harness import BUILD, ROOT

PROGRAMS = ('attach', 'record', 'shim')
SHELLS = ('bash', 'zsh', 'fish')
COMPLETION_FILES = ['zsh/site-functions/_shim', *(f'bash-completion/completions/{name}' for name in PROGRAMS),
                    *(f'fish/vendor_completions.d/{name}.fish' for name in PROGRAMS)]
COMMANDS = re.compile(r'^  ([a-z]+)  ', re.M)
COMPLETION = '/usr/share/bash-completion/bash_completion'


COMPLETIONS = {
    'shim --record-': 'shim --record-input ', 'shim -H a': 'shim -H all ',
    'shim -n -s 80x24 --wa': 'shim -n -s 80x24 --wait ', 'shim -r he': 'shim -r here.cast ',
    'shim -n work whoam': 'shim -n work whoami ', 'attach wo': 'attach work ', 'attach -q me@h': 'attach -q me@home ',
    'attach ./b': 'attach ./by.sock ', 'attach -r --qu': 'attach -r --quiet ', 'record conv': 'record convert ',
    'record play ol': 'record play old ', 'record play work': 'record play work ',
    'record cat he': 'record cat here.cast ', 'record screen --esc': 'record screen --escapes ',
    'record convert -t tt': 'record convert -t ttyrec ', 'record convert --type=sc': 'record convert --type=script ',
    'record info me@h': 'record info me@home '}


def help_of(pty, program, *command):
    run = pty.run(os.path.join(BUILD, program), *command, '--help')
    assert (run.returncode, run.stderr) == (0, '')
    return run.stdout


REFERENCE = os.path.join(ROOT, 'tests', 'install', 'reference.md')


def man(pty, program, reference=REFERENCE):
    """The source of a manual page, made as the Makefile makes it."""
    run = pty.run(os.path.join(ROOT, 'tests', 'install', 'man.sh'), BUILD, program, reference)
    assert (run.returncode, run.stderr) == (0, '')
    return run.stdout


def given_by_reference(program):
    """The sections of a page that tables of reference.md are."""
    with open(REFERENCE, encoding='utf-8') as f:
        return re.findall(rf'^<!-- man [^:]*\b{program}\b[^:]*: (.*) -->', f.read(), re.M)


def installed(folder):
    """What stands there: {path from the folder: permissions}."""
    return {os.path.relpath(os.path.join(parent, name), folder):
            oct(stat.S_IMODE(os.stat(os.path.join(parent, name)).st_mode))
            for parent, _, names in os.walk(folder) for name in names}


# ---- make


@pytest.mark.parametrize('variables, place', [(['PREFIX={folder}/opt'], 'opt'),
                                              (['DESTDIR={folder}/stage', 'PREFIX=/usr'], 'stage/usr'),
                                              (['DESTDIR={folder}/stage'], 'stage/usr/local')])
def test_make_install_puts_everything_there_and_uninstall_takes_it_away(tree, variables, place):
    """make install PREFIX=… (and DESTDIR= for packagers): three programs in bin, which find each other there, their
    pages and the completion; make uninstall with the same variables leaves no file."""
    variables = [variable.format(folder=tree.folder) for variable in variables]
    run = make(tree, 'install', *variables)
    assert run.returncode == 0, run.stderr
    completions = {f'share/{place}': '0o644' for place in COMPLETION_FILES}
    pages = {f'share/man/man1/{name}.1': '0o644' for name in PROGRAMS}
    assert installed(tree.path(place)) == {**{f'bin/{name}': '0o755' for name in PROGRAMS}, **pages, **completions}
    run = tree.run(tree.path(place + '/bin/attach'), './a.sock', 'sh', '-c', 'echo installed; exit 3')
    assert (run.returncode, run.stdout) == (3, 'installed\n')
    assert make(tree, 'uninstall', *variables).returncode == 0
    assert installed(tree.path(place)) == {}


# ---- manual pages


@pytest.mark.parametrize('program', PROGRAMS)
def test_manual_page_has_no_warnings(pty, program):
    """Both readers of such pages have nothing to say about it: groff with all its warnings, and mandoc's linter."""
    pty.write('page.1', man(pty, program))
    for reader in (['groff', '-ww', '-man', '-k', '-Tutf8', '-z'], ['mandoc', '-Tlint', '-Wstyle']):
        run = pty.run(*reader, 'page.1')
        assert (run.returncode, run.stdout, run.stderr) == (0, '', '')


@pytest.mark.parametrize('program', PROGRAMS)
def test_manual_page_says_what_help_says(pty, program):
    """As man(1) shows it: the sections of any page, and each word of --help, of record's commands too."""
    pty.write('page.1', man(pty, program))
    shown = pty.run('mandoc', '-Tutf8', '-Owidth=200', 'page.1').stdout
    shown = re.sub('.\b', '', shown)  # bold and underlined characters: printed over others
    titles = re.findall(r'^[A-Z][A-Z ]+$', shown, re.M)
    assert titles[:3] == ['NAME', 'SYNOPSIS', 'DESCRIPTION'] and titles[-1] == 'SEE ALSO'
    assert {'OPTIONS', 'EXIT STATUS', 'ENVIRONMENT', *given_by_reference(program)} <= set(titles)
    said = help_of(pty, program)
    for command in COMMANDS.findall(said):
        said += help_of(pty, program, command)
    for title in given_by_reference(program):  # a table says the same, in other words
        said = re.sub(rf'^{title}: .*\n(?:(?![A-Z]\w+: ).+\n)*', '', said, flags=re.M | re.I)
    said = re.sub(r'^(Usage|Signals|Exit status): ', '', said, flags=re.M)  # ... which are sections of the page
    missing = set(said.split()) - set(shown.split())
    assert not missing, shown


def test_manual_page_has_the_tables_that_the_reference_gives_it(pty):
    """A table behind <!-- man PROGRAM…: TITLE --> is a section, instead of the one that --help has; others are not."""
    with open(pty.path('reference.md'), 'w', encoding='utf-8') as f:
        f.write('<!-- man shim attach: EXIT STATUS -->\n| status | | default |\n| --- | --- | --- |\n'
                '| `all\\|none` | as *said* in [Limits](#limits) … | `64K` |\n\n'
                '| not | this |\n| --- | --- |\n| `other` | table |\n')
    page = man(pty, 'shim', pty.path('reference.md'))
    section = page.partition('.SH "EXIT STATUS"\n')[2].partition('.SH')[0]
    assert section == '.TP\n\\fBall|none\\fR\nas \\fIsaid\\fR in Limits ...\n(default: \\fB64K\\fR)\n'
    assert 'Limits' not in man(pty, 'record', pty.path('reference.md')) and 'other' not in page


# ---- completion


@pytest.fixture(scope='module')
def completion(tmp_path_factory):
    """A folder of shared files as `make install` fills it, where each shell looks for the completion of a program."""
    share = tmp_path_factory.mktemp('completion') / 'share'
    for shell, place in zip(SHELLS, ('bash-completion/completions/shim', 'zsh/site-functions/_shim',
                                     'fish/vendor_completions.d/shim.fish')):
        (share / place).parent.mkdir(parents=True)
        assert os.system(f'{ROOT}/tests/install/completion.sh {BUILD} {shell} > {share}/{place}') == 0
    for name in ('attach', 'record'):
        (share / 'bash-completion/completions' / name).symlink_to('shim')
        (share / 'fish/vendor_completions.d' / (name + '.fish')).symlink_to('shim.fish')
    return share


# How an interactive shell is started, and what is typed into it first. bash has the completion by itself, or finds it
# by Debian's package bash-completion; zsh and fish find it in their folders.
STARTED = {'bash': (('bash', '--noprofile', '--norc'), ". {share}/bash-completion/completions/shim; PS1='$ '; clear"),
           'bash-completion': (('bash', '--noprofile', '--norc'), f". {COMPLETION}; PS1='$ '; clear"),
           'zsh': (('zsh', '-f'), "fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; compinit -u; "
                                  "bindkey -e; setopt no_list_beep; PS1='$ '; clear"),
           'fish': (('fish', '--private'), "function fish_prompt; echo '$ '; end; function fish_greeting; end; clear")}


def interactive(pty, share, shell):
    """That shell at a terminal, with the completion."""
    env = {**os.environ, 'PATH': BUILD + ':' + os.environ['PATH'], 'PS1': '> ', 'SHIM_RECORDS': pty.path('records'),
           'SHIM_DIR': pty.path('sessions'), 'XDG_DATA_DIRS': f'{share}:/usr/share', 'HOME': pty.folder}
    env.pop('BASH_COMPLETION_VERSINFO', None)
    argv, first = STARTED[shell]
    terminal = pty.terminal(*argv, env=env, rows=40, cols=100)
    terminal.wait(lambda t: t.text().rstrip().endswith(('>', '#')), what='the first prompt')
    terminal.send(first.format(share=share) + '\r')
    terminal.wait(lambda t: t.text().strip() == '$', what='the prompt')
    return terminal


def complete(terminal, typed):
    """What stands at the prompt when Tab has been pressed; the line is taken back then."""
    terminal.send(typed + '\t' + '#')  # the mark comes last, behind what has been completed
    terminal.wait(lambda t: re.search(r'^\$ .*#$', t.text(), re.M), what='the completed line')
    line = re.search(r'^\$ (.*)#$', terminal.text(), re.M)[1]
    terminal.send('\x15\x0c')
    terminal.wait(lambda t: t.text().strip() == '$', what='the prompt')
    return line


@pytest.fixture
def sessions(pty):
    """Sessions work and me@home run; recordings of work and old stand in their folder, one in the current."""
    for folder in ('sessions', 'records'):
        os.mkdir(pty.path(folder), 0o700)
    for name in ('work-20261125T100000Z.cast', 'work-20261125T100000Z-2.cast', 'old-20261125T100000Z.cast',
                 'me@home-20261125T100000Z.cast'):
        pty.write('records/' + name, '')
    pty.write('here.cast', '')
    env = {**os.environ, 'SHIM_DIR': pty.path('sessions')}
    for name in ('work', 'me@home', './by.sock'):
        pty.shim('-n', name, 'cat', env=env)


@pytest.mark.parametrize('shell', STARTED)
def test_completion_of_options_values_sessions_and_recordings(pty, completion, sessions, shell):
    """Tab in a real shell: each program's options, the values that an option may have, record's commands, the sessions
    that run, the recordings that are there, and behind an ADDRESS the programs of PATH."""
    terminal = interactive(pty, completion, shell)
    for typed, completed in COMPLETIONS.items():
        assert complete(terminal, typed) == completed


@pytest.mark.parametrize('name', PROGRAMS)
def test_completion_knows_each_option_of_help(pty, completion, name):
    """One truth: the tables of each completion hold what --help lists, whatever that will be."""
    tables, zsh, fish = ((completion / place).read_text(encoding='utf-8') for place in (
        'bash-completion/completions/shim', 'zsh/site-functions/_shim', 'fish/vendor_completions.d/shim.fish'))
    said = help_of(pty, name)
    for command in ('', *COMMANDS.findall(said)):
        listed = re.findall(r'^  (?:(-.), |    )(--[a-z-]+)', help_of(pty, name, command) if command else said, re.M)
        of_command = re.search(rf"^_ptyme_options\['{name}{command and ' ' + command}'\]='(.*)'$", tables, re.M)[1]
        assert of_command.split() == [word for pair in listed for word in pair if word]
        in_zsh = re.search(rf"^    '{name}{command and ' ' + command}'\) specs=\((.*?)^    \) ;;", zsh, re.M | re.S)[1]
        assert re.findall(r'\)(--[a-z-]+)[=[]', in_zsh) == [long for _, long in listed]
        condition = f'__ptyme_command {command}' if command else 'not __ptyme_operand'
        in_fish = re.findall(rf"^complete -c {name} -n '{condition}' .*?-l ([a-z-]+)", fish, re.M)
        assert ['--' + long for long in in_fish] == [long for _, long in listed]
