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
counts = {}  # policy -> disruption -> [(successes, trials) of each seed]
for seed in seeds:
    for file in sorted(pathlib.Path(found, seed, f"round-{round_}").glob("*/results.json"),
                       key=lambda path: (path.parent.name != "base", path)):
        results = json.loads(file.read_text())
        name = file.parent.name.lstrip("0123456789-").replace("-", " ")
        cells = {"none": results["success"], **{k: v["success"] for k, v in results["disruptions"].items()}}
        for disruption, success in cells.items():
            counts.setdefault(name, {}).setdefault(disruption, []).append((success["count"], success["total"]))

def cell(pairs):
    if len(pairs) != len(seeds):
        sys.exit(f"disruptions.sh: expected results of {len(seeds)} bases, found {len(pairs)}")
    k, n, z = sum(p[0] for p in pairs), sum(p[1] for p in pairs), 1.959964
    middle, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    each = " / ".join(f"{a / b:.2f}" for a, b in pairs)
    return f"{k / n:.3f} [{middle - half:.2f}, {middle + half:.2f}] ({each})"

policies = list(counts)
lines = ["| disruption | " + " | ".join(policies) + " |", "| --- " * (len(policies) + 1) + "|"]
for disruption in counts[policies[0]]:
    lines.append(f"| {disruption} | " + " | ".join(cell(counts[p][disruption]) for p in policies) + " |")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text("\n".join(lines) + "\n")
print("\n".join(lines))
END
echo "table  $output"
