#!/bin/sh
# On a machine with a GPU: do the numbers agree with a CPU's, and how fast is it? Needs what tests/gpu/carry.sh made; builds nothing
# while that runs here. Prints `ok NAME` and `not ok NAME`; times beside PyTorch go to tests/bench/results/ (device.py).
# Usage: tests/gpu/device.sh [--quick] [FOLDER (build-carry)]        --quick: LeNet-5 alone, no times
quick=0
[ "$1" != --quick ] || { quick=1; shift; }
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
folder=$(cd "${1:-$root/build-carry}" && pwd) || { echo "make it first: tests/gpu/carry.sh"; exit 1; }
cnnc=$folder/cnnc
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
export XDG_CACHE_HOME="$tmp/cache"

check() {
    name=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then echo "ok $name"; else echo "not ok $name"; tail -n 5 "$tmp/log"; bad=1; fi
}
steps() { grep '"step"' "$1" | sed 's/.*"loss": \([-+0-9.e]*\).*/\1/'; }
# The first losses of two logs, within rounding that ten steps let grow.
losses() {
    steps "$1" >"$tmp/a"
    steps "$2" >"$tmp/b"
    paste "$tmp/a" "$tmp/b" | awk '{ d = $1 - $2; if (NF != 2 || d * d > 1e-6 * (1 + $1 * $1)) { print NR ": " $0; bad = 1 } } END { exit bad || NR < 10 }'
}

# A C library older than the one it was linked with: built again, without LLVM, bison and flex.
if ! "$cnnc" --version >"$tmp/version" 2>&1; then
    cmake -S "$root" -B "$folder/here" -DCMAKE_BUILD_TYPE=Release -DCNNC_PARSER="$folder/parser" -DCNNC_LLVM_PREFIX= >"$tmp/log" 2>&1 &&
        cmake --build "$folder/here" -j "$(nproc)" --target cnnc >>"$tmp/log" 2>&1 || { tail -n 20 "$tmp/log"; exit 1; }
    cnnc=$folder/here/cnnc
    "$cnnc" --version >"$tmp/version"
fi
cat "$tmp/version"
grep -q '^GPU: .*sm_' "$tmp/version" || { echo "SKIPPED: there is no GPU"; exit 0; }

for case in "$folder"/cases/*/; do
    net=$(basename "$case")
    [ $quick -eq 0 ] || [ "$net" = lenet ] || continue
    "$cnnc" init "$case/net.cnn" -q --seed 1 -o "$tmp/w"
    check "$net: outputs" "$cnnc" verify "$case/net.cnn" -q --weights "$tmp/w" --input "$case/x.npy" --expect "$case/expect.npy" --rtol 1e-3 --atol 1e-4 --batch 4 --device cuda
    check "$net: training" "$cnnc" train "$case/net.cnn" -q --seed 1 --steps 10 --log "$tmp/log1" -o "$tmp/w1" --device cuda
    check "$net: losses as on a CPU" losses "$case/log.jsonl" "$tmp/log1"
    check "$net: training again" "$cnnc" train "$case/net.cnn" -q --seed 1 --steps 10 --log "$tmp/log2" -o "$tmp/w2" --device cuda
    check "$net: the same bits" cmp "$tmp/w1" "$tmp/w2"
done
if [ -x "$folder/lenet" ] && "$folder/lenet" --info >/dev/null 2>&1; then
    check "a program" "$folder/lenet" --selftest --device cuda
    check "a trainer" "$folder/lenet-trainer" -q --data "$root/examples/data" --steps 5 -o "$tmp/t" --device cuda
fi
if [ $quick -eq 0 ]; then
    DEVICE=cuda sh "$root/tests/diff/run_sample.sh" "$cnnc" | tee "$tmp/sample"
    ! grep -q '^not ok' "$tmp/sample" || bad=1
    python3 "$root/tests/gpu/device.py" "$cnnc" "$folder" || bad=1
fi
[ $bad = 0 ]
