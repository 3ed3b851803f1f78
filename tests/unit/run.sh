#!/bin/sh
# The test programs of a build folder, as many at once as there are cores: one line `ok NAME` or `not ok NAME` for each case. A program that
# ends badly without a failed case (a crash) counts as one.
# Usage: tests/unit/run.sh FOLDER [PROGRAM LEFT OUT ...]
folder=$1
shift
log=$(mktemp -d) || exit 1
trap 'rm -rf "$log"' EXIT

for t in "$folder"/test_*; do
    [ -x "$t" ] && [ -f "$t" ] || continue
    case " $* " in *" $(basename "$t") "*) continue ;; esac
    echo "$t"
done | xargs -P "$(nproc)" -I@ sh -c '
    name=$(basename "$1")
    CMOCKA_MESSAGE_OUTPUT=TAP "$1" >"$2/$name.tap" 2>&1
    status=$?
    sed -i "s/^\(not ok\|ok\) [0-9]* - /\1 $name: /; s/^not ok [0-9]* # SKIP /SKIPPED $name: /" "$2/$name.tap"   # cmocka: skipped is not ok
    [ $status -eq 0 ] || grep -q "^not ok " "$2/$name.tap" || echo "not ok $name: exit status $status" >>"$2/$name.tap"' sh @ "$log"
cat "$log"/*.tap || { echo "not ok there are tests in $folder"; exit 1; }
! grep -q '^not ok ' "$log"/*.tap
