#!/usr/bin/env bash
# From a bare Debian or Ubuntu machine to a policy that got better by being corrected: installs what is missing,
# builds the programs, and runs the whole refinement loop on the embedded tabletop. Needs no GPU.
#
#   scripts/quickstart.sh [--set KEY=VALUE ...]     arguments go to apo-refine; --overwrite begins the loop anew
#
# Its last line says what came out and which page to open.
# Safe to run again: what is installed, built or already trained is kept. About 1 GB of download and 3 GB of disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
begin=$SECONDS
step() { printf '\n\033[1m== %s\033[0m  (%d s so far)\n' "$*" $((SECONDS - begin)); }

step "1/3 installing what is missing"
scripts/setup.sh
step "2/3 building the programs (a few minutes the first time)"
scripts/build.sh release programs
step "3/3 demonstrations -> base policy -> deployment with take-overs -> refinement by APO -> evaluation"
existing=--resume
for argument in "$@"; do [ "$argument" != --overwrite ] || existing=; done
build/release/bin/apo-refine --config configs/tabletop.yaml $existing "$@"
