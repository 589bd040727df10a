#include "apo/serving/browser.h"

#include <torch/types.h>

#include <chrono>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "serving/console_pages.h"
#include "serving/listener.h"

namespace apo::serving {
namespace {

constexpr auto kLook = std::chrono::milliseconds(20);
constexpr double kSlowest = 1, kUsual = 10;  // steps a second; the latter where the environment does not say

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

class BrowserHuman final : public deploy::InterventionSource {
 public:
  BrowserHuman(const ServeOptions& options, const data::LabelRules& rules)
      : options_(options), rules_(rules) {
    check_options(options_);
  }
  ~BrowserHuman() override {
    end_episode();
    if (listener_) listener_->stop();
  }

  void reset(uint64_t) override {
    end_episode();
    episode_ = concat("episode ", count_++);
    next_ = Clock::now();
  }

  std::optional<deploy::Intervention> decide(const deploy::Moment& moment) override {
    if (!console_) open(moment);
    std::optional<Override> override;
    do {
      std::this_thread::sleep_until(next_);
      next_ = std::max(next_ + period_, Clock::now());
      override = console_->decide({.episode = episode_,
                                   .step = moment.step,
                                   .observation = moment.observation,
                                   .policy_action = &moment.policy_action,
                                   .captured_ms = now_ms()});
    } while (override && !override->recorded && !interrupted());
    Step step;
    step.action = moment.policy_action;
    if (override) {
      step.source = ActionSource::intervention;
      step.policy_action = moment.policy_action;
      step.action = override->action;
    }
    console_->happened(episode_, moment.step, step);
    running_ = true;
    if (!override) return std::nullopt;
    return deploy::Intervention{.action = std::move(override->action), .reason = override->reason};
  }

 private:
  void end_episode() {
    if (running_) console_->ended(episode_, std::nullopt, "");
    running_ = false;
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
    listener_ = std::make_unique<Listener>(options_, metrics_);
    console_ = std::make_unique<Console>(listener_->io(),
                                         ConsoleContract{.action_size = spec.action_size,
                                                         .control_hz = hz,
                                                         .grippers = grippers,
                                                         .gripper = spec.gripper,
                                                         .cameras = cameras,
                                                         .token_needed = !options_.token.empty(),
                                                         .can_mark = false,
                                                         .recording = ""},
                                         DeskOptions{.action_size = spec.action_size,
                                                     .control_hz = hz,
                                                     .grippers = grippers,
                                                     .idle = spec.idle,
                                                     .rules = rules_,
                                                     .scale = options_.console.scale,
                                                     .lost_pauses = options_.console.lost == LostPage::pause,
                                                     .can_mark = false},
                                         [](const std::string&, std::optional<bool>) {});
    listener_->open(nullptr, console_.get(), "");
    log_info("waiting for a page: open http://", options_.address, ":", listener_->port(), "/console");
    while (!console_->is_watched() && !interrupted()) std::this_thread::sleep_for(kLook);
    next_ = Clock::now();
  }

  const ServeOptions options_;
  const data::LabelRules rules_;
  Metrics metrics_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Console> console_;
  std::string episode_ = "episode 0";
  int64_t count_ = 0;
  bool running_ = false;
  Clock::duration period_{};
  Clock::time_point next_ = Clock::now();
};

}  // namespace

std::unique_ptr<deploy::InterventionSource> make_browser_human(const ServeOptions& options,
                                                               const data::LabelRules& rules) {
  return std::make_unique<BrowserHuman>(options, rules);
}

void register_browser_human(const ServeOptions& options, const data::LabelRules& rules) {
  deploy::register_intervention_source("browser", [options, rules](const deploy::InterventionOptions&) {
    return make_browser_human(options, rules);
  });
}

}  // namespace apo::serving
