"""Starts the programs with the LibTorch and MuJoCo of this Python environment; the programs themselves are C++."""
import importlib.util
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent
TORCH = "2.11.0"  # whose C++ interface the programs are built against


def _directory(package):
    """Where a package lies, without importing it (torch takes seconds): beside this one, which is where the programs look
    first, else where Python finds it; None if it is not installed."""
    beside = ROOT.parent / package
    if beside.is_dir():
        return beside
    spec = importlib.util.find_spec(package)
    return pathlib.Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _torch_version(directory):
    file = directory / "version.py"
    text = file.read_text() if file.exists() else ""
    found = re.search(r"""^__version__\s*=\s*['"]([^'"]+)""", text, re.MULTILINE)
    return found[1] if found else "unknown"


def _fail(program, message):
    print(f"{program}: {message}", file=sys.stderr)
    return 4


def environment(program):
    """The environment to start a program with: (variables, None), or (None, what is wrong)."""
    torch = _directory("torch")
    if torch is None or not (torch / "lib/libtorch_cpu.so").exists():
        return None, (f"expected torch {TORCH} in this Python environment ({sys.prefix}), found none; "
                      f"{sys.executable} -m pip install torch=={TORCH}")
    version = _torch_version(torch)
    if version.split("+")[0] != TORCH:
        return None, f"expected torch {TORCH}, found {version} in {torch}; {sys.executable} -m pip install torch=={TORCH}"
    variables = dict(os.environ)
    beside = []  # the libraries know the places beside them; other places are told to the loader
    if torch.resolve() != (ROOT.parent / "torch").resolve():
        beside.append(str(torch / "lib"))
    mujoco = _directory("mujoco")  # another version's library has another name: what simulates says so
    if mujoco is not None and mujoco.resolve() != (ROOT.parent / "mujoco").resolve():
        beside.append(str(mujoco))
    if beside:
        variables["LD_LIBRARY_PATH"] = ":".join(beside + [p for p in [variables.get("LD_LIBRARY_PATH")] if p])
    return variables, None


def _run(program):
    variables, problem = environment(program)
    if problem:
        return _fail(program, problem)
    binary = ROOT / "bin" / program
    try:
        os.execve(binary, [program, *sys.argv[1:]], variables)
    except OSError as error:
        return _fail(program, f"{binary} does not start: {error.strerror}")


def apo_train():
    return _run("apo-train")


def apo_eval():
    return _run("apo-eval")


def apo_collect():
    return _run("apo-collect")


def apo_refine():
    return _run("apo-refine")


def apo_serve():
    return _run("apo-serve")


def apo_data():
    return _run("apo-data")
