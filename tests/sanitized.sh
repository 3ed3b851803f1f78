#!/bin/sh
# Unit tests, golden texts and random mutations under AddressSanitizer and UBSan, in a build of their own. Usage: tests/sanitized.sh SECONDS (of mutations)
cd "$(dirname "$0")/.." || exit 1
bad=0
sh .ci/setup build-asan -DCMAKE_BUILD_TYPE=Debug -DCNNC_SANITIZE=ON || { echo "not ok the sanitized build"; exit 1; }
export ASAN_OPTIONS=detect_leaks=0
# The emitters' tests spend their time in LLVM and in CUDA text on fibers, which are not instrumented.
sh tests/unit/run.sh build-asan test_cpu_emit test_cpu_math test_gpu_emit test_gpu_examples test_gpu_host test_gpu_random || bad=1
sh tests/golden/run.sh build-asan/cnnc || bad=1
if sh tests/fuzz/run.sh build-asan/cnnc "$1"; then echo "ok random mutations"; else echo "not ok random mutations"; bad=1; fi
exit $bad
