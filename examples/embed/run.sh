#!/bin/sh
# Builds LeNet as a library and calls it from C and from Python.   run.sh CNNC WEIGHTS [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cnnc=$1 weights=$2 out=${3:-$(mktemp -d)}
mkdir -p "$out"
"$cnnc" build "$here/../lenet.cnn" --weights "$weights" --emit shared,lib,header -o "$out/liblenet"     # lenet.py beside lenet.so would be shadowed by it
cc -O2 -I"$out" "$here/main.c" "$out/liblenet.a" -o "$out/main"
"$out/main" "$here/../data/digits/7.pgm"
if command -v python3 >/dev/null; then
    python3 "$here/main.py" "$out" "$here/../data/digits/7.pgm"
fi
