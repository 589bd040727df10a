#!/usr/bin/env bash
# Builds the fuzzers (clang, address and undefined-behaviour sanitizers) and runs each for a while.
#
#   scripts/fuzz.sh [SECONDS]                  all of them, SECONDS together (default 60)
#   scripts/fuzz.sh --runs N [TARGET...]       N executions each; TARGET: config, episode, safetensors, tokenizer
#   scripts/fuzz.sh --build                    only builds them
#
# What they find on the way is kept in build/fuzz/corpus/TARGET; an input that crashes is written to
# build/fuzz/crash-TARGET-... and the exit code is not 0. Needs clang 14 or newer with its runtime
# (scripts/setup.sh --fuzz).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
targets=(config episode safetensors tokenizer)
limit=()
if [ "${1:-}" = --build ]; then
  :
elif [ "${1:-}" = --runs ]; then
  limit=("-runs=$2")
  shift 2
  (($#)) && targets=("$@")
else
  limit=("-max_total_time=$((${1:-60} / ${#targets[@]}))")
fi
build="${APO_FUZZ_BUILD:-build/fuzz}"
[ -e "$build/build.ninja" ] || cmake --preset fuzz -B "$build"
cmake --build "$build" --target "${targets[@]/#/fuzz_}" -j "${APO_JOBS:-2}"
((${#limit[@]})) || exit 0
# libtorch and SentencePiece are not instrumented: container annotations of theirs cannot be judged
export ASAN_OPTIONS="detect_container_overflow=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}"
export APO_FUZZ_MODEL="$PWD/tests/tokenizers/goldens/small.model"
for target in "${targets[@]}"; do
  found="$build/corpus/$target"
  mkdir -p "$found"
  echo "== $target"
  "$build/bin/fuzz_$target" "${limit[@]}" -max_len=65536 -rss_limit_mb=3000 -malloc_limit_mb=2100 -timeout=120 \
    -detect_leaks=0 -print_final_stats=1 -verbosity=1 -artifact_prefix="$build/crash-$target-" \
    "$found" "fuzz/corpus/$target" > "$build/$target.log" 2>&1 || {
    tail -40 "$build/$target.log"
    echo "$target: found something; the whole log is $build/$target.log" >&2
    exit 1
  }
  grep -E "stat::number_of_executed_units|stat::average_exec_per_sec" "$build/$target.log"
done
