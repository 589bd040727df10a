#!/usr/bin/env bash
# Records demonstrations.hdf5 and interactions.hdf5 anew: a few episodes each, for runs that need no simulator.
#
#   tests/gpu/data/record.sh [BIN]      BIN: where the programs are (default build/release/bin)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root="$(cd ../../.. && pwd)"
bin="$(cd "${1:-$root/build/release/bin}" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
config=(--config "$root/configs/tabletop.yaml" --set "run.dir=$work/collect" --set logging.level=warn)
rm -f demonstrations.hdf5 interactions.hdf5
"$bin/apo-collect" "${config[@]}" --set deploy.demonstrations.episodes=10 --demonstrations --output demonstrations.hdf5
"$bin/apo-train" --config tabletop_sft.yaml --set "run.dir=$work/sft" --set train.max_steps=400
"$bin/apo-collect" "${config[@]}" --set deploy.collect.take_overs=6 --set "policy.checkpoint=$work/sft" \
  --output interactions.hdf5
ls -l -- *.hdf5
