#!/bin/sh
# Builds LeNet as a library, calls it from C and from Python, and compares what they say.
#   examples/embed/run.sh CNNC WEIGHTS [FOLDER]      without FOLDER a temporary one is used and removed
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: $0 CNNC WEIGHTS [FOLDER]" >&2; exit 2; }
cnnc=$1 weights=$2
if [ $# -ge 3 ]; then
    out=$3
    mkdir -p "$out"
else
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
picture=$here/../data/digits/7.pgm

# A stem with `lib`: liblenet.so beside lenet.py (Python would take a lenet.so for the module itself).
"$cnnc" build "$here/../lenet.cnn" --weights "$weights" --emit shared,lib,header -o "$out/liblenet"

cc -O2 -I"$out" "$here/main.c" "$out/liblenet.a" -o "$out/main"
"$out/main" "$picture" | tee "$out/c.txt"
if command -v python3 >/dev/null; then
    python3 "$here/main.py" "$out" "$picture" >"$out/python.txt"
    if cmp -s "$out/c.txt" "$out/python.txt"; then
        echo "C and Python agree"
    else
        echo "C and Python differ:" >&2
        diff "$out/c.txt" "$out/python.txt" >&2
        exit 1
    fi
fi
