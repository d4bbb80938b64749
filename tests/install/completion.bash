# shellcheck shell=bash disable=SC2154  # the tables that completion.sh writes before this

# What may stand for a value: $1 is its name in --help, or the words that it may be; $2 is the beginning of it.
_ptyme_value() {
    if [[ $1 == FILE || $1 == OUT ]]; then
        compopt -o filenames
        mapfile -t found < <(compgen -f -- "$2")
    elif [[ $1 == [a-z]* ]]; then
        mapfile -t found < <(compgen -W "$1" -- "$2")
    fi
}

# The completion of all three: $1 is the command as it was typed, $2 what bash takes for the word.
_ptyme() {
    local program=${1##*/} name=${1##*/} line=${COMP_LINE:0:COMP_POINT} word option='' operands=() words=() IFS=$' \t\n'
    read -ra words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=('')
    local current=${words[-1]}
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if [[ -n $option ]]; then option=''
        elif [[ $word == -?* ]]; then [[ -n ${_ptyme_values["$name $word"]-} ]] && option=$word
        else
            operands+=("$word")
            [[ $program == record ]] && name="record ${operands[0]}"
            [[ $program == record ]] || break  # what follows is a command of its own
        fi
    done
    local found=()
    if [[ -n $option ]]; then
        _ptyme_value "${_ptyme_values["$name $option"]}" "$current"
    elif [[ $program != record && ${#operands[@]} -gt 0 ]]; then
        _ptyme_program "${operands[0]}"
        return
    elif [[ $current == --*=* ]]; then
        _ptyme_value "${_ptyme_values["$name ${current%%=*}"]-}" "${current#*=}"
        current=${current#*=}
    elif [[ $current == -* ]]; then
        mapfile -t found < <(compgen -W "${_ptyme_options["$name"]-}" -- "$current")
    elif [[ $program == record && ${#operands[@]} -eq 0 ]]; then
        mapfile -t found < <(compgen -W "$_ptyme_commands" -- "$current")
    else
        local names='' files=()
        [[ $program == attach ]] && names=$(sh -c "$_ptyme_list_sessions" "${1%"${1##*/}"}attach")
        [[ $program == record ]] && names=$(sh -c "$_ptyme_list_recorded")
        mapfile -t found < <(compgen -W "$names" -- "$current")
        mapfile -t files < <(_ptyme_files "$program" "$current")
        ((${#files[@]} > 0)) && compopt -o filenames  # which would quote an @ in a name
        found+=("${files[@]}")
    fi
    # Bash ends a word at each of $COMP_WORDBREAKS (@ : =) too, and wants only what follows the last of them.
    COMPREPLY=("${found[@]#"${current%"$2"}"}")
}

# Files that may be meant: recordings, or, once there is a / in it, the socket at a path.
_ptyme_files() {
    [[ $1 == record ]] && compgen -f -X '!*.cast' -- "$2"
    [[ $1 == record || $2 == */* ]] && compgen -d -- "$2"
    [[ $1 != record && $2 == */* ]] && compgen -f -- "$2"
}

# A program and its arguments, behind the ADDRESS: as they are completed by themselves where bash-completion is there.
_ptyme_program() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do [[ ${COMP_WORDS[i]} == "$1" ]] && break; done
    if declare -F _command_offset >/dev/null && ((i < COMP_CWORD)); then
        _command_offset $((i + 1))
    else
        compopt -o default
        mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}

complete -F _ptyme shim attach record
