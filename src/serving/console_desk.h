// The console's rules, without a network: who holds the arm, what is executed, and what pages are told.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/labels.h"
#include "apo/serving/options.h"
#include "serving/watched.h"
#include "serving/watcher.h"

namespace apo::serving {

constexpr double kUsualHz = 10;  ///< steps a second where nobody says

/// ConfigError naming the key of `serve.console` that does not fit a robot of `action_size` numbers.
void check_console(const ConsoleOptions& options, int64_t action_size);

/// Steps a second that pages count on: `serve.console.control_hz`, or else the environment's, where that is
/// one a second at least, or else kUsualHz.
double steps_a_second(const ConsoleOptions& options, double environments = 0);

struct DeskOptions {
  int64_t action_size = 0;
  double control_hz = kUsualHz;
  std::vector<int64_t> grippers;  ///< dimensions of the action, sorted
  Action idle;                    ///< [A]; empty: zeros, the gripper as it was
  data::LabelRules rules;         ///< of the pools and of the preview
  std::vector<double> scale;      ///< [A] of a page's numbers; empty: ones
  bool lost_pauses = false;       ///< a lost page pauses the robot; else it hands back
  /// a simulation, which waits while who holds the arm looks elsewhere, and is safe after a reset
  bool simulated = false;
  double lost_s = 3;  ///< a page that is silent for so long is lost
  bool can_reset = false;
  bool can_mark = true;       ///< whether a person's success or failure counts; else the environment says it
  bool can_instruct = false;  ///< whether a person's instruction counts, from the next episode on
  int64_t instruction_bytes = 1000;  ///< of the longest one
};

/// As training would label what is recorded with such a gripper, where the rules do not say.
data::LabelRules with_gripper(data::LabelRules rules, const config::GripperOptions& gripper);

/// What a page is sent. Thread-safe; `say` is called under a lock and must only pass on.
class ConsoleDesk final : public Watcher {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Json = nlohmann::ordered_json;
  /// To one page, or to all (viewer 0).
  using Say = std::function<void(int64_t viewer, const Json& message)>;
  /// A person ended the episode: how ("success", "failure" or "reset"), and whether it succeeded.
  using End = std::function<void(const std::string& episode, std::optional<bool> success,
                                 const std::string& outcome)>;

  ConsoleDesk(DeskOptions options, Say say, End end);

  /// A page opened its socket; it is told where things stand. Returns its number, from 1.
  int64_t join(Time now);
  /// It is gone: without a word, as a page that was lost.
  void leave(int64_t viewer);
  /// What a page says. DataError for what is no message of the protocol.
  void hear(int64_t viewer, const Json& message, Time now);
  /// Looks for pages that fell silent; a few times a second. Returns those that are lost, whose sockets must
  /// be closed, so that a page that wakes up comes back as a new one.
  std::vector<int64_t> look_around(Time now);

  std::optional<Override> decide(const ServedMoment& moment) override;
  void happened(const std::string& episode, const Step& what) override;
  void ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
             std::optional<int64_t> recording) override;
  void joined(int64_t recording, const std::string& name) override;
  /// The recording has so many episodes already.
  void begin_at(int64_t episode);
  std::string instruction_for(const std::string& episode) override;
  /// The episode is over but for a person's word: it waits for a mark, or for whoever lets it go on.
  void ask_how_it_ended();
  bool is_paused() const;
  /// Whether a take-over was watched here, or the recording had episodes before.
  bool has_corrections() const;

  /// The name of the episode that is watched, "demo_3": of its place in the recording once it is there, until
  /// then of the place that it will have if no other robot's ends before it. Empty: none.
  std::string episode() const;
  /// Whether it is the one that goes by this key.
  bool watches(const std::string& key) const;
  /// The letter of a step's label (u, d, i, n or - for left out); "": not known.
  std::string label(const std::string& episode, int64_t step) const;
  /// What a page is told of the present.
  Json state_for(int64_t viewer) const;

 private:
  enum class Mode { policy, human };
  struct Viewer {
    Time heard;
    bool visible = true;
    std::optional<std::vector<std::optional<float>>> input;
    Time input_at;
  };
  void take_over(int64_t viewer, bool force, Time now);
  void release();
  void lose(int64_t viewer);
  void tell_states();
  void notice(int64_t viewer, const std::string& text, const std::string& code = "");
  Action held_still(const Action& last) const;
  float scale_of(size_t dimension) const;
  Action input_of(const Viewer& viewer, Time now);
  Json state(int64_t viewer) const;
  Json episodes() const;
  void mark(int64_t viewer, const std::string& how, bool holds, Time now);
  void pause(int64_t viewer, bool paused, Time now);
  void instruct(int64_t viewer, const Json& message);

  const DeskOptions options_;
  const Say say_;
  const End end_;
  mutable std::mutex mutex_;
  std::map<int64_t, Viewer> viewers_;
  int64_t next_viewer_ = 1;
  WatchedEpisodes watched_;
  Mode mode_ = Mode::policy;
  bool paused_ = false, asks_ = false, moved_ = false, had_episodes_ = false;
  int64_t paused_by_ = 0;  // a page; 0: none, but a lost one
  Time paused_at_;
  int64_t holder_ = 0;  // 0: nobody
  Action last_action_;
  std::optional<Action> policy_action_, human_action_;
  double captured_ms_ = 0;
  std::optional<double> confidence_;
  std::string instruction_;  // of the present episode
  std::string wish_;         // a person's, for those to come; empty: as the robot says
};

}  // namespace apo::serving
