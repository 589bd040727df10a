#include "apo/serving/browser.h"

#include <torch/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/data/recovery.h"
#include "apo/deploy/rollout.h"
#include "serving/console_pages.h"
#include "serving/hold.h"
#include "serving/listener.h"

namespace apo::serving {
namespace {

constexpr auto kLook = std::chrono::milliseconds(20);
constexpr double kSlowest = 1, kUsual = 10;  // steps a second; the latter where the environment does not say

class BrowserHuman final : public deploy::InterventionSource {
 public:
  BrowserHuman(const ServeOptions& options, const data::LabelRules& rules, const RefineFrom& refine)
      : options_(options), rules_(rules), refine_(refine) {
    check_options(options_);
  }
  ~BrowserHuman() override {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    copied_.notify_all();
    if (console_ && !interrupted()) console_->wait_for_training();
    if (listener_) listener_->stop();
    console_.reset();  // its training may be about to ask for a copy
  }

  void reset(uint64_t) override {
    end_episode(std::nullopt, "");  // the one before did not come to its end
    episode_ = concat("episode ", count_++);
    wants_reset_ = human_acts_ = false;
    next_ = Clock::now();
  }

  std::optional<deploy::Intervention> decide(const deploy::Moment& moment) override {
    if (!console_) open(moment);
    std::optional<Override> override;
    do {
      std::this_thread::sleep_until(next_);
      next_ = std::max(next_ + period_, Clock::now());
      copy_if_asked();
      override = console_->decide({.episode = episode_,
                                   .step = moment.step,
                                   .observation = moment.observation,
                                   .policy_action = &moment.policy_action,
                                   .captured_ms = wall_clock_ms()});
    } while (override && !override->recorded && !wants_reset_ && !interrupted());
    if (wants_reset_ || interrupted()) return std::nullopt;  // no step is made
    Step step;
    step.action = moment.policy_action;
    if (override) {
      step.source = ActionSource::intervention;
      step.policy_action = moment.policy_action;
      step.action = override->action;
      if (!human_acts_) step.take_over = TakeOver{override->reason};
    }
    human_acts_ = override.has_value();
    console_->happened(episode_, moment.step, step);
    running_ = true;
    if (!override) return std::nullopt;
    return deploy::Intervention{.action = std::move(override->action), .reason = override->reason};
  }

  bool wants_reset() override { return wants_reset_; }
  void ended(const deploy::EpisodeResult& result, const std::string& recorded_as) override {
    end_episode(result.success, result.outcome);
    if (console_ && !recorded_as.empty()) console_->joined(count_, recorded_as);
  }

 private:
  void end_episode(std::optional<bool> success, const std::string& outcome) {
    if (running_) console_->ended(episode_, success, outcome, count_);
    running_ = false;
  }

  // Whoever collects is the file's writer: between its steps the file is whole, but for the episode that runs.
  void copy_if_asked() {
    const std::lock_guard lock(mutex_);
    if (target_.empty()) return;
    problem_.clear();
    try {
      data::copy_recording(refine_.recording, target_);
    } catch (const std::exception& error) {
      problem_ = error.what();
    }
    target_.clear();
    copied_.notify_all();
  }

  // By another thread.
  void copy_to(const std::filesystem::path& target) {
    std::unique_lock lock(mutex_);
    target_ = target;
    copied_.wait(lock, [this] { return target_.empty() || over_; });
    APO_CHECK(RunError, !over_, "the collection is over: ", refine_.recording.string(), " is for apo-train");
    APO_CHECK(RunError, problem_.empty(), problem_);
  }

  // The page's contract is of the environment, which is known from here on.
  void open(const deploy::Moment& moment) {
    const environments::EnvironmentSpec& spec = moment.spec;
    const double hz = spec.control_hz >= kSlowest ? spec.control_hz : kUsual;
    period_ = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / hz));
    APO_CHECK(ConfigError,
              options_.console.scale.empty() || std::ssize(options_.console.scale) == spec.action_size,
              "serve.console.scale: expected ", spec.action_size, " numbers, found ",
              options_.console.scale.size());
    const auto grippers = config::gripper_dimensions(spec.gripper, spec.action_size, "environment.gripper");
    std::vector<std::string> cameras;
    for (const auto& [name, picture] : moment.observation.images) cameras.push_back(name);
    const bool can_refine = !refine_.plan.command.empty();
    listener_ = std::make_unique<Listener>(options_, metrics_);
    console_ = std::make_unique<Console>(
        listener_->io(),
        ConsoleContract{.action_size = spec.action_size,
                        .control_hz = hz,
                        .grippers = grippers,
                        .gripper = spec.gripper,
                        .cameras = cameras,
                        .token_needed = !options_.token.empty(),
                        .can_reset = true,
                        .can_mark = false,
                        .can_refine = can_refine,
                        .recording = ""},
        DeskOptions{.action_size = spec.action_size,
                    .control_hz = hz,
                    .grippers = grippers,
                    .idle = spec.idle,
                    .rules = with_gripper(rules_, spec.gripper),
                    .scale = options_.console.scale,
                    .lost_pauses = options_.console.lost == LostPage::pause,
                    .can_reset = true,
                    .can_mark = false},
        [this](const std::string&, std::optional<bool>, const std::string&) { wants_reset_ = true; });
    if (can_refine)
      console_->refine_by(refine_.plan, [this](const std::filesystem::path& target) { copy_to(target); });
    listener_->open(nullptr, console_.get(), "");
    log_info("waiting for a page: open http://", options_.address, ":", listener_->port(), "/console");
    while (!console_->is_watched() && !interrupted()) std::this_thread::sleep_for(kLook);
    next_ = Clock::now();
  }

  const ServeOptions options_;
  const data::LabelRules rules_;
  const RefineFrom refine_;
  Metrics metrics_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Console> console_;
  std::string episode_ = "episode 0";
  int64_t count_ = 0;
  bool running_ = false, human_acts_ = false;
  std::atomic<bool> wants_reset_ = false;  // said by the network's thread
  std::mutex mutex_;
  std::condition_variable copied_;
  std::filesystem::path target_;  // where a copy is wanted; empty: nowhere
  std::string problem_;
  bool over_ = false;
  Clock::duration period_{};
  Clock::time_point next_ = Clock::now();
};

}  // namespace

std::unique_ptr<deploy::InterventionSource> make_browser_human(const ServeOptions& options,
                                                               const data::LabelRules& rules,
                                                               const RefineFrom& refine) {
  return std::make_unique<BrowserHuman>(options, rules, refine);
}

void register_browser_human(const ServeOptions& options, const data::LabelRules& rules,
                            const RefineFrom& refine) {
  deploy::register_intervention_source("browser",
                                       [options, rules, refine](const deploy::InterventionOptions&) {
                                         return make_browser_human(options, rules, refine);
                                       });
}

}  // namespace apo::serving
