#!/bin/sh
# ptxas accepts every kernel for sm_80, sm_90 and sm_100, and none of them spills registers; nor do those planned for one of these alone.
# NVRTC, which holds ptxas, is that of a CUDA toolkit; without one NVIDIA's wheel from PyPI (58 MB, into a temporary folder); without that
# the test is skipped, loudly.
# Usage: tests/gpu/ptxas.sh [--all] CNNC      --all: every net in examples/, training too (minutes)
all=0
[ "$1" != --all ] || { all=1; shift; }
case $1 in /*) cnnc=$1 ;; *) cnnc=$PWD/$1 ;; esac
examples=$(cd "$(dirname "$0")/../../examples" && pwd) || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
export XDG_CACHE_HOME="$tmp"

has_nvrtc() { "$cnnc" --version | grep -q '^GPU code: NVRTC [1-9]'; }
if ! has_nvrtc && timeout 120 python3 -m pip download -q --no-deps --only-binary :all: -d "$tmp" 'nvidia-cuda-nvrtc==13.*' >"$tmp/log" 2>&1; then
    (cd "$tmp" && python3 -m zipfile -e nvidia_cuda_nvrtc*.whl .)
    CNNC_NVRTC=$(find "$tmp" -name 'libnvrtc.so.13')
    export CNNC_NVRTC LD_LIBRARY_PATH="${CNNC_NVRTC%/*}"
fi
if ! has_nvrtc; then
    echo "SKIPPED: ptxas has not seen the kernels: there is neither a CUDA toolkit nor NVIDIA's wheel from PyPI"
    exit 0
fi

# Rows: blocks, threads, registers, shared memory, spills, occupancy "100 %", ...
accepts() {
    name=$1
    shift
    "$cnnc" bench "$@" -q --device cuda --static >"$tmp/out" 2>"$tmp/err" &&
        awk '$7 == "%" { n++; if (!($3 > 0) || $5 > 0 || !($6 > 0)) { print; bad = 1 } } END { exit bad || n == 0 }' "$tmp/out" >"$tmp/rows"
    if [ $? -eq 0 ]; then echo "ok ptxas $name"; else echo "not ok ptxas $name"; tail -n 10 "$tmp/err" "$tmp/rows"; bad=1; fi
}
if [ $all -eq 1 ]; then
    for net in "$examples"/*.cnn; do
        accepts "$(basename "$net"), a picture" "$net"
        accepts "$(basename "$net"), 32 pictures" "$net" --batch 32
        accepts "$(basename "$net"), a training step" "$net" --train --batch 32
        for precision in tf32 bf16; do
            accepts "$(basename "$net"), a picture in $precision" "$net" --precision $precision
            accepts "$(basename "$net"), a training step in $precision" "$net" --train --batch 32 --precision $precision
            for gpu in sm_90 sm_100; do
                accepts "$(basename "$net"), a training step in $precision for $gpu" "$net" --train --precision $precision --gpu $gpu
            done
        done
    done
else
    accepts "LeNet-5, 32 pictures" "$examples/lenet.cnn" --batch 32
    accepts "LeNet-5, a training step" "$examples/lenet.cnn" --train
    accepts "MobileNetV1, a picture" "$examples/mobilenet.cnn"
    accepts "ResNet-18, a picture" "$examples/resnet18.cnn"
    accepts "ResNet-18, a picture in tf32" "$examples/resnet18.cnn" --precision tf32
    accepts "CIFAR VGG, a training step" "$examples/cifar_vgg.cnn" --train --gpu sm_90   # Winograd's kernels, which need all registers
    accepts "CIFAR VGG, a training step in bf16" "$examples/cifar_vgg.cnn" --train --precision bf16
    accepts "CIFAR VGG, a training step in bf16 for sm_90" "$examples/cifar_vgg.cnn" --train --precision bf16 --gpu sm_90
fi
[ $bad = 0 ]
