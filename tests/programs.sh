#!/bin/sh
# Training runs and the programs that `build` makes, from outside: same bits whatever the threads, interruptions and resumes,
# JIT or trainer; exit statuses; JSON; outputs of the program, of `run` and of `predict` equal.
# Usage: tests/programs.sh CNNC
case $1 in /*) cnnc=$1 ;; *) cnnc=$PWD/$1 ;; esac
data=$(cd "$(dirname "$0")/../examples/data" && pwd) || exit 1
. "$(dirname "$0")/checks.sh"
cd "$tmp" || exit 1

json() { [ "$(tr -d '\n' <out | cut -c1)" = "$1" ] && [ "$(tail -c 2 out | head -c 1)" = "$2" ]; }

cat >net.cnn <<END
input(1, 28, 28)
normalize("auto")
Conv2d(_, 4, 3, stride=2, bias=False), BatchNorm2d, ReLU, MaxPool2d(2), Dropout2d(0.1), Flatten, Linear(_, 10)
train {
    data = MNIST("$data")
    epochs = 3
    batch_size = 100
    optimizer = Adam(lr=0.01)
    schedule = OneCycleLR(max_lr=0.01)
    augment = [RandomCrop(28, padding=1)]
    seed = 4
}
END

# ---- training ----
check "train" "$cnnc" train net.cnn -o a.safetensors --threads 1 --log a.jsonl
for n in 2 3 5; do
    check "train with $n threads" "$cnnc" train net.cnn -o b.safetensors --threads $n -q
    check "the same bits" cmp a.safetensors b.safetensors
done
for n in 1 60 95; do
    check "stop after $n steps" "$cnnc" train net.cnn -o c.safetensors --steps $n -q --log c.jsonl
    check "resume" "$cnnc" train net.cnn -o c.safetensors --resume c.ckpt.safetensors -q --log c.jsonl
    check "the same weights" cmp a.safetensors c.safetensors
    grep step a.jsonl >a.steps
    grep step c.jsonl >c.steps
    check "the same log" cmp a.steps c.steps
done
check "build a trainer" "$cnnc" build net.cnn --trainer -o trainer
check "it trains" ./trainer -o d.safetensors -q --threads 2
check "to the same bits" cmp a.safetensors d.safetensors

"$cnnc" train net.cnn -o e.safetensors --epochs 400 -q 2>interrupted &
pid=$!
tries=0
while [ ! -e e.ckpt.safetensors ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -INT $pid
wait $pid
status "an interrupted run says so" 130 sh -c "exit $?"
check "and how to go on" grep -q -- "--resume e.ckpt.safetensors" interrupted

status "NaN" 1 "$cnnc" train net.cnn -o n.safetensors --lr 1e30 -q
status "no data" 3 "$cnnc" train net.cnn --data /nonexistent -o n.safetensors -q
status "no place for the weights" 3 "$cnnc" train net.cnn -o /nonexistent/n.safetensors -q
status "no checkpoint" 3 "$cnnc" train net.cnn --resume net.cnn -o n.safetensors -q
status "another seed's checkpoint" 3 "$cnnc" train net.cnn --resume a.safetensors --seed 5 -o n.safetensors -q
status "a trainer's unknown option" 2 ./trainer --epoch 3
check "with the nearest" says --epochs
status "a trainer's batch" 2 ./trainer --batch 101 -o n.safetensors
status "a trainer's bench" 0 ./trainer --bench --json --threads 1
check "is an object" json "{" "}"
check "of times" says best_ms
status "a trainer's bench, step by step" 0 ./trainer --bench --steps 20 --json --threads 3
check "is an object" json "{" "}"
check "of times of each" says '"threads": 3, "steps": 20, "median_ms": '
check "no file is left behind" test ! -e n.safetensors

# ---- programs ----
status "eval" 0 "$cnnc" eval net.cnn --weights a.safetensors --json
check "in JSON" json "{" "}"
check "build" "$cnnc" build net.cnn --weights a.safetensors -o app
gunzip -c "$data/t10k-images-idx3-ubyte.gz" | head -c 7856 >ten   # 16 bytes of header, ten pictures
printf '\000\000\010\003\000\000\000\012' >t10k-idx3-ubyte
tail -c +9 ten >>t10k-idx3-ubyte
{ printf 'P5 28 28 255\n'; tail -c +17 ten | head -c 784; } >one.pgm
status "a header needs no weights" 0 "$cnnc" build net.cnn --emit header --name app -o header.h
check "is the library's" sh -c '"$1" build net.cnn --emit lib --name app -o libapp.a && cmp app.h header.h' sh "$cnnc"
status "program on a picture" 0 ./app one.pgm
cp out app.txt
status "predict on a picture" 0 "$cnnc" predict net.cnn --weights a.safetensors one.pgm
check "the same" cmp app.txt out
status "program on a folder, JSON" 0 ./app --json --top 2 .
check "is a list" json "[" "]"
check "of ten and one" test "$(grep -c '"file"' out)" -eq 11
check "program on arrays" ./app --input t10k-idx3-ubyte --output y.npy
check "run on arrays" "$cnnc" run net.cnn --weights a.safetensors --input t10k-idx3-ubyte --output z.npy
check "the same outputs" cmp y.npy z.npy
status "self-test" 0 ./app --selftest
status "layers" 0 ./app --layers
check "name the first" says Conv2d
status "facts in JSON" 0 ./app --info --json
check "are an object" json "{" "}"
status "bench" 0 ./app --bench --json
check "is a list" json "[" "]"
status "no file" 3 ./app nothing.png
status "no picture" 3 ./app net.cnn
status "nothing to do" 2 ./app
status "unknown option" 2 ./app --tpo 3 one.pgm
status "full disk" 3 sh -c './app one.pgm >/dev/full'

# ---- libraries ----
lenet=$data/../lenet.cnn
check "a library" "$cnnc" build "$lenet" --batch 20 --emit lib -q --name plain -o libplain.a
check "a library with more threads than cores" "$cnnc" build "$lenet" --batch 20 --threads 5 --emit lib,shared -q --name pooled -o libpooled
check "a library for one sample" "$cnnc" build "$lenet" --emit lib -q --name alone -o libalone.a
cat >both.c <<'END'
#include "alone.h"
#include "plain.h"
#include "pooled.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    static float in[20 * PLAIN_INPUT_SIZE], a[20 * PLAIN_OUTPUT_SIZE], b[20 * PLAIN_OUTPUT_SIZE], c[20 * ALONE_OUTPUT_SIZE];
    void *one = aligned_alloc(64, PLAIN_WORKSPACE_SIZE + 64), *five = aligned_alloc(64, POOLED_WORKSPACE_SIZE + 64);
    for (int i = 0; i < 20 * PLAIN_INPUT_SIZE; i++)
        in[i] = (float)(i * 7919 % 256) / 255;
    void *single = aligned_alloc(64, ALONE_WORKSPACE_SIZE + 64);
    for (int i = 0; i < 20; i++)   /* blocks of images and what is left of them compute the same, to rounding */
        if (alone_infer(in + i * ALONE_INPUT_SIZE, c + i * ALONE_OUTPUT_SIZE, single))
            return 201;
    for (int turn = 0; turn < 200; turn++) {
        int n = 1 + turn % 20;
        for (int i = 0; i < 20 * PLAIN_OUTPUT_SIZE; i++)
            a[i] = NAN;
        memset(b, 0, sizeof b);
        if (plain_infer_n(in, a, n, one) || pooled_infer_n(in, b, n, five) || memcmp(a, b, 4ul * n * PLAIN_OUTPUT_SIZE))
            return 1 + turn;
        for (int i = 0; i < 20 * PLAIN_OUTPUT_SIZE; i++)
            if (i < n * PLAIN_OUTPUT_SIZE ? !(fabsf(a[i] - c[i]) < 1e-4f) : !isnan(a[i]))
                return 202;
    }
    return POOLED_THREADS != 5 || PLAIN_THREADS != 1;
}
END
check "a program with all" cc both.c libalone.a libplain.a libpooled.a -lpthread -lm -o both
check "has the same outputs for 1 to 20 samples" ./both
if python3 -c 'import ctypes' 2>/dev/null; then
    check "and Python" env PYTHONDONTWRITEBYTECODE=1 python3 -c '
