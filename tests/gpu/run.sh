#!/bin/sh
# Everything that runs on a GPU, without one: the commands and the programs that `build` makes, on tests/gpu/driver.c, which stands in
# for NVIDIA's driver and for NVRTC. Numbers agree with the CPU's; bits do not depend on when the device works.
# Usage: tests/gpu/run.sh CNNC
case $1 in /*) cnnc=$1 ;; *) cnnc=$PWD/$1 ;; esac
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
data=$root/examples/data
. "$root/tests/checks.sh"
cd "$tmp" || exit 1

# told NAME WANTED WORDS COMMAND...: it exits so and says the words.
told() {
    name=$1 want=$2 words=$3
    shift 3
    "$@" >out 2>err
    got=$?
    if [ $got -eq "$want" ] && grep -q -- "$words" out err; then echo "ok $name"; else echo "not ok $name: status $got, not $want, or not '$words'"; tail -n 5 err; bad=1; fi
}
# losses FILE FILE: the first ten losses agree within rounding
losses() {
    paste "$1" "$2" | head -n 10 | awk '
        { split($0, f, "\"loss\": "); a = f[2] + 0; b = f[3] + 0; d = a > b ? a - b : b - a; if (!(d <= 1e-4 * (1 + a))) { print NR ": " a " " b; bad = 1 } }
        END { exit bad || NR < 10 }'
}

${CC:-cc} -std=gnu11 -D_GNU_SOURCE -O2 -shared -fPIC -DHOST_HEADER="\"$root/tests/gpu/host.h\"" -I"$root" "$root"/tests/gpu/driver.c "$root"/tests/gpu/driver_work.c \
    "$root"/tests/gpu/compiler.c "$root"/tests/gpu/host.c -o driver.so ||
    { echo "not ok the driver compiles"; exit 1; }
export CNNC_CUDA_DRIVER="$tmp/driver.so" CNNC_NVRTC="$tmp/driver.so" XDG_CACHE_HOME="$tmp/cache"

mkdir few   # a thousand pictures are enough
for part in train t10k; do
    cp "$data/t10k-images-idx3-ubyte.gz" few/$part-images-idx3-ubyte.gz
    cp "$data/t10k-labels-idx1-ubyte.gz" few/$part-labels-idx1-ubyte.gz
done
cat >net.cnn <<END
input(1, 28, 28)
normalize("auto")
Conv2d(_, 4, 3, stride=3, bias=False, padding=1), BatchNorm2d, ReLU, MaxPool2d(2), Dropout2d(0.1), Flatten, Linear(_, 10)
train {
    data = MNIST("few")
    epochs = 1
    batch_size = 56
    optimizer = Adam(lr=0.01)
    augment = [RandomCrop(28, padding=2), RandomHorizontalFlip(0.3)]
    seed = 4
}
END

# ---- training: 18 steps, the last with 48 samples ----
check "train on the CPU" "$cnnc" train net.cnn -q -o c.safetensors --log c.jsonl
check "train on a GPU" "$cnnc" train net.cnn -q -o g.safetensors --log g.jsonl --device cuda
check "the first losses agree" losses c.jsonl g.jsonl
check "train, values made again" "$cnnc" train net.cnn -q -o r.safetensors --log r.jsonl --device cuda --recompute
check "to the same bits" cmp g.safetensors r.safetensors
check "work as late as can be" env CNNC_GPU_ORDER=behind "$cnnc" train net.cnn -q -o h.safetensors --log h.jsonl --device cuda --threads 1
check "gives the same bits" cmp g.safetensors h.safetensors
grep step g.jsonl >g.steps
grep step h.jsonl >h.steps
check "and the same log" cmp g.steps h.steps
check "stop" "$cnnc" train net.cnn -q -o r.safetensors --steps 7 --device cuda
check "resume" "$cnnc" train net.cnn -q -o r.safetensors --resume r.ckpt.safetensors --device cuda
check "to the same bits" cmp g.safetensors r.safetensors
told "NaN" 1 "loss became" "$cnnc" train net.cnn -q -o n.safetensors --lr 1e38 --device cuda

# ---- evaluation and inference ----
check "eval on the CPU" sh -c '"$0" eval net.cnn --weights g.safetensors --json | tr , "\n" | grep -E "samples|correct|accuracy\"" >c.eval' "$cnnc"
check "eval on a GPU" sh -c '"$0" eval net.cnn --weights g.safetensors --json --device cuda | tr , "\n" | grep -E "samples|correct|accuracy\"" >g.eval' "$cnnc"
check "they agree" cmp c.eval g.eval
pictures=$root/examples/data/digits
"$cnnc" predict net.cnn --weights g.safetensors --top 1 "$pictures" 2>/dev/null | sed 's/(.*//' >c.top
check "predict" sh -c '"$0" predict net.cnn --weights g.safetensors --top 1 --batch 3 --device cuda "$1" | sed "s/(.*//" >g.top' "$cnnc" "$pictures"
check "the same classes" cmp c.top g.top
images=$data/t10k-images-idx3-ubyte.gz
check "run on the CPU" "$cnnc" run net.cnn --weights g.safetensors --input "$images" -o c.npy
told "run on a GPU, batches with a rest" 0 "largest absolute error" "$cnnc" verify net.cnn --weights g.safetensors --input "$images" --expect c.npy --batch 64 --device cuda

