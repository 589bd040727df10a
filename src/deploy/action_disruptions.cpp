#include "deploy/action_disruptions.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "apo/base/random.h"
#include "apo/config/options.h"

namespace apo::deploy {
namespace {

class ActionDisruptions : public Environment {
 public:
  ActionDisruptions(std::unique_ptr<Environment> inner, const DisruptionOptions& options)
      : inner_(std::move(inner)), options_(options) {}

  void reset(uint64_t seed) override {
    inner_->reset(seed);
    noise_ = Random(seed, "disruption/action_noise");
    noisy_ = noise_.uniform() < options_.action_noise.probability;
    delayed_ = Random(seed, "disruption/action_delay").uniform() < options_.action_delay.probability;
    coming_.assign(delayed_ ? static_cast<size_t>(options_.action_delay.steps) : 0, inner_->idle_action());
  }

  void step(const Action& action) override {
    if (!delayed_) return inner_->step(noisy_ ? with_noise(action) : action);
    coming_.push_back(action);
    const Action due = std::move(coming_.front());
    coming_.pop_front();
    inner_->step(noisy_ ? with_noise(due) : due);
  }

  Facts facts() const override {
    Facts facts = inner_->facts();
    if (options_.action_noise.probability > 0) facts["action_noise"] = noisy_ ? "yes" : "no";
    if (options_.action_delay.probability > 0) facts["action_delay"] = delayed_ ? "yes" : "no";
    return facts;
  }

  Observation observe() override { return inner_->observe(); }
  bool done() const override { return inner_->done(); }
  bool success() const override { return inner_->success(); }
  bool flawless() const override { return inner_->flawless(); }
  std::string outcome() const override { return inner_->outcome(); }
  int64_t action_size() const override { return inner_->action_size(); }
  int64_t step_count() const override { return inner_->step_count(); }
  int64_t max_steps() const override { return inner_->max_steps(); }
  double control_hz() const override { return inner_->control_hz(); }
  at::Tensor render(int64_t size) override { return inner_->render(size); }
  std::optional<std::string> concern() const override { return inner_->concern(); }
  int64_t concern_steps() const override { return inner_->concern_steps(); }
  std::optional<Action> expert_action() const override { return inner_->expert_action(); }
  Action idle_action() const override { return inner_->idle_action(); }
  std::vector<std::string> disruptions() const override { return inner_->disruptions(); }
  std::string name() const override { return inner_->name(); }
  std::string config() const override { return inner_->config(); }

 private:
  Action with_noise(Action action) {
    const auto noisy = std::min(static_cast<size_t>(options_.action_noise.dimensions), action.size());
    for (size_t d = 0; d < noisy; ++d) {
      const float limit = std::max(1.0f, std::abs(action[d]));
      action[d] += static_cast<float>(options_.action_noise.std * noise_.normal());
      action[d] = std::clamp(action[d], -limit, limit);
    }
    return action;
  }

  std::unique_ptr<Environment> inner_;
  DisruptionOptions options_;
  Random noise_{0};
  bool noisy_ = false, delayed_ = false;
  std::deque<Action> coming_;  // decided and not yet executed, oldest first
};

}  // namespace

void ActionNoiseOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode with noise on executed actions; 0 = never", config::between(0, 1));
  v("std", std, "standard deviation, in units of action; what is recorded stays clean", config::between(0, 2));
  v("dimensions", dimensions, "the first so many of an action get noise", config::at_least(1));
}

void ActionDelayOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode with late actions; 0 = never", config::between(0, 1));
  v("steps", steps, "control steps between a decision and its effect", config::between(1, 100));
}

void DisruptionOptions::visit(config::Visitor& v) {
  scene.visit(v);
  v("action_noise", action_noise, "executed actions differ from decided ones");
  v("action_delay", action_delay, "actions take effect later");
}

std::unique_ptr<Environment> with_action_disruptions(std::unique_ptr<Environment> environment,
                                                     const DisruptionOptions& options) {
  if (options.action_noise.probability == 0 && options.action_delay.probability == 0) return environment;
  return std::make_unique<ActionDisruptions>(std::move(environment), options);
}

}  // namespace apo::deploy
