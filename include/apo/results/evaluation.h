// What an evaluation came to: results.json, written by apo-eval and the loop, read by tables and reports.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "apo/base/proportions.h"

namespace apo::results {

struct Trial {
  int64_t trial = 0;
  uint64_t seed = 0;
  bool success = false;
  bool unaided = false;  ///< success without having been where a human would have stepped in
  std::string outcome;
  int64_t steps = 0;
  std::map<std::string, std::string> facts;  ///< what is worth knowing besides: {"layout": "swapped"}
};

struct DisruptedResult;

struct EvalResult {
  Rate success, unaided;
  std::map<std::string, int64_t> outcomes;      ///< by kind
  std::map<std::string, Rate> success_by_fact;  ///< "layout=swapped" -> success among those trials
  double mean_steps = 0;                        ///< of the successes; 0 if there are none
  int64_t steps = 0;                            ///< of all trials
  /// decoded tokens that were no action tokens and counted as the nearest
  int64_t num_clamped_tokens = 0;
  double seconds = 0, steps_per_second = 0;
  std::string policy_hash;
  /// its config as text, of a result that was read; older files do not say
  std::string environment;
  std::vector<Trial> trials;                  ///< in trial order
  std::map<int64_t, std::string> animations;  ///< trial -> WebP file content
  /// the same trials, disrupted; what stands above is then undisrupted
  std::vector<DisruptedResult> disruptions;

  std::vector<bool> successes() const;  ///< by trial
  /// One object with these names (without the animations' content).
  std::string json() const;
  static EvalResult from_json(const std::string& json, const std::string& where);
  /// A few lines for people, with a table of the disruptions.
  std::string text() const;
  /// The table as Markdown; "" without disruptions.
  std::string disruption_markdown() const;
};

/// The trials with one disruption in every episode.
struct DisruptedResult {
  std::string disruption;
  EvalResult result;
  /// success of the disrupted (first) and undisrupted (second) trials of the same seeds
  PairedTest against_none;
};

/// Rates, counts and means over the trials, which are kept in the result.
EvalResult summarize_trials(std::vector<Trial> trials);

}  // namespace apo::results
