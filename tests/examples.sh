#!/bin/sh
# Examples, their failures and the README, as a user meets them. Prints `ok NAME` or `not ok NAME` with what went wrong.
#   tests/examples.sh BUILD [NAME...]     names: models, plans, failures, embed, readme; all of them when none is given
#
#   models    every examples/*.cnn is checked, reported and run on one sample; nets of torchvision have its number of
#             parameters; the small ones become programs and pass their self-test
#   plans     every example is planned, which checks the plan, for batches that leave slices and lanes whole and not
#   failures  every examples/failures/X.cnn prints exactly X.expect (stderr and exit status of `cnnc check X.cnn`);
#             -u before BUILD rewrites the expectations
#   embed     examples/embed/run.sh: C and Python agree
#   readme    the README's blocks that open with ```sh tested run in order in one folder; in a block that opens with
#             ```text output, each line must stand in what the block before it printed, `...` stands for anything
update=
[ "${1:-}" = -u ] && { update=1; shift; }
[ $# -ge 1 ] || { echo "usage: tests/examples.sh [-u] BUILD [models|failures|embed|readme...]" >&2; exit 2; }
cd "$(dirname "$0")/.." || exit 2
root=$PWD
build=$(realpath "$1") || exit 2
shift
[ $# -gt 0 ] || set -- models plans failures embed readme
export PATH="$build:$PATH"
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
bad=0

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1"; bad=1; }

# try NAME COMMAND...: one line, and the last lines of the command's words when it fails
try() {
    label=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then ok "$label"; else not_ok "$label"; echo "$*"; tail -n 20 "$tmp/log"; fi
}

# Writes one sample of 8-bit numbers as .npy: picture FILE C H W. A compressed file serves as noise that is always the same.
picture() {
    printf '\223NUMPY\001\000\166\000' >"$1"
    printf "%-117s\n" "{'descr': '|u1', 'fortran_order': False, 'shape': (1, $2, $3, $4), }" >>"$1"
    tail -c +1000 examples/data/train-images-idx3-ubyte.gz | head -c $(($2 * $3 * $4)) >>"$1"
}

# The outputs are finite numbers, and not all of one value.
sensible() {
    tail -c +129 "$1" | od -An -v -t f4 -w4 | awk '/nan|inf/ { bad = 1 } NR > 1 && $1 != last { differ = 1 } { last = $1 } END { exit bad || !differ }'
}

# The number of parameters of torchvision's net of that name.
published() {
    case $1 in
    alexnet) echo 61,100,840 ;;
    googlenet) echo 6,624,904 ;;
    mobilenetv2) echo 3,504,872 ;;
    resnet18) echo 11,689,512 ;;
    resnet50) echo 25,557,032 ;;
    vgg16) echo 138,357,544 ;;
    esac
}

models() {
    for file in examples/*.cnn; do
        name=$(basename "$file" .cnn)
        try "check $name" cnnc check "$file"
        try "report $name" cnnc report "$file" -o "$tmp/report"
        [ -z "$(published "$name")" ] || try "parameters of $name" grep -q "^  parameters  $(published "$name") " "$tmp/report"
        # "lenet: input [1, 28, 28], batch 1"
        sizes=$(sed -n '1s/.*input \[\([0-9, ]*\)\].*/\1/p' "$tmp/report" | tr -d ,)
        picture "$tmp/x.npy" $sizes
        try "run $name" cnnc run "$file" -q --input "$tmp/x.npy" --output "$tmp/y.npy"
        try "outputs of $name" sensible "$tmp/y.npy"
        case $sizes in
        "1 28 28" | "3 64 64")
            try "build $name" cnnc build "$file" -q -o "$tmp/app"
            try "self-test of $name" "$tmp/app" --selftest
            "$tmp/app" --input "$tmp/x.npy" --output "$tmp/z.npy" >"$tmp/log" 2>&1
            try "program and run agree on $name" cmp "$tmp/y.npy" "$tmp/z.npy"
            ;;
        esac
    done
}

every_plan() {
    for batch in 5 16 40; do
        for how in "" --train "--precision bf16" "--train --precision bf16"; do
            cnnc bench "$1" -q --cpu x86-64-v4 --batch $batch $how --dump plan || { echo "batch $batch $how"; return 1; }
        done
    done
}

plans() {
    for file in examples/*.cnn; do
        try "plans of $(basename "$file" .cnn)" every_plan "$file"
    done
}

failures() {
    cd "$root/examples/failures" || exit 2
    for file in *.cnn; do
        expect=${file%.cnn}.expect
        cnnc check "$file" >"$tmp/got" 2>&1
        echo "exit status $?" >>"$tmp/got"
        if [ -n "$update" ]; then
            cat "$tmp/got" >"$expect"
        else
            try "failures/$file" diff -u "$expect" "$tmp/got"
        fi
    done
    cd "$root" || exit 2
}

embed() {
    try "init" cnnc init examples/lenet.cnn --seed 1 -o "$tmp/w.safetensors"
    try "embed" sh examples/embed/run.sh "$build/cnnc" "$tmp/w.safetensors" "$tmp/embed"
}

# Splits the README into $tmp/blocks/NNN.sh and NNN.out (its expected lines) and runs them in $tmp/readme.
readme() {
    mkdir -p "$tmp/blocks" "$tmp/readme"
    ln -s "$root/examples" "$tmp/readme/examples"
    echo "$tmp/readme" >"$tmp/here"
    awk -v folder="$tmp/blocks" '
        /^```$/ { file = ""; next }
        /^```sh tested$/ { n++; file = sprintf("%s/%03d.sh", folder, n); print "# line " NR + 1 >file; next }
        /^```text output$/ { file = sprintf("%s/%03d.out", folder, n); next }
        /^```/ { file = ""; next }
        file != "" { print >file }' README.md
    found=0
    for block in "$tmp"/blocks/*.sh; do
        [ -e "$block" ] || break
        found=1
        name="README $(head -n 1 "$block" | tr -d '#')"
        # One folder after another, as someone types it: `cd` in a block holds for the next.
        (cd "$(cat "$tmp/here")" && sh -ec '. "$1"; pwd >"$2"' sh "$block" "$tmp/here") >"$tmp/log" 2>&1
        status=$?
        missing=
        if [ -f "${block%.sh}.out" ]; then
            # A line of the README, cut at "...", is looked for as plain text.
            awk -v log_file="$tmp/log" '
                BEGIN { while ((getline line < log_file) > 0) have = have line "\n" }
                { n = split($0, part, /\.\.\./); for (i = 1; i <= n; i++) if (part[i] != "" && index(have, part[i]) == 0) { print "not printed: " part[i]; bad = 1 } }
                END { exit bad }' "${block%.sh}.out" >"$tmp/missing" || missing=1
        fi
        # A command that fails on purpose says so in the block: `|| true`, `; echo $?`.
        if [ $status -eq 0 ] && [ -z "$missing" ]; then
            ok "$name"
        else
            not_ok "$name"
            cat "$block"
            [ -z "$missing" ] || cat "$tmp/missing"
            tail -n 20 "$tmp/log"
        fi
    done
    [ $found = 1 ] || not_ok "the README has tested blocks"
}

for part; do
    case $part in
    models | plans | failures | embed | readme) $part ;;
    *) echo "tests/examples.sh: no part '$part'" >&2; exit 2 ;;
    esac
done
[ $bad = 0 ]
