#!/bin/sh
# Random changes of real files. First the front half in one process (tests/unit/test_frontend_mutate.c) for SECONDS; then the texts
# that were still right go through the rest of the compiler: passes, kernels, plan, and the training step where there can be one.
# Usage: tests/fuzz/run.sh BUILD/cnnc SECONDS [SEED]. What failed is kept in tests/fuzz/found.
cnnc=$(realpath "$1") || exit 2
seconds=${2:-20}
seed=${3:-$(date +%s)}
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
found=tests/fuzz/found
mkdir "$tmp/valid"
if ! CNNC_FUZZ_SEED=$seed CNNC_FUZZ_SECONDS=$((seconds / 2 + 1)) CNNC_FUZZ_KEEP=$tmp/last.cnn CNNC_FUZZ_VALID=$tmp/valid \
    "$(dirname "$cnnc")/test_frontend_mutate" >"$tmp/log" 2>&1; then
    mkdir -p $found
    cp "$tmp/last.cnn" "$found/front-$seed.cnn"
    tail -n 20 "$tmp/log"
    echo "seed $seed: the front half failed on $found/front-$seed.cnn"
    exit 1
fi
end=$(($(date +%s) + seconds / 2)) bad=0 n=0
for f in "$tmp"/valid/*.cnn; do
    [ "$(date +%s)" -lt $end ] || break
    [ -e "$f" ] || break
    for stage in plan train_step; do
        timeout 300 "$cnnc" check -q --dump $stage "$f" >/dev/null 2>"$tmp/log"
        status=$?
        if [ $status -gt 1 ]; then
            mkdir -p $found
            cp "$f" "$found/$stage-$seed-$(basename "$f")"
            tail -n 20 "$tmp/log"
            echo "exit status $status from --dump $stage of $found/$stage-$seed-$(basename "$f")"
            bad=1
        fi
    done
    n=$((n + 1))
done
echo "seed $seed: no crash; $n texts that were still right were compiled"
exit $bad
