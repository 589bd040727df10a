// The robots' episodes: who acts in each step, what is recorded of it, and when an episode is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/recorder.h"
#include "apo/serving/options.h"
#include "serving/batcher.h"
#include "serving/requests.h"
#include "serving/watcher.h"
#include "serving/worker.h"

namespace apo::serving {

/// What goes back to the robot.
struct StepReply {
  Failure failure = Failure::none;
  std::string reason;   ///< of a failure
  ActionChunk actions;  ///< [H][A]; after a human's action, ones that do nothing
  ActionSource source = ActionSource::policy;
  /// how a person at the console ended the episode before, "success", "failure" or "reset"; empty: nobody did
  std::string ended;
  double infer_s = 0, queue_s = 0;
  wire::Map echo;
};

/// One episode of one robot.
class Episode;

/// A human's device acts (`intervention_action`), or the arm is still his for `serve.hysteresis_s` after his
/// last input and holds still, or the watcher acts, or else the policy. Who acts and what is recorded is
/// decided in one thread, in the order of the answers; a step is recorded before its answer goes out.
class Episodes {
 public:
  struct Recording {
    std::string path;
    data::TrajectoryInfo info;
  };
  /// `grippers` are the action's dimensions that idling leaves as they were. Without a recording's path
  /// nothing is recorded. Errors as data::EpisodeRecorder.
  Episodes(const ServeOptions& options, std::vector<int64_t> grippers, const Recording& recording,
           Watcher* watcher);
  /// What still runs ends as "interrupted", without a success.
  ~Episodes();

  /// The episode that goes by `key`, a new one where there is none, and the seed of its next step. What it is
  /// to do may be a person's word: then `request` says so from here on. RunError where as many run as
  /// serve.limits.episodes.
  std::pair<std::shared_ptr<Episode>, uint64_t> enter(const std::string& key, StepRequest& request);
  using Done = std::function<void(StepReply)>;
  /// The policy answered; `done` is called by another thread.
  void answered(std::shared_ptr<Episode> episode, StepRequest request, Answer answer,
                Clock::time_point arrived, Done done);
  /// Ends the episode of that key; `done` (may be null) gets its number of recorded steps, -1 where there was
  /// no such episode.
  void end(const std::string& key, std::optional<bool> success, const std::string& outcome,
           std::function<void(int64_t)> done = {}) {
    end(key, success, outcome, std::move(done), false);
  }
  /// The same where a person at the console says so; the robot is told with its next answer.
  void end_by_person(const std::string& key, std::optional<bool> success, const std::string& outcome);
  /// The key of the episode that `address` stepped last, of those that go by address and instruction.
  std::string latest_of(const std::string& address);
  /// Ends those without a request since `serve.limits.episode_idle_s`, but for connections' own.
  void end_idle();
  bool wants_confidence() const { return watcher_ != nullptr && watcher_->wants_confidence(); }
  /// Null: nothing is recorded.
  const data::EpisodeRecorder* recorder() const { return recorder_.get(); }
  /// What has ended, as data::EpisodeRecorder::copy_to. DataError if that is nothing.
  void copy_recording(const std::filesystem::path& target);

 private:
  void end(const std::string& key, std::optional<bool> success, const std::string& outcome,
           std::function<void(int64_t)> done, bool by_person);
  StepReply hold(const Episode& episode, const Answer& answer) const;
  StepReply decide(Episode& episode, StepRequest& request, Answer& answer, Clock::time_point arrived);
  void record(Episode& episode, const Step& step);
  void begin_anew(Episode& episode);
  void finish(Episode& episode, std::optional<bool> success, const std::string& outcome);
  Action idle(const Action& last) const;

  const ServeOptions& options_;
  std::vector<int64_t> grippers_;
  Watcher* watcher_;
  std::unique_ptr<data::EpisodeRecorder> recorder_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Episode>> episodes_;
  /// how a person ended the episode of a key, and when; of the thread of the episodes
  std::map<std::string, std::pair<std::string, Clock::time_point>> to_tell_;
  std::unique_ptr<Worker> worker_;
};

/// The key of a connection's own episode, which ends with it alone.
std::string connection_key(uint64_t connection);
/// The key of an episode that a client named.
std::string named_key(const std::string& episode_id);
/// The key of an episode of whoever calls from `address` for `instruction`.
std::string address_key(const std::string& address, const std::string& instruction);

}  // namespace apo::serving
