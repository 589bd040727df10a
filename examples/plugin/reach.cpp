// An environment of one's own for the shipped programs, with one option: a dot should reach a square.
//   apo-collect --plugin build/libreach.so --config mine.yaml --demonstrations --output demos.hdf5
// where mine.yaml says environment: {type: reach, reach: {near: 0.1}}
#include <apo/base/plugin.h>
#include <apo/base/random.h>
#include <apo/environments/environment.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

using namespace apo;

struct ReachOptions {  // environment.reach
  double near = 0.06;
  void visit(config::Visitor& v) { v("near", near, "this near is there", config::positive()); }
};

class Reach : public environments::Environment {
 public:
  explicit Reach(const ReachOptions& own)
      : Environment({.name = "reach", .action_size = 2, .max_steps = 30, .control_hz = 10}), own_(own) {}
  environments::Situation reset(uint64_t seed) override {
    Random random(seed, "reach");
    for (double* place : {&x_, &y_, &goal_x_, &goal_y_}) *place = 0.1 + 0.8 * random.uniform();
    steps_ = -1;
    return step({0, 0});
  }
  Observation observe() override { return {{{"top", render(32)}}, {}, "reach the square"}; }
  environments::Situation step(const Action& action) override {
    x_ = std::clamp(x_ + 0.1 * action[0], 0.0, 1.0);
    y_ = std::clamp(y_ + 0.1 * action[1], 0.0, 1.0);
    environments::Situation now;
    now.done = now.success = std::hypot(goal_x_ - x_, goal_y_ - y_) < own_.near;
    if (++steps_ > 15) now.concern = "slow";
    return now;
  }
  at::Tensor render(int64_t size) override {  // [size, size, 3] uint8: the square green, the dot white
    at::Tensor picture = at::zeros({size, size, 3}, at::kByte);
    const auto paint = [&](double x, double y, int64_t half, at::IntArrayRef color) {
      const auto from = [&](double at) { return std::clamp(std::lround(at * size) - half, 0L, size - 1); };
      const at::Tensor column = picture.slice(1, from(x), from(x) + 2 * half);
      column.slice(0, from(y), from(y) + 2 * half).copy_(at::tensor(color, at::kByte));
    };
    paint(goal_x_, goal_y_, size / 10, {0, 200, 0});
    paint(x_, y_, size / 16, {255, 255, 255});
    return picture;
  }
  std::optional<Action> expert() override {
    const auto toward = [](double way) { return float(std::clamp(way / 0.1, -1.0, 1.0)); };
    return Action{toward(goal_x_ - x_), toward(goal_y_ - y_)};
  }

 private:
  ReachOptions own_;
  double x_ = 0, y_ = 0, goal_x_ = 0, goal_y_ = 0;
  int64_t steps_ = 0;
};

APO_PLUGIN() { environments::register_environment<ReachOptions, Reach>("reach"); }
