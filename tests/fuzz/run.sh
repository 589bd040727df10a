#!/usr/bin/env bash
# Fuzzes every reader for APO_FUZZ_SECONDS together (CI: 60); skipped where that is not set, because building the
# fuzzers takes minutes.
set -euo pipefail
if [ -z "${APO_FUZZ_SECONDS:-}" ]; then
  echo "skipped: set APO_FUZZ_SECONDS=60 (needs clang: scripts/setup.sh --fuzz)"
  exit 77
fi
exec "$(dirname "${BASH_SOURCE[0]}")/../../scripts/fuzz.sh" "$APO_FUZZ_SECONDS"
