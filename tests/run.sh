#!/bin/bash
# make test: the suite in seven parts side by side, as its tests mostly wait; then what each said. Arguments go to pytest.
set -um  # with job control on, a background job does not ignore SIGINT
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
options=("$@") names=''
part() {  # part NAME FILE...: runs these tests beside the others, keeps the output and the status
    name=$1
    names="$names $name"
    shift
    {
        /usr/bin/python3 -m pytest -q "${options[@]}" "$@" >"$logs/$name" 2>&1
        status=$?
        [ "$status" = 5 ] && status=0  # no test of this part was asked for
        echo "$status" >"$logs/$name.status"
    } &
}
cd "$(dirname "$0")" || exit 1
part one record/test_[a-ik-z]*.py
part two test_project.py test_readme.py bench tour install shim/test_[g-o]*.py
part three shim/test_[a-f]*.py
part four shim/test_p*.py record/test_j*.py
part five terminal/test_[a-km-z]*.py
part six attach shim/test_[q-z]*.py
part seven terminal/test_l*.py
wait
failed=0
for name in $names; do
    cat "$logs/$name"
    [ "$(cat "$logs/$name.status")" = 0 ] || failed=1
done
exit "$failed"
