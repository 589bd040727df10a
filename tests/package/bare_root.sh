#!/usr/bin/env bash
# Installs the wheel where nothing but Python is: a bare Debian root without compiler, -dev packages, OpenGL or driver,
# in a fresh virtual environment; then runs the programs there.
#
#   tests/package/bare_root.sh DIST [--loop]
#
#   DIST     the folder that scripts/package.sh wrote
#   --loop   the whole quickstart, `apo-refine --config tabletop`, and how long it takes from `pip install` to the report;
#            without it a loop that trains for a few steps
#
# Needs root, debootstrap and unshare. Environment: APO_BARE_ROOT  a root made by debootstrap (with python3 and
# python3-venv), to be used in place of making one. Exit code 77: not possible here.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ -z "${1:-}" ] || [ -d "$1" ] || { echo "skipped: no directory $1 (scripts/package.sh makes it)"; exit 77; }
dist="$(cd "${1:?bare_root.sh: expected DIST (--help says more)}" && pwd)"
wheel=("$dist"/apo-*.whl)
[ -e "${wheel[0]}" ] || { echo "skipped: no wheel in $dist (scripts/package.sh makes one)"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: not root"; exit 77; }
for tool in debootstrap unshare chroot; do
  command -v "$tool" >/dev/null || { echo "skipped: no $tool here"; exit 77; }
done
if [ "${APO_IN_NAMESPACE:-}" != 1 ]; then  # mounts end with this process
  exec env APO_IN_NAMESPACE=1 unshare --mount --propagation private "$0" "$@"
fi

scratch="$(mktemp -d)"
trap 'umount -l "$scratch/root/proc" "$scratch/root/dev" 2>/dev/null || true; rm -rf --one-file-system "$scratch"' EXIT
root="$scratch/root"
if [ -n "${APO_BARE_ROOT:-}" ]; then
  cp -a "$APO_BARE_ROOT" "$root"
else
  site="$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)"
  . /etc/os-release
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$VERSION_CODENAME" "$root" "$site" \
    >"$scratch/debootstrap.log" 2>&1 || { tail -n 5 "$scratch/debootstrap.log"; echo "skipped: debootstrap failed"; exit 77; }
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# how this machine reaches its package index
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
cp "${wheel[0]}" "$dist"/apo-[0-9]*-linux-x86_64.tar.gz "$root/"
here() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/venv/bin:/usr/bin:/bin PIP_CERT="${PIP_CERT:-}" PIP_INDEX_URL="${PIP_INDEX_URL:-}" \
  OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" bash -c "$1"; }
fail() { echo "bare_root.sh: $*" >&2; exit 1; }
expect() { # NAME EXIT-CODE TEXT COMMAND: what a command returns and says
  local code=0 out
  out="$(here "$4" 2>&1)" || code=$?
  [ "$code" = "$2" ] && grep -qF -- "$3" <<<"$out" || fail "$1: expected exit code $2 and \"$3\", found $code and: $out"
  echo "ok  $1"
}

found="$(here 'ls /usr/bin/gcc /usr/bin/c++ /usr/include/*.h /usr/lib/x86_64-linux-gnu/lib{hdf5,yaml-cpp,sentencepiece,webp,turbojpeg,png16,OSMesa,EGL,spdlog}* 2>/dev/null' || true)"
[ -z "$found" ] || fail "expected a bare root, found $found"

here 'python3 -m venv /venv'
# without torch first: what is said then
here 'pip install --quiet --no-deps /apo-*.whl'
expect "without torch" 4 "expected torch 2.11.0 in this Python environment" "apo-train --version"
here 'mkdir -p /other/torch && echo "__version__ = \"2.10.0+cu128\"" > /other/torch/version.py && mkdir /other/torch/lib &&
      touch /other/torch/__init__.py /other/torch/lib/libtorch_cpu.so'
expect "another torch" 4 "expected torch 2.11.0, found 2.10.0+cu128 in /other/torch" "PYTHONPATH=/other apo-train --version"

begin=$SECONDS
here 'pip install --quiet /apo-*.whl'
installed=$SECONDS
echo "ok  pip install: $((installed - begin)) s"
expect "version" 0 "/venv/lib/python3" "apo-train --version"
expect "no GPU" 2 "no NVIDIA driver" "apo-eval --config tabletop --set policy.checkpoint=x --set run.device=cuda"
expect "an unknown config" 2 "did you mean 'tabletop'?" "apo-refine --config tabeltop"
expect "a config by name" 0 "/tmp/runs/tabletop" "cd /tmp && apo-refine --config tabletop --print-config"
expect "two installations" 0 "library   /venv/lib/python3" \
  'mkdir -p /other && echo rubbish >/other/libapo.so && LD_LIBRARY_PATH=/other apo-train --version'
expect "an installation that cannot be written to" 0 "0.1" "chmod -R a-w /venv && apo-data --version"
expect "the library for others" 0 "libapo.so" 'ls $(python -c "import apo; print(apo.prefix)")/lib'

short='--set refine.base.train.max_steps=4 --set train.max_steps=6 --set eval.trials=4 --set deploy.collect.take_overs=2
  --set deploy.collect.episodes=8 --set deploy.demonstrations.episodes=6 --set deploy.intervention.scripted.patience_steps=12
  --set "data.labels.undesirable_reasons=[wrong object, off course, out of patience]"'
[ "${2:-}" = --loop ] && short=
here "cd /root && apo-refine --config tabletop ${short//$'\n'/ }" || fail "the loop failed"
here 'test -s /root/runs/tabletop/report.html && test -s /root/runs/tabletop/summary.json' || fail "the loop left no report"
echo "ok  the loop: $((SECONDS - installed)) s; from pip install to the report: $((SECONDS - begin)) s"

expect "without MuJoCo, what simulates" 4 "pip install mujoco==3.3.7" \
  'chmod -R u+w /venv && pip uninstall -y -q mujoco && cd /tmp && apo-collect --config tabletop --demonstrations --output d.hdf5'
expect "without MuJoCo, what does not simulate" 0 "episodes" \
  'cd /root && apo-data inspect --set "data.expert=[{path: runs/tabletop/demonstrations.hdf5}]"'
expect "the archive, unpacked anywhere" 0 "library   /elsewhere/apo-" \
  'mkdir /elsewhere && tar -C /elsewhere -xzf /apo-*-linux-x86_64.tar.gz && /elsewhere/apo-*/bin/apo-train --version'