import pooled
out = pooled.infer([i * 7919 % 256 / 255 for i in range(20 * 784)])
assert len(out) == 200 and "5 threads" in pooled.info and len(set(out)) > 100'
else
    echo "SKIPPED the pooled library in Python: there is none"
fi
status "too many threads" 2 "$cnnc" build "$lenet" --threads 1025 --emit lib -o many.a

# Constants are packed as they are written, unless -v or a second file wants them before.
cat >folded.cnn <<END
input(8, 24, 24)
Conv2d(_, 40, 3, padding=1, bias=False), BatchNorm2d, ReLU, Conv2d(_, 24, 3, padding=1), ReLU
Conv2d(_, 24, 3, stride=2, bias=False), BatchNorm2d, Flatten, Linear(_, 10)
END
"$cnnc" init folded.cnn -q --seed 5 -o folded.safetensors
for weights in "" "--weights folded.safetensors"; do
    check "constants packed late${weights:+ from a file}" "$cnnc" build folded.cnn $weights --emit obj -q --name folded -o late.o
    check "packed before" "$cnnc" build folded.cnn $weights --emit obj -v --name folded -o early.o
    check "packed twice" "$cnnc" build folded.cnn $weights --emit obj,lib -q --name folded -o twice
    check "give the same bits" sh -c 'cmp late.o early.o && cmp late.o twice.o'
