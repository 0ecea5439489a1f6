#!/usr/bin/env bash
# Build the engine with AddressSanitizer and UBSan beside the normal one, and run tests with it:
#     tools/sanitize.sh PYTHON [arguments for pytest]
# Without the names of tests it runs what walks through the engine's memory: the codec, the tables, transcripts, fuzzing, and
# real workers that fail, queue and are killed. In LIMIT_S at most; what was not reached by then counts as a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
root=$PWD/build/sanitize
reports=$root/reports
rm -rf "$reports"
mkdir -p "$reports"

echo 'Compiling the engine with AddressSanitizer and UBSan …'
# A whole package in a directory of its own; what is compiled already stays, so that a second run is quick. (The first
# takes some five minutes on two cores.)
HEADGATE_SANITIZE=address,undefined "$python" setup.py --quiet build --build-base "$root" --build-lib "$root/lib" \
    build_ext --parallel 2 2>"$root/build.log" || { cat "$root/build.log" >&2; exit 1; }

asan=$(realpath "$("${CC:-gcc}" -print-file-name=libasan.so)")
# The interpreter is not instrumented, so the library must come first in every process; Python's own allocator would hide
# objects from it. Leaks: an interpreter never gives everything back, so counting what the engine holds is left to the
# tests (tests/fuzz/rig.py). Every process writes what it finds to a file of its own: a worker that died is replaced by
# its supervisor, and a test might pass all the same.
export PYTHONPATH=$root/lib PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1
export HEADGATE_SANITIZER_REPORTS=$reports
# What UBSan finds is a trap (setup.py): SIGILL, which pytest's faulthandler must not take for itself.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:handle_abort=0:handle_sigill=2:detect_stack_use_after_return=0:log_path=$reports/asan"
export LD_PRELOAD=$asan

named=
for argument in "$@"; do
    case $argument in tests/*) named=1 ;; esac
done
if [ -z "$named" ]; then
    set -- "$@" tests/protocol tests/unit/engine tests/unit/balancing/test_{compiled,golden,learning}.py tests/transcripts tests/fuzz \
        tests/e2e/test_http1_cases.py tests/e2e/test_bad_requests.py tests/e2e/test_failures.py tests/e2e/test_queue.py
fi
LIMIT_S=${LIMIT_S:-900}
status=0
# A test that hangs says where.
timeout "$LIMIT_S" "$python" -m pytest -q -p tests.sanitizer -o faulthandler_timeout=120 "$@" || status=$?
found=$(find "$reports" -type f -size +0)
if [ -n "$found" ]; then
    echo 'The sanitizers found:' >&2
    head -n 60 $found >&2
    exit 1
fi
exit $status
