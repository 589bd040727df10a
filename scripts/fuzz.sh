#!/usr/bin/env bash
# Builds the fuzzers (clang, address and undefined-behaviour sanitizers) and runs each for a while.
#
#   scripts/fuzz.sh [SECONDS]                  all of them, SECONDS together (default 60), always the same way: for CI
#   scripts/fuzz.sh --runs N [TARGET...]       N executions each, APO_JOBS (default 2) processes at a time;
#                                              TARGET: config, episode, json, safetensors, tokenizer, wire
#   scripts/fuzz.sh --flips N [FROM]           N copies of each of 26 whole files, with one byte changed: recordings (ours,
#                                              and every layout that is read), each file of a checkpoint, weights, a
#                                              config, a loop's state, results, manifests; the changes
#                                              FROM on (default 0). With the tests' own build (build/release), no clang
#   scripts/fuzz.sh --build                    only builds them
#
# What they find on the way is kept in build/fuzz/corpus/TARGET; an input that crashes is written to
# build/fuzz/crash-TARGET-... and the exit code is not 0. Needs clang 14 or newer with its runtime
# (scripts/setup.sh --fuzz).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
targets=(config episode json safetensors tokenizer wire)
runs=0 seconds=0
if [ "${1:-}" = --flips ]; then
  export APO_FLIPS="$2" APO_FLIPS_FROM="${3:-0}"
  bin="${APO_FLIPS_BUILD:-build/release}/bin"
  for room in base config data models training deploy loop; do
    "$bin/${room}_test" --gtest_filter='ByteFlips.*' --gtest_brief=1
  done
  exit 0
elif [ "${1:-}" = --build ]; then
  :
elif [ "${1:-}" = --runs ]; then
  runs="$2"
  shift 2
  (($#)) && targets=("$@")
else
  seconds=$((${1:-60} / ${#targets[@]}))
fi
build="${APO_FUZZ_BUILD:-build/fuzz}"
[ -e "$build/build.ninja" ] || cmake --preset fuzz -B "$build"
cmake --build "$build" --target "${targets[@]/#/fuzz_}" -j "${APO_JOBS:-2}"
((runs || seconds)) || exit 0
# libtorch and SentencePiece are not instrumented: container annotations of theirs cannot be judged
export ASAN_OPTIONS="quarantine_size_mb=64:detect_container_overflow=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$PWD/tests/fuzz/lsan_suppressions.txt:print_suppressions=0:${LSAN_OPTIONS:-}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}"
export APO_FUZZ_MODEL="$PWD/tests/tokenizers/goldens/small.model"

fuzz() { # TARGET LOG LIMIT...
  "$build/bin/fuzz_$1" "${@:3}" -max_len=65536 -len_control=20 -rss_limit_mb=3000 -malloc_limit_mb=2100 -timeout=120 \
    -report_slow_units=120 -detect_leaks=0 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/crash-$1-" "$build/corpus/$1" "tests/fuzz/corpus/$1" > "$2" 2>&1 || {
    tail -40 "$2"
    echo "$1: found something; the whole log is $2" >&2
    return 1
  }
}
# In rounds, each a process of its own, whatever the libraries in between keep of an input; the processes
# of a target share its corpus.
jobs=1
limit=("-max_total_time=$seconds" -seed=1)
if ((runs)); then
  jobs="${APO_JOBS:-2}"
  each=$(((runs + jobs - 1) / jobs))
  limit=("-runs=$((each < 50000 ? each : 50000))")
fi
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  executed=0
  while :; do
    pids=() logs=()
    for ((job = 0; job < jobs; ++job)); do
      logs+=("$build/$target.$job.log")
      fuzz "$target" "${logs[job]}" "${limit[@]}" &
      pids+=($!)
    done
    found=0
    for pid in "${pids[@]}"; do wait "$pid" || found=1; done
    ((found == 0)) || exit 1
    executed=$((executed + $(sed -n 's/^stat::number_of_executed_units: *//p' "${logs[@]}" | paste -sd+)))
    echo "$target: $executed executions so far"
    ((executed < runs)) || break
  done
  echo "$target: $executed executions, nothing found"
done