# ---- tensor cores: wide enough a net to be products of matrices ----
cat >wide.cnn <<END
input(1, 28, 28)
normalize("auto")
Conv2d(_, 24, 5, stride=3), BatchNorm2d, ReLU, Conv2d(_, 200, 3), ReLU, Conv2d(_, 200, 3), ReLU, Conv2d(_, 200, 3), Flatten, Linear(_, 10)
train {
    data = MNIST("few")
    epochs = 1
    batch_size = 8
    optimizer = SGD(lr=0.01, momentum=0.9)
    seed = 4
}
END
check "a wide net on the CPU" "$cnnc" train wide.cnn -q -o wide.safetensors --log wc.jsonl --steps 2
for precision in tf32 bf16; do
    check "train in $precision" "$cnnc" train wide.cnn -q -o w.safetensors --log wg.jsonl --steps 2 --device cuda --precision $precision
    check "its losses" sh -c 'paste wc.jsonl wg.jsonl | head -n 2 | awk "{ split(\$0, f, \"\\\"loss\\\": \"); d = f[2] - f[3]; if (!(d * d < 0.0025)) exit 1 } END { exit NR < 2 }"'
    told "run and measure" 0 "GPU, precision $precision" "$cnnc" predict wide.cnn -v --weights wide.safetensors --device cuda --precision $precision "$pictures"
done
told "an error that bf16 has not" 1 "bf16 cannot do better" "$cnnc" predict wide.cnn --weights wide.safetensors --device cuda --precision bf16 --max-rel-err 1e-7 "$pictures"
check "a program in tf32" "$cnnc" build wide.cnn -q --weights wide.safetensors --device cuda --precision tf32 -o tf32
told "passes its test" 0 "passed" ./tf32 --selftest
told "tells its precision" 0 "^precision  f32, GPU tf32" ./tf32 --info
told "tf32 on the CPU" 2 "belongs to GPUs" "$cnnc" run wide.cnn --input "$images" -o w.npy --precision tf32
told "and when there is no GPU" 2 "belongs to GPUs" env CNNC_CUDA_DRIVER=/nonexistent.so "$cnnc" run wide.cnn --input "$images" -o w.npy --precision tf32 --device auto
told "tensor cores have another peak" 0 "conv, bf16" "$cnnc" bench wide.cnn -q --device cuda --static --precision bf16

