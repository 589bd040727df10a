// The policy's own thread: what clients wait for, answered several at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "apo/base/types.h"
#include "apo/models/policy.h"
#include "apo/serving/options.h"
#include "deploy/decide.h"
#include "serving/metrics.h"
#include "serving/requests.h"

namespace apo::serving {

/// Those that ask the server: `serve.gripper`, `serve.horizon`.
deploy::Robot robot_of(const models::Policy& policy, const ServeOptions& options);

/// Why there is no action.
enum class Failure {
  none,
  request,   ///< what the client sent cannot be answered
  busy,      ///< the queue is full
  late,      ///< beyond serve.deadline_ms
  gone,      ///< nobody waits any more
  policy,    ///< it failed, or decided tokens that code no action
  recording  ///< the step could not be recorded
};
std::string_view to_string(Failure failure);

/// The policy's answer to one request.
struct Answer {
  Failure failure = Failure::none;
  std::string reason;   ///< of a failure, one sentence
  ActionChunk actions;  ///< [H][A] in the robot's units
  double infer_s = 0;   ///< of the batch that it was in
  double queue_s = 0;   ///< from the arrival to that
  int64_t batch_size = 0;
  std::optional<double> confidence;  ///< mean probability of the decided tokens; nothing: nobody asked
};

struct Job {
  Observation observation;
  uint64_t seed = 0;  ///< of the row's sampling
  Clock::time_point arrived;
  /// true once nobody waits for the answer
  std::shared_ptr<const std::atomic<bool>> gone;
  bool confidence = false;           ///< somebody looks: say how sure the policy is
  std::function<void(Answer)> done;  ///< called once, by any thread
};

/// Asks the policy for up to `batch.max_size` waiting jobs at a time, in the order of their arrival.
///
/// Whoever waits longer than serve.deadline_ms is told so then, however long the policy still takes.
/// A row's answer depends on its observation and seed alone, as far as the policy's numbers do: a network may
/// round differently in batches of different sizes. A row that the policy refuses fails alone.
class Batcher {
 public:
  /// `policy` is used by no one else from `submit` to destruction.
  Batcher(models::Policy& policy, const ServeOptions& options, Metrics& metrics);
  /// Answers what waits, then ends.
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  void submit(Job job);

 private:
  /// A job's `done`, which the policy's thread and the watch over deadlines share.
  struct Once {
    std::atomic<bool> given = false;
    std::function<void(Answer)> done;
    Clock::time_point arrived;
    /// Only the first one counts.
    void give(Answer answer);
  };
  void run();
  void watch();
  std::vector<Job> take(std::unique_lock<std::mutex>& lock);
  void answer(std::vector<Job> jobs);
  std::vector<Answer> decide(std::span<Job> jobs);
  bool late(const Job& job, Clock::time_point now) const;

  models::Policy& policy_;
  const ServeOptions& options_;
  Metrics& metrics_;
  std::mutex mutex_;
  std::condition_variable changed_, watch_changed_;
  std::deque<Job> waiting_;
  std::deque<std::shared_ptr<Once>> watched_;  // by arrival, and so by deadline
  bool stopping_ = false, over_ = false;
  std::thread thread_, watch_;
};

/// Lets the policy answer a made-up observation, so that the first request waits for nothing that is made on
/// first use. Nothing where it is not known what the policy needs.
void warm_up(models::Policy& policy, const Observation& observation);

}  // namespace apo::serving
