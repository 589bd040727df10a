#!/usr/bin/env bash
# Builds a preset into build/PRESET; the programs are build/PRESET/bin/apo-*.
#
#   scripts/build.sh [PRESET] [TARGET...]      PRESET: release (default), dev, asan
#
# Environment: APO_JOBS        compile jobs at a time (default 2)
#              APO_CMAKE_ARGS  more arguments of CMake, such as -DAPO_WERROR=ON
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
preset="${1:-release}"
shift || true
# each time: what was not there before, a CUDA compiler among it, may be there now
mkdir -p "build/$preset"
log="build/$preset/configure.log"
[ -e "build/$preset/build.ninja" ] || echo "configuring build/$preset"
read -ra more <<<"${APO_CMAKE_ARGS:-}"
cmake --preset "$preset" "${more[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 4; }
targets=()
(($#)) && targets=(--target "$@")
cmake --build "build/$preset" -j "${APO_JOBS:-2}" "${targets[@]}"
