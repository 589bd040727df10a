#!/usr/bin/env python3
"""Kills training, collecting and whole loops at random moments and compares what they end with, bit by bit.

  scripts/kills.py [--training 100] [--collecting 100] [--loops 20] [--seed 1] [--signal KILL] [--directory DIR]

Each is a small one that also runs through once. The others are sent the signal after a random while, resumed, killed
again, until so many kills are done, and then left to finish. Equal must be: every number of metrics.jsonl but times and
memory, every file of the last checkpoint but what names a time or a place, the recordings (as one conversion writes
them) and summary.json without times; and no *.partial, journal or lock of the dead may be in the way or left.
--signal TERM, INT or HUP asks politely instead; then each exit is timed.

Exit code 0: all equal. Build first: scripts/build.sh. Needs nothing but Python.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = pathlib.Path(os.environ.get("APO_BUILD", ROOT / "build/release")) / "bin"
CONFIG = """
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy: {cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 16, layers: 1, heads: 2, channels: 4}}
environment: {type: tabletop, tabletop: {image_size: 32}}
deploy:
  demonstrations: {episodes: 6}
  collect: {take_overs: 2, episodes: 8}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck]}}
eval: {trials: 4, parallel: 4, threads: 1}
data:
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  augmentation: {shift_px: 1, brightness: 0.1}
optimizer: {learning_rate: 1.0e-3}
train: {batch_size: 8, max_steps: 6, checkpoint_every: 2}
refine:
  animations: 1
  base: {train: {batch_size: 8, max_steps: 4, checkpoint_every: 2}}