# ---- programs: one file for both devices ----
check "build a program" "$cnnc" build net.cnn -q --weights g.safetensors --device cuda -o app --inputs png,npy,idx --batch 3
told "which runs on the GPU" 0 "GPU, test driver" ./app --selftest
told "on the CPU when asked" 0 "passed" ./app --selftest --device cpu
told "and when there is none" 0 "CPU; there is no GPU driver" env CNNC_CUDA_DRIVER=/nonexistent.so ./app --selftest
told "but not when a GPU is asked for" 4 "no GPU driver" env CNNC_CUDA_DRIVER=/nonexistent.so ./app --selftest --device cuda
told "a driver without a GPU" 4 "shows no GPU" env CNNC_GPU_NONE=1 ./app --selftest --device cuda
told "a GPU without memory" 4 "not enough memory" env CNNC_GPU_MEMORY=1000 ./app --selftest --device cuda
told "no such device" 2 "cpu, cuda or auto" ./app --selftest --device gpu
check "its outputs" ./app --input "$images" --output a.npy
told "agree with the CPU's" 0 "0.00" "$cnnc" verify net.cnn --weights g.safetensors --input "$images" --expect a.npy
told "it names its GPUs" 0 "sm_80, sm_90, sm_100, PTX" ./app --info
check "build a trainer" "$cnnc" build net.cnn -q --trainer --gpu sm_90 -o trainer
check "it trains" ./trainer -q -o t.safetensors
check "to the same bits" cmp g.safetensors t.safetensors
told "a trainer without a driver takes the CPU" 0 "CPU; there is no GPU driver" env CNNC_CUDA_DRIVER=/nonexistent.so ./trainer -o u.safetensors --steps 2
told "but not when a GPU is asked for" 4 "no GPU driver" env CNNC_CUDA_DRIVER=/nonexistent.so ./trainer -q -o u.safetensors --steps 2 --device cuda
{   # 21 layers that are all different: kernels enough for two parts
    echo "input(8, 24, 24)"
    for i in 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29; do echo "Conv2d(_, $i, 3, padding=1), Tanh"; done
} >deep.cnn
check "build a program in parts" "$cnnc" build deep.cnn -q --device cuda --gpu sm_90 --inputs npy -o deep
told "which runs on the GPU" 0 "GPU, test driver" ./deep --selftest
check "its GPUs are named once" sh -c './deep --info | grep "sm_90, PTX from sm_80 on" | grep -v "sm_90.*sm_90"'
check "a program for the CPU" "$cnnc" build net.cnn -q -o plain --inputs npy
told "has no GPU code" 4 "built without GPU code" ./plain --selftest --device cuda
check "emit" "$cnnc" build net.cnn -q --emit cuda,ptx,cubin --gpu sm_90,sm_80 -o out
check "its files" test -s out.cu -a -s out.ptx -a -s out.sm_80.cubin -a -s out.sm_90.cubin -a ! -e out.cubin
check "emit one kind for two GPUs" "$cnnc" build net.cnn -q --emit cubin --gpu sm_80,sm_90 -o one.cubin
check "a file for each" test -s one.sm_80.cubin -a -s one.sm_90.cubin -a ! -e one.cubin
check "emit for one GPU, and for the CPU" "$cnnc" build net.cnn -q --emit exe,cubin,obj --gpu sm_90 --device cuda --inputs npy -o sole
check "its files" test -x sole -a -s sole.o -a -s sole.cubin
check "the text of a trainer" "$cnnc" build net.cnn -q --trainer --emit cuda -o step.cu
check "has the step and the feed" grep -q "cnnc_feed(" step.cu
told "a GPU too old" 2 "the oldest GPU is sm_80" "$cnnc" build net.cnn -q --gpu sm_70 -o x
told "a GPU newer than NVRTC has no cubin" 4 "no machine code for sm_120" "$cnnc" build net.cnn -q --emit cubin --gpu sm_90,sm_120 -o x
check "but its PTX in a program" "$cnnc" build net.cnn -q --gpu sm_120 --inputs npy -o newer
told "which says so" 0 "PTX from sm_100 on, PTX from sm_80 on" ./newer --info
told "no GPU's name" 2 "not 'h100'" "$cnnc" build net.cnn -q --gpu h100 -o x
told "a library for GPUs" 2 "for the CPU" "$cnnc" build net.cnn -q --device cuda --emit shared -o x.so

