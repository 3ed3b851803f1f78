#!/bin/sh
# Makes what a GPU machine needs to run tests/gpu/device.sh: it has a driver, the CUDA toolkit and PyTorch, but no LLVM, no libpng ...
#   FOLDER/cnnc                  needs libc and libm alone; makes code for GPUs
#   FOLDER/lenet, lenet-trainer  programs for CPU and GPU (when there is NVRTC here)
#   FOLDER/cases/NET/            the net, pictures, the outputs and the first ten losses on a CPU, with a rate at which rounding stays small
#   FOLDER/whole/                a whole training run on the digits in examples/data, and how many a CPU's weights get right
#   FOLDER/parser                what bison and flex make of the grammar, to build cnnc there: cmake -DCNNC_PARSER=FOLDER/parser
# Usage: tests/gpu/carry.sh [--quick CNNC] [FOLDER (build-carry)]        --quick: LeNet-5 alone, with a cnnc that is built already
quick=0 cnnc=
[ "$1" != --quick ] || { quick=1 cnnc=$2; shift 2; }
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
folder=${1:-$root/build-carry}
set -e
mkdir -p "$folder/cases" "$folder/parser"
folder=$(cd "$folder" && pwd)
if [ $quick -eq 0 ]; then
    build=$root/build-portable   # not carried
    cmake -S "$root" -B "$build" -DCNNC_PORTABLE=ON -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build "$build" -j "$(nproc)" --target cnnc cnnc_cpu >"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log"; exit 1; }
    cnnc=$build/cnnc
    cp "$build"/parser.[ch] "$build"/lexer.[ch] "$folder/parser"
fi
strip -o "$folder/cnnc" "$cnnc"

# samples FILE N CHANNELS HEIGHT WIDTH CLASSES: FILE.x.npy with random pixels, FILE.y.npy with random classes, always the same
samples() {
    python3 - "$@" <<'END'
import random, struct, sys
path, (n, c, h, w, classes) = sys.argv[1], map(int, sys.argv[2:])
rng = random.Random(1)
def write(name, kind, shape, data):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    with open(name, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data)
write(path + "x.npy", "|u1", (n, c, h, w), rng.randbytes(n * c * h * w))
write(path + "y.npy", "<i4", f"({n},)", struct.pack(f"<{n}i", *(rng.randrange(classes) for _ in range(n))))
END
}

# case NET N CHANNELS SIZE CLASSES BATCH: what a CPU makes of N pictures, and of ten steps
case_of() {
    at=$folder/cases/$1
    mkdir -p "$at"
    samples "$at/" "$2" "$3" "$4" "$4" "$5"
    { sed '/^train {/,/^}/d' "$root/examples/$1.cnn"
      printf 'train {\n    data = Npy("x.npy", "y.npy")\n    batch_size = %d\n    epochs = 10\n    optimizer = SGD(lr=0.0001, momentum=0.9)\n}\n' "$6"; } >"$at/net.cnn"
    "$cnnc" init "$at/net.cnn" -q --seed 1 -o "$at/weights.safetensors"
    "$cnnc" run "$at/net.cnn" -q --weights "$at/weights.safetensors" --input "$at/x.npy" -o "$at/expect.npy"
    "$cnnc" train "$at/net.cnn" -q --seed 1 --steps 10 --log "$at/log.jsonl" -o "$at/trained.safetensors"
    rm -f "$at"/*.safetensors
    echo "$1"
}
# right WEIGHTS [OPTIONS]: the share of the test pictures that is recognised
right() { w=$1; shift; "$cnnc" eval "$folder/whole/net.cnn" --weights "$w" --json "$@" | tr ',{}' '\n' | sed -n 's/.*"accuracy": *//p' | head -n 1; }
whole_run() {
    mkdir -p "$folder/whole"
    cp -r "$root/examples/data" "$folder/whole/"
    { sed '/^train {/,/^}/d' "$root/examples/lenet.cnn"
      printf 'train {\n    data = MNIST("data")\n    batch_size = 64\n    epochs = 5\n    optimizer = SGD(lr=0.05, momentum=0.9)\n    schedule = OneCycleLR(max_lr=0.05)\n}\n'; } >"$folder/whole/net.cnn"
    "$cnnc" train "$folder/whole/net.cnn" -q --seed 1 -o "$folder/whole/weights.safetensors"
    right "$folder/whole/weights.safetensors" >"$folder/whole/right"
    rm -f "$folder"/whole/*.safetensors
    echo "a whole run: $(cat "$folder/whole/right")"
}
case_of lenet 21 1 28 10 8
if [ $quick -eq 0 ]; then
    whole_run
    case_of tinyvgg 21 3 64 10 8
    case_of cifar_vgg 21 3 32 10 8
    case_of resnet18 5 3 224 1000 2
    case_of mobilenet 21 3 224 1000 8
fi
if "$cnnc" --version | grep -q '^GPU code: NVRTC'; then
    "$cnnc" build "$root/examples/lenet.cnn" -q --device cuda -o "$folder/lenet"
    "$cnnc" build "$root/examples/lenet.cnn" -q --device cuda --trainer -o "$folder/lenet-trainer"
fi
