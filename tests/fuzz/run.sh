#!/bin/sh
# Random changes of real files, in three parts of equal time:
#   the front half in one process (tests/unit/test_frontend_mutate.c), thousands of texts;
#   the command with its options, forms of messages and reports (mutate.c);
#   the texts that were still right in the first part, through the rest of the compiler: passes, kernels, plan, training step.
# Usage: tests/fuzz/run.sh BUILD/cnnc SECONDS [SEED]. What failed is kept in tests/fuzz/found, with the seed in its name.
[ $# -ge 1 ] || { echo "usage: tests/fuzz/run.sh BUILD/cnnc SECONDS [SEED]" >&2; exit 2; }
cnnc=$(realpath "$1") || exit 2
seconds=${2:-20}
seed=${3:-$(date +%s)}
share=$((seconds / 3 + 1))
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
found=tests/fuzz/found
mkdir "$tmp/valid" "$tmp/keep"

# keep FILE NAME WHY: the file, and how to see it again
keep() {
    mkdir -p $found
    cp "$1" "$found/$2"
    echo "seed $seed: $3: $found/$2"
}

if ! CNNC_FUZZ_SEED=$seed CNNC_FUZZ_SECONDS=$share CNNC_FUZZ_KEEP=$tmp/last.cnn CNNC_FUZZ_VALID=$tmp/valid \
    "$(dirname "$cnnc")/test_frontend_mutate" >"$tmp/log" 2>&1; then
    tail -n 20 "$tmp/log"
    keep "$tmp/last.cnn" "front-$seed.cnn" "the front half failed"
    exit 1
fi

${CC:-cc} -O2 tests/fuzz/mutate.c -o "$tmp/mutate" || exit 2
if ! "$tmp/mutate" "$cnnc" $share "$seed" "$tmp/keep" examples/*.cnn examples/failures/*.cnn tests/golden/*/*.cnn >"$tmp/log" 2>&1; then
    tail -n 40 "$tmp/log"
    keep "$tmp/keep/last.cnn" "command-$seed.cnn" "the command failed"
    exit 1
fi
cat "$tmp/log"

end=$(($(date +%s) + share)) bad=0 n=0
for f in "$tmp"/valid/*.cnn; do
    [ "$(date +%s)" -lt $end ] || break
    [ -e "$f" ] || break
    for stage in plan train_step; do
        timeout 300 "$cnnc" check -q --dump $stage "$f" >/dev/null 2>"$tmp/log"
        status=$?
        if [ $status -gt 1 ] || grep -qE 'AddressSanitizer|runtime error:' "$tmp/log"; then
            tail -n 20 "$tmp/log"
            keep "$f" "$stage-$seed-$(basename "$f")" "exit status $status from --dump $stage"
            bad=1
        fi
    done
    n=$((n + 1))
done
echo "seed $seed: no crash; $n texts that were still right were compiled"
exit $bad
