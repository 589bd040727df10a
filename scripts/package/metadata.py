#!/usr/bin/env python3
"""Writes the dist-info directory of the wheel: metadata.py VERSION STAGE; STAGE/apo is the package."""
import pathlib
import sys

version, stage = sys.argv[1], pathlib.Path(sys.argv[2])
info = stage / f"apo-{version}.dist-info"
info.mkdir(parents=True, exist_ok=True)
programs = sorted(path.name for path in (stage / "apo/bin").iterdir())
licenses = sorted((stage / "apo/share/doc/apo").rglob("*"))
(info / "licenses").mkdir(exist_ok=True)
for path in licenses:
    if path.is_file():
        (info / "licenses" / path.name).write_bytes(path.read_bytes())
(info / "METADATA").write_text(f"""Metadata-Version: 2.4
Name: apo
Version: {version}
Summary: Action Preference Optimization: refine vision-language-action robot policies from human corrections
License-Expression: MIT
License-File: LICENSE
Requires-Python: >=3.10
Requires-Dist: torch==2.11.0
Requires-Dist: mujoco==3.3.7

Robot policies that learn from being corrected: programs and a C++ library for the whole loop of Action Preference
Optimization (arXiv 2506.07127): record, label, refine, evaluate, repeat. Begin with `apo-refine --config tabletop`.
""")
(info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: apo\nRoot-Is-Purelib: false\nTag: py3-none-linux_x86_64\n")
(info / "entry_points.txt").write_text(
    "[console_scripts]\n" + "".join(f"{name} = apo._programs:{name.replace('-', '_')}\n" for name in programs))
