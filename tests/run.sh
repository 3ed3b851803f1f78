#!/bin/sh
# All tests: unit, golden, examples, samples of random nets; then the unit tests and goldens once more under AddressSanitizer and
# UBSan. Ends with a line `N passed, N failed`.
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
passed=0 failed=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

# Runs a command that prints `ok NAME` or `not ok NAME` lines and counts them; one that prints none counts as one test itself.
count() {
    name=$1
    shift
    began=$(date +%s)
    "$@" >"$log/out" 2>&1
    status=$?
    good=$(grep -c '^ok ' "$log/out")
    bad=$(grep -c '^not ok ' "$log/out")
    if [ $((good + bad)) -eq 0 ]; then
        [ $status -eq 0 ] && good=1 || bad=1
    elif [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    echo "$name: $good passed, $bad failed ($(($(date +%s) - began)) s)"
    [ "$bad" -eq 0 ] || { grep -v '^ok \|^1\.\.\|^# ok' "$log/out" | tail -n 60; }
    grep '^SKIPPED' "$log/out"
}

# One line for each case of the test programs in a folder but those named; as many programs at once as there are cores. A program
# that ends badly without a failed case (a crash) counts as one.
unit() {
    for t in "$1"/test_*; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        case $2 in *" $(basename "$t") "*) continue ;; esac
        echo "$t"
    done | xargs -P "$(nproc)" -I@ sh -c '
        name=$(basename "$1")
        CMOCKA_MESSAGE_OUTPUT=TAP "$1" >"$2/$name.tap" 2>&1
        status=$?
        sed -i "s/^\(not ok\|ok\) [0-9]* - /\1 $name: /; s/^not ok [0-9]* # SKIP /SKIPPED $name: /" "$2/$name.tap"   # cmocka: skipped is not ok
        [ $status -eq 0 ] || grep -q "^not ok " "$2/$name.tap" || echo "not ok $name: exit status $status" >>"$2/$name.tap"' sh @ "$log"
    cat "$log"/*.tap
    rm -f "$log"/*.tap
}

sh .ci/setup --cross build -DCMAKE_BUILD_TYPE=Release -DCNNC_WERROR=$werror || { echo "0 passed, 1 failed"; exit 1; }
count "unit tests" unit build ""
[ -f tests/golden/run.sh ] && count "golden texts" sh tests/golden/run.sh build/cnnc
[ -f tests/diff/run_sample.sh ] && count "sample of random nets" sh tests/diff/run_sample.sh build/cnnc
[ -f tests/meta/run.sh ] && count "the tree's own rules" sh tests/meta/run.sh
[ -f tests/programs.sh ] && count "training and programs" sh tests/programs.sh build/cnnc
[ -f tests/memory.sh ] && count "memory of training" sh tests/memory.sh build/cnnc
[ -f tests/cross.sh ] && count "programs for other CPUs" sh tests/cross.sh build
[ -f tests/gpu/run.sh ] && count "GPU programs, without a GPU" sh tests/gpu/run.sh build/cnnc
[ -f tests/gpu/ptxas.sh ] && count "kernels, as ptxas sees them" sh tests/gpu/ptxas.sh $([ $long -eq 1 ] && echo --all) build/cnnc
[ -f tests/examples.sh ] && count "examples and README" sh tests/examples.sh build
if [ $fast -eq 0 ]; then
    sh .ci/setup build-asan -DCMAKE_BUILD_TYPE=Debug -DCNNC_SANITIZE=ON || { echo "$passed passed, $((failed + 1)) failed"; exit 1; }
    # The emitters' tests spend their time in LLVM and in CUDA text on fibers, which are not instrumented.
    ASAN_OPTIONS=detect_leaks=0 count "unit tests, sanitized" unit build-asan " test_cpu_emit test_cpu_math test_gpu_emit test_gpu_examples test_gpu_host test_gpu_random "
    ASAN_OPTIONS=detect_leaks=0 count "golden texts, sanitized" sh tests/golden/run.sh build-asan/cnnc
    [ -f tests/fuzz/run.sh ] && ASAN_OPTIONS=detect_leaks=0 count "random mutations" sh tests/fuzz/run.sh build-asan/cnnc $([ $long -eq 1 ] && echo 600 || echo 20)
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
