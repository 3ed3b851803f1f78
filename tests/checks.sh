# What the shell tests share: a folder of their own that goes away, and commands whose outcome is a line `ok NAME` or `not ok NAME`.
# Sourced by a test with $0 in tests/ or a folder in it: . "$(dirname "$0")/checks.sh". The test ends with: exit $bad
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0

# check NAME COMMAND...: the command succeeds.
check() {
    name=$1
    shift
    if "$@" >log 2>&1; then echo "ok $name"; else echo "not ok $name"; tail -n 5 log; bad=1; fi
}

# status NAME WANTED COMMAND...: it exits so. What it said is in `out` and `err`.
status() {
    name=$1 want=$2
    shift 2
    "$@" >out 2>err
    got=$?
    if [ $got -eq "$want" ]; then echo "ok $name"; else echo "not ok $name: status $got, not $want"; tail -n 5 err; bad=1; fi
}

# says WORDS: the last command of `status` said so.
says() { grep -q -- "$1" out err 2>/dev/null; }
