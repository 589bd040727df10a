#!/usr/bin/env bash
# Compares objectives on the corrections of imperfect humans and writes their tables, each over all bases.
#
#   scripts/imperfect_humans.sh [--base DIR] [--output FILE] [--human NAME ...] [--set KEY=VALUE ...] SEED...
#
#   --base DIR      start from the bases of a comparison, DIR/SEED; else the perfect human's run trains new ones
#   --output FILE   the tables; runs/imperfect_humans/imperfect_humans.md by default
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

# each human's table beneath its name, without that of the next deployment, one episode
mkdir -p "$(dirname "$output")"
for name in "${humans[@]}"; do
  "$program" --merge "${seeds[@]/#/$results/$name/}" --output "$results/$name.md" > /dev/null
  printf '# %s\n\n' "$name"
  sed '/^The next deployment/,/^$/d; /^| method | episodes/,/^$/d' "$results/$name.md"
  printf '\n'
done > "$output.partial"
mv "$output.partial" "$output"
echo "tables  $output"
