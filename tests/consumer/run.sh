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
# README's two snippets as they stand
mkdir "$scratch/readme"
snippet() { # LANGUAGE: the first block of it below "Use the library"
  awk -v fence="\`\`\`$1" '/^## Use the library/ {here = 1} here && in_it && /^```/ {exit} in_it {print} here && $0 == fence {in_it = 1}' \
    "$here/../../README.md"
}
snippet cmake >"$scratch/readme/CMakeLists.txt"
snippet cpp >"$scratch/readme/main.cpp"
cmake -S "$scratch/readme" -B "$scratch/readme/build" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/site/apo"
cmake --build "$scratch/readme/build" -j 2
"$scratch/readme/build/mine"
# the examples of an environment with an option of its own, in a program of the installation
cmake -S "$here/../../examples/plugin" -B "$scratch/plugin" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/site/apo"
cmake --build "$scratch/plugin" -j 2
printf 'environment: {type: reach, reach: {near: 0.2}}\n' >"$scratch/reach.yaml"
"$scratch/site/apo/bin/apo-collect" --plugin "$scratch/plugin/libreach.so" --config "$scratch/reach.yaml" \
  --set deploy.demonstrations.episodes=2 --demonstrations --output "$scratch/demonstrations.hdf5"
# and of a policy with one
printf 'policy: {type: glance, glance: {bins: 8}}\ndata: {expert: [{path: demonstrations.hdf5}], filter: {min_motion: 0}}\nobjective: {type: sft}\nrun: {dir: run}\n' >"$scratch/glance.yaml"
"$scratch/site/apo/bin/apo-train" --plugin "$scratch/plugin/libglance.so" --config "$scratch/glance.yaml" \
  --set train.max_steps=2 --set train.batch_size=4 --set 'data.pools={desirable: 1, intervention: 0, undesirable: 0}'
# another installation's library, put before ours
mkdir "$scratch/other"
sed 's/0\.1\.0/0.0.9/g' "$scratch/site/apo/lib/libapo.so" >"$scratch/other/libapo.so"
said="$(LD_LIBRARY_PATH="$scratch/other" "$scratch/site/apo/bin/apo-train" --version 2>&1 || true)"
grep -qF "found $scratch/other/libapo.so of apo 0.0.9" <<<"$said" || { echo "expected a word about the other library, found: $said"; exit 1; }
rm "$scratch/site/apo/lib/cmake/apo/apoBuildPaths.cmake"
ln -s "$torch" "$scratch/site/torch"
link beside-torch
