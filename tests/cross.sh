#!/bin/sh
# Programs for every kind of vector: AVX2 and plain SSE on this machine, aarch64's under qemu-user. Self-tests against the reference
# interpreter, the same classes for real digits, training that agrees with AVX-512's or this CPU's to rounding and with itself to the
# bit whatever the threads, libraries called from C.
# Usage: tests/cross.sh BUILD
build=$(realpath "$1") || exit 1
cnnc=$build/cnnc
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
data=$root/examples/data
. "$root/tests/checks.sh"
cd "$tmp" || exit 1
unset CC

# ---- nets: convolutions by columns and by channels, Winograd, depthwise, pointwise, strided, residual; odd sizes ----
cp "$root/examples/lenet.cnn" "$root/examples/simple_cnn.cnn" "$root/examples/tinyvgg.cnn" .
echo 'input(16, 20, 20); Conv2d(_, 32, 3, padding=1), ReLU, MaxPool2d(2), Conv2d(_, 16, 3, padding=1), Conv2d(_, 16, 5, padding=2), Flatten, Linear(_, 5)' >winograd.cnn
echo 'input(3, 33, 17); Conv2d(_, 24, 3, stride=2, padding=1), Conv2d(_, 24, 3, groups=24, padding=1), ReLU6, Conv2d(_, 40, 1), Conv2d(_, 40, 3, groups=40, stride=2), Hardswish, Conv2d(_, 7, 1), AdaptiveAvgPool2d(1), Flatten, Softmax(1)' >depthwise.cnn
echo 'input(5, 13, 11); Conv2d(_, 9, (3, 5), padding="same"), GELU, residual { Conv2d(_, 9, 1), BatchNorm2d, Tanh }, AvgPool2d(2, ceil_mode=True), Sigmoid, Flatten, Linear(_, 17), Softplus, LogSoftmax(1)' >odd.cnn
nets="lenet simple_cnn tinyvgg winograd depthwise odd"

# programs LABEL RUN OPTION...: every net's program passes its self-test, one sample at a time and nine.
programs() {
    label=$1 run=$2
    shift 2
    for net in $nets; do
        for batch in 1 9; do
            "$cnnc" build $net.cnn -q --inputs npy,idx,pgm --batch $batch "$@" -o app >log 2>&1 && $run ./app --selftest >log 2>&1 &&
                grep -q passed log || { echo "not ok $label: $net at batch $batch"; tail -n 5 log; bad=1; continue; }
            echo "ok $label: $net at batch $batch"
        done
    done
    check "$label: bf16" "$cnnc" build winograd.cnn -q --inputs npy,idx,pgm --precision bf16 "$@" -o app
    check "$label: bf16's self-test" $run ./app --selftest
}

# What this machine's own CPU, whatever it is, says of ten digits; and its losses.
gunzip -c "$data/t10k-images-idx3-ubyte.gz" | head -c 7856 | tail -c +17 >pixels
{ printf '\000\000\010\003\000\000\000\012\000\000\000\034\000\000\000\034'; cat pixels; } >ten-idx3-ubyte
{ printf 'P5 28 28 255\n'; head -c 784 pixels; } >one.pgm
mkdir digits
for f in "$data"/*-ubyte.gz; do gunzip -c "$f" >digits/"$(basename "$f" .gz)"; done
sed "s|Digits()|MNIST(\"$tmp/digits\")|" lenet.cnn >train.cnn
check "train here" "$cnnc" train lenet.cnn --epochs 1 --steps 100 -q -o lenet.safetensors
"$cnnc" predict lenet.cnn --weights lenet.safetensors --top 1 ten-idx3-ubyte one.pgm | sed 's/ (.*//' >classes
check "eleven classes" test "$(wc -l <classes)" -eq 11
"$cnnc" train train.cnn --epochs 1 --steps 12 -q -o here.safetensors --log here.jsonl
grep step here.jsonl >here.losses

# near FILE: the losses of its steps are within 1e-4 of here.losses.
near() {
    paste here.losses "$1" | awk -F'"loss": ' '{ split($2, a, ","); split($3, b, ","); n++; d = a[1] - b[1]; if (d < 0) d = -d; if (!(d <= 1e-4 * a[1])) bad = 1 }
                               END { exit bad || n != 12 }'
}

