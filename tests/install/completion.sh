#!/bin/sh
# Writes the completion of the three programs for a shell: the options and their values as --help lists them, and behind
# them the functions of completion.bash, .zsh or .fish. POSIX sh and awk, for everybody who installs.
#     completion.sh FOLDER-OF-THE-PROGRAMS bash|zsh|fish > COMPLETION
set -eu
folder=$1 shell=$2
commands=$("$folder/record" --help | awk '/^  [a-z]+  / { print $1 }')

# What every shell asks sh(1) for: the names of the running sessions ($0 is attach, whose list has a line for each), and
# the names of sessions that have a recording, whose file is NAME-<UTC time>.cast, or -2.cast and so on behind it.
# shellcheck disable=SC2016  # for the shell that completes
sessions='"$0" 2>/dev/null </dev/null | awk "{ print \$1 }"'
# shellcheck disable=SC2016
recorded='ls "${SHIM_RECORDS:-${XDG_STATE_HOME:-$HOME/.local/state}/shim}" 2>/dev/null |
    sed -n "s/-[0-9]\{8\}T[0-9]\{6\}Z[-0-9]*\.cast\$//p" | sort -u'

options() {  # options NAME PROGRAM [COMMAND]: what its --help lists, a line each: NAME, spellings, value, text (tabs between)
    name=$1
    shift
    program=$1
    shift
    "$folder/$program" "$@" --help | awk -v name="$name" '
    function end_option() {
        sub(/ *[;(].*/, "", told)
        if (spellings != "") printf "%s\t%s\t%s\t%s\n", name, spellings, choice != "" ? choice : value, told
        spellings = value = choice = told = ""
    }
    function note_text(text) {  # "v2, v3   asciicast ...": words that the value may be
        if (value == "" || text !~ /^[^ ]([^ ]| [^ ])*   *[^ ]/) {
            told = told (told == "" ? "" : " ") text
            return
        }
        sub(/   *.*/, "", text)
        gsub(/,/, "", text)
        choice = choice (choice == "" ? "" : " ") text
    }
    /^  -/ || /^      --/ {
        end_option()
        rest = $0
        sub(/^ */, "", rest)
        gap = match(rest, /   */)
        term = gap ? substr(rest, 1, RSTART - 1) : rest
        column = gap ? length($0) - length(rest) + RSTART + RLENGTH : 0
        n = split(term, words, /,? /)
        for (i = 1; i <= n; i++) {
            if (words[i] ~ /^-/) spellings = spellings (spellings == "" ? "" : " ") words[i]
            else value = words[i]
        }
        if (value ~ /\|/) {  # SIZE|all|none: the words that are meant as they stand
            n = split(value, words, "|")
            value = ""
            for (i = 1; i <= n; i++) if (words[i] ~ /^[a-z]/) value = value (value == "" ? "" : " ") words[i]
        }
        if (column) note_text(substr($0, column))
        next
    }
    /^ / && spellings != "" { if (column && substr($0, 1, column - 1) ~ /^ *$/) note_text(substr($0, column)); next }
    { end_option() }
    END { end_option() }'
}

all_options() {
    for program in shim attach record; do options $program $program; done
    for command in $commands; do options "record $command" record "$command"; done
}

quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

[ "$shell" != zsh ] || echo '#compdef shim attach record'
echo "# Made from --help by tests/install/completion.sh."
case $shell in
bash)
    all_options | awk -F '\t' '
    BEGIN { print "declare -gA _ptyme_options=() _ptyme_values=()" }
    function quoted(text) { gsub(/\047/, "", text); return "\047" text "\047" }
    {
        all[$1] = all[$1] (all[$1] == "" ? "" : " ") $2
        n = split($2, spelling, " ")
        for (i = 1; $3 != "" && i <= n; i++) print "_ptyme_values[" quoted($1 " " spelling[i]) "]=" quoted($3)
    }
    END { for (name in all) print "_ptyme_options[" quoted(name) "]=" quoted(all[name]) }'
    ;;
zsh)
    all_options | awk -F '\t' '  # the arguments of _arguments: (what excludes it)-r+[text]:FILE:what completes the value
    function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return "\047" text "\047" }
    BEGIN { print "_ptyme_specs() {\n    case $1 in" }
    $1 != name { if (name != "") print "    ) ;;"; name = $1; print "    " quoted(name) ") specs=(" }
    {
        n = split($2, spelling, " ")
        gsub(/\[|\]|:|\\/, "\\\\&", $4)
        action = $3 == "" ? "" : ":" ($3 ~ /^[a-z]/ ? "value:(" $3 ")" : $3 ":" ($3 ~ /^(FILE|OUT)$/ ? "_files" : ""))
        for (i = 1; i <= n; i++) {
            mark = $3 == "" ? "" : spelling[i] ~ /^--/ ? "=" : "+"
            print "        " quoted("(" $2 ")" spelling[i] mark "[" $4 "]" action)
        }
    }
    END { print "    ) ;;\n    esac\n}" }'
    ;;
fish)
    all_options | awk -F '\t' '
    function quoted(text) { gsub(/[\\\047]/, "\\\\&", text); return "\047" text "\047" }
    BEGIN { print "set -g __ptyme_values" }
    {
        n = split($2, spelling, " ")
        split($1, words, " ")
        line = "complete -c " words[1] " -n " quoted(words[2] == "" ? "not __ptyme_operand" : "__ptyme_command " words[2])
        for (i = 1; i <= n; i++) {
            line = line (spelling[i] ~ /^--/ ? " -l " substr(spelling[i], 3) : " -s " substr(spelling[i], 2))
            if ($3 != "") print "set -a __ptyme_values " quoted($1 " " spelling[i])
        }
        if ($3 != "") line = line ($3 ~ /^(FILE|OUT)$/ ? " -rF" : $3 ~ /^[a-z]/ ? " -xa " quoted($3) : " -x")
        print line " -d " quoted($4)
    }'
    ;;
esac
assign() {  # assign NAME TEXT: a variable of the shell that completes
    if [ "$shell" = fish ]; then printf "set -g _%s '%s'\n" "$1" "$(printf %s "$2" | sed "s/[\\\\']/\\\\&/g")"
    else printf '%s=%s\n' "$1" "$(quoted "$2")"; fi
}
# shellcheck disable=SC2086  # a list of words
assign _ptyme_commands "$(printf "%s " $commands)"
assign _ptyme_list_sessions "$sessions"
assign _ptyme_list_recorded "$recorded"
sed '/^# shellcheck/d' "$(dirname "$0")/completion.$shell"
