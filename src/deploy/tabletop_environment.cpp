#include "deploy/tabletop_environment.h"

#include <algorithm>

#include "apo/config/options.h"
#include "apo/simulation/rendering.h"

namespace apo::deploy {
namespace {

class TabletopEnvironment : public Environment {
 public:
  explicit TabletopEnvironment(const EnvironmentOptions& options)
      : options_(options), table_(options.tabletop, options.disruptions.scene) {
    simulation::renderer_name();  // a machine that cannot draw is told now, not after files were begun
  }

  void reset(uint64_t seed) override {
    table_.reset(seed);
    states_ = {table_.state()};
  }
  Observation observe() override { return table_.observe(); }
  void step(const Action& action) override {
    table_.step(action);
    states_.push_back(table_.state());
  }

  bool done() const override { return table_.success() || table_.failed(); }
  bool success() const override { return table_.success(); }
  bool flawless() const override { return table_.success() && !table_.ever_near_wrong(); }
  std::string outcome() const override { return done() ? table_.outcome() : "running"; }

  int64_t action_size() const override { return simulation::kActionSize; }
  int64_t step_count() const override { return table_.state().num_steps; }
  int64_t max_steps() const override { return options_.tabletop.max_steps; }
  double control_hz() const override { return simulation::kControlRateHz; }
  at::Tensor render(int64_t size) override { return table_.render(static_cast<int>(size)); }

  std::optional<std::string> concern() const override { return simulation::tabletop_concern(states_); }
  int64_t concern_steps() const override {
    return concern() == "stuck" ? simulation::steps_stuck(states_) : 0;
  }
  std::optional<Action> expert_action() const override { return simulation::scripted_expert(table_.state()); }
  Facts facts() const override {
    const simulation::TabletopState state = table_.state();
    Facts facts = {{"target", state.target == 0 ? "red" : "blue"},
                   {"layout", state.habit ? "habit" : "swapped"}};
    const std::vector<std::string> met = table_.disrupted_by();
    simulation::SceneDisruptionOptions disruptions = options_.disruptions.scene;
    disruptions.for_each([&](const std::string& name, const auto& section) {
      if (section.probability > 0) facts[name] = std::ranges::find(met, name) != met.end() ? "yes" : "no";
    });
    return facts;
  }
  std::vector<std::string> disruptions() const override { return simulation::scene_disruption_names(); }
  std::string name() const override { return "tabletop"; }
  std::string config() const override { return config::print(options_); }

 private:
  EnvironmentOptions options_;
  simulation::Tabletop table_;
  std::vector<simulation::TabletopState> states_ = {table_.state()};  // of the running episode
};

}  // namespace

std::unique_ptr<Environment> make_tabletop_environment(const EnvironmentOptions& options) {
  return std::make_unique<TabletopEnvironment>(options);
}

}  // namespace apo::deploy
