#!/usr/bin/env bash
# Writes completions/: what bash and zsh need to complete the programs' command lines, from the built programs.
#
#   scripts/completions.sh
#
# Installed, bash finds its files with XDG_DATA_DIRS or ~/.local/share, zsh with share/zsh/site-functions in fpath.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p completions/bash completions/zsh
for program in apo-train apo-eval apo-collect apo-refine apo-serve apo-data; do
  build/release/bin/"$program" --print-completion bash >"completions/bash/$program"
  build/release/bin/"$program" --print-completion zsh >"completions/zsh/_$program"
done