"""
TIMES = ("seconds", "per_second", "memory_bytes")
PLACES = ("config", "command", "provenance")  # they name directories and machines


class Different(Exception):
    """What differs between a killed run and one that ran through."""


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.endswith(TIMES) and k not in PLACES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def lines(path):
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()]


def expect_equal(what, one, other):
    if one != other:
        raise Different(what)


class Killer:
    def __init__(self, directory, rng, sent):
        self.directory, self.rng, self.sent = directory, rng, sent
        self.config = directory / "tiny.yaml"
        self.config.write_text(CONFIG)
        self.slowest = 0.0   # exit, s
        self.whole = 0.0     # a process that is left alone, s

    def start(self, program, *arguments):
        with open(self.directory / "stderr", "wb") as stderr:
            return subprocess.Popen([PROGRAMS / program, "--config", self.config, *map(str, arguments)],
                                    stdout=subprocess.DEVNULL, stderr=stderr)

    def run(self, program, *arguments):
        code = self.start(program, *arguments).wait()
        if code != 0:
            raise Different(f"{program} ended with {code}: {(self.directory / 'stderr').read_text()[-2000:]}")

    def kill(self, program, *arguments):
        """True if it was killed, false if it had finished before."""
        begin = time.monotonic()
        process = self.start(program, *arguments)
        try:
            code = process.wait(self.rng.uniform(0, self.whole))
        except subprocess.TimeoutExpired:
            process.send_signal(self.sent)
            begin = time.monotonic()
            code = process.wait()
            self.slowest = max(self.slowest, time.monotonic() - begin)
            if code not in (0, -self.sent, 130):
                raise Different(f"{program} ended with {code}: {(self.directory / 'stderr').read_text()[-2000:]}")
            return code != 0
        if code != 0:
            raise Different(f"{program} ended with {code}: {(self.directory / 'stderr').read_text()[-2000:]}")
        self.whole = 0.7 * self.whole + 0.3 * (time.monotonic() - begin)  # machines are not as fast at all times
        return False

    def first(self, program, *arguments):
        begin = time.monotonic()
        self.run(program, *arguments)
        self.whole = time.monotonic() - begin


def no_leftovers(directory):
    for pattern in ("*.partial", "*.journal", "*.new"):
        for path in directory.rglob(pattern):
            raise Different(f"{path} is left")


def compare_runs(one, other):
    expect_equal("metrics.jsonl", lines(one / "metrics.jsonl"), lines(other / "metrics.jsonl"))
    last, other_last = (one / "checkpoints/latest").resolve(), (other / "checkpoints/latest").resolve()
    expect_equal("the last checkpoint's name", last.name, other_last.name)
    files = sorted(p.relative_to(last) for p in last.rglob("*") if p.suffix == ".safetensors")
    if not files:
        raise Different("a checkpoint without weights")
    for file in files:
        expect_equal(f"{last.name}/{file}", (last / file).read_bytes(), (other_last / file).read_bytes())


def training(killer, kills):
    demos = killer.directory / "demos.hdf5"
    killer.run("apo-collect", "--demonstrations", "--output", demos)
    arguments = [f"--set=data.expert=[{{path: {demos}}}]", "--set=objective.type=sft", "--set=train.max_steps=300",
                 "--set=train.checkpoint_every=5", "--set=data.pools={desirable: 1, intervention: 0, undesirable: 0}"]
    whole = killer.directory / "whole"
    killer.first("apo-train", *arguments, f"--set=run.dir={whole}")
    finished = 0
    while kills > 0:
        run = killer.directory / f"killed-{finished}"
        while kills > 0 and killer.kill("apo-train", *arguments, f"--set=run.dir={run}", "--resume"):
            kills -= 1
        killer.run("apo-train", *arguments, f"--set=run.dir={run}", "--resume")
        compare_runs(whole, run)
        no_leftovers(run)
        shutil.rmtree(run)
        finished += 1
    return finished


def collecting(killer, kills):
    demos, base = killer.directory / "demos.hdf5", killer.directory / "base"
    killer.run("apo-collect", "--demonstrations", "--output", demos)
    killer.run("apo-train", f"--set=data.expert=[{{path: {demos}}}]", "--set=objective.type=sft",
               f"--set=run.dir={base}", "--set=data.pools={desirable: 1, intervention: 0, undesirable: 0}")
    arguments = [f"--set=policy.checkpoint={base}", "--set=deploy.collect.take_overs=0",
                 "--set=deploy.collect.episodes=40", "--set=deploy.collect.existing=append"]
    whole = killer.directory / "whole.hdf5"
    killer.first("apo-collect", *arguments, "--output", whole)

    def content(recording):
        copy = killer.directory / "copy.hdf5"
        copy.unlink(missing_ok=True)
        subprocess.run([PROGRAMS / "apo-data", "convert", recording, "--output", copy], check=True,
                       stdout=subprocess.DEVNULL)
        return copy.read_bytes()

    expected = content(whole)
    finished = 0
    while kills > 0:
        recording = killer.directory / "killed" / f"{finished}.hdf5"
        while kills > 0 and killer.kill("apo-collect", *arguments, "--output", recording):
            kills -= 1
        killer.run("apo-collect", *arguments, "--output", recording)
        expect_equal("the recording", expected, content(recording))
        no_leftovers(recording.parent)
        finished += 1
    return finished


def loops(killer, kills):
    whole = killer.directory / "whole"
    arguments = ["--set=refine.rounds=2"]
    killer.first("apo-refine", *arguments, f"--set=run.dir={whole}")
    finished = 0
    while kills > 0:
        loop = killer.directory / f"killed-{finished}"
        while kills > 0 and killer.kill("apo-refine", *arguments, f"--set=run.dir={loop}", "--resume"):
            kills -= 1
            # and moved, as people do
            if loop.exists():
                moved = killer.directory / f"killed-{finished}-moved-{kills}"
                loop.rename(moved)
                loop = moved
        killer.run("apo-refine", *arguments, f"--set=run.dir={loop}", "--resume")
        summaries = [without_times(json.loads((d / "summary.json").read_text())) for d in (whole, loop)]
        expect_equal("summary.json", *summaries)
        for path in sorted(whole.rglob("training")):
            compare_runs(path, loop / path.relative_to(whole))
        no_leftovers(loop)
        shutil.rmtree(loop)
        finished += 1
    return finished


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=100, help="kills of apo-train")
    parser.add_argument("--collecting", type=int, default=100, help="kills of apo-collect")
    parser.add_argument("--loops", type=int, default=20, help="kills of apo-refine, whose directory is moved after each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT", "HUP"), default="KILL")
    parser.add_argument("--directory", type=pathlib.Path, help="kept there; default: a temporary one, removed")
    options = parser.parse_args()
    sent = getattr(signal, "SIG" + options.signal)
    with tempfile.TemporaryDirectory(prefix="apo-kills-") as temporary:
        for work, kills in ((training, options.training), (collecting, options.collecting), (loops, options.loops)):
            if kills == 0:
                continue
            directory = (options.directory or pathlib.Path(temporary)) / work.__name__
            directory.mkdir(parents=True)
            killer = Killer(directory, random.Random(f"{options.seed} {work.__name__}"), sent)
            begin = time.monotonic()
            try:
                finished = work(killer, kills)
            except Different as difference:
                print(f"{work.__name__}: different: {difference}", file=sys.stderr)
                return 1
            print(f"{work.__name__}: {kills} kills, {finished} finished and equal, {time.monotonic() - begin:.0f} s"
                  + (f", slowest exit {killer.slowest:.2f} s" if options.signal != "KILL" else ""), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
