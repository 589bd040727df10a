// From the base to the policy in use: what changed, and whether that may be chance.
#include <algorithm>
#include <cmath>

#include "apo/base/proportions.h"
#include "report/loop_summary.h"

namespace apo::report {
namespace {

// Nothing unless both were tried on the very same seeds.
std::optional<Pairs> pair_up(const std::map<int64_t, Trial>& before, const std::map<int64_t, Trial>& after) {
  if (before.empty() || before.size() != after.size()) return std::nullopt;
  Pairs pairs;
  for (const auto& [seed, first] : before) {
    const auto second = after.find(seed);
    if (second == after.end()) return std::nullopt;
    const bool succeeds = second->second.success;
    ++(first.success ? (succeeds ? pairs.both : pairs.only_before)
                     : (succeeds ? pairs.only_after : pairs.neither));
  }
  return pairs;
}

bool without_zero(const Interval& interval) { return interval.low > 0 || interval.high < 0; }

}  // namespace

std::optional<double> Gain::p() const {
  return pairs ? std::optional(mcnemar_exact(pairs->only_after, pairs->only_before)) : std::nullopt;
}

bool Gain::clear() const { return pairs ? *p() < 0.05 : without_zero(points); }

bool FactChange::clear() const { return without_zero(difference_interval(before, after)); }

std::optional<Gain> LoopSummary::gain() const {
  const Round &first = rounds.front(), &last = current();
  if (&first == &last || !first.evaluation || !first.evaluation->success || !last.evaluation ||
      !last.evaluation->success)
    return std::nullopt;
  const auto before = trials.find(first.round), after = trials.find(last.round);
  const bool known = before != trials.end() && after != trials.end();
  const std::optional<Pairs> pairs = known ? pair_up(before->second, after->second) : std::nullopt;
  return Gain{pairs ? paired_interval(*pairs)
                    : difference_interval(interval_of(*first.evaluation->success),
                                          interval_of(*last.evaluation->success)),
              pairs};
}

std::map<std::string, std::set<std::string>> LoopSummary::facts() const {
  std::map<std::string, std::set<std::string>> values;
  for (const Round& round : rounds)
    if (round.evaluation)
      for (const auto& [name, share] : round.evaluation->success_by_fact) {
        const size_t equals = std::min(name.find('='), name.size());
        values[name.substr(0, equals)].insert(name.substr(std::min(equals + 1, name.size())));
      }
  std::erase_if(values, [](const auto& fact) { return fact.second.size() < 2 || fact.second.size() > 5; });
  return values;
}

std::optional<FactChange> LoopSummary::largest_change(const std::string& fact) const {
  const Round &first = rounds.front(), &last = current();
  if (&first == &last || !first.evaluation || !last.evaluation) return std::nullopt;
  std::optional<FactChange> largest;
  double most = 0;
  for (const auto& [name, values] : facts()) {
    if (!fact.empty() && fact != name) continue;
    for (const std::string& value : values) {
      const auto before = first.evaluation->success_by_fact.find(name + "=" + value);
      const auto after = last.evaluation->success_by_fact.find(name + "=" + value);
      if (before == first.evaluation->success_by_fact.end() ||
          after == last.evaluation->success_by_fact.end())
        continue;
      const double change = std::abs(after->second.rate - before->second.rate);
      if (change <= most) continue;
      most = change;
      largest = FactChange{name, value, interval_of(before->second), interval_of(after->second)};
    }
  }
  return largest;
}

}  // namespace apo::report
