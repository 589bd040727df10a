#include "environments/tabletop_environment.h"

#include <algorithm>

#include "apo/config/options.h"
#include "apo/simulation/rendering.h"
#include "apo/simulation/tabletop.h"

namespace apo::environments {
namespace {

// What moves a camera that nobody looks through disrupts nothing.
std::vector<std::string> disruptions(const simulation::TabletopOptions& options) {
  std::vector<std::string> names = simulation::scene_disruption_names();
  if (std::ranges::count(options.cameras, "front") == 0) std::erase(names, "camera_moved");
  return names;
}

EnvironmentOptions as_it_is_played(EnvironmentOptions options) {
  auto& own = options.of<simulation::TabletopOptions>();
  if (options.demonstrating) own.habit = own.demonstration_habit;
  return options;
}

class TabletopEnvironment : public Environment {
 public:
  explicit TabletopEnvironment(const EnvironmentOptions& options)
      : Environment({.name = "tabletop",
                     .config = config::print(options),
                     .action_size = simulation::kActionSize,
                     .max_steps = options.of<simulation::TabletopOptions>().max_steps,
                     .control_hz = simulation::kControlRateHz,
                     .disruptions = disruptions(options.of<simulation::TabletopOptions>())}),
        table_(options.of<simulation::TabletopOptions>(), options.disruptions.scene),
        scene_(options.disruptions.scene) {
    simulation::renderer_name();  // a machine that cannot draw is told now, not after files were begun
  }

  Situation reset(uint64_t seed) override {
    table_.reset(seed);
    states_ = {table_.state()};
    return situation();
  }
  Observation observe() override { return table_.observe(); }
  Situation step(const Action& action) override {
    table_.step(action);
    states_.push_back(table_.state());
    return situation();
  }
  at::Tensor render(int64_t size) override { return table_.render(static_cast<int>(size)); }
  std::optional<Action> expert() override { return simulation::scripted_expert(table_.state()); }

 private:
  Situation situation() {
    const simulation::TabletopState& state = states_.back();
    Situation now{.done = table_.success() || table_.failed(),
                  .success = table_.success(),
                  .troubled = table_.ever_near_wrong(),
                  .outcome = table_.outcome(),
                  .concern = simulation::tabletop_concern(states_)};
    if (now.concern == "stuck") now.concern_steps = simulation::steps_stuck(states_);
    now.facts = {{"target", state.target == 0 ? "red" : "blue"},
                 {"layout", state.habit ? "habit" : "swapped"}};
    const std::vector<std::string> met = table_.disrupted_by();
    scene_.for_each([&](const std::string& name, const auto& section) {
      if (section.probability > 0) now.facts[name] = std::ranges::find(met, name) != met.end() ? "yes" : "no";
    });
    return now;
  }

  simulation::Tabletop table_;
  simulation::SceneDisruptionOptions scene_;
  std::vector<simulation::TabletopState> states_;  // of the running episode
};

}  // namespace

std::unique_ptr<Environment> make_tabletop_environment(const EnvironmentOptions& options) {
  return std::make_unique<TabletopEnvironment>(as_it_is_played(options));
}

}  // namespace apo::environments
