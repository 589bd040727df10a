"""torchrun itself starts apo-train on two ranks.

    torchrun_starts.py BIN_DIRECTORY DATA_DIRECTORY

The run is that of one process. What torchrun stops half-way saves, and goes on to the same end. Exit code 77 where this Python has
no torchrun (`torch`).
"""

import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
TOLERANCE = 1e-6

try:
    import torch.distributed.run  # noqa: F401
except ImportError as error:
    print(f"skipped: {error} (scripts/setup.sh --peers installs it, or give a Python that has it as -DAPO_PYTHON=...)")
    sys.exit(SKIPPED)


def metrics(run_dir):
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def expect_same(expected, found):
    assert len(expected) == len(found), f"expected {len(expected)} steps, found {len(found)}"
    for before, after in zip(expected, found):
        for name, value in before.items():
            if "second" in name or name == "memory_bytes":
                continue
            other = after[name]
            assert (value is None) == (other is None), name
            assert value is None or math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE), \
                f"step {before['step']}: {name}: expected {value}, found {other}"


def check(runs, data, train, done):
    few = ["--set", "train.max_steps=20", "--set", "train.checkpoint_every=20"]
    done(train(0, data / "run" / "sft", *few))
    done(train(2, runs / "two", *few))
    expect_same(metrics(data / "run" / "sft"), metrics(runs / "two"))

    many = ["--set", "train.max_steps=150", "--set", "train.checkpoint_every=150"]
    done(train(2, runs / "whole", *many, config="tabletop_apo.yaml"))
    process = train(2, runs / "apo", *many, config="tabletop_apo.yaml")
    until = time.monotonic() + 200
    while process.poll() is None and not metrics(runs / "apo") and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    stopped = len(metrics(runs / "apo"))
    assert process.returncode != 0 and 0 < stopped < 150, f"stopped after {stopped} steps, exit {process.returncode}\n{said}"
    assert (runs / "apo" / "checkpoints" / "latest" / "DONE").exists(), said
    done(train(2, runs / "apo", *many, "--resume", config="tabletop_apo.yaml"))
    expect_same(metrics(runs / "whole"), metrics(runs / "apo"))


def stop(processes):  # torchrun gives its own 30 seconds
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()


def main():
    binary = pathlib.Path(sys.argv[1]) / "apo-train"
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory) / "data"
        data.mkdir()
        for file in pathlib.Path(sys.argv[2]).iterdir():
            if file.suffix in (".hdf5", ".yaml"):
                shutil.copy(file, data)

        running = []

        def train(ranks, run_dir, *more, config="tabletop_sft.yaml"):
            launcher = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", f"--nproc-per-node={ranks}"]
            command = [binary, "--config", data / config, "--set", f"run.dir={run_dir}", "--set", "run.threads=1", *more]
            process = subprocess.Popen([*map(str, (launcher if ranks else []) + command)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            running.append(process)
            return process

        def done(process):
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, f"{process.args}: {process.returncode}\n{said}"
            return said

        try:
            check(pathlib.Path(directory), data, train, done)
        finally:
            stop([process for process in running if process.poll() is None])
    print("torchrun: equal to one process, stopped and resumed")


if __name__ == "__main__":
    main()
