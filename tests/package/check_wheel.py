#!/usr/bin/env python3
"""What is in the package: check_wheel.py DIST SOURCE_DIR. Exit code 77 where scripts/package.sh has made none.

Sizes, nothing of the machine that made it, libraries found beside each other, no newer C library than promised, and a
licence for each library that travels along.
"""
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

dist, source = map(pathlib.Path, sys.argv[1:3])
wheels = sorted(dist.glob("apo-*.whl"))
if not wheels:
    print(f"skipped: no wheel in {dist} (scripts/package.sh makes one)")
    sys.exit(77)
problems = []


def check(good, what):
    if not good:
        problems.append(what)


# The system's own; torch, MuJoCo and the CUDA runtime come from the Python environment.
SYSTEM = r"(libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|ld-linux-x86-64|libz)\.so[.\d]*"
ENVIRONMENT = r"(libtorch_cpu|libc10)\.so|libcudart\.so\.13"
ON_A_GPU = {"libapo_cuda_graph.so": {"libtorch_cuda.so", "libc10_cuda.so"}}  # loaded there alone
MEGABYTE = 1e6

wheel = wheels[0]
check(len(wheels) == 1, f"expected one wheel, found {[w.name for w in wheels]}")
check(re.fullmatch(r"apo-[\d.]+-py3-none-manylinux_2_36_x86_64\.whl", wheel.name), f"name {wheel.name}")
archives = sorted(dist.glob("apo-check-*"))
sizes = {path.name: path.stat().st_size / MEGABYTE for path in [wheel, *archives]}
print("\n".join(f"{size:6.1f} MB  {name}" for name, size in sizes.items()))
check(sizes[wheel.name] <= 40, f"expected a wheel of at most 40 MB, found {sizes[wheel.name]:.1f}")
check(sum(sizes.values()) <= 56, f"expected wheel and check archive of at most 56 MB, found {sum(sizes.values()):.1f}")


def readelf(*arguments):
    return subprocess.run(["readelf", *arguments], capture_output=True, text=True, check=True).stdout


def look(root, given):
    """Holds every file below `root`; `given` are libraries that lie elsewhere."""
    files = [path for path in root.rglob("*") if path.is_file()]
    here = {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        name = path.relative_to(root)
        for trace in (str(source.resolve()), "build/package", "Installation point"):
            check(trace.encode() not in content, f"{name} names the folder that it was made in ({trace})")
        if content[:4] != b"\x7fELF":
            continue
        dynamic = readelf("-dW", path)
        for needed in re.findall(r"NEEDED.*\[(.*)\]", dynamic):
            check(needed in here | given | ON_A_GPU.get(path.name, set()) or re.fullmatch(f"{SYSTEM}|{ENVIRONMENT}", needed), f"{name} needs {needed}")
        for entry in ":".join(re.findall(r"R(?:UN)?PATH.*\[(.*)\]", dynamic)).split(":"):
            check(not entry or entry.startswith("$ORIGIN"), f"{name} looks for libraries in {entry}")
        versions = [tuple(map(int, v.split("."))) for v in re.findall(r"Name: GLIBC_([\d.]+)", readelf("-VW", path))]
        check(not versions or max(versions) <= (2, 36), f"{name} needs glibc {max(versions, default=0)}")
    return here


with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    zipfile.ZipFile(wheel).extractall(scratch / "wheel")
    inside = look(scratch / "wheel", set())
    names = {str(path.relative_to(scratch / "wheel")) for path in (scratch / "wheel").rglob("*") if path.is_file()}
    for program in ("train", "eval", "collect", "refine", "data"):
        check(f"apo/bin/apo-{program}" in names, f"no program apo-{program}")
    for config in source.glob("configs/*.yaml"):
        check(f"apo/share/apo/configs/{config.name}" in names, f"no config {config.name}")
    for header in (source / "include").rglob("*.h"):
        check(f"apo/{header.relative_to(source)}" in names, f"no header {header.name}")
    check("apo/lib/cmake/apo/apoConfig.cmake" in names, "no CMake package")
    licenses = {name.rsplit("/", 1)[1][:-4] for name in names if name.startswith("apo/share/doc/apo/licenses/")}
    # linked in, or compiled from headers
    for wanted in ("hdf5", "zlib", "libaec", "eigen", "nlohmann-json", "cli11", "spdlog", "fmt", "msgpack-cxx", "boost"):
        check(wanted in licenses, f"no licence of {wanted}")
    check("apo/share/doc/apo/LICENSE" in names, "no licence of our own")
    aliases = {"libsz": "libaec", "libwebpmux": "libwebp", "libturbojpeg": "libjpeg-turbo", "libpng16": "libpng", "libOSMesa": "mesa", "libglapi": "mesa"}
    for library in inside:
        stem = re.match(r"(lib[\w+-]+?)(?:-[0-9a-f]{8})?\.so", library)
        if stem and stem[1] not in ("libapo", "libapo_cuda", "libapo_cuda_graph"):
            wanted = aliases.get(stem[1], re.sub("libLLVM.*", "llvm", stem[1]))
            check(wanted in licenses or wanted.removeprefix("lib") in licenses, f"no licence of {library}")
    for archive in archives:
        with tarfile.open(archive) as file:
            file.extractall(scratch / "check", filter="data")
        look(scratch / "check", inside)
        for wanted in ("LICENSE", "licenses/googletest.txt", "licenses/nlohmann-json.txt", "licenses/cli11.txt"):
            check(list((scratch / "check").glob(f"*/{wanted}")), f"{archive.name}: no {wanted}")

print("\n".join(problems) or f"{len(names)} files, all in order")
sys.exit(1 if problems else 0)
