"""scripts/gpu_check.sh as a user runs it: without a GPU, with programs that crash or hang, stopped, killed.

python3 tests/gpu/driver_test.py DIRECTORY-OF-apo-gpu-check [CASE...]
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "gpu" / "data"
BIN = None

# A stand-in for apo-gpu-check: "device" and "tabletop" pass, the others misbehave in their own way.
FAKE = """#!/bin/sh
result() {
  printf '{"item": "%s", "device": "cuda:0", "verdict": "%s", "numbers": {"n": 1}, ' "$1" "$2"
  printf '"message": ""}\\n'
}
case "$1" in
--help) exit 0 ;;
kernels) echo "about to fall" >&2; kill -SEGV $$ ;;
openvla) result openvla unfinished; exec sleep 1000 ;;
parity) echo "nothing of use"; exit 3 ;;
silent) exit 0 ;;
half) result half unfinished; exit 0 ;;
two-faced) result two-faced passed; exit 1 ;;
*) result "$1" passed ;;
esac
"""


def start(directory, *arguments):
    return subprocess.Popen(
        [
            "bash",
            str(ROOT / "scripts" / "gpu_check.sh"),
            "--python",
            sys.executable,
            "--output",
            str(directory / "out.json"),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(directory, *arguments):
    process = start(directory, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def results_in(directory):
    return json.loads((directory / "out.json").read_text())


def by_name(results):
    return {item["item"]: item for item in results["items"]}


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.fake = self.directory / "bin"
        self.fake.mkdir()
        (self.fake / "apo-gpu-check").write_text(FAKE)
        (self.fake / "apo-gpu-check").chmod(0o755)


class WithoutAGpu(Case):
    def test_it_runs_to_its_end(self):
        if shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True).stdout:
            self.skipTest("this machine has a GPU")
        code, out, err = run(self.directory, "--bin", BIN, "--data", DATA, "--quick")
        self.assertEqual(code, 0, out + err)
        results = results_in(self.directory)
        self.assertTrue(results["finished"])
        items = by_name(results)
        self.assertGreaterEqual(len(items), 18)
        for name, item in items.items():
            self.assertEqual(set(item), {"item", "device", "verdict", "numbers", "message", "seconds"}, name)
            with self.subTest(name):
                if name.endswith("-cpu"):
                    self.assertIn(item["verdict"], ("passed", "not there"), item["message"])
                    if item["verdict"] == "not there":
                        self.assertIn(name, ("openvla-torch-cpu",))
                    else:
                        self.assertEqual(item["device"], "cpu")
                else:
                    self.assertEqual(item["verdict"], "no device", item["message"])
        kernels = items["kernels-cpu"]["numbers"]
        self.assertLess(kernels["Float"]["vocabulary_4099"]["score_error"], 1e-4)
        self.assertEqual(items["openvla-cpu"]["numbers"]["released"]["frozen_parameters"], 7541237184)
        self.assertGreater(items["openvla-cpu"]["numbers"]["released"]["operations_of_scoring"], 1e13)
        self.assertIn((self.directory / "out.txt").read_text(), out)


class OfThePrograms(Case):
    def test_a_crash_a_hang_and_a_refusal_cost_one_item_each(self):
        code, out, err = run(
            self.directory,
            "--bin",
            self.fake,
            "--data",
            DATA,
            "--item-seconds",
            2,
            "--items",
            "device,kernels,openvla,parity,tabletop,tests",
        )
        self.assertEqual(code, 1, out + err)
        items = by_name(results_in(self.directory))
        self.assertEqual(items["device"]["verdict"], "passed")
        self.assertEqual(items["kernels"]["verdict"], "failed")
        self.assertIn("SIGSEGV", items["kernels"]["message"])
        self.assertIn("about to fall", items["kernels"]["message"])
        self.assertEqual(items["openvla"]["verdict"], "failed")
        self.assertIn("stopped after 2 s", items["openvla"]["message"])
        self.assertEqual(items["openvla"]["numbers"], {"n": 1})  # what was done before
        self.assertEqual(items["parity"]["verdict"], "failed")
        self.assertIn("exit code 3", items["parity"]["message"])
        self.assertEqual(items["tests"]["verdict"], "not there")
        self.assertEqual(items["tabletop"]["verdict"], "passed")
        self.assertIn("SIGSEGV", out)

    def test_a_result_that_is_none_is_a_failure(self):
        """Nothing printed, stopped half-way, or an exit code that says something else than the verdict."""
        sys.path.insert(0, str(ROOT / "scripts" / "gpu"))
        import check

        for name, said in (("silent", "without a result"), ("half", "without a result"), ("two-faced", "although passed")):
            with self.subTest(name):
                item = check.Item(name, 10, lambda: [str(self.fake / "apo-gpu-check"), name], True, "")
                result = check.run_item(item, 10, dict(os.environ))
                self.assertEqual(result["verdict"], "failed")
                self.assertIn(said, result["message"])

    def tool(self, name, script):
        """A program in PATH for this test alone."""
        tools = self.directory / "tools"
        tools.mkdir(exist_ok=True)
        (tools / name).write_text("#!/bin/sh\n" + script)
        (tools / name).chmod(0o755)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{tools}:{before}"
        self.addCleanup(os.environ.__setitem__, "PATH", before)

    def test_a_card_that_the_library_does_not_find_is_a_failure(self):
        (self.fake / "apo-gpu-check").write_text(
            FAKE.replace('*) result "$1" passed', '*) result "$1" "no device"')
        )
        arguments = ("--bin", self.fake, "--data", DATA, "--items", "device,tabletop")
        self.tool("nvidia-smi", "echo 'No devices were found'")  # a sentence is no card
        code, out, err = run(self.directory, *arguments)
        self.assertEqual(code, 0, out + err)
        self.assertEqual(by_name(results_in(self.directory))["device"]["verdict"], "no device")
        # as many fields as were asked for
        self.tool("nvidia-smi", "echo \"$1\" | sed 's/--query-gpu=//; s/[^,]*/1/g'")
        code, out, err = run(self.directory, *arguments)
        self.assertEqual(code, 1, out + err)
        device = by_name(results_in(self.directory))["device"]
        self.assertEqual(device["verdict"], "failed")
        self.assertIn("the library finds none", device["message"])

    def test_what_the_sanitizer_reports_is_a_failure(self):
        self.tool("compute-sanitizer", 'case "$1" in --help) exit 0 ;; esac\necho "========= ERROR SUMMARY: 1 error"\nexit 9\n')
        code, out, err = run(self.directory, "--bin", self.fake, "--data", DATA, "--items", "device,memcheck")
        self.assertEqual(code, 1, out + err)
        memcheck = by_name(results_in(self.directory))["memcheck"]
        self.assertEqual(memcheck["verdict"], "failed")
        self.assertIn("1 error", memcheck["message"])

    def test_the_time_for_everything_holds(self):
        begin = time.monotonic()
        code, out, err = run(
            self.directory,
            "--bin",
            self.fake,
            "--data",
            DATA,
            "--seconds",
            12,
            "--items",
            "device,openvla,tabletop,parity",
        )
        self.assertLess(time.monotonic() - begin, 30)
        items = by_name(results_in(self.directory))
        self.assertEqual(items["tabletop"]["verdict"], "no time")
        self.assertEqual(code, 1, out + err)

    def test_none_where_they_should_be(self):
        code, out, err = run(self.directory, "--bin", self.directory / "nowhere", "--data", DATA)
        self.assertEqual(code, 2, out)
        self.assertIn("nowhere", err)
        self.assertIn("--bin", err)


class OfItsUse(Case):
    def test_an_output_that_cannot_be_written(self):
        for bad in ("/proc/out.json", str(self.fake / "apo-gpu-check" / "out.json"), str(self.fake)):
            process = subprocess.run(
                [
                    "bash",
                    str(ROOT / "scripts" / "gpu_check.sh"),
                    "--bin",
                    str(self.fake),
                    "--data",
                    str(DATA),
                    "--output",
                    bad,
                ],
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(process.returncode, 2, process.stdout + process.stderr)
            self.assertIn(bad, process.stderr)
            self.assertNotIn("Traceback", process.stderr)

    def test_unknown_words(self):
        for arguments in (["--items", "kernel"], ["--nonsense"]):
            code, out, err = run(self.directory, "--bin", self.fake, "--data", DATA, *arguments)
            self.assertEqual(code, 2, out)
            self.assertIn(arguments[-1], err)

    def test_interrupted_it_keeps_what_was_done(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
            (self.directory / "out.json").unlink(missing_ok=True)
            # openvla is the second in order, and hangs
            process = start(
                self.directory, "--bin", self.fake, "--data", DATA, "--items", "device,openvla,tabletop"
            )
            self.addCleanup(process.kill)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                time.sleep(0.1)
                if (self.directory / "out.json").exists() and results_in(self.directory).get("items"):
                    break
            time.sleep(0.7)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, out + err)
            results = results_in(self.directory)
            self.assertFalse(results["finished"])
            self.assertEqual(results["items"][0]["verdict"], "passed")
            if number != signal.SIGKILL:
                self.assertEqual([item["verdict"] for item in results["items"]], ["passed", "interrupted"])
                self.assertIn("stopped before the end", out)


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    os.environ.pop("APO_PYTHON", None)
    unittest.main(verbosity=2)
