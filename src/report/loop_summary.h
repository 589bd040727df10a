// summary.json of a refinement loop with the trials of its evaluations, and what follows from them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apo/base/proportions.h"
#include "report/chart.h"
#include "report/intervals.h"
#include "results/summary.h"

namespace apo::report {

using results::Animation;
using results::CollectionSummary;
using results::EvaluationSummary;
using results::Method;
using results::PairedDifference;
using results::Round;
using results::Trial;

/// As a chart draws it.
Interval interval_of(const Rate& rate);
std::optional<Interval> interval_of(const std::optional<Rate>& rate);

/// Of the episodes of a deployment, those with at least one take-over; nothing where the file does not tell
/// of each.
std::optional<Rate> corrected(const CollectionSummary& deployment);
/// Those with a take-over for this reason.
std::optional<Rate> corrected_for(const CollectionSummary& deployment, const std::string& reason);
/// Those that were lost in spite of the human.
std::optional<Rate> lost_share(const CollectionSummary& deployment);
/// False: a control that learned from the expert data alone, as its labels say.
bool sees_corrections(const Method& method);

/// The policy in use at the end against the base.
struct Gain {
  Interval points;  ///< success of the one minus success of the other
  /// where the trials of both are known, on the same seeds; else taken as independent
  std::optional<Pairs> pairs;
  std::optional<double> p() const;  ///< McNemar's exact p, where there are pairs
  /// hard to explain by chance: p < 0.05, or without pairs an interval without zero
  bool clear() const;
};

/// How success changed, from the base to the policy in use, where a circumstance was given.
struct FactChange {
  std::string fact, value;
  Interval before, after;
  bool clear() const;  ///< the interval of the difference (independent) is without zero
};

struct LoopSummary : results::Summary {
  /// by round and seed; none of a round whose evaluation's results.json is not there
  std::map<int64_t, std::map<int64_t, Trial>> trials;
  std::vector<std::string> notes;  ///< what the reader must know about the files

  /// The last promoted round that was evaluated: the policy in use at the end. The first round if there is
  /// none.
  const Round& current() const;
  /// Nothing unless both were evaluated and are not the same.
  std::optional<Gain> gain() const;
  /// Circumstances of the trials that can be compared, with their values: those with two to five.
  std::map<std::string, std::set<std::string>> facts() const;
  /// The value of `fact` (of all: "") under which success changed most; nothing where nothing changed.
  std::optional<FactChange> largest_change(const std::string& fact = "") const;
  /// The names of the methods that learn from corrections, or of those that do not; in their order, without
  /// the base.
  std::vector<std::string> methods_that_see_corrections(bool see) const;
  /// The method that succeeded most often after the last round; null if none was evaluated.
  const Method* best_method() const;
};

/// Reads and checks; the trials of each round's evaluation, too. Errors as `write_loop_report` promises.
LoopSummary read_summary(const std::filesystem::path& path);

/// What happened, in plain sentences made from the numbers: how good the base was, what people did, how good
/// it is now.
std::vector<std::string> story(const LoopSummary& summary);

}  // namespace apo::report
