#!/usr/bin/env bash
# Puts together a software renderer that a package can carry: the distribution's own OSMesa, with an LLVM that holds only
# what OSMesa asks of it (13 MB packed in place of 60, and none of the ten libraries that the distribution's LLVM needs).
#
#   scripts/package/osmesa.sh OUTPUT_DIR   libOSMesa.so.8 and the libraries beside it that it needs, mesa.txt, llvm.txt; kept if there
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
(($# == 1)) || { echo "osmesa.sh: expected OUTPUT_DIR (--help says more)" >&2; exit 2; }
export PATH="$PATH:/usr/sbin:/sbin"  # ldconfig
output="$(mkdir -p "$1" && cd "$1" && pwd)"
[ ! -e "$output/DONE" ] || { echo "[package] osmesa: all there"; exit 0; }
log="$output/build.log"
fail() { echo "osmesa.sh: $*" >&2; exit 4; }
source="$(ldconfig -p | sed -n 's/.*libOSMesa\.so\.8 .*=> //p' | head -n 1)"
[ -n "$source" ] || fail "expected libOSMesa.so.8 of the package libosmesa6, found none"
soname="$(readelf -d "$source" | sed -n 's/.*(NEEDED).*\[\(libLLVM-[0-9]*\.so\.1\)\].*/\1/p')"
[ -n "$soname" ] || fail "$source: expected a library that needs libLLVM-VERSION.so.1, found none"
number="${soname#libLLVM-}" && number="${number%%.*}"
config="llvm-config-$number"
command -v "$config" >/dev/null || fail "expected $config of the package llvm-$number-dev, found none (scripts/setup.sh --package)"
command -v patchelf >/dev/null || fail "expected patchelf, found none (scripts/setup.sh --package)"
echo "[package] osmesa: linking LLVM $number with what OSMesa uses of it (log: $log)"

work="$output/work"
mkdir -p "$work"
# what it uses, under the version names that the distribution's LLVM gives it
nm -D --undefined-only "$source" | awk '$2 ~ /@LLVM_/ { split($2, part, "@"); print part[1] }' | sort -u >"$work/symbols"
[ -s "$work/symbols" ] || fail "$source: expected symbols of version LLVM_$number, found none"
{ echo "LLVM_$number { global:"; sed 's/$/;/' "$work/symbols"; echo "local: *; };"; } >"$work/version.map"
# LLVM asks the terminal database whether messages may be colored: there is no terminal here
cat >"$work/terminal.c" <<'END'
int setupterm(const char* term, int descriptor, int* error) { (void)term; (void)descriptor; (void)error; return -1; }
int tigetnum(const char* name) { (void)name; return -1; }
void* set_curterm(void* term) { (void)term; return 0; }
int del_curterm(void* term) { (void)term; return -1; }
END
build() {
  gcc -O2 -fPIC -fvisibility=hidden -c "$work/terminal.c" -o "$work/terminal.o"
  local archives=()
  mapfile -t archives < <("$config" --link-static --libfiles all | tr ' ' '\n' | grep -v -e Polly)
  g++ -shared -fuse-ld=gold -o "$work/$soname" -Wl,-soname,"$soname" -Wl,--version-script,"$work/version.map" -Wl,--gc-sections \
    -Wl,--icf=safe -Wl,--no-undefined $(sed 's/^/-Wl,-u,/' "$work/symbols") "$work/terminal.o" \
    -Wl,--start-group "${archives[@]}" -Wl,--end-group -lz -lm -ldl -lpthread
  strip --strip-unneeded "$work/$soname"
}
build >"$log" 2>&1 &  # in the background and waited for: a function in a condition would go on after an error
wait $! || { tail -n 20 "$log" >&2; fail "linking LLVM failed (log: $log)"; }
cp -L "$source" "$work/libOSMesa.so.8"
for name in libglapi.so.0 libzstd.so.1; do
  found="$(ldd "$source" | sed -n "s/.*$name => \(.*\) (.*/\1/p")"
  [ -z "$found" ] || cp -L "$found" "$work/$name"
done
for file in "$work"/*.so.*; do patchelf --set-rpath '$ORIGIN' "$file"; done
missing="$(env -u LD_LIBRARY_PATH ldd "$work/libOSMesa.so.8" | grep -v -e "$work" -e 'lib\(c\|m\|z\|stdc++\|gcc_s\|dl\|pthread\)\.so' -e linux-vdso -e ld-linux || true)"
[ -z "$missing" ] || fail "expected an OSMesa that needs nothing else, found $missing"
cp "/usr/share/doc/libosmesa6/copyright" "$output/mesa.txt"
{ cat "/usr/share/doc/llvm-$number-dev/copyright" /usr/share/common-licenses/Apache-2.0; } >"$output/llvm.txt"
[ ! -e "$work/libzstd.so.1" ] || cp /usr/share/doc/libzstd1/copyright "$output/zstd.txt"
mv "$work"/*.so.* "$output/"
rm -rf "$work"
touch "$output/DONE"
