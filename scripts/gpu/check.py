"""Runs the items of the GPU check one after the other and writes what came out; gpu_check.sh is its door.

Each item is a program of its own with a time limit of its own, so that a crash or a hang costs that item
alone. An item prints JSON lines, the last of which counts; the results are written after every item. Only
Python's standard library.
"""

import argparse
import csv
import ctypes
import importlib.util
import io
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = 1
BUDGET_SECONDS = 355  # the whole check; six minutes with what starting and writing take
LAST_LINES = 12  # of what a failed program said


class UsageError(Exception):
    pass


class Interrupted(BaseException):
    pass


class Item:
    """What is run, with its time limit [s]; `command` is built when its turn comes."""

    def __init__(self, name, limit, command, gpu, sentence):
        self.name, self.limit, self.command, self.gpu, self.sentence = name, limit, command, gpu, sentence


# --- what is there ------------------------------------------------------------------------------------------


def find_bin(options):
    """Directory of apo-gpu-check: --bin, beside this script in an archive, or the source tree's build."""
    root = HERE.parent.parent
    places = (
        [options.bin] if options.bin else [root / "libexec", root / "bin", root / "build" / "release" / "bin"]
    )
    for place in places:
        if (place / "apo-gpu-check").exists():
            return place.resolve()
    raise UsageError(
        "apo-gpu-check: expected it in "
        + " or ".join(map(str, places))
        + ", found it in none; build it (scripts/build.sh release gpu-check) or name its directory "
        "with --bin"
    )


def find_data(options):
    root = HERE.parent.parent
    places = [options.data] if options.data else [root / "data", root / "tests" / "gpu" / "data"]
    for place in places:
        if (place / "tabletop_sft.yaml").exists():
            return place.resolve()
    raise UsageError(
        "data: expected tabletop_sft.yaml in "
        + " or ".join(map(str, places))
        + ", found it in neither; name the directory with --data"
    )


def module_directory(name):
    spec = importlib.util.find_spec(name)
    return pathlib.Path(spec.origin).parent if spec and spec.origin else None


def library_directories(options):
    """Where the libraries are that programs may not find themselves: LibTorch's and the installed one's."""
    found = []
    prefix = options.prefix
    if prefix is None and module_directory("apo"):
        import apo

        prefix = apo.prefix
    if prefix:
        found += [pathlib.Path(prefix) / part for part in ("lib", "lib64", ".")]
    torch = module_directory("torch")
    if torch:
        found.append(torch / "lib")
    return [str(place) for place in found if place.is_dir()]


def environment(options, binary):
    """The programs' environment: as it is where they start in it, else with the library directories."""
    plain = dict(os.environ)
    try:
        if subprocess.run([binary, "--help"], env=plain, capture_output=True, timeout=60).returncode != 127:
            return plain  # 127: a shared library was not found
    except (OSError, subprocess.TimeoutExpired):
        return plain  # the items will say it
    places = library_directories(options) + [plain.get("LD_LIBRARY_PATH", "")]
    env = plain | {"LD_LIBRARY_PATH": os.pathsep.join(place for place in places if place)}
    again = subprocess.run([binary, "--help"], env=env, capture_output=True, text=True, timeout=60)
    if again.returncode == 127:
        raise UsageError(
            f"expected apo and torch in {sys.executable}, found none ({end_of(again.stderr)}); "
            "--python PROGRAM names the Python that the wheel is installed in, --prefix DIR an installation"
        )
    return env


