#!/bin/sh
# All tests, in parts, as many at once as there are cores: unit, golden, examples, samples of random nets; the unit tests and goldens once
# more under AddressSanitizer and UBSan. Ends with a line `N passed, N failed`.
#   tests/run.sh [--long] [--fast] [--werror]     --long: also ten minutes of random mutations; --fast: without the sanitizer
#                                                 build; --werror: warnings are errors, as in CI
set -u
cd "$(dirname "$0")/.."
long=0 fast=0 werror=OFF
for arg in "$@"; do
    case $arg in
    --long) long=1 ;;
    --fast) fast=1 ;;
    --werror) werror=ON ;;
    *) echo "usage: tests/run.sh [--long] [--fast] [--werror]" >&2; exit 2 ;;
    esac
done
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
parts=0

# part NAME COMMAND...: words without blanks; see tests/part.sh.
part() {
    parts=$((parts + 1))
    echo "$1" >"$log/$parts.name"
    shift
    echo "$*" >"$log/$parts.command"
}

sh .ci/setup --cross build -DCMAKE_BUILD_TYPE=Release -DCNNC_WERROR=$werror || { echo "0 passed, 1 failed"; exit 1; }
# Long parts first: what is short fills the cores at the end.
part "unit tests" sh tests/unit/run.sh build
[ $fast -eq 1 ] || part "unit tests, golden texts, random mutations, sanitized" sh tests/sanitized.sh $([ $long -eq 1 ] && echo 600 || echo 20)
part "training and programs" sh tests/programs.sh build/cnnc
part "examples and README" sh tests/examples.sh build
part "GPU programs, without a GPU" sh tests/gpu/run.sh build/cnnc
part "kernels, as ptxas sees them" sh tests/gpu/ptxas.sh $([ $long -eq 1 ] && echo --all) build/cnnc
part "sample of random nets" sh tests/diff/run_sample.sh build/cnnc
part "programs for other CPUs" sh tests/cross.sh build
part "the tree's own rules" sh tests/meta/run.sh
part "memory of training" sh tests/memory.sh build/cnnc
part "golden texts" sh tests/golden/run.sh build/cnnc
seq $parts | xargs -P "$(nproc)" -n 1 sh tests/part.sh "$log"
cat "$log"/*.count | awk -v parts=$parts '
    { passed += $1; failed += $2 }
    END { if (NR < parts) failed += parts - NR; print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 }'
