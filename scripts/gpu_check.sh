#!/usr/bin/env bash
# Checks in at most six minutes what works on this machine's NVIDIA GPU and how fast: docs/gpu.md.
#
#   scripts/gpu_check.sh [--output FILE.json] [--device cuda|cpu] [--items NAME,...] [--seconds N]
#                        [--item-seconds N] [--quick] [--bin DIR] [--data DIR] [--prefix DIR]
#                        [--python PROGRAM]
#
# Runs in a source tree after scripts/build.sh, or in the unpacked archive of the check. Without a GPU every
# GPU item says "no device" and the CPU items run. Exit code: 0 nothing failed, 1 something did, 2 wrong
# usage, 130 interrupted.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
case "${1:-}" in -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
python="${APO_PYTHON:-}"
arguments=("$@")
for ((i = 0; i < ${#arguments[@]}; i++)); do
  case "${arguments[i]}" in
    --python) python="${arguments[i + 1]:-}" ;;
    --python=*) python="${arguments[i]#--python=}" ;;
  esac
done
# the Python whose torch the programs run with
venv="${APO_VENV:-$here/../.venv}"
if [ -z "$python" ] && [ -x "$venv/bin/python" ]; then python="$venv/bin/python"; fi
command -v "${python:-python3}" >/dev/null && [ ! -d "${python:-python3}" ] ||
  { echo "gpu_check.sh: --python: expected a Python, found '${python:-python3}'" >&2; exit 2; }
exec "${python:-python3}" "$here/gpu/check.py" "$@"
