#!/usr/bin/env bash
# Compares objectives on the corrections of imperfect humans and writes one table over all bases.
#
#   scripts/imperfect_humans.sh [--base DIR] [--output FILE] [--human NAME ...] [--set KEY=VALUE ...] SEED...
#
#   --base DIR      start from the bases of a comparison, DIR/SEED; else the perfect human's run trains new ones
#   --output FILE   the table; runs/imperfect_humans/imperfect_humans.md by default
#   --human NAME    only this one, and others named so; all by default: perfect, delay-4, tremor-0.3, hesitation-4,
#                   needless-0.3, wrong-0.3, hesitation-4-filtered (idle steps are not imitated)
#
# Each human of each seed has a directory of its own, runs/imperfect_humans/NAME/SEED. Stopped runs go on where they
# were, finished ones are kept. Build first: scripts/build.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
all=(perfect delay-4 tremor-0.3 hesitation-4 needless-0.3 wrong-0.3 hesitation-4-filtered)
base="" output="" humans=() seeds=() overrides=()
fail() { echo "imperfect_humans.sh: $1 (--help says more)" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --base) base=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --human)
      [[ " ${all[*]} " == *" $2 "* ]] || fail "expected a human of ${all[*]}, found \"$2\""
      humans+=("$2"); shift 2 ;;
    --set) overrides+=(--set "$2"); shift 2 ;;
    *[!0-9]* | "") fail "expected a seed, found \"$1\"" ;;
    *) seeds+=("$1"); shift ;;
  esac
done
[[ ${#seeds[@]} -gt 0 ]] || fail "expected at least one seed"
[[ ${#humans[@]} -gt 0 ]] || humans=("${all[@]}")
results=runs/imperfect_humans
output=${output:-$results/imperfect_humans.md}
program=${APO_BUILD:-build/release}/bin/apo-refine
human=deploy.intervention.scripted.imperfect
for name in "${humans[@]}"; do
  case "$name" in
    perfect) options=() ;;
    delay-4) options=(--set "$human.delay_steps=4") ;;
    tremor-0.3) options=(--set "$human.tremor=0.3") ;;
    hesitation-4) options=(--set "$human.hesitation_steps=4") ;;
    hesitation-4-filtered) options=(--set "$human.hesitation_steps=4" --set data.filter.min_motion=0.05) ;;
    needless-0.3) options=(--set "$human.needless_probability=0.3") ;;
    wrong-0.3) options=(--set "$human.wrong_probability=0.3" --set "$human.wrong_steps=4") ;;
  esac
  for seed in "${seeds[@]}"; do
    from=(--set "deploy.demonstrations.seed=$((seed * 10000))") bases=$base
    [[ -n $bases || $name == perfect ]] || bases=$results/perfect
    [[ -z $bases ]] || from=(--set "policy.checkpoint=$bases/$seed/policy"
                             --set "data.expert=[{path: $bases/$seed/demonstrations.hdf5}]")
    "$program" --config configs/imperfect_humans.yaml --resume --set "run.dir=$results/$name/$seed" \
      --set "run.seed=$seed" "${from[@]}" "${options[@]}" "${overrides[@]}"
  done
done

python3 - "$results" "$output" "${seeds[*]}" "${humans[@]}" <<'END_OF_PROGRAM'
import json, math, pathlib, sys

found, output, seeds, humans = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3].split(), sys.argv[4:]

def design_effect(bases):
    """As apo::deploy::design_effect: 1 + (m - 1) ICC of the m outcomes of each trial seed, within [1, m]."""
    m, k = len(bases), len(bases[0])
    if m < 2 or k < 2:
        return max(1, m)
    shares = [sum(base[trial] for base in bases) / m for trial in range(k)]
    mean = sum(shares) / k
    between = m * sum((share - mean) ** 2 for share in shares) / (k - 1)
    within = m * sum(share * (1 - share) for share in shares) / (k * (m - 1))
    spread = between + (m - 1) * within
    return m if spread < 1e-12 else min(max(1 + (m - 1) * (between - within) / spread, 1), m)

def cell(bases, perfect):
    k, n = sum(map(sum, bases)), sum(map(len, bases))
    z = 1.959964 * math.sqrt(design_effect(bases))
    middle, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    text = f"{k / n:.3f} [{max(middle - half, 0):.2f}, {min(middle + half, 1):.2f}]"
    if perfect and perfect is not bases:
        points = 100 * (k / n - sum(map(sum, perfect)) / sum(map(len, perfect)))
        text += f", {points:+.1f}".replace("-", "−")
    return text

def read(human):
    """Method -> for each base its trials; and how the human took over, over all bases."""
    trials, reasons, steps, settings = {}, {}, 0, set()
    for seed in seeds:
        directory = found / human / seed
        comparison = json.loads((directory / "comparison.json").read_text())
        settings.add(comparison["eval_seed"])
        for result in comparison["results"]:
            trials.setdefault(result["method"], []).append(result["success"])
        summary = json.loads((directory / "round-1" / "interactions.hdf5.json").read_text())
        for reason, count in summary["take_overs_by_reason"].items():
            reasons[reason] = reasons.get(reason, 0) + count
        steps += summary["steps"].get("intervention", 0)
    if len(settings) > 1 or len({len(base) for bases in trials.values() for base in bases}) > 1:
        sys.exit(f"imperfect_humans.sh: {found / human}: expected the same trials of all bases, found others")
    if any(len(bases) != len(seeds) for bases in trials.values()):
        sys.exit(f"imperfect_humans.sh: {found / human}: expected the same methods of all bases, found others")
    return trials, reasons, steps

rows = {human: read(human) for human in humans}
methods = [method for method in rows[humans[0]][0] if method != "base"]
perfect = rows.get("perfect", ({}, {}, 0))[0]
lines = ["| human | " + " | ".join(methods) + " | take-overs | human steps |",
         "| --- " * (len(methods) + 3) + "|"]
base = rows[humans[0]][0].get("base")
if base:
    lines.append(f"| (base) | {' | '.join([cell(base, None)] * len(methods))} | – | – |")
for human, (trials, reasons, steps) in rows.items():
    cells = [cell(trials[method], perfect.get(method)) for method in methods]
    took_over = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    lines.append(f"| {human} | {' | '.join(cells)} | {took_over} | {steps} |")
lines += ["", f"Success of {len(seeds)} base{'s' * (len(seeds) > 1)}, {len(perfect.get(methods[0], [[]])[0])} trials each, "
          "with Wilson's 95 % interval, then the difference to the perfect human in points." if perfect else
          "Success with Wilson's 95 % interval."]
if len(seeds) > 1:
    lines[-1] += (" All bases are tried on the same seeds: the intervals are those of the effective number of trials "
                  "(Kish's design effect), and leave out the spread between bases.")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text("\n".join(lines) + "\n")
print("\n".join(lines))
END_OF_PROGRAM
echo "table  $output"