# ---- bench ----
told "bench" 0 "GPU, peak" "$cnnc" bench net.cnn --weights g.safetensors --device cuda
told "bench of a training step" 0 "images/s" "$cnnc" bench net.cnn --train --batch 4 --device cuda
told "its JSON" 0 "^{.*\"images_per_second\": [0-9.e+-]*}$" sh -c '"$0" bench net.cnn --train --batch 4 --device cuda --json | tr -d "
"' "$cnnc"
told "of kernels that are not run" 0 "H100" "$cnnc" bench net.cnn --train --device cuda --static --gpu sm_90
told "its JSON" 0 "^.{\"gpu\": \"sm_80\", \"product\": \"A100 SXM 80 GB\", \"kernels\": .*\"registers\": 32,.*sm_90.*sm_100.*}.$" sh -c '"$0" bench net.cnn -q --device cuda --static --json | tr -d "
"' "$cnnc"
told "versions" 0 "NVRTC 0.1" "$cnnc" --version

# ---- what a machine with a GPU runs ----
if command -v python3 >/dev/null; then
    check "what is carried to a GPU machine" sh "$root/tests/gpu/carry.sh" --quick "$cnnc" carry
    check "runs there" sh "$root/tests/gpu/device.sh" --quick carry
    take_times() { python3 -B "$root/tests/gpu/device.py" carry/cnnc carry --net lenet --batch 1 --no-training --precision f32 --results times --torch-device cpu "$@"; }
    check "is timed there" take_times
    check "with a table" grep -q '^| LeNet-5, inference, batch 1 | cnnc | f32 | [0-9.]* ms | [0-9.]* ms |' times/gpu-test-driver-0.md
    check "and the time of each kernel" grep -q '"stage": "0.conv .. 11.linear"' times/kernels.jsonl
    check "once" sh -c 'test $(wc -l <times/kernels.jsonl) = 1'
    check "goes on" take_times
    check "with what is missing" sh -c 'test $(wc -l <times/kernels.jsonl) = 1'
    told "says what there was no time for" 1 "none for 1 of 1 parts" sh -c 'rm carry/times.jsonl && "$@"' sh python3 -B "$root/tests/gpu/device.py" carry/cnnc carry --net lenet --batch 1 \
        --no-training --precision f32 --results times --within 1
    told "and whose kernels cannot be compiled" 0 "| cnnc: .*NVRTC" env CNNC_NVRTC=/nonexistent.so XDG_CACHE_HOME="$tmp/none" python3 -B "$root/tests/gpu/device.py" carry/cnnc carry \
        --net lenet --batch 1 --no-training --precision f32 --results times --torch-device cpu
else
    echo "SKIPPED: tests/gpu/carry.sh makes its pictures with Python 3"
fi

