#!/bin/sh
# From nothing to a program that reads digits: set up, build, report, train, build an executable, classify pictures.
set -eu
cd "$(dirname "$0")/.."
bold='' plain=''
[ ! -t 1 ] || bold=$(printf '\033[1m') plain=$(printf '\033[0m')
say() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; "$@"; }

sh .ci/setup build -DCMAKE_BUILD_TYPE=Release
export PATH="$PWD/build:$PATH"
out=build/quickstart
mkdir -p "$out"
say cnnc report examples/lenet.cnn
say cnnc train examples/lenet.cnn --epochs 10 -o "$out/lenet.safetensors"
say cnnc build examples/lenet.cnn --weights "$out/lenet.safetensors" -o "$out/lenet"
ls -l "$out/lenet"
say "$out/lenet" --info
say "$out/lenet" examples/data/digits/*.png
