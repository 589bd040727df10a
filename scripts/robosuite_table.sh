#!/usr/bin/env bash
# Compares objectives on a robosuite task: starts its server, then does what scripts/compare.sh does.
#
#   scripts/robosuite_table.sh [--task NAME] [--python PYTHON] [OPTION of compare.sh ...] SEED...
#
#   --task NAME       a task with a scripted expert: Lift (default), Stack, PickPlaceCan, NutAssemblySquare
#   --python PYTHON   that has robosuite (docs/robosuite.md); APO_ROBOSUITE_PYTHON or robosuite/bin/python by default
#
# The config is configs/robosuite_comparison.yaml (Lift's; --config FILE for another task). Stopped runs go on where they
# were. Environment: APO_BUILD, where the programs are; APO_PORT, of the server (8765); APO_NUM_ENVS,
# simulators at a time (default: one a core).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
task=Lift python=${APO_ROBOSUITE_PYTHON:-robosuite/bin/python} config=configs/robosuite_comparison.yaml arguments=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --task) task=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --config) config=$2; shift 2 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
command -v "$python" > /dev/null || { echo "robosuite_table.sh: $python: no such program (--help says more)" >&2; exit 2; }
said=$(mktemp)
OMP_NUM_THREADS=1 "$python" scripts/robosuite_bridge.py --env "$task" --num-envs "${APO_NUM_ENVS:-$(nproc)}" --port "${APO_PORT:-8765}" \
  > "$said" 2> "$said.errors" &
bridge=$!
trap 'kill "$bridge" 2> /dev/null || true; rm -f "$said" "$said.errors"' EXIT
while ! url=$(grep -o 'ws://[^ ]*' "$said"); do
  kill -0 "$bridge" 2> /dev/null || { tail -n 3 "$said.errors" >&2; exit 4; }
  sleep 1
done
scripts/compare.sh --config "$config" --set "environment.remote.url=$url" "${arguments[@]}"
