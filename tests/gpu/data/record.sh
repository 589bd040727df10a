#!/usr/bin/env bash
# Records demonstrations.hdf5 and interactions.hdf5 anew: a few episodes each, for runs without a simulator.
#
#   tests/gpu/data/record.sh [BIN]      BIN: where the programs are (default build/release/bin)
#
# Environment: APO_PYTHON  a Python with h5py (default python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root="$(cd ../../.. && pwd)"
bin="$(cd "${1:-$root/build/release/bin}" && pwd)"
python="${APO_PYTHON:-python3}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
config=(--config "$root/configs/tabletop.yaml" --set "run.dir=$work/collect" --set logging.level=warn
  --set "policy.cameras=[front]" --set "environment.tabletop.cameras=[front]")
"$bin/apo-collect" "${config[@]}" --set deploy.demonstrations.episodes=10 --demonstrations \
  --output "$work/demonstrations.hdf5"
"$python" pack.py "$work/demonstrations.hdf5" demonstrations.hdf5
"$bin/apo-train" --config tabletop_sft.yaml --set "run.dir=$work/sft" --set train.max_steps=400
"$bin/apo-collect" "${config[@]}" --set deploy.collect.take_overs=6 --set "policy.checkpoint=$work/sft" \
  --output "$work/interactions.hdf5"
"$python" pack.py "$work/interactions.hdf5" interactions.hdf5 --others 1
ls -l -- *.hdf5