done

echo 'input(32, 32, 32); Conv2d(_, 32, 5, padding=2); ReLU; Conv2d(_, 32, 3)' >wide.cnn
status "a loose bound on the error" 0 "$cnnc" build wide.cnn --emit obj --max-rel-err 1e-3
check "takes the fastest algorithm" says "largest error .*(0.001 allowed; Winograd up to F(4x4,5x5))"
status "no Winograd" 0 "$cnnc" build wide.cnn --emit obj --max-rel-err 1e-3 --no-winograd
check "is direct" says "direct convolutions"
status "a bound below float32's" 1 "$cnnc" build wide.cnn --emit obj --max-rel-err 1e-12
check "tried the direct ones" says "direct convolutions"
status "tuning" 0 "$cnnc" build wide.cnn --batch 2 --tune 2 -o tuned
check "measured several plans" says "plans measured"
status "tuning for another machine" 2 "$cnnc" build wide.cnn --emit obj --tune 1 --target aarch64-linux-gnu
status "a bound for another machine" 2 "$cnnc" build wide.cnn --emit obj --max-rel-err 1e-3 --target aarch64-linux-gnu

# Float32 master weights: the accuracy is float32's (97.9 %), and any number of threads gives the same bits.
check "train in bf16" "$cnnc" train "$lenet" --precision bf16 --epochs 6 --threads 1 -o b1.safetensors -q
check "train in bf16 on two threads" "$cnnc" train "$lenet" --precision bf16 --epochs 6 --threads 2 -o b2.safetensors -q
check "the same bits" cmp b1.safetensors b2.safetensors
status "evaluate it in float32" 0 "$cnnc" eval "$lenet" --weights b1.safetensors -q
check "is as accurate as float32" sh -c "awk '/^accuracy/ { good = \$2 >= 97 } END { exit !good }' out"
status "build in bf16" 0 "$cnnc" build "$lenet" --weights b1.safetensors --precision bf16 -v -o narrow
check "tells the error" says "largest error .*(precision bf16)"
status "the self-test in bf16" 0 ./narrow --selftest
status "what precision?" 0 ./narrow --info
check "bf16" says "^precision  bf16"
status "code for pairs" 0 "$cnnc" build "$data/../conv20.cnn" --precision bf16 --cpu znver4 --emit asm -o pairs.s
check "multiplies pairs" grep -q vdpbf16ps pairs.s
check "and asks for no tile registers" sh -c '! grep -q amx-tile pairs.s'
printf 'input(64, 14, 14)\nConv2d(64, 64, 1), ReLU\nConv2d(64, 64, 1)\nFlatten, Linear(_, 4)\n' >wide.cnn
status "code for tile registers" 0 "$cnnc" build wide.cnn -W no-first-kernel --precision bf16 --cpu sapphirerapids --emit exe,asm,header -o tiles
check "multiplies tiles" sh -c 'grep -q tdpbf16ps tiles.s && grep -q amx-tile tiles.s'
check "the header says when it cannot" grep -q "registers (AMX)" tiles.h
if grep -q amx_tile /proc/cpuinfo; then
    status "the self-test in tile registers" 0 ./tiles --selftest
else
    status "a program for tile registers, without them" 4 ./tiles --selftest
    check "says what it needs" says "needs .*amx-tile"
    status "code for them, to be run here" 4 "$cnnc" bench wide.cnn -W no-first-kernel --precision bf16 --cpu sapphirerapids
fi
status "float32 needs none" 0 "$cnnc" build wide.cnn -W no-first-kernel --cpu sapphirerapids --emit asm -o plain.s
check "has none" sh -c '! grep -q "tmm\|tdpbf16ps" plain.s'
status "code without them" 0 "$cnnc" build "$lenet" --precision bf16 --cpu x86-64-v3 --emit asm -o widened.s
check "widens" sh -c '! grep -q vdpbf16ps widened.s && grep -q vfmadd widened.s'
status "an unknown precision" 2 "$cnnc" run "$lenet" --precision bf61
exit $bad
