// summary.json of a refinement loop, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apo/base/provenance.h"
#include "report/chart.h"
#include "report/intervals.h"

namespace apo::report {

/// A share of trials; `interval` as the file gives it, or Wilson's.
struct Share {
  int64_t count = 0, total = 0;
  Interval interval;
};

struct Evaluation {
  int64_t trials = 0;
  std::optional<Share> success, unaided;    ///< unaided: without coming where a person would have stepped in
  std::map<std::string, int64_t> outcomes;  ///< trials by outcome
  std::map<std::string, Share> success_by_fact;  ///< "layout=swapped" -> success among those trials
  std::optional<double> seconds;
};

/// A deployment under a person's eyes; of the policy that stood before its round.
struct Deployment {
  std::optional<int64_t> episodes, take_overs, successes_alone, lost;
  std::map<std::string, int64_t> take_overs_by_reason;
  std::map<std::string, int64_t> steps;  ///< recorded steps by source: "policy", "intervention"
  /// Episodes with at least one take-over: for any reason, and by reason (all reasons of this deployment).
  std::optional<Share> corrected;
  std::map<std::string, Share> corrected_by_reason;

  /// As `corrected_by_reason`; zero of the episodes for a reason that did not occur.
  std::optional<Share> corrected_for(const std::string& reason) const;
  /// Episodes that were lost in spite of the human.
  std::optional<Share> lost_share() const;
};

/// One trial of an evaluation.
struct Trial {
  bool success = false;
  std::map<std::string, std::string> facts;  ///< "layout" -> "swapped"
};

/// A paired test against another method on the same seeds.
struct PairedDifference {
  std::string method, of;  ///< the other one; what was counted: "success", "take-overs", a reason
  double difference = 0;   ///< share of the one minus share of the other
  double p = 1;            ///< two-sided, McNemar's exact test
};

struct Round {
  int64_t round = 0;  ///< 0 is the base
  std::string policy, objective;
  bool promoted = true;
  /// success against the policy that was in use; older files do not say
  std::optional<PairedDifference> promotion;
  std::string training;  ///< directory relative to the loop's; empty: not trained
  std::optional<double> train_seconds;
  std::optional<Evaluation> evaluation;
  std::optional<Deployment> deployment;
  std::map<std::string, int64_t> labels;  ///< steps by "pool/label: reason"
  std::map<int64_t, Trial> trials;        ///< by seed; empty where the evaluation's results.json is not there

  std::string name() const;  ///< "base", "round 1"
};

/// One of several methods that started from the same base, after one of its rounds. All have the corrections
/// of the base in their first round; in later ones each has those of its own deployments, too.
struct Method {
  std::string name, objective;
  bool sees_corrections =
      true;              ///< false: a control that learned from the expert data alone (as its labels say)
  std::string training;  ///< directory relative to the loop's; empty: not trained
  int64_t round = 1;
  std::vector<PairedDifference> against;
  std::optional<double> train_seconds;
  std::optional<Evaluation> evaluation;
  std::optional<Deployment> deployment;  ///< of what it learned: the next one
};

struct Animation {
  std::string title, caption, path;  ///< path relative to the loop's directory
  std::string instruction;           ///< what the policy was told; empty in summaries that do not say it
  /// "solved" or "failed", and how the trials of this kind were chosen; may be empty
  std::string kind, chosen;

  std::optional<int64_t> seed() const;  ///< as the caption says it: "seed 7: timeout after 40 steps"
};

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

struct LoopSummary {
  std::string command, config, environment;
  std::optional<Provenance> provenance;
  std::optional<int64_t> seed;
  std::optional<double> seconds;
  std::vector<Round> rounds;  ///< at least one, ascending
  std::vector<Animation> animations;
  std::vector<Method> methods;            ///< by round; none unless methods were compared
  std::optional<Deployment> corrections;  ///< of the base: what the methods learned from in their first round
  std::vector<std::string> notes;         ///< what the reader must know about the files

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
