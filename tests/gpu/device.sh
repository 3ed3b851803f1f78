#!/bin/sh
# On a machine with a GPU: do the numbers agree with a CPU's, and how fast is it? Needs what tests/gpu/carry.sh made; builds nothing
# while that runs here. Prints `ok NAME` and `not ok NAME`; times beside PyTorch go to tests/bench/results/ (device.py).
#
# Such a machine may be there for minutes only: the nets are checked side by side, every part has a time limit of its own, what
# matters most comes first, all is written as it comes, and nothing stops what follows. While the checks run, kernels are compiled
# and torch.compile fills its cache beside them; times are taken when all is done. A second run on the same machine goes on with
# the times that are missing. What a failed check said is in failed.log.
# Usage: tests/gpu/device.sh [--quick] [--within SECONDS (560)] [--beside N] [--results FOLDER] [FOLDER (build-carry)]
#        --quick: LeNet-5 alone, no times. --beside: PyTorch only beside the first N times.
#        On a borrowed machine that gives $OUT back: tests/gpu/device.sh --results "$OUT"
quick=0 within=560 results= beside=1000
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
while :; do
    case $1 in
    --quick) quick=1 ;;
    --within) within=$2; shift ;;
    --beside) beside=$2; shift ;;
    --results) results=$2; shift ;;
    *) break ;;
    esac
    shift
done
folder=$(cd "${1:-$root/build-carry}" && pwd) || { echo "make it first: tests/gpu/carry.sh"; exit 1; }
cnnc=$folder/cnnc
end=$(($(date +%s) + within))
tmp=$(mktemp -d) || exit 1
bad=$tmp/bad failed=${results:-$folder}/failed.log
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME="$tmp/cache" TORCHINDUCTOR_CACHE_DIR="$folder/inductor" PYTHONDONTWRITEBYTECODE=1

left() { echo $((end - $(date +%s))); }
not_ok() {
    echo "not ok $1"
    tail -n 5 "$tmp/log"
    echo "$1" >>"$bad"
    { echo "== $1"; cat "$tmp/log"; } >>"$failed"
}
# check NAME COMMAND...: it succeeds, within a minute.
check() {
    name=$1
    shift
    limit=$(left)
    [ "$limit" -lt 60 ] || limit=60
    [ "$limit" -gt 0 ] || limit=1
    if timeout -k 2 "$limit" "$@" >"$tmp/log" 2>&1; then echo "ok $name"; else not_ok "$name"; fi
}
steps() { grep '"step"' "$1" | sed 's/.*"loss": \([-+0-9.e]*\).*/\1/'; }
# The first losses of two logs, within rounding: it grows by a third or more a step where BatchNorm has few values, as it does between two
# CPUs with vectors of different lengths (MobileNetV1: 1e-4 at the fifth step, 2e-3 at the tenth).
losses() {
    steps "$1" >"$tmp/a"
    steps "$2" >"$tmp/b"
    paste "$tmp/a" "$tmp/b" >"$tmp/ab"
    check "$3: losses as on a CPU" awk '
        { d = $1 > $2 ? $1 - $2 : $2 - $1; if (NF != 2 || !(d <= 2e-4 * 1.4 ^ (NR - 1) * (1 + $1))) { print NR ": " $0; bad = 1 } }
        END { exit bad || NR < 10 }' "$tmp/ab"
}

# A C library older than the one it was linked with: built again, without LLVM, bison and flex.
build_here() {
    timeout -k 2 150 cmake -S "$root" -B "$folder/here" -DCMAKE_BUILD_TYPE=Release -DCNNC_PARSER="$folder/parser" -DCNNC_LLVM_PREFIX= >"$tmp/log" 2>&1 &&
        timeout -k 2 150 cmake --build "$folder/here" -j "$(nproc)" --target cnnc >>"$tmp/log" 2>&1
}

check_net() {
    net=$(basename "$1")
    tmp=$tmp/$net
    mkdir -p "$tmp"
    check "$net: weights" "$cnnc" init "$1/net.cnn" -q --seed 1 -o "$tmp/w"
    check "$net: outputs" "$cnnc" verify "$1/net.cnn" -q --weights "$tmp/w" --input "$1/x.npy" --expect "$1/expect.npy" --rtol 1e-3 --atol 1e-4 --batch 4 --device cuda
    check "$net: training" "$cnnc" train "$1/net.cnn" -q --seed 1 --steps 10 --log "$tmp/log1" -o "$tmp/w1" --device cuda
    losses "$1/log.jsonl" "$tmp/log1" "$net"
    check "$net: training again" "$cnnc" train "$1/net.cnn" -q --seed 1 --steps 10 --log "$tmp/log2" -o "$tmp/w2" --device cuda
    check "$net: the same bits" cmp "$tmp/w1" "$tmp/w2"
}
# All of them at once; their lines one net after the other.
check_nets() {
    for net; do
        (check_net "$folder/cases/$net") >"$tmp/$net.lines" 2>&1 &
        running="$running $!"
    done
    for check in $running; do wait "$check"; done
    for net; do cat "$tmp/$net.lines"; done
}

