// What one loop compared: comparison.json, written by the loop, read by the tables over several loops.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace apo::results {

/// One method after one round: how each trial ended, and what each episode of its next deployment needed.
struct MethodResult {
  std::string method;  ///< "base" is the policy before any refinement
  int64_t round = 1;
  std::string objective, policy;  ///< the checkpoint relative to the loop's directory
  int64_t steps = 0;
  double train_seconds = 0;
  std::vector<bool> success, unaided;  ///< by trial
  /// by episode of the next deployment: why the human took over
  std::vector<std::vector<std::string>> take_overs;
  int64_t lost = 0;                    ///< of those episodes, in spite of the human
  std::optional<int64_t> human_steps;  ///< recorded there; older files do not say
};

/// What one loop compared (comparison.json in its directory).
struct Comparison {
  int64_t seed = 0;        ///< run.seed
  int64_t eval_seed = 0;   ///< trial i of every method was reset with eval_seed + i
  int64_t take_overs = 0;  ///< that ended each next deployment; 0: it had its number of episodes
  std::vector<std::string> against;
  std::vector<MethodResult> results;  ///< by round, in the methods' order, base first

  std::string json() const;
  /// DataError naming `where` and what is missing or of a wrong kind.
  static Comparison from_json(const std::string& json, const std::string& where);
};

/// Episode by episode: was there a take-over, for whatever reason, or for this one?
std::vector<bool> corrected(const MethodResult& result);
std::vector<bool> corrected_for(const MethodResult& result, const std::string& reason);

}  // namespace apo::results
