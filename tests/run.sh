#!/bin/sh
# All tests: unit, golden, examples, samples of random nets; then the unit tests and goldens once more under AddressSanitizer and
# UBSan. Ends with a line `N passed, N failed`.
#   tests/run.sh [--long] [--fast]     --long: also ten minutes of random mutations; --fast: without the sanitizer build
set -u
cd "$(dirname "$0")/.."
long=0 fast=0
for arg in "$@"; do
    case $arg in
    --long) long=1 ;;
    --fast) fast=1 ;;
    *) echo "usage: tests/run.sh [--long] [--fast]" >&2; exit 2 ;;
    esac
done
passed=0 failed=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

# Runs a command that prints `ok NAME` or `not ok NAME` lines and counts them; one that prints none counts as one test itself.
count() {
    name=$1
    shift
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
    echo "$name: $good passed, $bad failed"
    [ "$bad" -eq 0 ] || { grep -v '^ok ' "$log/out" | tail -n 60; }
}

# One line a test program's cases, as TAP.
unit() {
    for t in "$1"/test_*; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        case $2 in *" $(basename "$t") "*) continue ;; esac
        CMOCKA_MESSAGE_OUTPUT=TAP "$t" 2>&1 | sed "s/^\(not ok\|ok\) [0-9]* - /\1 $(basename "$t"): /"
    done
}

sh .ci/setup build -DCMAKE_BUILD_TYPE=Release -DCNNC_WERROR=ON -DCNNC_CHECKS=ON || { echo "0 passed, 1 failed"; exit 1; }
count "unit tests" unit build ""
[ -f tests/golden/run.sh ] && count "golden texts" sh tests/golden/run.sh build/cnnc
[ -f tests/diff/run_sample.sh ] && count "sample of random nets" sh tests/diff/run_sample.sh build/cnnc
[ -f tests/meta/run.sh ] && count "the tree's own rules" sh tests/meta/run.sh
[ -f tests/programs.sh ] && count "training and programs" sh tests/programs.sh build/cnnc
[ -f tests/examples.sh ] && count "examples and README" sh tests/examples.sh build
if [ $fast -eq 0 ]; then
    sh .ci/setup build-asan -DCMAKE_BUILD_TYPE=Debug -DCNNC_SANITIZE=ON || { echo "$passed passed, $((failed + 1)) failed"; exit 1; }
    # The emitter's tests spend their time in LLVM, which is not instrumented.
    ASAN_OPTIONS=detect_leaks=0 count "unit tests, sanitized" unit build-asan " test_cpu_emit test_cpu_math "
    ASAN_OPTIONS=detect_leaks=0 count "golden texts, sanitized" sh tests/golden/run.sh build-asan/cnnc
    [ -f tests/fuzz/run.sh ] && ASAN_OPTIONS=detect_leaks=0 count "random mutations" sh tests/fuzz/run.sh build-asan/cnnc $([ $long -eq 1 ] && echo 600 || echo 20)
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