# The committed sample of random nets, some at once.
check_sample() {
    for case in "$root"/tests/diff/sample/*/; do printf '%s\n' "$case"; done |
        DEVICE=cuda xargs -n 3 -P "$(nproc)" timeout -k 2 100 sh "$root/tests/diff/run_sample.sh" "$cnnc" >"$tmp/sample" 2>&1
    grep '^ok\|^not ok' "$tmp/sample"
    grep '^not ok' "$tmp/sample" >>"$bad" && cat "$tmp/sample" >>"$failed"
    got=$(grep -c '^ok\|^not ok' "$tmp/sample")
    cases=$(find "$root/tests/diff/sample" -name case.json | wc -l)
    [ "$got" -eq "$cases" ] || { echo "not ok sample: $got of $cases cases answered"; echo sample >>"$bad"; }
}

check_programs() {
    [ -x "$folder/lenet" ] && timeout -k 2 20 "$folder/lenet" --info >/dev/null 2>&1 || return
    check "a program" "$folder/lenet" --selftest --device cuda
    check "a trainer" "$folder/lenet-trainer" -q --data "$root/examples/data" --steps 5 -o "$tmp/t" --device cuda
    echo "a trainer has $(wc -c <"$folder/lenet-trainer") bytes"
}

# A whole training run in each precision: about as many right as with the CPU's weights.
check_whole() {
    net=$folder/whole/net.cnn want=$(cat "$folder/whole/right") || return
    for precision in f32 tf32 bf16; do
        start=$(date +%s%N)
        timeout -k 2 60 "$cnnc" train "$net" -q --seed 1 --precision $precision -o "$tmp/whole.safetensors" --device cuda >"$tmp/log" 2>&1
        took=$((($(date +%s%N) - start) / 1000000))
        got=$(timeout -k 2 20 "$cnnc" eval "$net" --weights "$tmp/whole.safetensors" --json --device cuda 2>>"$tmp/log" | tr ',{}' '\n' | sed -n 's/.*"accuracy": *//p' | head -n 1)
        check "a whole run in $precision: ${got:-none} right, $want with a CPU's weights, $took ms" awk "BEGIN { d = ${got:-0} - $want; exit !(d > -0.015) }"
    done
}

# Seconds of a run from text to answer: kernels compiled, then taken from the cache.
compile_times() {
    at=$folder/cases/resnet18
    timeout -k 2 20 "$cnnc" init "$at/net.cnn" -q --seed 1 -o "$tmp/w" || return
    for what in compiled cached; do
        start=$(date +%s%N)
        XDG_CACHE_HOME="$tmp/fresh" timeout 60 "$cnnc" run "$at/net.cnn" -q --weights "$tmp/w" --input "$at/x.npy" -o "$tmp/y.npy" --device cuda || return
        echo "resnet18, a whole run, kernels $what: $((($(date +%s%N) - start) / 1000000)) ms"
    done
}

all() {
    if ! timeout -k 2 20 "$cnnc" --version >"$tmp/version" 2>&1; then
        build_here || { echo "not ok cnnc is built here"; tail -n 20 "$tmp/log"; echo build >>"$bad"; return; }
        cnnc=$folder/here/cnnc
        timeout -k 2 20 "$cnnc" --version >"$tmp/version"
    fi
    cat "$tmp/version"
    grep -q '^GPU: .*sm_' "$tmp/version" || { echo "SKIPPED: there is no GPU"; return; }
    if [ $quick -eq 1 ]; then
        check_net "$folder/cases/lenet"
        check_programs
        return
    fi
    timeout -k 2 20 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader
    python3 "$root/tests/gpu/device.py" "$cnnc" "$folder" --warm 6 --beside "$beside" --within $((within * 4 / 10)) &
    warm=$!
    check_nets lenet tinyvgg cifar_vgg resnet18 mobilenet
    check_programs
    check_whole
    check_sample
    echo "checked, with $(left) seconds left"
    wait $warm
    compile_times
    echo "times, with $(left) seconds left"
    python3 "$root/tests/gpu/device.py" "$cnnc" "$folder" --beside "$beside" --within "$(($(left) - 5))" ${results:+--results "$results"} || echo times >>"$bad"
}

mkdir -p "${results:-$folder}"
: >"$failed"
if [ $quick -eq 1 ]; then all; else all 2>&1 | tee "${results:-$folder}/device.log"; fi
[ ! -s "$bad" ]
