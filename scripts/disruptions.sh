#!/usr/bin/env bash
# Evaluates the policies of a comparison under every disruption and writes one table over all bases.
#
#   scripts/disruptions.sh [--comparison DIR] [--round N] [--output FILE] [--set KEY=VALUE ...] SEED...
#
#   --comparison DIR   what scripts/compare.sh left, DIR/SEED; runs/comparison by default
#   --round N          the policies after that round; 1 by default
#   --output FILE      the table; runs/disruptions/<name of DIR>/disruptions.md by default
#
# Finished evaluations are kept; delete runs/disruptions/<name of DIR> to begin anew. Build first: scripts/build.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
comparison=runs/comparison round=1 output="" seeds=() overrides=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --comparison) comparison=$2; shift 2 ;;
    --round) round=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --set) overrides+=(--set "$2"); shift 2 ;;
    *[!0-9]* | "") echo "disruptions.sh: expected a seed, found \"$1\" (--help says more)" >&2; exit 2 ;;
    *) seeds+=("$1"); shift ;;
  esac
done
[[ ${#seeds[@]} -gt 0 ]] || { echo "disruptions.sh: expected at least one seed (--help says more)" >&2; exit 2; }
results=runs/disruptions/$(basename "$comparison")
output=${output:-$results/disruptions.md}
program=${APO_BUILD:-build/release}/bin/apo-eval
for seed in "${seeds[@]}"; do
  policies=(base=base/training)
  for dir in "$comparison/$seed"/methods/*-{sft-on-corrections,apo-with-anchor-and-credit}; do
    [[ -d $dir/round-$round ]] && policies+=("${dir##*/}=methods/${dir##*/}/round-$round/training")
  done
  for policy in "${policies[@]}"; do
    dir=$results/$seed/round-$round/${policy%%=*}
    [[ -s $dir/results.json ]] && continue
    "$program" --config configs/comparison.yaml --set policy.checkpoint="$comparison/$seed/${policy#*=}" \
      --disruptions all --output "$dir" "${overrides[@]}"
  done
done

python3 - "$results" "$round" "$output" "${seeds[@]}" <<'END'
import json, math, pathlib, sys

found, round_, output, seeds = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:]
outcomes = {}  # policy -> disruption -> for each base {seed of the trial: success}
for seed in seeds:
    for file in sorted(pathlib.Path(found, seed, f"round-{round_}").glob("*/results.json"),
                       key=lambda path: (path.parent.name != "base", path)):
        results = json.loads(file.read_text())
        name = file.parent.name.lstrip("0123456789-").replace("-", " ")
        for disruption, result in {"none": results, **results["disruptions"]}.items():
            outcomes.setdefault(name, {}).setdefault(disruption, []).append(
                {trial["seed"]: bool(trial["success"]) for trial in result["trials"]})

def design_effect(bases):
    """As apo::deploy::design_effect: 1 + (m - 1) ICC of the m outcomes of each trial seed, within [1, m]."""
    m, k = len(bases), len(bases[0])
    if m < 2 or k < 2:
        return max(1, m)
    shares = [sum(base[seed] for base in bases) / m for seed in bases[0]]
    mean = sum(shares) / k
    between = m * sum((share - mean) ** 2 for share in shares) / (k - 1)
    within = m * sum(share * (1 - share) for share in shares) / (k * (m - 1))
    spread = between + (m - 1) * within
    return m if spread < 1e-12 else min(max(1 + (m - 1) * (between - within) / spread, 1), m)

def cell(bases):
    if len(bases) != len(seeds):
        sys.exit(f"disruptions.sh: expected results of {len(seeds)} bases, found {len(bases)}")
    if any(base.keys() != bases[0].keys() for base in bases):
        sys.exit("disruptions.sh: expected the same trial seeds (eval.seed, eval.trials) of all bases, found others")
    k, n = sum(sum(base.values()) for base in bases), sum(map(len, bases))
    z = 1.959964 * math.sqrt(design_effect(bases))
    middle, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    each = " / ".join(f"{sum(base.values()) / len(base):.2f}" for base in bases)
    return f"{k / n:.3f} [{max(middle - half, 0):.2f}, {min(middle + half, 1):.2f}] ({each})"

policies = list(outcomes)
lines = ["| disruption | " + " | ".join(policies) + " |", "| --- " * (len(policies) + 1) + "|"]
for disruption in outcomes[policies[0]]:
    lines.append(f"| {disruption} | " + " | ".join(cell(outcomes[p][disruption]) for p in policies) + " |")
if len(seeds) > 1:
    lines += ["", "Success with Wilson's 95 % interval at the effective number of trials (all bases are tried on the same "
              "seeds: Kish's design effect), then each base; the intervals leave out the spread between bases."]
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text("\n".join(lines) + "\n")
print("\n".join(lines))
END
echo "table  $output"
