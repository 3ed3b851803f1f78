#!/bin/sh
# Golden texts: what cnnc prints, compared to the byte. Usage: tests/golden/run.sh [-u] CNNC [FOLDER...]; -u rewrites the
# expectations (review the diff). The folder says the command:
#   error/X.cnn     cnnc check X.cnn: stderr, exit status 1
#   warning/X.cnn   cnnc check X.cnn: stderr, exit status 0
#   command/X.cmd   cnnc with the words in the file (first line): stdout, stderr and exit status
#   STAGE/X.cnn     cnnc check --dump STAGE X.cnn: stdout, exit status 0
# An expectation stands beside its file as X.expect. CPUs are named, so that nothing depends on the machine.
update=
[ "$1" = -u ] && { update=1; shift; }
cnnc=$(realpath "$1") || exit 2
shift
cd "$(dirname "$0")" || exit 2
[ $# -gt 0 ] || set -- error warning command $(ls -d */ | sed 's,/,,' | grep -vE '^(error|warning|command|ops)$')
got=$(mktemp) || exit 2
trap 'rm -f "$got"' EXIT
good=0 bad=0

# Compares $got with $1 (or writes it); $2: exit status, $3: the one wanted.
judge() {
    if [ "$2" != "$3" ]; then
        echo "not ok $folder/$1: exit status $2 instead of $3"
        tail -n 5 "$got"
        bad=$((bad + 1))
    elif [ -n "$update" ]; then
        cp "$got" "$1"
        chmod 644 "$1"
        good=$((good + 1))
    elif diff -u "$1" "$got"; then
        echo "ok $folder/$1"
        good=$((good + 1))
    else
        echo "not ok $folder/$1"
        bad=$((bad + 1))
    fi
}

for folder; do
    cd "$folder" || exit 2
    for f in *.cnn *.cmd; do
        [ -e "$f" ] || continue
        expect=${f%.*}.expect
        case $folder in
        error) "$cnnc" check "$f" 2>"$got" >/dev/null; judge "$expect" $? 1 ;;
        warning) "$cnnc" check "$f" 2>"$got" >/dev/null; judge "$expect" $? 0 ;;
        command)
            case $f in *.cmd) ;; *) continue ;; esac
            eval "set -- $(head -n 1 "$f")"
            "$cnnc" "$@" >"$got" 2>"$got.err"
            status=$?
            { echo "exit status $status"; cat "$got.err"; } >>"$got"
            rm -f "$got.err"
            sed -i 's/"inference_bytes": [1-9][0-9]*/"inference_bytes": BYTES/' "$got"   # report takes no --cpu: the plan is for this one
            judge "$expect" 0 0
            ;;
        *) "$cnnc" check --dump "$folder" --cpu x86-64-v4 "$f" >"$got" 2>&1; judge "$expect" $? 0 ;;
        esac
    done
    cd ..
done
echo "golden: $good passed, $bad failed"
[ $bad = 0 ]
