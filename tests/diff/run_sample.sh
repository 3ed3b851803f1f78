#!/bin/sh
# Runs the committed sample of random nets (tests/diff/sample, made by tests/torch/random_nets.py --small) without PyTorch:
# inference cases by `cnnc verify`; training cases by five steps of `cnnc train`, the losses in its log, and `cnnc verify` of the
# trained net. 1 and 2 threads must give the same bits. One line `ok NAME` or `not ok NAME` a case.
# Usage: tests/diff/run_sample.sh CNNC [FOLDER...]          with DEVICE=cuda in the environment: on a GPU
cnnc=$1
device=${DEVICE:-cpu}
shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- "$here"/sample/*/
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0

number() { sed -n "s/.*\"$2\": \\([-+0-9.e]*\\).*/\\1/p" "$1"; }

# Compares the losses in the log with those of case.json, to the tolerance recorded there.
losses_agree() {
    sed -n 's/.*"step".*"loss": *\([-+0-9.e]*\).*/\1/p; s/.*"loss": *\([-+0-9.e]*\).*"step".*/\1/p' "$tmp/log1" >"$tmp/got"
    sed -n 's/.*"losses": \[\([^]]*\)\].*/\1/p' "$1" | tr ',' '\n' >"$tmp/want"
    echo >>"$tmp/want"
    paste "$tmp/want" "$tmp/got" | awk -v gap="$(number "$1" loss_gap)" '
        NF == 0 { next }
        { allowed = 8 * gap + 1e-5 * ($1 < 0 ? -$1 : $1) + 1e-7; d = $1 - $2; if (NF != 2 || d > allowed || -d > allowed) { print "loss " $2 " instead of " $1; bad = 1 }; n++ }
        END { exit bad || n == 0 }'
}

# Five steps with $2 threads.
train() {
    "$cnnc" train "$1/net.cnn" --weights "$1/weights.safetensors" -o "$tmp/w$2" --steps 5 --no-shuffle --log "$tmp/log$2" --threads "$2" --device "$device" -q
}

run() {
    "$cnnc" run "$1/net.cnn" --weights "$weights" --input "$1/x.npy" --output "$tmp/y$2" --threads "$2" --device "$device" -q
}

same_bits() { cmp -s "$tmp/$1" "$tmp/$2" || { echo "1 and 2 threads give different bits"; return 1; }; }

check() {
    weights=$1/weights.safetensors
    rm -f "$tmp"/log* "$tmp"/w* "$tmp"/y*
    if grep -q '"losses"' "$1/case.json"; then
        train "$1" 1 && train "$1" 2 && same_bits w1 w2 && losses_agree "$1/case.json" || return 1
        weights=$tmp/w1
    fi
    run "$1" 1 && run "$1" 2 && same_bits y1 y2 &&
        "$cnnc" verify "$1/net.cnn" --weights "$weights" --input "$1/x.npy" --expect "$1/expect.npy" --rtol 0 --atol "$(number "$1/case.json" atol)" --device "$device"
}

for dir; do
    dir=${dir%/}
    if check "$dir" >"$tmp/out" 2>&1; then
        echo "ok $(basename "$dir")"
    else
        bad=$((bad + 1))
        echo "not ok $(basename "$dir")"
        tail -n 12 "$tmp/out"
    fi
done
[ $bad = 0 ]
