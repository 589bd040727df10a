// summary.json of a refinement loop, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "report/chart.h"

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
};

struct Round {
  int64_t round = 0;  ///< 0 is the base
  std::string policy, objective;
  bool promoted = true;
  std::string training;  ///< directory relative to the loop's; empty: not trained
  std::optional<double> train_seconds;
  std::optional<Evaluation> evaluation;
  std::optional<Deployment> deployment;
  std::map<std::string, int64_t> labels;  ///< steps by "pool/label: reason"

  std::string name() const;  ///< "base", "round 1"
};

/// One of several methods that learned from the same corrections, after one of its rounds.
struct Method {
  std::string name;
  int64_t round = 1;
  std::optional<double> train_seconds;
  std::optional<Evaluation> evaluation;
  std::optional<Deployment> deployment;  ///< of what it learned: the next one
};

struct Animation {
  std::string title, caption, path;  ///< path relative to the loop's directory
};

struct LoopSummary {
  std::string command, config, environment;
  std::optional<int64_t> seed;
  std::optional<double> seconds;
  std::vector<Round> rounds;  ///< at least one, ascending
  std::vector<Animation> animations;
  std::vector<Method> methods;  ///< by round; none unless methods were compared

  /// The last promoted round that was evaluated: the policy in use at the end. The first round if there is
  /// none.
  const Round& current() const;
};

/// Reads and checks. Errors as `write_loop_report` promises.
LoopSummary read_summary(const std::filesystem::path& path);

/// What happened, in plain sentences made from the numbers: how good the base was, what people did, how good
/// it is now.
std::vector<std::string> story(const LoopSummary& summary);

}  // namespace apo::report
