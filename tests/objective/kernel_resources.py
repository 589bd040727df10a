"""What the compiler says of the row kernels: they keep to registers, leave room for warps, exist for each GPU.

    kernel_resources.py NVCC SOURCE_DIRECTORY

Compiles src/objective/kernels/*.cu for every architecture that the build asks for and reads ptxas's account
of each kernel, the object's list of machine codes, and the arithmetic of the intermediate code. Exit status
77 (skipped) without NVCC.
"""
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ARCHITECTURES = [80, 90, 100]
KERNELS = {"scores_of_rows", "gradient_of_rows", "kl_of_rows"}
TYPES = {"f": "float", "d": "double", "8Bfloat16": "bfloat16"}
THREADS = 256
# One multiprocessor of any of the three: 4 parts of 16,384 registers and 16 warps, at most 32 blocks.
PARTS, REGISTERS, WARPS = 4, 16384, 16
# Training runs in float32 and bfloat16: no spills, three quarters of the warps (at most 40 registers).
# Float64 is what tests compare with: 5 of 8, and the few bytes that ptxas spills of kl_of_rows.
LEAST_OCCUPANCY = {"float": 0.75, "bfloat16": 0.75, "double": 0.625}
MOST_SPILLED = {"float": 0, "bfloat16": 0, "double": 16}
# Two numbers of each of 8 warps for the normalizer, one for the sum of kl_of_rows.
NUMBERS_SHARED = {"scores_of_rows": 16, "gradient_of_rows": 0, "kl_of_rows": 24}
BYTES = {"float": 4, "bfloat16": 4, "double": 8}  # of a sum


def occupancy(registers):
    """Share of a multiprocessor's warps that blocks of THREADS threads fill."""
    of_warp = -(-max(registers, 1) * 32 // 256) * 256  # handed out 256 at a time
    warps = min(REGISTERS // of_warp, WARPS) * PARTS
    blocks = min(warps // (THREADS // 32), 32)
    return blocks * (THREADS // 32) / (PARTS * WARPS)


def accounts(log):
    """(kernel, type, architecture) -> numbers out of ptxas -v."""
    found = {}
    for name, architecture, body in re.findall(
            r"Compiling entry function '(\w+)' for 'sm_(\d+)'(.*?)(?=Compiling entry|\Z)", log, re.S):
        kernel = next((k for k in KERNELS if k in name), name)
        template = re.search(r"of_rowsI(?:NS\d*_)?(f|d|8Bfloat16)E", name)
        number = lambda pattern: int((re.search(pattern, body) or [0, 0])[1])
        found[kernel, TYPES[template[1]] if template else "?", int(architecture)] = {
            "registers": number(r"Used (\d+) registers"),
            "stack": number(r"(\d+) bytes stack frame"),
            "spilled": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
            "shared": number(r"(\d+) bytes smem"),
        }
    return found


def machine_codes(data):
    """Architectures with machine code in an object file's fat binaries: what cuobjdump --list-elf lists."""
    found, magic = set(), struct.pack("<I", 0xBA55ED50)
    at = data.find(magic)
    while at >= 0:
        header, size = struct.unpack_from("<HQ", data, at + 6)
        entry, end = at + header, at + header + size
        while entry < end:
            kind, _, entry_header, payload = struct.unpack_from("<HHIQ", data, entry)
            if kind == 2:  # 1: intermediate code
                found.add(struct.unpack_from("<I", data, entry + 28)[0])
            entry += entry_header + payload
        at = data.find(magic, at + 4)
    return found


def narrow_products(intermediate):
    """Products in 32 bits, where rows · width may exceed 2^31. Those of r % columns are none: the compiler
    takes 32 bits where both fit, and multiplies the quotient."""
    found, quotients = [], set()
    for line in intermediate.splitlines():
        if division := re.match(r"\s*div\.u32\s+(%r\d+),", line):
            quotients.add(division[1])
        if ".entry" in line:
            quotients.clear()
        product = re.match(r"\s*(?:mul|mad)\.(?:lo|hi)\.[su]32\s+%r\d+, (%?\w+), (%?\w+)", line)
        if product and not quotients & set(product.groups()):
            found.append(line.strip())
    return found


def compile_kernels(nvcc, source, directory):
    kernels = sorted((source / "src/objective/kernels").glob("*.cu"))
    assert kernels, "no kernels in " + str(source / "src/objective/kernels")
    common = [nvcc, "-std=c++20", "-O3", "-DNDEBUG", "-DAPO_VERSION=\"test\"", "-I", str(source / "include"), "-I", str(source / "src")]
    targets = [f"-gencode=arch=compute_{a},code=[compute_{a},sm_{a}]" for a in ARCHITECTURES]
    log, codes, intermediate = "", [], ""
    for kernel in kernels:
        compiled, text = directory / (kernel.stem + ".o"), directory / (kernel.stem + ".ptx")
        run = subprocess.run([*common, *targets, "-Xptxas", "-v", "-c", str(kernel), "-o", str(compiled)],
                             capture_output=True, text=True)
        log += run.stdout + run.stderr
        if run.returncode != 0:
            sys.exit(log)
        codes.append(machine_codes(compiled.read_bytes()))
        subprocess.run([*common, "-arch=compute_90", "-ptx", str(kernel), "-o", str(text)], check=True)
        intermediate += text.read_text()
    return log, codes, intermediate


def main():
    nvcc, source = sys.argv[1], pathlib.Path(sys.argv[2])
    if not pathlib.Path(nvcc).is_file():
        print("skipped: no nvcc")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        log, codes, intermediate = compile_kernels(nvcc, source, pathlib.Path(directory))
    problems = []
    assert "of_rows" in intermediate
    found = accounts(log)
    expected = {(k, t, a) for k in KERNELS for t in TYPES.values() for a in ARCHITECTURES}
    if set(found) != expected:
        problems.append(f"kernels: expected {sorted(expected)}, found {sorted(found)}")
    print(f"{'kernel':18}{'type':10}{'sm':>4}{'registers':>11}{'occupancy':>11}{'stack':>7}{'spilled':>9}"
          f"{'shared':>8}")
    for (kernel, type_, architecture), account in sorted(found.items(), key=str):
        share = occupancy(account["registers"])
        print(f"{kernel:18}{type_:10}{architecture:4}{account['registers']:11}{share:11.1%}"
              f"{account['stack']:7}{account['spilled']:9}{account['shared']:8}")
        if (kernel, type_, architecture) not in expected:
            continue
        name = f"{kernel}<{type_}> for sm_{architecture}: "
        if account["registers"] == 0 or share < LEAST_OCCUPANCY[type_]:
            problems.append(name + f"{account['registers']} registers leave {share:.1%} of the warps")
        if account["stack"] > MOST_SPILLED[type_] or account["spilled"] > 2 * MOST_SPILLED[type_]:
            problems.append(name + f"a stack of {account['stack']} bytes, {account['spilled']} bytes spilled")
        shared = NUMBERS_SHARED[kernel] * BYTES[type_]
        if account["shared"] != shared:
            problems.append(name + f"{account['shared']} bytes of shared memory, expected {shared}")
    for code in codes:
        if code != set(ARCHITECTURES):
            problems.append(f"machine code for sm_{sorted(code)}, expected sm_{ARCHITECTURES}")
    problems += [f"{line}: a product in 32 bits" for line in narrow_products(intermediate)]
    for problem in problems:
        print("FAILED", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
