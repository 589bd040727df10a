#!/usr/bin/env bash
# Builds the distribution's own version of HDF5 as a static library that a shared one can hold, without the parts that
# need a network (the package's library brings thirty others along).
#
#   scripts/package/hdf5.sh OUTPUT_DIR     OUTPUT_DIR/lib/libhdf5.a, OUTPUT_DIR/include, OUTPUT_DIR/COPYING; kept if there
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
(($# == 1)) || { echo "hdf5.sh: expected OUTPUT_DIR (--help says more)" >&2; exit 2; }
output="$(mkdir -p "$1" && cd "$1" && pwd)"
[ ! -e "$output/DONE" ] || { echo "[package] hdf5: all there"; exit 0; }
# debian_source NAME DIR   unpacks the source package NAME into DIR/NAME; asks the archives that apt knows for their
#                          sources without changing apt's configuration
debian_source() {
  local name="$1" dir="$2" apt file
  mkdir -p "$dir/.apt/parts" "$dir/.apt/lists/partial"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/.apt/parts/${file##*/}"
  done
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
    sed -n 's/^deb /deb-src /p' >"$dir/.apt/parts/binary.list"
  apt=(apt-get -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$dir/.apt/parts" -o "Dir::State::Lists=$dir/.apt/lists"
       -o APT::Sandbox::User=root)
  "${apt[@]}" update
  rm -rf "${dir:?}/$name"
  mkdir -p "$dir/$name"
  (cd "$dir/$name" && "${apt[@]}" source --download-only "$name" && dpkg-source --no-check -x ./*.dsc tree)
}
work="$output/work"
log="$output/build.log"
echo "[package] hdf5: fetching and building it, which takes some minutes (log: $log)"
build() {
  debian_source hdf5 "$work"
  mkdir -p "$work/build"
  cd "$work/build"
  # nothing of the folder that it is made in goes along
  "$work/hdf5/tree/configure" --quiet --prefix="$output" --libdir="$output/lib" --enable-static --disable-shared --with-pic \
    --with-szlib --with-zlib --disable-hl --disable-tools --disable-tests --disable-fortran --disable-cxx \
    --disable-embedded-libinfo CFLAGS="-O2 -w -ffile-prefix-map=$work=."
  make -s -j "${APO_JOBS:-2}" -C src install-libLTLIBRARIES install-includeHEADERS
  cp "$work/hdf5/tree/COPYING" "$output/COPYING"
}
build >"$log" 2>&1 &  # in the background and waited for: a function in a condition would go on after an error
wait $! || { tail -n 20 "$log" >&2; echo "hdf5.sh: building HDF5 failed (log: $log)" >&2; exit 4; }
rm -rf "$work"
touch "$output/DONE"
