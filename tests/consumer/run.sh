#!/usr/bin/env bash
# Installs the build in BUILD_DIR into a scratch prefix, moves it, then configures, builds and runs a project that finds it
# there: once where LibTorch was when it was built, once where LibTorch lies beside it, as in a Python environment.
#   tests/consumer/run.sh BUILD_DIR TORCH_ROOT
set -euo pipefail
build="$1" torch="$2"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/first" >"$scratch/install.log" || { tail -n 20 "$scratch/install.log"; exit 1; }
mkdir "$scratch/site"
mv "$scratch/first" "$scratch/site/apo"
link() { # NAME CMAKE-ARGUMENTS...
  cmake -S "$here" -B "$scratch/$1" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/site/apo" -DCMAKE_BUILD_TYPE=Release "${@:2}"
  cmake "$scratch/$1" >/dev/null  # as after an edit of its CMakeLists
  cmake --build "$scratch/$1" -j 2
  "$scratch/$1/stranger"
}
link as-built
"$scratch/site/apo/bin/apo-train" --version
# another installation's library, put before ours
mkdir "$scratch/other"
sed 's/0\.1\.0/0.0.9/g' "$scratch/site/apo/lib/libapo.so" >"$scratch/other/libapo.so"
said="$(LD_LIBRARY_PATH="$scratch/other" "$scratch/site/apo/bin/apo-train" --version 2>&1 || true)"
grep -qF "found $scratch/other/libapo.so of apo 0.0.9" <<<"$said" || { echo "expected a word about the other library, found: $said"; exit 1; }
rm "$scratch/site/apo/lib/cmake/apo/apoBuildPaths.cmake"
ln -s "$torch" "$scratch/site/torch"
link beside-torch
