#!/bin/sh
# Runs the committed sample of random nets (tests/diff/sample, made by tests/torch/random_nets.py --small) without PyTorch:
# inference cases by `cnnc verify`, training cases by five steps of `cnnc train`, the losses in its log, and `cnnc verify` of
# the trained net. Usage: tests/diff/run_sample.sh CNNC [FOLDER...]
cnnc=$1
shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- "$here"/sample/*/
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
good=0 bad=0

number() { sed -n "s/.*\"$2\": \\([-+0-9.e]*\\).*/\\1/p" "$1"; }

# Compares the losses in the log with those of case.json, to the tolerance recorded there.
losses_agree() {
    sed -n 's/.*"step".*"loss": *\([-+0-9.e]*\).*/\1/p; s/.*"loss": *\([-+0-9.e]*\).*"step".*/\1/p' "$2" >"$tmp/got"
    sed -n 's/.*"losses": \[\([^]]*\)\].*/\1/p' "$1" | tr ',' '\n' >"$tmp/want"
    paste "$tmp/want" "$tmp/got" | awk -v gap="$(number "$1" loss_gap)" '
        { allowed = 8 * gap + 1e-5 * ($1 < 0 ? -$1 : $1) + 1e-7; d = $1 - $2; if (NF != 2 || d > allowed || -d > allowed) { print "loss " $2 " instead of " $1; bad = 1 } }
        END { exit bad || NR == 0 }'
}

for dir; do
    weights=$dir/weights.safetensors
    ok=1
    if grep -q '"losses"' "$dir/case.json"; then
        weights=$tmp/trained.safetensors
        "$cnnc" train "$dir/net.cnn" --weights "$dir/weights.safetensors" -o "$weights" --steps 5 --no-shuffle --log "$tmp/log" -q >"$tmp/out" 2>&1 &&
            losses_agree "$dir/case.json" "$tmp/log" >>"$tmp/out" 2>&1 || ok=0
        rm -f "$tmp/log"
    fi
    [ $ok = 1 ] && { "$cnnc" verify "$dir/net.cnn" --weights "$weights" --input "$dir/x.npy" --expect "$dir/expect.npy" --rtol 0 \
        --atol "$(number "$dir/case.json" atol)" >"$tmp/out" 2>&1 || ok=0; }
    if [ $ok = 1 ]; then
        good=$((good + 1))
    else
        bad=$((bad + 1))
        echo "$dir:"
        tail -n 12 "$tmp/out"
    fi
done
echo "$good of $((good + bad)) random nets agree with PyTorch"
[ $bad = 0 ] && [ $good -gt 0 ]
