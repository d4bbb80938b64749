# Where on the line the first operand is: the first word that is neither an option nor the value of one.
function __ptyme_operand
    set -l words (commandline -opc)
    set -l program (string replace -r '.*/' '' -- $words[1])
    set -l is_value no
    for i in (seq 2 (count $words))
        if test $is_value = yes
            set is_value no
        else if string match -q -- '-?*' $words[$i]
            contains -- "$program $words[$i]" $__ptyme_values
            and set is_value yes
        else
            echo $i
            return 0
        end
    end
    return 1
end

# Whether that is this command of record.
function __ptyme_command
    set -l words (commandline -opc)
    set -l at (__ptyme_operand)
    and test $words[$at] = $argv[1]
end

# The program behind the ADDRESS, and its arguments, as they are completed by themselves.
function __ptyme_program
    set -l at (math (__ptyme_operand) + 1)
    set -l words (commandline -opc)
    set -l before
    test $at -le (count $words)
    and set before (string escape -- $words[$at..-1])
    complete -C (string join ' ' -- $before (commandline -ct))
end

function __ptyme_sessions
    sh -c $__ptyme_list_sessions (string replace -r '[^/]*$' attach -- (commandline -opc)[1])
end

complete -c shim -f
complete -c attach -f
complete -c record -f
for program in shim attach
    complete -c $program -n 'not __ptyme_operand; and string match -q "*/*" -- (commandline -ct)' -F
    complete -c $program -n __ptyme_operand -xa '(__ptyme_program)'
end
complete -c attach -n 'not __ptyme_operand' -xa '(__ptyme_sessions)'
complete -c record -n 'not __ptyme_operand' -xa $__ptyme_commands
complete -c record -n __ptyme_operand -xa '(sh -c $__ptyme_list_recorded; __fish_complete_suffix .cast)'
