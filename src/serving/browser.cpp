#include "apo/serving/browser.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/data/recovery.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/rollout.h"
#include "serving/console_pages.h"
#include "serving/hold.h"
#include "serving/listener.h"

namespace apo::serving {
namespace {

constexpr auto kLook = std::chrono::milliseconds(20);
constexpr int64_t kSharpView = 128;  // pixels a side: smaller pictures are the policy's, and no person's
constexpr int64_t kViewSize = 320;
constexpr const char* kView = "view";

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
    {
      const std::lock_guard lock(mutex_);
      ending_.reset();
    }
    next_ = Clock::now();
  }

  bool wants_confidence() const override { return console_ && console_->is_watched(); }

  std::optional<deploy::Intervention> decide(const deploy::Moment& moment) override {
    if (!console_) open(moment);
    const Observation seen = seen_by_a_person(moment);
    running_ = true;
    std::optional<Override> override;
    do {
      wait_for_the_next_step();
      override = console_->decide({.episode = episode_,
                                   .step = moment.step,
                                   .observation = seen,
                                   .policy_action = &moment.policy_action,
                                   .captured_ms = wall_clock_ms(),
                                   .confidence = moment.confidence});
    } while (override && !override->recorded && !wants_end() && !interrupted());
    if (!override || !override->recorded) return std::nullopt;
    return deploy::Intervention{.action = std::move(override->action), .reason = override->reason};
  }

  std::optional<deploy::Ending> wants_end() override {
    const std::lock_guard lock(mutex_);
    return ending_;
  }
  void stepped(const Step& step) override { console_->happened(episode_, step); }

  // On a robot whose success nobody else tells; whoever lets it go on does not know it, either.
  std::optional<deploy::Ending> judge(const deploy::EpisodeResult&) override {
    if (!running_ || !can_mark_ || !console_->is_watched()) return std::nullopt;
    console_->ask_how_it_ended();
    while (!wants_end() && console_->is_paused() && console_->is_watched() && !interrupted())
      wait_for_the_next_step();
    return wants_end();
  }

  void ended(const deploy::EpisodeResult& result, const std::string& recorded_as) override {
    end_episode(result.judged ? std::optional(result.success) : std::nullopt, result.outcome);
    if (console_ && !recorded_as.empty()) console_->joined(count_, recorded_as);
  }

 private:
  void end_episode(std::optional<bool> success, const std::string& outcome) {
    if (running_) console_->ended(episode_, success, outcome, count_);
    running_ = false;
  }

  void wait_for_the_next_step() {
    std::this_thread::sleep_until(next_);
    next_ = std::max(next_ + period_, Clock::now());
    copy_if_asked();
  }

  // Whoever collects is the file's writer: between its steps the file is whole, but for the episode that
  // runs.
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
    APO_CHECK(DataError, console_->has_corrections(), refine_.recording.string(),
              ": expected a take-over to learn from, found none yet");
    std::unique_lock lock(mutex_);
    target_ = target;
    copied_.wait(lock, [this] { return target_.empty() || over_; });
    APO_CHECK(RunError, !over_, "the collection is over: ", refine_.recording.string(), " is for apo-train");
    APO_CHECK(RunError, problem_.empty(), problem_);
  }

  // Where what the policy sees is small, a person gets a sharp picture, too.
  static bool needs_view(const deploy::Moment& moment) {
    const auto& images = moment.observation.images;
    return moment.render && !images.contains(kView) && std::ranges::all_of(images, [](const auto& image) {
             return std::max(image.second.size(0), image.second.size(1)) < kSharpView;
           });
  }

  // Drawn for those who look.
  Observation seen_by_a_person(const deploy::Moment& moment) const {
    Observation seen = moment.observation;
    if (console_->is_watched() && needs_view(moment)) seen.images[kView] = moment.render(kViewSize);
    return seen;
  }

  // The page's contract is of the environment, which is known from here on.
  void open(const deploy::Moment& moment) {
    const environments::EnvironmentSpec& spec = moment.spec;
    const double hz = steps_a_second(options_.console, spec.control_hz);
    period_ = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / hz));
    can_mark_ = !spec.repeatable;
    check_console(options_.console, spec.action_size);
    const auto grippers = config::gripper_dimensions(spec.gripper, spec.action_size, "environment.gripper");
    std::vector<std::string> cameras;
    if (needs_view(moment)) cameras.emplace_back(kView);  // first: it is the largest on the page
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
                        .reversed = options_.console.reversed,
                        .speed = options_.console.speed,
                        .token_needed = !options_.token.empty(),
                        .can_reset = true,
                        .can_replay = !refine_.recording.empty(),
                        .can_mark = can_mark_,
                        .can_refine = can_refine,
                        .recording = refine_.recording},
        DeskOptions{.action_size = spec.action_size,
                    .control_hz = hz,
                    .grippers = grippers,
                    .idle = spec.idle,
                    .rules = with_gripper(rules_, spec.gripper),
                    .scale = options_.console.scale,
                    .lost_pauses = options_.console.lost == LostPage::pause,
                    .simulated = spec.repeatable,  // a robot may have hands near it
                    .can_reset = true,
                    .can_mark = can_mark_},
        [this](const std::string&, std::optional<bool> success, const std::string& outcome) {
          const std::lock_guard lock(mutex_);
          ending_ = {.outcome = outcome, .success = success};
        });
    if (can_refine)
      console_->refine_by(refine_.plan, [this](const std::filesystem::path& target) { copy_to(target); });
    if (std::error_code error; std::filesystem::exists(refine_.recording, error))
      console_->begin_at(
          data::TrajectoryFile::open(refine_.recording, data::TrajectoryFormat::apo)->num_episodes());
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
  bool running_ = false;   // the console was told of a step
  bool can_mark_ = false;  // a simulation says itself whether it succeeded
  std::mutex mutex_;       // of what the network's threads say, too
  std::optional<deploy::Ending> ending_;
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
