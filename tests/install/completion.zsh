# A running session, or, once there is a / in it, the socket at a path.
_ptyme_address() {
    if [[ $PREFIX == */* ]]; then
        _files
    elif [[ $program == attach ]]; then
        local -a names=(${(f)"$(sh -c $_ptyme_list_sessions ${command%${command:t}}attach)"})
        compadd "$@" -a names
    fi
}

# A session's name, for its newest recording, or a recording's file.
_ptyme_recording() {
    local -a names=(${(f)"$(sh -c $_ptyme_list_recorded)"})
    _alternative 'sessions:session:compadd -a names' 'files:recording:_files -g "*.cast"'
}

local command=$words[1] program=$service curcontext=$curcontext state line
local -a specs
_ptyme_specs $program
if [[ $program == record ]]; then
    _arguments -C -A '-*' $specs "1:command:($_ptyme_commands)" '*:: :->command' && return
    [[ $state == command ]] || return
    specs=()
    _ptyme_specs "record $words[1]"
    _arguments -s $specs '*:recording:_ptyme_recording'
else
    _arguments -s -A '-*' $specs '1:address:_ptyme_address' '*:::program:_normal'  # a command of its own
fi
