#!/usr/bin/env bash
# Evaluates the policies of a comparison under every disruption and writes one table over all bases.
#
#   scripts/disruptions.sh [--comparison DIR] [--round N] [--output FILE] [--set KEY=VALUE ...] SEED...
#
#   --comparison DIR   what scripts/compare.sh left, DIR/SEED; runs/comparison by default
#   --config FILE      the environment and its trials; configs/<name of DIR>.yaml by default, as compare.sh names them
#   --round N          the policies after that round; 1 by default
#   --output FILE      the table; runs/disruptions/<name of DIR>/disruptions.md by default
#
# Finished evaluations are kept; delete runs/disruptions/<name of DIR> to begin anew. Build first: scripts/build.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
comparison=runs/comparison config="" round=1 output="" seeds=() overrides=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --comparison) comparison=$2; shift 2 ;;
    --config) config=$2; shift 2 ;;
    --round) round=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --set) overrides+=(--set "$2"); shift 2 ;;
    *[!0-9]* | "") echo "disruptions.sh: expected a seed, found \"$1\" (--help says more)" >&2; exit 2 ;;
    *) seeds+=("$1"); shift ;;
  esac
done
[[ ${#seeds[@]} -gt 0 ]] || { echo "disruptions.sh: expected at least one seed (--help says more)" >&2; exit 2; }
results=runs/disruptions/$(basename "$comparison")
output=${output:-$results/disruptions.md}
config=${config:-configs/$(basename "$comparison").yaml}
program=${APO_BUILD:-build/release}/bin/apo-eval
merge=()
for seed in "${seeds[@]}"; do
  policies=(base=policy)
  for dir in "$comparison/$seed"/methods/*-{sft-on-corrections,apo-with-anchor-and-credit}; do
    [[ -d $dir/round-$round ]] && policies+=("${dir##*/}=methods/${dir##*/}/round-$round/training")
  done
  for policy in "${policies[@]}"; do
    dir=$results/$seed/round-$round/${policy%%=*}
    name=${policy%%=*} name=${name#[0-9]*-}
    merge+=(--merge "${name//-/ }=$dir")
    [[ -s $dir/results.json ]] && continue
    "$program" --config "$config" --set policy.checkpoint="$comparison/$seed/${policy#*=}" \
      --disruptions all --output "$dir" "${overrides[@]}"
  done
done
"$program" "${merge[@]}" --output "$output"
cat "$output"
echo "table  $output"
