// What a refinement loop came to: summary.json, written by the loop after every stage, read by its report.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/proportions.h"
#include "apo/base/provenance.h"
#include "apo/results/collection.h"
#include "apo/results/evaluation.h"
#include "base/json.h"

namespace apo::results {

/// What is said of an evaluation; its trials are in its own results.json.
struct EvaluationSummary {
  int64_t trials = 0;
  std::optional<Rate> success, unaided;     ///< unaided: without coming where a person would have stepped in
  std::map<std::string, int64_t> outcomes;  ///< trials by outcome
  std::map<std::string, Rate> success_by_fact;  ///< "layout=swapped" -> success among those trials
  std::optional<double> mean_steps, seconds;
};
EvaluationSummary summary_of(const EvalResult& evaluation);

/// A policy, how it was trained and what it came to.
struct PolicySummary {
  std::string policy;     ///< checkpoint, relative to the loop's directory
  std::string objective;  ///< empty: not trained by this loop
  std::string training;   ///< directory relative to the loop's; empty: not trained
  std::optional<double> train_seconds;
  std::map<std::string, int64_t> labels;  ///< steps that it learned from by "pool/label: reason"
  std::optional<EvaluationSummary> evaluation;
  std::optional<CollectionSummary> deployment;
};

/// Success of the policy of a round (first) against the one in use (second), on the same seeds.
struct PromotionTest {
  PairedTest test;
  double tolerance = 0;
};

struct Round : PolicySummary {  ///< `deployment` is of the policy that was in use before it
  int64_t round = 0;            ///< 0 is the base
  bool promoted = true;
  std::optional<PromotionTest> promotion;  ///< none: the base, or a file of an older release

  Round() = default;
  explicit Round(PolicySummary of) : PolicySummary(std::move(of)) {}

  std::string name() const;  ///< "base", "round 1"
};

/// A paired test against another method on the same seeds.
struct PairedDifference {
  std::string method, of;  ///< the other one; what was counted: "success", "take-overs", a reason
  PairedTest test;         ///< the one against the other; files of older releases have no counts, but zeros
};

/// One of several methods that started from the same base, after one of its rounds. All have the corrections
/// of the base in their first round; in later ones each has those of its own deployments, too.
struct Method : PolicySummary {  ///< `deployment` is of what it learned: the next one
  std::string name;
  int64_t round = 1;
  std::vector<PairedDifference> against;

  Method() = default;
  explicit Method(PolicySummary of) : PolicySummary(std::move(of)) {}
};

struct Animation {
  /// "solved" or "failed", and how the trials of this kind were chosen; may be empty
  std::string kind, chosen;
  std::string title, instruction, caption, path;  ///< path relative to the loop's directory
  std::optional<int64_t> seed;                    ///< of the trial
};
nlohmann::json to_json(const std::vector<Animation>& animations);
std::vector<Animation> read_animations(const JsonField& list);

struct Summary {
  std::string command, config, environment;
  std::optional<Provenance> provenance;
  std::optional<int64_t> seed;
  std::optional<double> seconds;
  std::vector<Round> rounds;  ///< at least one, ascending
  std::vector<Animation> animations;
  std::vector<Method> methods;  ///< by round; none unless methods were compared
  /// of the base: what the methods learned from in their first round
  std::optional<CollectionSummary> corrections;

  /// One object with these names.
  std::string json() const;
};

/// Reads and checks. DataError naming the file and the key that is wrong, what was expected and found.
Summary read_summary(const std::filesystem::path& path);

}  // namespace apo::results
