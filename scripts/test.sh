#!/usr/bin/env bash
# Sets up what is missing, builds and runs every test.
#
#   scripts/test.sh [PRESET] [CTEST-ARGUMENTS...]      PRESET: release (default), dev, asan
#   scripts/test.sh release -R TokenScores              only some tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
preset="${1:-release}"
shift || true
scripts/setup.sh
scripts/build.sh "$preset"
ctest --preset "$preset" "$@"