# whole LABEL RUN CC OPTION...: digits, training, a library.
whole() {
    label=$1 run=$2 cc=$3
    shift 3
    check "$label: build LeNet-5" "$cnnc" build lenet.cnn --weights lenet.safetensors -q --inputs npy,idx,pgm "$@" -o lenet
    $run ./lenet --top 1 ten-idx3-ubyte one.pgm 2>log | sed 's/ (.*//' >read
    check "$label: the same classes" cmp classes read
    check "$label: build a trainer" "$cnnc" build train.cnn --trainer -q --inputs npy,idx,pgm "$@" -o trainer
    for threads in 1 2 3; do
        check "$label: trains on $threads threads" $run ./trainer --epochs 1 --steps 12 --threads $threads -q -o t$threads.safetensors --log t.jsonl
        check "$label: the same bits" cmp t1.safetensors t$threads.safetensors
    done
    grep step t.jsonl >t.losses
    check "$label: losses as here" near t.losses
    check "$label: libraries" "$cnnc" build lenet.cnn --weights lenet.safetensors -q --emit lib,shared,header,obj "$@" -o liblenet
    check "$label: calls from C, shared" $cc main.c -L. -l:liblenet.so -Wl,-rpath,. -o main
    check "$label: run them" $run ./main
    cp out.txt shared.txt
    check "$label: calls from C, archive" $cc main.c liblenet.a -o main
    check "$label: run them" $run ./main
    check "$label: the same numbers" cmp out.txt shared.txt
    check "$label: calls from C, object" $cc main.c liblenet.o -o main
}
cat >main.c <<END
#include "lenet.h"
#include <stdio.h>

static _Alignas(64) char workspace[LENET_WORKSPACE_SIZE + 64];
int main(void)
{
    static float in[LENET_INPUT_SIZE], out[LENET_OUTPUT_SIZE];
    for (int i = 0; i < LENET_INPUT_SIZE; i++)
        in[i] = (float)(i * 37 % 255) / 255;
    if (lenet_infer(in, out, workspace) != 0 || lenet_batch() != 1 || lenet_workspace_size() > sizeof workspace)
        return 1;
    FILE *f = fopen("out.txt", "w");
    for (int i = 0; i < LENET_OUTPUT_SIZE; i++)
        fprintf(f, "%s %.9g\n", lenet_class_name(i), out[i]);
    return fclose(f);
}
END

# ---- this machine, by other instructions ----
if [ "$(uname -m)" = x86_64 ]; then
    programs "x86-64" "" --cpu x86-64
    whole "x86-64" "" cc --cpu x86-64
    if grep -q -w avx2 /proc/cpuinfo; then
        programs "x86-64-v3" "" --cpu x86-64-v3
        whole "x86-64-v3" "" cc --cpu x86-64-v3
    else
        echo "SKIPPED: this CPU has no AVX2"
    fi
fi

# ---- one program for several CPUs: qemu plays those that this machine is not ----
if [ "$(uname -m)" = x86_64 ]; then
    check "a program for three CPUs" "$cnnc" build lenet.cnn --weights lenet.safetensors -q --inputs npy,idx,pgm --cpu x86-64-v3,x86-64,x86-64-v4 -o several
    check "passes its self-test" ./several --selftest
    best=x86-64
    ! grep -q -w avx2 /proc/cpuinfo || best=x86-64-v3
    ! grep -q -w avx512vl /proc/cpuinfo || best=x86-64-v4
    check "takes what this CPU has" sh -c "./several --info | grep -q '^built for  $best '"
    ./several --top 1 ten-idx3-ubyte one.pgm | sed 's/ (.*//' >read
    check "the same classes" cmp classes read
    check "a program for two CPUs" "$cnnc" build lenet.cnn -q --inputs npy --cpu x86-64-v3,x86-64-v4 -o two
    check "a trainer for two CPUs" "$cnnc" build train.cnn --trainer -q --inputs npy --cpu x86-64,x86-64-v3 -o trainers
    check "trains" ./trainers --epochs 1 --steps 12 -q -o several.safetensors --log t.jsonl
    grep step t.jsonl >t.losses
    check "losses as here" near t.losses
    if command -v qemu-x86_64 >/dev/null; then
        for pair in Nehalem:x86-64 Haswell:x86-64-v3; do
            check "takes what ${pair%:*} has" sh -c "qemu-x86_64 -cpu ${pair%:*} ./several --info | grep -q '^built for  ${pair#*:} '"
            check "and runs it" qemu-x86_64 -cpu ${pair%:*} ./several --selftest
        done
        status "a CPU that lacks what all of them need" 4 qemu-x86_64 -cpu Nehalem ./two --selftest
        check "has its sentence" says 'was built for x86-64-v3 and needs avx'
    else
        echo "SKIPPED: programs on older CPUs (install qemu-user)"
    fi
    status "two CPUs of one kind" 2 "$cnnc" build lenet.cnn --cpu znver4,x86-64-v4 -o x
    check "has its sentence" says 'one of them is enough'
    status "a library for two CPUs" 2 "$cnnc" build lenet.cnn --emit lib --cpu x86-64,x86-64-v3 -o x
    status "two CPUs for run" 2 "$cnnc" run lenet.cnn --cpu x86-64,x86-64-v3 --input x.npy --output y.npy
