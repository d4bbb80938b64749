#!/bin/sh
# Writes the manual page of a program: what `PROGRAM --help` says, cut into the sections of a page, and those tables of
# reference.md that a comment names for it (the section's title is in capitals; it takes the place of --help's own):
#     <!-- man shim attach: EXIT STATUS -->
# POSIX sh and awk, for everybody who installs.
#     man.sh FOLDER-OF-THE-PROGRAMS PROGRAM REFERENCE > PAGE
set -eu
folder=$1 program=$2 reference=$3

commands() {  # the commands of `record`, from its --help; nothing for the others
    "$folder/$program" --help | awk '/^  [a-z]+  / { print $1 }'
}

{
    "$folder/$program" --help
    for command in $(commands); do
        echo "@command $command"
        "$folder/$program" "$command" --help
    done
    echo '@reference'
    cat "$reference"
} | LC_ALL=C awk -v program="$program" -v version="$("$folder/$program" --version)" -v day="$(date -u +%Y-%m-%d)" '
BEGIN {
    escape["\\"] = "\\e"; escape["-"] = "\\-"; escape["^"] = "\\(ha"; escape["~"] = "\\(ti"
    escape["`"] = "\\(ga"; escape["\047"] = "\\(aq"; escape["\""] = "\\(dq"
}

# ---- output: sections in the order in which they were begun

function section(title) {
    end_list()
    if (!(title in body)) order[++sections] = title
    at = title
    fresh = 1  # a paragraph needs no request of its own here
}
function put(line) { body[at] = body[at] line "\n" }
function roff(text,    i, c, done) {
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        done = done ((c in escape) ? escape[c] : c)
    }
    return done
}
function put_folded(text) {  # in lines of 78 bytes at most; a point at the beginning of one is no request
    while (length(text) > 78 && match(substr(text, 1, 78), /.* /)) {
        put(text ~ /^\./ ? "\\&" substr(text, 1, RLENGTH - 1) : substr(text, 1, RLENGTH - 1))
        text = substr(text, RLENGTH + 1)
    }
    put(text ~ /^\./ ? "\\&" text : text)
}
function put_text(text) { put_folded(roff(text)) }
function paragraph() {
    end_list()
    if (!fresh) put(".PP")
    fresh = 0
}

# ---- what --help lists: "  term   text", or an option without a letter behind six blanks; more text stands under text

function emphasized(term,    words, n, i, comma, done) {  # options bold, what stands for a value in italics
    n = split(term, words, " ")
    for (i = 1; i <= n; i++) {
        comma = sub(/,$/, "", words[i]) ? "," : ""
        done = done (i > 1 ? " " : "") (words[i] ~ /^[A-Z][A-Za-z:|]+$/ ? "\\fI" : "\\fB") roff(words[i]) "\\fR" comma
    }
    return done
}
function put_item(line,    gap, term) {  # gives the column after the term at which its text begins
    gap = match(line, /   *[^ ]/)
    term = gap ? substr(line, 1, gap - 1) : line
    put(".TP")
    put(emphasized(term))
    return gap ? RSTART + RLENGTH - 1 : 0
}
function put_item_text(text,    column) {
    if (text !~ /[^ ]   *[^ ]/) {
        put_text(text)
        return
    }
    if (!nested) put(".RS")
    nested = 1
    column = put_item(text)
    put_text(substr(text, column))
}
function end_nested() {
    if (nested) put(".RE")
    nested = 0
}
function end_list() {
    end_nested()
    list = 0
}
function list_item(line,    indent) {
    end_nested()
    list = 1
    fresh = 0
    match(line, /^ */)
    indent = RLENGTH
    line = substr(line, indent + 1)
    text_at = put_item(line)
    if (text_at) put_item_text(substr(line, text_at))
    text_at += indent
}
function list_text(line) {
    line = substr(line, text_at)
    if (nested && line ~ /^[^ ]/) put_item_text(line)
    else {
        sub(/^ */, "", line)
        put_text(line)
    }
}

# ---- --help, from its first line