def query_gpus():
    """-> [{"name", "driver_version", ...}] as nvidia-smi says, and what it said where it failed."""
    always = ["name", "driver_version", "memory.total"]
    more = [
        "memory.free",
        "compute_cap",
        "power.limit",
        "clocks.max.sm",
        "pstate",
        "temperature.gpu",
        "ecc.mode.current",
        "mig.mode.current",
    ]
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "nvidia-smi is not there"
    problem = ""
    for fields in (always + more, always):  # not every driver knows every field
        try:
            done = subprocess.run(
                [program, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=20,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return [], f"nvidia-smi: {error}"
        if done.returncode == 0:
            rows = list(csv.reader(io.StringIO(done.stdout), skipinitialspace=True))
            cards = [dict(zip(fields, row)) for row in rows if len(row) == len(fields)]
            # a sentence in place of a table: "No devices were found"
            return cards, problem if cards else "nvidia-smi: " + done.stdout.strip()[:300]
        problem = "nvidia-smi: " + (done.stderr or done.stdout).strip()[:300]
    return [], problem


def query_driver():
    """What libcuda says: {"cuda": "13.0", "devices": [names]}; empty without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version, count = ctypes.c_int(0), ctypes.c_int(0)
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return {}
        found = {"cuda": f"{version.value // 1000}.{version.value % 1000 // 10}", "devices": []}
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return found
        for index in range(count.value):
            device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
            if (
                driver.cuDeviceGet(ctypes.byref(device), index) == 0
                and driver.cuDeviceGetName(name, 256, device) == 0
            ):
                found["devices"].append(name.value.decode(errors="replace"))
        return found
    except (OSError, AttributeError):
        return {}


def processor():
    try:
        names = re.findall(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def machine():
    def version(name):
        try:
            import importlib.metadata

            return importlib.metadata.version(name)
        except Exception:
            return None

    gpus, problem = query_gpus()
    return {
        "gpus": gpus,
        "nvidia_smi": problem,
        "driver": query_driver(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "peft", "numpy")},
    }


# --- running one item ---------------------------------------------------------------------------------------


def last_result(text):
    """The last whole JSON line with a verdict."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and "verdict" in found:
                return found
    return None


def stop_group(process):
    for sign, wait in ((signal.SIGTERM, 2), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            pass
        try:
            process.wait(wait)
            return
        except subprocess.TimeoutExpired:
            continue


def die_with_parent():
    """In the child: whoever kills this script outright kills the item, too (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def run_program(command, limit, env):
    """-> (exit code or None after the time limit, stdout, stderr), whatever the program does."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile(
        "w+", errors="replace"
    ) as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            stop_group(process)  # and whatever it left behind
        out.seek(0), err.seek(0)
        return code, out.read(), err.read()


def end_of(text):
    return " | ".join(line.strip() for line in text.strip().splitlines()[-LAST_LINES:])[-1500:]


def run_item(item, limit, env):
    begin = time.monotonic()
    result = {"item": item.name, "device": "none", "verdict": "failed", "numbers": {}, "message": ""}
    try:
        command = item.command()
        if isinstance(command, str):  # why it cannot run here
            return result | {"verdict": "not there", "message": command, "seconds": 0.0}
        code, out, err = run_program(command, limit, env)
        found = last_result(out)
        if found:
            result |= {key: found[key] for key in ("device", "verdict", "numbers", "message") if key in found}
        if code is None:
            result["verdict"] = "failed"
            result["message"] = (
                f"stopped after {limit:.0f} s; the numbers are of what was done. " + result["message"]
            )
        elif code < 0:
            result["verdict"] = "failed"
            result["message"] = f"killed by {signal.Signals(-code).name}; {end_of(err)} {result['message']}"
        elif found is None or result["verdict"] == "unfinished":
            result["verdict"] = "failed"
            result["message"] = f"exit code {code} without a result; {end_of(err or out)}"
        elif code not in (0, 1) or (code == 1) != (result["verdict"] == "failed"):
            result["message"] = (
                f"exit code {code} although {result['verdict']}; {end_of(err)} {result['message']}"
            )
            result["verdict"] = "failed"
    except OSError as error:
        result["message"] = str(error)
    result["message"] = result["message"].strip()
    return result | {"seconds": round(time.monotonic() - begin, 2)}


# --- the items ----------------------------------------------------------------------------------------------


def sanitizer_program():
    found = shutil.which("compute-sanitizer")
    places = [
        pathlib.Path("/usr/local/cuda/bin/compute-sanitizer"),
        pathlib.Path("/usr/local/cuda/compute-sanitizer/compute-sanitizer"),
    ]
    nvidia = module_directory("torch")
    if nvidia:
        places += sorted((nvidia.parent / "nvidia").glob("*/bin/compute-sanitizer"))
    return found or next((str(place) for place in places if place.exists()), None)


def run_tool(arguments):
    """This script again as a small program of its own, for items that judge another program's output."""
    return [sys.executable, str(pathlib.Path(__file__).resolve()), *arguments]


def make_items(options, bin_directory, data):
    check = str(bin_directory / "apo-gpu-check")
    quick = ["--small"] if options.quick else []

    def own(name, device, *more):
        return lambda: [check, name, "--device", device, "--data", str(data), *more]

    def torch_step(device):
        def command():
            missing = [name for name in ("torch", "transformers", "peft") if module_directory(name) is None]
            if missing:
                return "Python has no " + ", ".join(missing)
            return [sys.executable, str(HERE / "openvla_step_torch.py"), "--device", device, *quick]

        return command

    def sanitizer(tool):
        def command():
            program = sanitizer_program()
            if program is None:
                return "compute-sanitizer is not there"
            # LibTorch tries calls that may fail; only what kernels do counts
            how = ["--tool", tool, *(["--report-api-errors", "no"] if tool == "memcheck" else [])]
            return run_tool(
                [
                    "--judge-sanitizer",
                    program,
                    *how,
                    check,
                    "kernels",
                    "--device",
                    "cuda",
                    "--data",
                    str(data),
                    "--small",
                ]
            )

        return command

    def tests(filter_, device):
        def command():
            program = bin_directory / "apo-gpu-tests"
            if not program.exists():
                return f"{program.name} is not there"
            return run_tool(
                ["--judge-tests", device, str(program), f"--gtest_filter={filter_}", "--gtest_color=no"]
            )

        return command

    gpu = [
        Item("device", 90, own("device", "cuda"), True, "card, driver, library"),
        Item(
            "kernels", 60, own("kernels", "cuda", *quick), True, "row kernels against the plain composition"
        ),
        Item(
            "openvla",
            120,
            own("openvla", "cuda", *quick),
            True,
            "7.5 B parameters: training, scoring, decisions",
        ),
        Item("openvla-torch", 90, torch_step("cuda"), True, "the released training step in PyTorch"),
        Item("tabletop", 45, own("tabletop", "cuda", *quick), True, "SFT and APO against the CPU's"),
        Item("parity", 30, own("parity", "cuda"), True, "tiny OpenVLA against transformers' numbers"),
        Item("tests", 40, tests("*OnCuda*", "cuda"), True, "the test binaries' CUDA cases"),
        Item("collectives", 40, own("collectives", "cuda", *quick), True, "NCCL, with one rank"),
        Item("memcheck", 40, sanitizer("memcheck"), True, "kernels under compute-sanitizer"),
        Item("racecheck", 40, sanitizer("racecheck"), True, "kernels under compute-sanitizer"),
        Item(
            "openvla-checkpointing",
            60,
            own("openvla", "cuda", "--checkpointing", *quick),
            True,
            "the same training step with activations recomputed",
        ),
    ]
    cpu = [
        Item("device-cpu", 30, own("device", "cpu"), False, "library"),
        Item(
            "kernels-cpu",
            150,
            own("kernels", "cpu", *quick),
            False,
            "row kernels against the plain composition",
        ),
        Item(
            "tabletop-cpu",
            150,
            own("tabletop", "cpu", *quick),
            False,
            "SFT and APO: finite and falling losses",
        ),
        Item("parity-cpu", 150, own("parity", "cpu"), False, "tiny OpenVLA against transformers' numbers"),
        Item(
            "openvla-cpu",
            150,
            own("openvla", "cpu", *quick),
            False,
            "the openvla item's code on a tiny one; the released size on the meta device",
        ),
        Item("openvla-torch-cpu", 150, torch_step("cpu"), False, "the PyTorch item's code on a tiny one"),
        Item("tests-cpu", 150, tests("TokenLogProbs.*:TokenKl.*", "cpu"), False, "the kernels' tests"),
    ]
    items = cpu if options.device == "cpu" else gpu + cpu
    if options.items:
        known = {item.name for item in gpu + cpu}
        unknown = [name for name in options.items if name not in known]
        if unknown:
            raise UsageError(f"--items: {unknown[0]}: no such item; there are {', '.join(sorted(known))}")
        items = [item for item in gpu + cpu if item.name in options.items]
        if any(item.gpu for item in items) and items[0] is not gpu[0]:
            items.insert(0, gpu[0])  # says whether there is a device at all
    return items


# --- judging other programs ---------------------------------------------------------------------------------


def judge_sanitizer(command):
    """compute-sanitizer's summary is the verdict; the program beneath must have passed, too."""
    usage = subprocess.run([command[0], "--help"], capture_output=True, text=True, errors="replace").stdout
    # our kernels alone (..._of_rows): LibTorch's own would take minutes
    ours = ["--kernel-name", "kernel_substring=of_rows"] if "kernel_substring" in usage else []
    done = subprocess.run(
        [command[0], "--error-exitcode", "9", *ours, *command[1:]],
        capture_output=True,
        text=True,
        errors="replace",
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("=========")]
    beneath = last_result(done.stdout)
    passed = done.returncode == 0 and beneath is not None and beneath["verdict"] == "passed"
    message = (
        ""
        if passed
        else end_of("\n".join(said) or done.stderr or done.stdout) or f"exit code {done.returncode}"
    )
    summary = next((line.strip("= ") for line in reversed(said) if "SUMMARY" in line), "")
    return {
        "device": beneath["device"] if beneath else "none",
        "numbers": {"summary": summary},
        "verdict": "passed" if passed else "failed",
        "message": message,
    }


def judge_tests(device, command):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(
            [*command, f"--gtest_output=json:{report.name}"], capture_output=True, text=True, errors="replace"
        )
        try:
            cases = [case for suite in json.load(report)["testsuites"] for case in suite["testsuite"]]
        except (ValueError, KeyError):
            return {
                "device": device,
                "numbers": {},
                "verdict": "failed",
                "message": f"exit code {done.returncode} without a report; "
                f"{end_of(done.stderr or done.stdout)}",
            }
    ran = [case for case in cases if case.get("result") == "COMPLETED"]
    skipped = [f"{case['classname']}.{case['name']}" for case in cases if case.get("result") == "SKIPPED"]
    failed = [f"{case['classname']}.{case['name']}" for case in cases if case.get("failures")]
    numbers = {"passed": len(ran) - len(failed), "skipped": skipped, "failed": failed}
    if failed or done.returncode != 0:
        return {"device": device, "numbers": numbers, "verdict": "failed", "message": end_of(done.stdout)}
    if device == "cuda" and not ran:
        return {
            "device": "none",
            "numbers": numbers,
            "verdict": "failed",
            "message": "expected the CUDA cases to run, found them skipped: no CUDA kernels, or the "
            "library found no device",
        }
    return {"device": device, "numbers": numbers, "verdict": "passed", "message": ""}


def print_judgement(judgement):
    print(json.dumps({"item": ""} | judgement), flush=True)
    return 0 if judgement["verdict"] == "passed" else 1


# --- results ------------------------------------------------------------------------------------------------


def write_results(path, results):
    staged = path.with_name(path.name + ".part")
    try:
        staged.write_text(json.dumps(results, indent=1) + "\n")
        os.replace(staged, path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise


def number_at(numbers, path):
    for key in path.split("/"):
        if not isinstance(numbers, dict) or key not in numbers:
            return None
        numbers = numbers[key]
    return numbers if isinstance(numbers, (int, float)) and not isinstance(numbers, bool) else None


# Item -> what the table shows of it: path in its numbers, factor, unit.
SHOWN = {
    "kernels": [
        ("time/BFloat16/score_and_gradient/median_ms", 1, "ms bf16"),
        ("time/BFloat16/composition_over_kernel", 1, "x faster than the composition"),
    ],
    "openvla": [
        ("train/mismatched/samples_per_second", 1, "samples/s trained"),
        ("train/mismatched/share_of_matmul_peak", 100, "% of the matmul peak"),
        ("train/mismatched/peak_bytes", 1e-9, "GB"),
        ("decide/batch_1/median_ms", 1, "ms a decision"),
        ("decide/batch_8/decisions_per_second", 1, "decisions/s at 8"),
    ],
    "openvla-torch": [("train/samples_per_second", 1, "samples/s trained"), ("train/peak_bytes", 1e-9, "GB")],
    "openvla-checkpointing": [
        ("train/mismatched/samples_per_second", 1, "samples/s trained"),
        ("train/mismatched/peak_bytes", 1e-9, "GB"),
    ],
    "tabletop": [
        ("cuda/apo/samples_per_second", 1, "samples/s APO"),
        ("cpu/apo/samples_per_second", 1, "on the CPU"),
    ],
    "parity": [("cuda/float32_against_transformers/token_log_probs", 1, "off in float32")],
    "tests": [("passed", 1, "passed")],
}


def shown_numbers(result):
    name = result["item"].removesuffix("-cpu") if result["item"] != "device-cpu" else "device"
    parts = []
    for path, factor, unit in SHOWN.get(name, []):
        if result["item"].endswith("-cpu"):
            if path.startswith("cpu/"):
                continue  # said already: there is but one device
            path = path.replace("cuda/", "cpu/")
        value = number_at(result["numbers"], path)
        if value:
            parts.append(f"{value * factor:.3g} {unit}")
    return ", ".join(parts)


def summary(results):
    lines = ["GPU check", ""]
    gpus = results["machine"]["gpus"]
    driver = results["machine"]["driver"]
    cards = [f"{gpu['name']}, {gpu['memory.total']} MiB, driver {gpu['driver_version']}" for gpu in gpus]
    lines.append(
        "card     "
        + ("; ".join(cards or driver.get("devices", [])) or f"none ({results['machine']['nvidia_smi']})")
    )
    lines.append(
        f"library  torch {results['machine']['packages']['torch']}, CUDA of the driver "
        f"{driver.get('cuda', 'none')}"
    )
    lines.append("")
    for result in results["items"]:
        text = shown_numbers(result)
        if result["message"]:
            text += ("; " if text else "") + " ".join(result["message"].split())[:300]
        lines.append(
            f"{result['item']:<22} {result['verdict']:<13} {result['seconds']:6.1f} s  {text}".rstrip()
        )
    counts = {}
    for result in results["items"]:
        counts[result["verdict"]] = counts.get(result["verdict"], 0) + 1
    lines.append("")
    lines.append(
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        + f" in {results['seconds']:.0f} s"
        + ("" if results["finished"] else "; stopped before the end")
    )
    return "\n".join(lines) + "\n"


def check_all(items, options, env, results, begin):
    """Runs the items, filling and writing `results`; -> False if it was interrupted."""
    no_device = None
    has_gpu = bool(results["machine"]["gpus"] or results["machine"]["driver"].get("devices"))
    for position, item in enumerate(items):
        left = options.seconds - (time.monotonic() - begin)
        blank = {"item": item.name, "device": "none", "numbers": {}, "seconds": 0.0}
        if item.gpu and no_device is not None:
            result = blank | {"verdict": "no device", "message": no_device}
        elif left < min(5, item.limit):
            result = blank | {"verdict": "no time", "message": f"the {options.seconds:.0f} s are used up"}
        else:
            print(f"{item.name}: {item.sentence} ...", file=sys.stderr, flush=True)
            try:
                result = run_item(item, min(item.limit, left, options.item_seconds), env)
            except Interrupted:
                results["items"].append(blank | {"verdict": "interrupted", "message": "stopped by a signal"})
                return False
            if item.gpu and result["verdict"] == "no device" and has_gpu:
                result["verdict"] = "failed"
                result["message"] = "the driver has a card, the library finds none: " + result["message"]
            elif item.gpu and result["verdict"] == "no device" and item.name == "device":
                no_device = result["message"]  # nobody need ask again
        results["items"].append(result)
        results["seconds"] = round(time.monotonic() - begin, 1)
        results["finished"] = position + 1 == len(items)
        write_results(options.output, results)
    return True


def positive(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="gpu_check.sh", description="What works on this machine's GPU, and how fast."
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("gpu_check.json"),
        help="results; the summary goes beside it as .txt (default gpu_check.json)",
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: the CPU items alone")
    parser.add_argument("--items", type=lambda text: text.split(","), help="only these, separated by commas")
    parser.add_argument("--seconds", type=positive, default=BUDGET_SECONDS, help="for everything together")
    parser.add_argument("--item-seconds", type=positive, default=float("inf"), help="for each item at most")
    parser.add_argument("--quick", action="store_true", help="small sizes, no timings: a check of the check")
    parser.add_argument("--bin", type=pathlib.Path, help="directory of apo-gpu-check")
    parser.add_argument("--data", type=pathlib.Path, help="directory of recordings and configs")
    parser.add_argument(
        "--prefix", type=pathlib.Path, help="where the library is installed, if not as a package"
    )
    parser.add_argument(
        "--python", help="the Python that has torch (default: the source tree's, else python3)"
    )
    return parser.parse_args(arguments)


def table_of(path):
    return path.with_suffix(".txt") if path.suffix == ".json" else path.with_name(path.name + ".txt")


def open_output(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_results(path, {})
    except OSError as error:
        raise UsageError(
            f"--output: {path}: expected a file that can be written, found: {error.strerror}"
        ) from error


def main(arguments):
    if arguments[:1] == ["--judge-sanitizer"]:
        return print_judgement(judge_sanitizer(arguments[1:]))
    if arguments[:1] == ["--judge-tests"]:
        return print_judgement(judge_tests(arguments[1], arguments[2:]))
    options = parse(arguments)
    begin = time.monotonic()

    def interrupt(number, frame):
        raise Interrupted

    try:
        bin_directory, data = find_bin(options), find_data(options)
        items = make_items(options, bin_directory, data)
        env = environment(options, str(bin_directory / "apo-gpu-check"))
        open_output(options.output)
    except UsageError as error:
        print(f"gpu_check.sh: {error}", file=sys.stderr)
        return 2
    results = {
        "schema": SCHEMA,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": False,
        "seconds": 0.0,
        "options": {"device": options.device, "seconds": options.seconds, "quick": options.quick},
        "machine": {},
        "items": [],
    }
    complete = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        results["machine"] = machine()
        complete = check_all(items, options, env, results, begin)
    except Interrupted:
        pass
    except OSError as error:  # a full disk: what is known is printed all the same
        print(f"gpu_check.sh: {options.output}: {error.strerror}", file=sys.stderr)
        print(summary(results))
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    results["finished"] = complete
    results["seconds"] = round(time.monotonic() - begin, 1)
    write_results(options.output, results)
    text = summary(results) if results["machine"] else "stopped before the first item\n"
    table_of(options.output).write_text(text)
    print(text + f"\n{options.output}")
    if not complete:
        return 130
    return 1 if any(result["verdict"] == "failed" for result in results["items"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
