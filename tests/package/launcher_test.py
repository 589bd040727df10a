#!/usr/bin/env python3
"""What the launcher of the wheel's programs says of the Python environment that it finds: launcher_test.py SOURCE_DIR."""
import importlib.util
import os
import pathlib
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1)) / "scripts/package/python/apo/_programs.py"


class Environment(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.site = pathlib.Path(self.folder.name) / "site"
        self.before = sys.path[:], os.environ.pop("LD_LIBRARY_PATH", None)
        self.addCleanup(self.restore)
        sys.path[:] = [str(self.site)]  # no torch of this machine

    def restore(self):
        sys.path[:], path = self.before
        os.environ.pop("LD_LIBRARY_PATH", None)
        if path is not None:
            os.environ["LD_LIBRARY_PATH"] = path

    def package(self, name, *files):
        for file, text in files:
            path = self.site / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()

    def torch(self, version):
        self.package("torch", ("__init__.py", ""), ("version.py", f"__version__ = '{version}'\ndebug = False\n"),
                     ("lib/libtorch_cpu.so", ""))

    def environment(self, beside=True):
        place = self.site / "apo" if beside else pathlib.Path(self.folder.name) / "elsewhere"
        place.mkdir(parents=True, exist_ok=True)
        (place / "_programs.py").write_text(SOURCE.read_text())
        spec = importlib.util.spec_from_file_location("_programs", place / "_programs.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.environment("apo-train")

    def test_without_torch_it_says_what_to_install(self):
        variables, problem = self.environment()
        self.assertIsNone(variables)
        self.assertIn("expected torch 2.11.0", problem)
        self.assertIn("found none", problem)
        self.assertIn("-m pip install torch==2.11.0", problem)

    def test_another_torch_is_named(self):
        for version in ("2.10.0", "2.11.1+cu130", "2.12.0.dev20260101"):
            with self.subTest(version):
                self.torch(version)
                variables, problem = self.environment()
                self.assertIsNone(variables)
                self.assertIn(f"expected torch 2.11.0, found {version} in {self.site / 'torch'}", problem)

    def test_any_build_of_the_right_torch_will_do(self):
        for version in ("2.11.0", "2.11.0+cu130", "2.11.0+cpu"):
            with self.subTest(version):
                self.torch(version)
                self.assertIsNone(self.environment()[1])

    def test_the_torch_that_is_judged_is_the_one_that_is_loaded(self):
        self.torch("2.10.0")  # beside the programs, which look there first
        other = pathlib.Path(self.folder.name) / "other"
        (other / "torch/lib").mkdir(parents=True)
        for file, text in (("__init__.py", ""), ("version.py", "__version__ = '2.11.0'\n"), ("lib/libtorch_cpu.so", "")):
            (other / "torch" / file).write_text(text)
        sys.path.insert(0, str(other))
        self.assertIn("found 2.10.0", self.environment()[1])

    def test_a_torch_that_does_not_say_its_version_is_another(self):
        self.package("torch", ("__init__.py", ""), ("lib/libtorch_cpu.so", ""))
        self.assertIn("found unknown", self.environment()[1])

    def test_libraries_beside_need_no_path_others_do(self):
        self.torch("2.11.0+cu130")
        self.package("mujoco", ("__init__.py", ""))
        self.assertNotIn("LD_LIBRARY_PATH", self.environment()[0])
        os.environ["LD_LIBRARY_PATH"] = "/users/own"
        self.assertEqual(self.environment()[0]["LD_LIBRARY_PATH"], "/users/own")
        self.assertEqual(self.environment(beside=False)[0]["LD_LIBRARY_PATH"],
                         f"{self.site}/torch/lib:{self.site}/mujoco:/users/own")


if __name__ == "__main__":
    unittest.main(verbosity=2)