fi

# ---- what is said about targets ----
status "an unknown target" 2 "$cnnc" build lenet.cnn --emit asm --target riscv64-linux-gnu -o x
check "has its sentence" says 'target "riscv64-linux-gnu": this version makes code for x86_64-linux-gnu and aarch64-linux-gnu'
status "another machine's CPU" 2 "$cnnc" build lenet.cnn --emit asm --target aarch64-linux-gnu --cpu znver4 -o x
check "has its sentence" says '"znver4" is a CPU of x86-64: add --target x86_64-linux-gnu'
status "code for another machine does not run here" 2 "$cnnc" run lenet.cnn --target aarch64-linux-gnu --cpu cortex-a72 --input x.npy -o y.npy
for cpu in generic cortex-a53 cortex-a72 cortex-a76 neoverse-n1 apple-m1; do
    check "assembly for $cpu" "$cnnc" build lenet.cnn -q --emit asm,llvm-ir --target aarch64-unknown-linux-gnu --cpu $cpu -o arm
    check "has vectors of NEON" grep -q 'fmla.*v[0-9]*\.4s' arm.s
done

# ---- aarch64 under qemu-user ----
if ! command -v qemu-aarch64 >/dev/null || [ ! -e "$build/aarch64-linux-gnu/parts" ]; then
    echo "SKIPPED: programs for aarch64 (install qemu-user and gcc-aarch64-linux-gnu, and build again)"
    exit $bad
fi
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
arm="qemu-aarch64 -cpu cortex-a53"
programs "aarch64" "$arm" --target aarch64-linux-gnu
whole "aarch64" "$arm" aarch64-linux-gnu-gcc --target aarch64-linux-gnu --cpu cortex-a72
check "aarch64: a library with threads" "$cnnc" build lenet.cnn --weights lenet.safetensors -q --emit lib,header --threads 2 --target aarch64-linux-gnu --cpu cortex-a72 -o liblenet
check "aarch64: calls from C" aarch64-linux-gnu-gcc main.c liblenet.a -pthread -o main
check "aarch64: run them" $arm ./main
check "aarch64: the same numbers" cmp out.txt shared.txt
check "aarch64: an object" "$cnnc" build lenet.cnn -q --emit obj --target aarch64-linux-gnu -o liblenet.o
check "aarch64: a library needs nothing" sh -c '! aarch64-linux-gnu-nm -u liblenet.o | grep .'
if grep -q zlib "$build/aarch64-linux-gnu/parts"; then
    status "aarch64: reads gzip" 0 $arm ./trainer --data "$data" --epochs 1 --steps 1 -q -o t.safetensors
else
    status "aarch64: cannot read gzip" 3 $arm ./trainer --data "$data" --epochs 1 --steps 1 -q -o t.safetensors
    check "has its sentence" says 'packed with gzip, which this program was built without'
fi
if grep -q png "$build/aarch64-linux-gnu/parts"; then
    status "aarch64: reads PNG" 0 "$cnnc" build lenet.cnn -q --target aarch64-linux-gnu --inputs png -o app
else
    status "aarch64: cannot read PNG" 3 "$cnnc" build lenet.cnn -q --target aarch64-linux-gnu --inputs png -o app
    check "has its sentence" says 'the runtime for aarch64-linux-gnu cannot read PNG pictures'
    status "aarch64: leaves PNG out" 0 "$cnnc" build lenet.cnn --target aarch64-linux-gnu -o app
    check "says so" says 'without readers of PNG'
fi
status "no cross compiler" 3 env PATH=/nonexistent "$cnnc" build lenet.cnn -q --target aarch64-linux-gnu --inputs npy -o app
check "has its sentence" says 'apt install gcc-aarch64-linux-gnu'
status "a compiler of this machine" 70 env CC=gcc "$cnnc" build lenet.cnn -q --target aarch64-linux-gnu --inputs npy -o app
check "has its sentence" says 'must be one for aarch64-linux-gnu'

# The check at start: a CPU that lacks what a program needs.
cat >lacks.c <<END
#include "runtime/cpu.h"
#include <stdio.h>
int main(void)
{
    RtError e = {0};
    bool here = cpu_check("app", "neoverse-v1", "+neon,+sve", &e);
    puts(e.text);
    return here ? 1 : e.kind;
}
END
check "aarch64: the check of the CPU" aarch64-linux-gnu-gcc -I"$root" lacks.c "$build/aarch64-linux-gnu/libcnnc_program.a" -o lacks
status "aarch64: a CPU without SVE" 4 $arm ./lacks
check "has its sentence" says 'app was built for neoverse-v1 and needs sve, which this CPU (aarch64'
exit $bad
