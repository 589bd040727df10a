#!/usr/bin/env bash
# Collects the licences of what the package contains beside our own code.
#
#   scripts/package/licenses.sh OUTPUT_DIR PACKAGE_WORK_DIR
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
(($# == 2)) || { echo "licenses.sh: expected OUTPUT_DIR PACKAGE_WORK_DIR (--help says more)" >&2; exit 2; }
output="$1" work="$2"
mkdir -p "$output"
# library -> the distribution's package that holds its text: linked, or compiled in from headers
for entry in yaml-cpp:libyaml-cpp-dev spdlog:libspdlog-dev fmt:libfmt-dev sentencepiece:libsentencepiece-dev libwebp:libwebp-dev libjpeg-turbo:libturbojpeg0-dev libpng:libpng-dev \
    libaec:libaec-dev zlib:zlib1g-dev eigen:libeigen3-dev nlohmann-json:nlohmann-json3-dev cli11:libcli11-dev xxhash:libxxhash-dev \
    msgpack-cxx:libmsgpack-cxx-dev boost:libboost-dev; do
  file="/usr/share/doc/${entry#*:}/copyright"
  [ -e "$file" ] || { echo "licenses.sh: expected the licence of ${entry%%:*} at $file, found none" >&2; exit 4; }
  cp -L "$file" "$output/${entry%%:*}.txt"
done
cp "$work/hdf5/COPYING" "$output/hdf5.txt"
[ ! -d "$work/osmesa" ] || for file in "$work"/osmesa/*.txt; do cp "$file" "$output/"; done