function first_line(line) {
    sub(/^Usage: /, "", line)
    sub(/   *.*/, "", line)
    if (command == "") {
        section("NAME")
        section("SYNOPSIS")
        put("\\fB" roff(program) "\\fR" roff(substr(line, length(program) + 1)))
        section("DESCRIPTION")
    } else {
        section("COMMANDS")
        skipped = line in told  # two commands may have one text
        told[line] = 1
        if (!skipped) put(".SS \"" roff(line) "\"")
    }
}
function name_it(line) {  # NAME: the first sentence
    sub(/[.;:].*/, "", line)
    body["NAME"] = roff(program) " \\- " tolower(substr(line, 1, 1)) roff(substr(line, 2)) "\n"
}
function more_usage(line) {  # a second way to write it, under the first
    sub(/^ */, "", line)
    body[at] = substr(body[at], 1, length(body[at]) - 2) " or " roff(line) "\"\n"
}
function help_line(line) {
    if (line ~ /^       [a-z]/) more_usage(line)
    else if (line == "") {
        end_list()
        open = 0
    } else if (line ~ /^  [^ ]/ || line ~ /^      --/) {
        if (!list && command == "") section(line ~ /^ *-/ ? "OPTIONS" : "COMMANDS")
        list_item(line)
    } else if (list && line ~ /^  /) list_text(line)
    else {
        if (command == "" && line ~ /^[A-Z][a-z]+( [a-z]+)?: /) {  # "Exit status: ..."
            section(toupper(substr(line, 1, index(line, ":") - 1)))
            sub(/^[^:]*: /, "", line)
            open = 0
        }
        if (!open || line ~ /^[A-Z][A-Z]+:? /) paragraph()
        open = 1
        if (body["NAME"] == "") name_it(line)
        put_text(line)
    }
}

# ---- the reference: a table behind a comment that names this program

function cell(text) {
    gsub(/\001/, "|", text)
    gsub(/^ +| +$/, "", text)
    gsub(/\[[^]]*\]\([^)]*\)/, "&\002", text)  # a link: its text
    while (match(text, /\]\([^)]*\)\002/)) {
        text = substr(text, 1, RSTART - 1) substr(text, RSTART + RLENGTH)
        sub(/\[/, "", text)
    }
    return marked(marked(marked(text, "`", "\\fB"), "**", "\\fB"), "*", "\\fI")
}
function marked(text, mark, font,    parts, i, from, done) {  # what stands between two marks gets the font
    while ((from = index(text, mark)) > 0) {
        i = index(substr(text, from + length(mark)), mark)
        if (i == 0) break
        done = done substr(text, 1, from - 1) font substr(text, from + length(mark), i - 1) "\\fR"
        text = substr(text, from + 2 * length(mark) + i - 1)
    }
    return done text
}
function table_row(line,    cells, n, i, text) {
    gsub(/\\\|/, "\001", line)
    n = split(line, cells, "|")
    if (rows == 1) for (i = 2; i < n; i++) head[i] = cell(cells[i])
    if (rows < 3) return  # the head, and the line under it
    put(".TP")
    put_table_text(cell(cells[2]))
    for (i = 3; i < n; i++) {
        text = cell(cells[i])
        if (head[i] == "default" && text != "") text = "(default: " text ")"
        if (i > 3 && head[i] != "default") put(".br")
        if (text != "") put_table_text(text)
    }
}
function put_table_text(text,    parts, n, i, done) {  # roff(), but for the fonts
    n = split(text, parts, /\\f[BIR]/)
    for (i = 1; i <= n; i++) {
        done = done roff(parts[i])
        text = substr(text, length(parts[i]) + 1)
        done = done substr(text, 1, 3)
        text = substr(text, 4)
    }
    put_folded(done)
}
function reference_line(line) {
    if (line ~ /^<!-- man / && (" " substr(line, 10, index(line, ":") - 10) " ") ~ (" " program " ")) {
        sub(/^[^:]*: */, "", line)
        sub(/ *-->.*/, "", line)
        section(line)
        body[line] = ""
        rows = 0
        wanted = 1
    } else if (wanted && line ~ /^\|/) {
        rows++
        table_row(line)
    } else if (rows > 0) rows = wanted = 0
}

/^@command / { command = $2; usage = 0; next }
/^@reference$/ { in_reference = 1; next }
{ gsub(/\342\200\246/, "...") }
in_reference { reference_line($0); next }
!usage { usage = 1; open = skipped = 0; first_line($0); next }
!skipped { help_line($0) }

END {
    section("SEE ALSO")
    split("shim attach record", all, " ")
    for (i = 1; i <= 3; i++) if (all[i] != program) put(".BR " all[i] " (1),")
    put(".BR pty (7)")
    sub(/^[^ ]* /, "", version)
    print ".\\\" Made from --help and reference.md by tests/install/man.sh."
    print ".TH " toupper(program) " 1 " day " \"ptyme " version "\" \"User Commands\""
    for (i = 1; i <= sections; i++) printf ".SH \"%s\"\n%s", order[i], body[order[i]]
}'
