#include "deploy/tabletop_environment.h"

#include <array>
#include <cmath>

#include "apo/config/options.h"

namespace apo::deploy {
namespace {

// Where a watching human steps in, metres.
constexpr double kWrongObjectRadius = 0.05;
constexpr double kWrongObjectHeight = 0.09;
constexpr double kOffCourseRadius = 0.05;
constexpr double kOffCourseLow = 0.045;
constexpr double kOffCourseHigh = 0.07;

double distance_on_table(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1]);
}

class TabletopEnvironment : public Environment {
 public:
  explicit TabletopEnvironment(const simulation::TabletopOptions& options)
      : options_(options), table_(options) {}

  void reset(uint64_t seed) override { table_.reset(seed); }
  Observation observe() override { return table_.observe(); }
  void step(const Action& action) override { table_.step(action); }

  bool done() const override { return table_.success() || table_.failed(); }
  bool success() const override { return table_.success(); }
  bool flawless() const override { return table_.success() && !table_.ever_near_wrong(); }
  std::string outcome() const override { return done() ? table_.outcome() : "running"; }

  int64_t action_size() const override { return simulation::kActionSize; }
  int64_t step_count() const override { return table_.state().num_steps; }
  int64_t max_steps() const override { return options_.max_steps; }
  double control_hz() const override { return simulation::kControlRateHz; }
  at::Tensor render(int64_t size) override { return table_.render(static_cast<int>(size)); }

  std::optional<std::string> concern() const override { return tabletop_concern(table_.state()); }
  std::optional<Action> expert_action() const override { return simulation::scripted_expert(table_.state()); }
  Facts facts() const override {
    const simulation::TabletopState state = table_.state();
    Facts facts = {{"target", state.target == 0 ? "red" : "blue"},
                   {"layout", state.habit ? "habit" : "swapped"}};
    if (options_.disruption.object_moved.probability > 0)
      facts["object_moved"] = state.object_moved ? "yes" : "no";
    return facts;
  }
  std::string name() const override { return "tabletop"; }
  std::string config() const override { return config::print(options_); }

 private:
  simulation::TabletopOptions options_;
  simulation::Tabletop table_;
};

}  // namespace

std::optional<std::string> tabletop_concern(const simulation::TabletopState& state) {
  const double to_target = distance_on_table(state.hand, state.target_block());
  const double to_other = distance_on_table(state.hand, state.other_block());
  const double above_other = state.hand[2] - state.other_block()[2];
  if (to_other < kWrongObjectRadius && to_other < to_target && above_other < kWrongObjectHeight)
    return "wrong object";
  const double above_target = state.hand[2] - state.target_block()[2];
  if (above_target > kOffCourseLow && above_target < kOffCourseHigh && to_target > kOffCourseRadius)
    return "off course";
  return std::nullopt;
}

std::unique_ptr<Environment> make_tabletop_environment(const simulation::TabletopOptions& options) {
  return std::make_unique<TabletopEnvironment>(options);
}

}  // namespace apo::deploy
