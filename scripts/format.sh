#!/usr/bin/env bash
# Puts every C++ source into the form that .clang-format says.
#
#   scripts/format.sh           rewrites what differs
#   scripts/format.sh --check   names what differs, changes nothing; the exit code is then 1
#
# With clang-format 14 (scripts/setup.sh --format); another version has other ideas of the same style.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  "" | --check) ;;
  *) echo "format.sh: unknown option '$1' (valid: --check)" >&2; exit 2 ;;
esac
tool="$(command -v clang-format-14 || command -v clang-format || true)"
[ -n "$tool" ] || { echo "format.sh: expected clang-format 14, found none: scripts/setup.sh --format" >&2; exit 2; }
"$tool" --version | grep -q "version 14\." || {
  echo "format.sh: expected clang-format 14, found $("$tool" --version): scripts/setup.sh --format" >&2; exit 2; }
files="$(mktemp)"
trap 'rm -f "$files"' EXIT
find src include apps tests examples \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' \) -print0 | sort -z >"$files"
if [ "${1:-}" = --check ]; then
  xargs -0 -P 2 -n 40 "$tool" --dry-run -Werror --ferror-limit=1 <"$files" || {
    echo "format.sh: scripts/format.sh puts these into form" >&2; exit 1; }
else
  xargs -0 -P 2 -n 40 "$tool" -i <"$files"
fi
