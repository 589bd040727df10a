// An environment and a person of one's own for the shipped programs: a dot that should reach a square.
//   apo-collect --plugin build/libreach.so --set environment.type=reach --demonstrations --output demos.hdf5
#include <apo/base/plugin.h>
#include <apo/base/random.h>
#include <apo/deploy/environment.h>
#include <apo/deploy/intervention.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

using namespace apo;

class Reach : public deploy::Environment {
 public:
  void reset(uint64_t seed) override {
    Random random(seed, "reach");
    for (double* place : {&x_, &y_, &goal_x_, &goal_y_}) *place = 0.1 + 0.8 * random.uniform();
    steps_ = 0;
  }
  Observation observe() override {
    return {.images = {{"top", render(32)}}, .state = {}, .instruction = "reach the square"};
  }
  void step(const Action& action) override {
    x_ = std::clamp(x_ + 0.1 * action[0], 0.0, 1.0);
    y_ = std::clamp(y_ + 0.1 * action[1], 0.0, 1.0);
    ++steps_;
  }
  bool done() const override { return success(); }
  bool success() const override { return std::hypot(goal_x_ - x_, goal_y_ - y_) < 0.06; }
  std::string outcome() const override { return success() ? "success" : "running"; }
  int64_t action_size() const override { return 2; }
  int64_t step_count() const override { return steps_; }
  int64_t max_steps() const override { return 30; }
  double control_hz() const override { return 10; }
  at::Tensor render(int64_t size) override {  // [size, size, 3] uint8: the square green, the dot white
    at::Tensor picture = at::zeros({size, size, 3}, at::kByte);
    const auto paint = [&](double x, double y, int64_t half, at::IntArrayRef color) {
      const auto cut = [&](const at::Tensor& whole, int64_t axis, double at) {
        const int64_t begin = std::clamp<int64_t>(std::lround(at * size) - half, 0, size - 1);
        return whole.slice(axis, begin, begin + 2 * half);
      };
      cut(cut(picture, 0, y), 1, x).copy_(at::tensor(color, at::kByte));
    };
    paint(goal_x_, goal_y_, size / 10, {0, 200, 0});
    paint(x_, y_, size / 16, {255, 255, 255});
    return picture;
  }
  std::optional<std::string> concern() const override {
    if (steps_ > 15) return "slow";
    return std::nullopt;
  }
  std::optional<Action> expert_action() const override {
    const auto toward = [](double from, double to) { return std::clamp((to - from) / 0.1, -1.0, 1.0); };
    return Action{float(toward(x_, goal_x_)), float(toward(y_, goal_y_))};
  }
  std::string name() const override { return "reach"; }

 private:
  double x_ = 0, y_ = 0, goal_x_ = 0, goal_y_ = 0;
  int64_t steps_ = 0;
};

// A person who takes over as soon as there is a concern, and finishes.
class Impatient : public deploy::InterventionSource {
 public:
  std::optional<deploy::Intervention> decide(deploy::Environment& world, const Observation&,
                                             const Action&) override {
    if (const auto concern = world.concern()) return deploy::Intervention{*world.expert_action(), *concern};
    return std::nullopt;
  }
};

APO_PLUGIN() {
  deploy::register_environment("reach", [](const auto&) { return std::make_unique<Reach>(); });
  deploy::register_intervention_source("impatient", [](const auto&) { return std::make_unique<Impatient>(); });
}
