#!/usr/bin/env python3
"""Records what a build's programs compute, and says whether another build computes the same.

  scripts/unchanged.py record BUILD DIR        runs the programs of BUILD (build/release), writes DIR; 3 minutes
  scripts/unchanged.py compare DIR DIR         lists what differs; exit code 1 if anything does
      --tolerance X                            numbers may differ by X (1 + |number|); default 0: to the last bit

For changes that must not change results. What is run: demonstrations and a collection on the tabletop; 40 steps of every
objective on the small policy and 4 of APO on a tiny OpenVLA with each kind of reference; scoring and evaluation, under
disruptions too; label, inspect, validate and stats on every recording that the tests have. Times, rates and memory are not
compared. Both records must be made on the same machine.
"""
import argparse, json, math, os, pathlib, re, shutil, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMINGS = re.compile(r"(.*_)?seconds|.*_per_second|memory_bytes|started|finished|created|date|commit|hostname|time")
TABLETOP = """
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy: {type: small, cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 32, layers: 2, heads: 2}}
environment: {type: tabletop, tabletop: {image_size: 32, max_steps: 60}}
deploy:
  collect: {take_overs: 0, episodes: 6}
  demonstrations: {episodes: 8}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck, grasped air, passed by]}}
eval: {trials: 8, parallel: 4}
data:
  expert: [{path: demos.hdf5}]
  interactions: [{path: interactions.hdf5}]
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  checks: warn
  pools: {desirable: 0.5, intervention: 0.25, undesirable: 0.25}
  augmentation: {enabled: true, shift_px: 2, brightness: 0.1, contrast: 0.1}
optimizer: {type: adamw, learning_rate: 1.0e-3, weight_decay: 0}
schedule: {type: cosine, warmup_steps: 4}
train: {batch_size: 16, max_steps: 40, grad_clip: 1.0, checkpoint_every: 40}
logging: {per_sample: true}
"""
QUICKSTART = ("{type: apo, beta: 0.5, z0: exact, kl_min: 0, kl_max: 5, weights: {type: uniform}, reduction: mean, sft_weight: 0.2, "
              "reference_kl_weight: 0, label_smoothing_bins: 3, credit: dimension}")
OBJECTIVES = {
    "sft": "{type: sft, label_smoothing_bins: 3}", "sft_hold": "{type: sft, reference_kl_weight: 1}",
    "apo_quickstart": QUICKSTART, "apo_defaults": "{type: apo}", "apo_paper": "{type: apo, preset: paper}",
    "apo_paper_batch": "{type: apo, preset: paper, weights: {group_size: 0}}",
    "apo_mismatched": "{type: apo, preset: paper, z0: mismatched}",
    "apo_released": "{type: apo, compatibility: released-code, z0: shifted-labels, kl_min: -5, kl_max: 5}",
    "kto": "{type: kto, z0: mismatched}", "dpo": "{type: dpo}", "tpo": "{type: tpo}", "weighted_bc": "{type: weighted-bc}"}


def openvla(directory):
    golden = ROOT / "tests/models/goldens/openvla/b"
    rank = json.loads((golden / "adapter_old/adapter_config.json").read_text())["r"]
    text = re.sub(r"policy: \{.*\}\n", f"policy: {{checkpoint: {golden}/checkpoint, adapter: {golden}/adapter_old, unnorm_key: tabletop, "
                  f"openvla: {{dtype: float32}}, lora: {{rank: {rank}}}}}\n", TABLETOP)
    text = text.replace("batch_size: 16, max_steps: 40", "batch_size: 8, max_steps: 4").replace("checkpoint_every: 40", "checkpoint_every: 4")
    (directory / "openvla.yaml").write_text(text)


