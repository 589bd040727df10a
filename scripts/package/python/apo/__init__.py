"""APO: refine vision-language-action policies from human corrections.

The programs are `apo-train`, `apo-eval`, `apo-collect`, `apo-refine`, `apo-serve` and `apo-data`. The C++ library, its headers and its
CMake package lie under `apo.prefix`:  cmake -DCMAKE_PREFIX_PATH="$(python -c 'import apo; print(apo.prefix)')" ...
"""
import pathlib as _pathlib

prefix = str(_pathlib.Path(__file__).resolve().parent)
