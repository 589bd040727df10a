// What a collection did: the file beside a recording, and a deployment in a loop's summary.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace apo::results {

/// What a collection did. Of one that appended it covers the whole file.
struct CollectionSummary {
  int64_t episodes = 0;  ///< played
  int64_t recorded = 0;  ///< kept in the file
  int64_t take_overs = 0;
  std::map<std::string, int64_t> take_overs_by_reason;
  int64_t hand_backs = 0;
  int64_t corrected = 0;  ///< episodes with a take-over that succeeded
  int64_t alone = 0;      ///< successes without a take-over
  int64_t lost = 0;       ///< episodes that did not succeed
  std::map<std::string, int64_t> outcomes;
  std::map<std::string, int64_t> steps;  ///< recorded, by source: "expert", "policy", "intervention"
  double seconds = 0;
  int64_t interrupted = 0;  ///< episodes that were lost (EpisodeLost) and played again; in no other count
  int64_t num_clamped_tokens = 0;  ///< tokens that the policy decoded and that were no action tokens
  /// Why the human took over, for each episode played, in their order; shorter where an older file does not
  /// say.
  std::vector<std::vector<std::string>> take_overs_by_episode;

  /// One object with these names.
  std::string json() const;
  static CollectionSummary from_json(const std::string& json, const std::string& where);
  /// A few lines for people.
  std::string text() const;
};

}  // namespace apo::results
