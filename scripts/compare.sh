#!/usr/bin/env bash
# Compares objectives on freshly trained bases and writes one table over all of them.
#
#   scripts/compare.sh [--config FILE] [--output FILE] [--base DIR] [--set KEY=VALUE ...] SEED...
#
#   --config FILE   configs/comparison.yaml by default; results go to runs/<name of the file>/SEED
#   --output FILE   the tables; runs/<name of the file>/comparison.md by default
#   --base DIR      start from the bases of an earlier comparison, DIR/SEED, instead of training new ones
#
# Each seed has its own demonstrations, base and corrections. Stopped runs go on where they were, finished ones are
# kept. Build first: scripts/build.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=configs/comparison.yaml output="" base="" seeds=() overrides=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --config) config=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --base) base=$2; shift 2 ;;
    --set) overrides+=(--set "$2"); shift 2 ;;
    *[!0-9]* | "") echo "compare.sh: expected a seed, found \"$1\" (--help says more)" >&2; exit 2 ;;
    *) seeds+=("$1"); shift ;;
  esac
done
[[ ${#seeds[@]} -gt 0 ]] || { echo "compare.sh: expected at least one seed (--help says more)" >&2; exit 2; }
name=$(basename "$config" .yaml)
program=${APO_BUILD:-build/release}/bin/apo-refine
dirs=()
for seed in "${seeds[@]}"; do
  dir=runs/$name/$seed
  from=(--set "deploy.demonstrations.seed=$((seed * 10000))")
  [[ -z $base ]] || from=(--set "policy.checkpoint=$base/$seed/policy"
                          --set "data.expert=[{path: $base/$seed/demonstrations.hdf5}]")
  "$program" --config "$config" --resume --set "run.dir=$dir" --set "run.seed=$seed" "${from[@]}" "${overrides[@]}"
  dirs+=("$dir")
done
"$program" --merge "${dirs[@]}" --output "${output:-runs/$name/comparison.md}"
echo "tables  ${output:-runs/$name/comparison.md}"
