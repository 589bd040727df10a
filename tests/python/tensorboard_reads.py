"""The event files of a real run, read back by TensorBoard's own reader.

    tensorboard_reads.py BIN_DIRECTORY

A run is trained, loses its last checkpoint and goes on from the one before. Every scalar of every step must then be in
TensorBoard once, with the value of metrics.jsonl rounded to float32, and nothing else. Exit code 77 where the package
`tensorboard` is missing.
"""

import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

SKIPPED = 77

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as error:
    print(f"skipped: {error} (scripts/setup.sh --peers installs it, or give a Python that has it as -DAPO_PYTHON=...)")
    sys.exit(SKIPPED)

CONFIG = """
run: {seed: 3, device: cpu, threads: 1}
policy: {cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 16, layers: 1, heads: 2,
         channels: 4}}
environment: {type: tabletop, tabletop: {image_size: 32}}
deploy:
  demonstrations: {episodes: 3}
  collect: {take_overs: 2, episodes: 8}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck, grasped air, passed by]}}
eval: {trials: 2, parallel: 2, threads: 1}
data: {labels: {undesirable_reasons: [wrong object, off course, out of patience]}, filter: {min_motion: 0}}
schedule: {type: constant}
train: {batch_size: 8, checkpoint_every: 3, eval_every: 4}
"""


def run(program, *arguments):
    process = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, f"{program} {arguments}: {process.returncode}\n{process.stderr}"


def as_float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def scalars_in_tensorboard(run_dir):
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    others = {kind: found for kind, found in tags.items() if found and kind != "scalars"}
    assert not others, f"expected scalars alone, found {others}"
    found = {}
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            key = (tag, event.step)
            assert key not in found, f"{tag} of step {event.step} is there twice"
            found[key] = event.value
    return found


def scalars_in_metrics(run_dir):
    found = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)
        step = metrics.pop("step")
        for name, value in metrics.items():
            if value is not None:
                found[name, step] = as_float32(value)
    return found


def main():
    programs = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        config, demos, recording, base, apo = (
            directory / name for name in ("run.yaml", "demos.hdf5", "interactions.hdf5", "base", "apo"))
        config.write_text(CONFIG)
        run(programs / "apo-collect", "--config", config, "--demonstrations", "--output", demos)
        expert = ("--config", config, "--set", f"data.expert=[{{path: {demos}}}]")
        run(programs / "apo-train", *expert, "--set", "objective.type=sft", "--set", "train.max_steps=3",
            "--set", "data.pools={desirable: 1, intervention: 0, undesirable: 0}", "--set", f"run.dir={base}")
        run(programs / "apo-collect", "--config", config, "--set", f"policy.checkpoint={base}", "--output", recording)
        train = (*expert, "--set", f"data.interactions=[{{path: {recording}}}]", "--set", f"policy.checkpoint={base}",
                 "--set", f"run.dir={apo}")
        run(programs / "apo-train", *train, "--set", "train.max_steps=6")
        shutil.rmtree(apo / "checkpoints" / "step-6")  # as if killed while saving it: steps 4 to 6 happen again
        run(programs / "apo-train", *train, "--set", "train.max_steps=8", "--resume")
        expected, found = scalars_in_metrics(apo), scalars_in_tensorboard(apo)
        assert {step for _, step in expected} == set(range(1, 9)), sorted({step for _, step in expected})
        assert ("eval/success_rate", 8) in expected and ("reward_desirable", 5) in expected
        missing, more = set(expected) - set(found), set(found) - set(expected)
        assert not missing and not more, f"missing in TensorBoard: {sorted(missing)[:5]}, not in metrics.jsonl: {sorted(more)[:5]}"
        for key, value in expected.items():
            same = found[key] == value or (math.isnan(value) and math.isnan(found[key]))
            assert same, f"{key}: metrics.jsonl {value}, TensorBoard {found[key]}"
        print(f"TensorBoard reads {len(expected)} scalars of 8 steps as metrics.jsonl has them")


if __name__ == "__main__":
    main()