def record(build, directory):
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / "tabletop.yaml").write_text(TABLETOP)
    openvla(directory)

    def run(name, program, *arguments):
        command = [str(pathlib.Path(build).resolve() / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        (directory / f"{name}.out").write_text(f"exit {done.returncode}\n{done.stdout}\n--- stderr\n{done.stderr}")
        print(f"{name}: exit {done.returncode}", flush=True)
        return done.returncode

    def sets(**keys):
        return [part for key, value in keys.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]

    table = ["--config", "tabletop.yaml"]
    run("demonstrations", "apo-collect", *table, "--demonstrations", "--output", "demos.hdf5")
    run("base", "apo-train", *table, *sets(run__dir="base", objective=OBJECTIVES["sft"], data__interactions="[]",
        data__pools="{desirable: 1, intervention: 0, undesirable: 0}"))
    base = sets(policy__checkpoint="base")
    run("interactions", "apo-collect", *table, *base, "--output", "interactions.hdf5")
    for name, objective in OBJECTIVES.items():
        run(f"train_{name}", "apo-train", *table, *base, *sets(run__dir=f"train_{name}", objective=objective))
    for name in ("apo_defaults", "apo_mismatched", "apo_released", "sft_hold", "tpo"):
        run(f"micro_{name}", "apo-train", *table, *base, *sets(run__dir=f"micro_{name}", objective=OBJECTIVES[name],
            train__micro_batch_size=4, train__max_steps=10))
    lora = sets(policy__lora="{rank: 4, dropout: 0.1}")
    run("train_lora", "apo-train", *table, *base, *lora, *sets(run__dir="train_lora", objective=OBJECTIVES["apo_mismatched"],
        train__micro_batch_size=4))
    run("train_bfloat16", "apo-train", *table, *base, *sets(run__dir="train_bfloat16", run__precision="bfloat16"))
    run("train_cached", "apo-train", *table, *base, *sets(run__dir="train_cached", objective=OBJECTIVES["apo_mismatched"],
        reference__mode="cached", train__max_steps=10, data__augmentation__enabled="false"))
    for mode in ("adapter", "copy", "cached"):
        run(f"openvla_{mode}", "apo-train", "--config", "openvla.yaml", *sets(run__dir=f"openvla_{mode}", reference__mode=mode,
            objective="{type: apo, preset: paper, z0: mismatched}", data__augmentation__enabled="false"))
    run("openvla_defaults", "apo-train", "--config", "openvla.yaml", *sets(run__dir="openvla_defaults", train__micro_batch_size=4))
    run("openvla_score", "apo-eval", "--config", "openvla.yaml", "--dataset", "interactions.hdf5", "--output", "openvla_scores.jsonl")
    run("openvla_eval", "apo-eval", "--config", "openvla.yaml", *sets(eval__trials=2), "--output", "openvla_eval")
    policy = sets(policy__checkpoint="train_apo_quickstart")
    run("score", "apo-eval", *table, *policy, "--dataset", "interactions.hdf5", "--output", "scores.jsonl")
    run("evaluation", "apo-eval", *table, *policy, "--output", "evaluation")
    run("evaluation_noise", "apo-eval", *table, *policy, *sets(environment__disruptions="{action_noise: {probability: 0.5}, action_delay: {probability: 0.5}}"), "--output", "evaluation_noise")
    run("disruptions", "apo-eval", *table, *policy, "--disruptions", "all", *sets(eval__trials=2), "--output", "evaluation_disruptions")
    run("loop", "apo-refine", *table, *sets(policy__checkpoint="base", run__dir="loop", refine__rounds=2, train__max_steps=10))
    recordings = sorted((ROOT / "tests/data/goldens").rglob("*.hdf5"))
    for recording in [directory / "demos.hdf5", directory / "interactions.hdf5", *recordings]:
        name = "data_" + (str(recording.relative_to(ROOT / "tests/data/goldens")) if recording in recordings else recording.name).replace("/", "_")
        place = f"[{{path: {recording}}}]"
        for verb in ("inspect", "validate", "stats"):
            run(f"{name}_{verb}", "apo-data", verb, *sets(data__expert=place), *(["--output", f"{name}.stats.json"] if verb == "stats" else []))
        run(f"{name}_label", "apo-data", "label", *sets(data__interactions=place), "--output", f"{name}.labeled")
    for program in ("apo-train", "apo-eval", "apo-collect", "apo-refine", "apo-data"):
        run(f"config_{program}", program, *(["inspect"] if program == "apo-data" else []), *table, "--print-config")


def text_of(text, directory):
    text = re.sub(r"[^\s'\"]*/bin/(apo-\w+)", r"\1", text.replace(str(directory), "DIR"))
    text = re.sub(r"\[\d\d:\d\d:\d\d(\.\d+)?\]", "[TIME]", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[+-]\d\d:?\d\d)?", "DATE", text)
    text = re.sub(r"\b(\d+ h )?(\d+ min )?\d+(\.\d+)? (m?s|min|h)\b", "DURATION", text)
    text = re.sub(r"\(?\d+(\.\d+)?( samples| steps| trials| episodes)?/s\)?|samples_per_second [\d.e+]+", "RATE", text)
    return re.sub(r"(?m)^.*\b(commit|memory|MB|MiB|GB)\b.*$", "", text)


def values(path, directory):
    """The file as [(where, value)]; numbers of JSON stay numbers."""
    if path.suffix not in (".json", ".jsonl"):
        return [(f"line {i}", line) for i, line in enumerate(text_of(path.read_text(errors="replace"), directory).splitlines(), 1)]
    found = []

    def walk(where, value):
        if isinstance(value, dict):
            for key, inner in sorted(value.items()):
                if not TIMINGS.fullmatch(key):
                    walk(f"{where}/{key}", inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk(f"{where}/{i}", inner)
        else:
            found.append((where, text_of(value, directory) if isinstance(value, str) else value))

    text = path.read_text()
    for i, part in enumerate(text.splitlines() if path.suffix == ".jsonl" else [text]):
        walk(f"{i}", json.loads(part))
    return found


def same(a, b, tolerance):
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return a == b or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return a == b


def compare(first, second, tolerance):
    compared, differing = 0, 0
    wanted = {".json", ".jsonl", ".out", ".yaml", ".csv"}
    unlike = {"state.json", "provenance.json", "apo-manifest.json"}  # times and hashes of what is compared itself

    def files(directory):
        return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and not p.is_symlink()
                and p.suffix in wanted and p.name not in unlike}

    for name in sorted(files(first) ^ files(second)):
        print(f"{name}: only in one of them")
        differing += 1
    for name in sorted(files(first) & files(second)):
        a, b = values(first / name, first), values(second / name, second)
        differences = [(x, y) for x, y in zip(a, b) if x[0] != y[0] or not same(x[1], y[1], tolerance)]
        compared += len(a)
        if differences or len(a) != len(b):
            differing += 1
            print(f"{name}: {len(differences)} of {len(a)} differ" + (f" ({len(b)} in the second)" if len(a) != len(b) else ""))
            for x, y in differences[:3]:
                print(f"    {x[0]}: {x[1]!r}\n    {y[0]}: {y[1]!r}")
    print(f"{compared} values compared, {differing} files differ")
    return 1 if differing or not compared else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("build"), recording.add_argument("directory", type=pathlib.Path)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("first", type=pathlib.Path), comparing.add_argument("second", type=pathlib.Path)
    comparing.add_argument("--tolerance", type=float, default=0)
    given = parser.parse_args()
    if given.verb == "record":
        record(given.build, given.directory.resolve())
        return 0
    return compare(given.first.resolve(), given.second.resolve(), given.tolerance)


if __name__ == "__main__":
    sys.exit(main())
