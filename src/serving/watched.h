// The episodes that the console has watched: their steps, what training would make of them, and their names.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/labels.h"

namespace apo::serving {

/// Steps by the pool that training would draw them from.
struct PoolSizes {
  int64_t desirable = 0, intervention = 0, undesirable = 0;
};

struct WatchedEpisode {
  std::string key, name;  ///< the server's own; "demo_3"
  data::EpisodeRecord record = {};
  std::vector<data::LabelledStep> labels = {};
  PoolSizes pools = {};
  std::optional<int64_t> recording = {};  ///< the recorder's number, once it has ended
  bool running = true;
  bool marked = false;  ///< a person said how it ended
};

/// Not thread-safe.
class WatchedEpisodes {
 public:
  using Json = nlohmann::ordered_json;
  explicit WatchedEpisodes(data::LabelRules rules) : rules_(std::move(rules)) {}

  /// The present one is the last.
  bool empty() const { return episodes_.empty(); }
  WatchedEpisode& now() { return episodes_.back(); }
  const WatchedEpisode& now() const { return episodes_.back(); }
  bool is_running() const { return !empty() && now().running; }
  /// Whether the running one is of this key.
  bool runs(const std::string& key) const { return is_running() && now().key == key; }

  void begin(const std::string& key);
  /// A step of the present one; `labelled`: somebody wants to see its labels at once.
  void add(const Step& step, bool labelled);
  /// The present one is over. One without a step never was one.
  void end(std::optional<bool> success, const std::string& outcome, std::optional<int64_t> recording);
  /// What a later step makes of earlier ones, for all steps of the present one.
  void relabel();
  /// It is in the recording under this name; whether it was called otherwise until then.
  bool joined(int64_t recording, const std::string& name);
  /// Number of the next one: the recording has so many already.
  void begin_at(int64_t number) { next_number_ = number; }

  /// Of all episodes, also of those that are forgotten.
  const PoolSizes& pools() const { return pools_; }
  /// The letter of a step's label (u, d, i, n or - for left out); "": not known.
  std::string label(const std::string& name, int64_t step) const;
  /// The steps [from, to) that the last take-over of the present one made undesirable.
  std::optional<std::pair<int64_t, int64_t>> last_window() const;
  /// Name, steps, success, outcome, instruction, sources and labels as letters, and whether it runs, of each.
  Json json() const;

 private:
  void append_label();

  const data::LabelRules rules_;
  std::deque<WatchedEpisode> episodes_;
  PoolSizes pools_;
  int64_t next_number_ = 0;
};

/// The letter of who acted: e, p or h.
char letter_of(ActionSource source);

}  // namespace apo::serving
