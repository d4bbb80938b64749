#!/bin/sh
# Writes the bash completion of the three programs: the options and their values as --help lists them, and behind these
# tables the functions of completion.bash. POSIX sh and awk, for everybody who installs.
#     completion.sh FOLDER-OF-THE-PROGRAMS > COMPLETION
set -eu
folder=$1
commands=$("$folder/record" --help | awk '/^  [a-z]+  / { print $1 }')

options() {  # options NAME PROGRAM [COMMAND]: what its --help lists, as entries of bash's tables
    name=$1
    shift
    program=$1
    shift
    "$folder/$program" "$@" --help | awk -v name="$name" '
    function quoted(text) { gsub(/\047/, "", text); return "\047" text "\047" }
    function end_option(    i) {
        for (i = 1; value != "" && i <= spelled; i++)
            print "_ptyme_values[" quoted(name " " spelling[i]) "]=" quoted(choice != "" ? choice : value)
        value = choice = ""
    }
    function note_choice(text) {  # "v2, v3   asciicast ...": words that the value may be
        if (text !~ /^[^ ]([^ ]| [^ ])*   *[^ ]/) return
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
        spelled = 0
        for (i = 1; i <= n; i++) {
            if (words[i] ~ /^-/) spelling[++spelled] = words[i]
            else value = words[i]
        }
        for (i = 1; i <= spelled; i++) all = all (all == "" ? "" : " ") spelling[i]
        if (value ~ /\|/) {  # SIZE|all|none: the words that are meant as they stand
            n = split(value, words, "|")
            value = ""
            for (i = 1; i <= n; i++) if (words[i] ~ /^[a-z]/) value = value (value == "" ? "" : " ") words[i]
        }
        if (column) note_choice(substr($0, column))
        next
    }
    /^ / && value != "" { note_choice(substr($0, column)); next }
    { end_option() }
    END {
        end_option()
        print "_ptyme_options[" quoted(name) "]=" quoted(all)
    }'
}

echo '# Made from --help by tests/install/completion.sh.'
echo 'declare -gA _ptyme_options=() _ptyme_values=()'
options shim shim
options attach attach
options record record
for command in $commands; do options "record $command" record "$command"; done
# shellcheck disable=SC2086  # a list of words
printf "_ptyme_commands='%s'\n" "$(printf "%s " $commands)"
sed '/^# shellcheck/d' "$(dirname "$0")/completion.bash"