# ---- the compiler and its cache ----
run_gpu() { "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o x.npy --device cuda; }
check "kernels are compiled once" env CC=false "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o x.npy --batch 64 --device cuda
for f in cache/cnnc/*; do printf 'x' | dd of="$f" bs=1 seek=200 conv=notrunc 2>/dev/null; done
told "a damaged cache is not used" 70 "NVRTC refuses" env CC=false "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o x.npy --batch 64 --device cuda
check "but mended" run_gpu
check "a cache that cannot be" env XDG_CACHE_HOME=/proc/none "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o x.npy --device cuda
two_at_once() {
    XDG_CACHE_HOME=$tmp/both run_gpu &
    XDG_CACHE_HOME=$tmp/both "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o y.npy --device cuda && wait $! && cmp x.npy y.npy
}
check "two that compile the same at the same time" two_at_once
check "leave a whole cache" env XDG_CACHE_HOME="$tmp/both" CC=false "$cnnc" run net.cnn -q --weights g.safetensors --input "$images" -o x.npy --device cuda

# ---- a driver whose N-th call fails: always a sentence and exit status 4, never silence, a crash or a leak ----
# every_call FEWEST COMMAND...
every_call() {
    fewest=$1 n=1
    shift
    while CNNC_GPU_FAIL=$n "$@" >out 2>err; got=$?; [ $got -ne 0 ]; do
        [ $got -eq 4 ] && grep -q "the GPU driver says something unknown (CUDA_ERROR_UNKNOWN)" err || { echo "call $n:"; cat err; return 1; }
        n=$((n + 1))
    done
    [ $n -gt "$fewest" ]
}
check "predict, whichever call of the driver fails" every_call 40 "$cnnc" predict net.cnn -q --weights g.safetensors "$pictures" --batch 3 --device cuda
check "train, whichever call of the driver fails" every_call 100 "$cnnc" train net.cnn -q -o x.safetensors --steps 2 --device cuda

# ---- what the compiler refuses: a compiler that finds a mistake in the first convolution ----
cat >twins.cnn <<END
input(16, 40, 40)
Conv2d(_, 16, 3, padding=1), Tanh
Conv2d(_, 16, 3, padding=1), Tanh
END
cat >refuses <<'END'
#!/bin/sh
line=$(grep -n ' infer0_conv($' cnnc.c) || exec false
echo "cnnc.c(${line%%:*}): error: planted"
exit 1
END
chmod +x refuses
told "a mistake is told with its layers" 70 "NVRTC refuses the kernel infer0_conv of layers 0 (Conv2d), 2 (Conv2d):" env CC="$tmp/refuses" "$cnnc" run twins.cnn -q --input none.npy -o x.npy --device cuda

# ---- which device, for every command ----
# each COMMAND...: runs the command on every command that takes --device, with its arguments; build apart
each() {
    "$@" run net.cnn --weights g.safetensors --input "$images" -o x.npy
    "$@" predict net.cnn --weights g.safetensors "$pictures"
    "$@" eval net.cnn --weights g.safetensors
    "$@" verify net.cnn --weights g.safetensors --input "$images" --expect a.npy --rtol 1 --atol 1e-3
    "$@" bench net.cnn --weights g.safetensors
    "$@" train net.cnn -o x.safetensors --steps 2
}
cuda_without_driver() { told "$1: no driver" 4 "error: --device cuda: there is no GPU driver on this machine" env CNNC_CUDA_DRIVER=/nonexistent.so "$cnnc" "$@" --device cuda; }
cuda_without_gpu() { told "$1: no GPU" 4 "error: --device cuda: there is a GPU driver, but it shows no GPU" env CNNC_GPU_NONE=1 "$cnnc" "$@" --device cuda; }
cuda_without_compiler() { told "$1: no compiler" 4 "error: code for a GPU cannot be made: /nonexistent.so, which CNNC_NVRTC names, is no NVRTC" env CNNC_NVRTC=/nonexistent.so "$cnnc" "$@" --device cuda; }
auto_without_driver() { told "$1: auto takes the CPU without a driver" 0 "device: CPU; there is no GPU driver on this machine" env CNNC_CUDA_DRIVER=/nonexistent.so "$cnnc" "$@" --device auto; }
auto_without_compiler() { told "$1: auto takes the CPU without a compiler" 0 "device: CPU; test driver 0 cannot be used: .* is no NVRTC" env CNNC_NVRTC=/nonexistent.so "$cnnc" "$@" --device auto; }
auto_with_all() { told "$1: auto takes the GPU" 0 "device: GPU, test driver 0 (sm_90)" "$cnnc" "$@" --device auto; }
for how in cuda_without_driver cuda_without_gpu cuda_without_compiler auto_without_driver auto_without_compiler auto_with_all; do each $how; done
told "build: no compiler" 4 "is no NVRTC" env CNNC_NVRTC=/nonexistent.so "$cnnc" build net.cnn --weights g.safetensors --device cuda -o x
told "build a trainer: no compiler" 4 "is no NVRTC" env CNNC_NVRTC=/nonexistent.so "$cnnc" build net.cnn --trainer --device cuda -o x
told "build: auto leaves the GPU out" 0 "note: without code for GPUs: " env CNNC_NVRTC=/nonexistent.so "$cnnc" build net.cnn --weights g.safetensors --device auto --inputs npy -o x
[ $bad = 0 ]
