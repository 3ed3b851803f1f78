#!/bin/sh
# Whole training runs in float32, tf32 and bf16 as a GPU does them, compared with float32 on the CPU: the GPU's text runs on
# tests/gpu/driver.c, whose tensor cores round as PTX says. Writes tests/bench/results/gpu-accuracy.md. Takes some 20 minutes.
# Usage: tests/gpu/accuracy.sh CNNC [SEED...]
case $1 in /*) cnnc=$1 ;; *) cnnc=$PWD/$1 ;; esac
shift
[ $# -gt 0 ] || set -- 0 1
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
results=$root/tests/bench/results/gpu-accuracy.md
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
${CC:-cc} -std=gnu11 -D_GNU_SOURCE -O2 -shared -fPIC -DHOST_HEADER="\"$root/tests/gpu/host.h\"" -I"$root" "$root"/tests/gpu/driver.c "$root"/tests/gpu/driver_work.c \
    "$root"/tests/gpu/compiler.c "$root"/tests/gpu/host.c -o driver.so || exit 1
export CNNC_CUDA_DRIVER="$tmp/driver.so" CNNC_NVRTC="$tmp/driver.so" XDG_CACHE_HOME="$tmp/cache"
cat >net.cnn <<END
input(1, 28, 28)
normalize(mean=0.1307, std=0.3081)
Conv2d(_, 16, 5, stride=2, padding=2, bias=False), BatchNorm2d, ReLU
Conv2d(_, 32, 3, stride=2, padding=1, bias=False), BatchNorm2d, ReLU
Flatten, Linear(_, 64), ReLU, Linear(_, 10)
train {
    data = Digits()
    epochs = 1
    batch_size = 32
    optimizer = SGD(lr=0.05, momentum=0.9)
}
END

# run SEED WHERE OPTIONS...: a row of the table
run() {
    seed=$1 where=$2
    shift 2
    "$cnnc" train net.cnn -q --seed "$seed" -o w.safetensors --log log.jsonl "$@" || exit 1
    grep '"step"' log.jsonl | sed 's/.*"loss": \([^,}]*\).*/\1/' >losses
    [ "$where" != "f32, CPU" ] || cp losses reference
    correct=$("$cnnc" eval net.cnn --weights w.safetensors --json | tr ',{}' '\n' | sed -n 's/.*"accuracy": *//p' | head -n 1)
    paste reference losses | awk -v seed="$seed" -v where="$where" -v correct="$correct" '
        { d = $1 > $2 ? $1 - $2 : $2 - $1; if (NR <= 10 && d > first) first = d; last[NR] = $2 }
        END {
            for (i = NR - 29; i <= NR; i++) sum += last[i]
            printf "| %s | %s | %d | %.1e | %.4f | %.1f %% |\n", where, seed, NR, first, sum / 30, 100 * correct
        }'
}
{
    echo "Whole training runs of a small net on the digits that come along, by tests/gpu/accuracy.sh: on the CPU, and as a GPU does them (on a"
    echo "stand-in for NVIDIA's driver and its tensor cores). Difference: the largest of the first ten losses' from float32 on the CPU."
    echo
    echo "| precision | seed | steps | difference | loss of the last 30 steps | accuracy, test |"
    echo "|---|---|---|---|---|---|"
    for seed; do
        run "$seed" "f32, CPU"
        for precision in f32 tf32 bf16; do run "$seed" "$precision, GPU" --device cuda --precision $precision; done
    done
} >table && cp table "$results" && cat table
