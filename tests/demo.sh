#!/bin/sh
# make demo: a session to look at. Starts a shim on a free loopback port with a small program that prints a line a second,
# attaches to it, and says how to leave and to come back. With no terminal on standard input the program ends by itself
# after three lines, and the recording is replayed.
set -eu
build=$1
folder=$(mktemp -d)
[ -t 0 ] && lines=86400 || lines=3
program='trap "echo; echo Ctrl-C came through the terminal: the end.; exit 0" INT
n=0; while [ $n -lt '$lines' ]; do n=$((n + 1)); echo "line $n, printed by process $$ on $(tty)"; sleep 1; done'

ready=$("$build/shim" -r "$folder/demo.cast" 0 /bin/sh -c "$program")
echo "$ready"
address=${ready#*listening on }
address=${address%%,*}

if [ -t 0 ]; then
    echo "Attaching. Ctrl-\\ detaches and leaves the program running; Ctrl-C ends it."
    "$build/attach" "$address" || echo "attach left with status $?"
    if "$build/record" info "$folder/demo.cast" | grep -q running; then
        echo "It goes on in the background. To come back:  make attach SOCK=$address"
    fi
    echo "To see all of it again:  build/record play $folder/demo.cast"
else
    "$build/attach" "$address" </dev/null
    echo "The same again from the recording, four times as fast:"
    "$build/record" play -s 4 "$folder/demo.cast"
    rm -r "$folder"
fi
