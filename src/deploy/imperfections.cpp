#include "deploy/imperfections.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/gripper.h"
#include "apo/config/options.h"

namespace apo::deploy {
namespace {

void check(const ImperfectionOptions& options) {
  const auto expect = [](bool holds, const char* key, const char* expected, auto found) {
    APO_CHECK(ConfigError, holds, "deploy.intervention.scripted.imperfect.", key, ": expected ", expected,
              ", found ", found);
  };
  const auto probability = [&](const char* key, double p) {
    expect(p >= 0 && p <= 1, key, "a probability, 0 to 1", p);
  };
  expect(options.delay_steps >= 0, "delay_steps", "0 steps or more", options.delay_steps);
  expect(options.hesitation_steps >= 0, "hesitation_steps", "0 steps or more", options.hesitation_steps);
  expect(options.tremor >= 0 && options.tremor <= 2, "tremor", "0 to 2 units of action", options.tremor);
  probability("needless_probability", options.needless_probability);
  expect(options.needless_steps >= 1, "needless_steps", "1 step or more", options.needless_steps);
  probability("wrong_probability", options.wrong_probability);
  expect(options.wrong_steps >= 1, "wrong_steps", "1 step or more", options.wrong_steps);
}

std::vector<int64_t> grippers(const environments::EnvironmentSpec& spec, const Action& action) {
  return config::gripper_dimensions(spec.gripper, std::ssize(action), spec.name);
}

// The first `count` numbers of an action that are no grippers: x, y, z.
std::vector<size_t> motion(const environments::EnvironmentSpec& spec, const Action& action, size_t count) {
  const std::vector<int64_t> not_those = grippers(spec, action);
  std::vector<size_t> dimensions;
  for (size_t d = 0; d < std::min(count, action.size()); ++d)
    if (!std::ranges::binary_search(not_those, static_cast<int64_t>(d))) dimensions.push_back(d);
  return dimensions;
}

// The arm stands still, the gripper's command stays.
Action stopped(const environments::EnvironmentSpec& spec, const Action& executed) {
  Action action = spec.idle;
  for (const int64_t d : grippers(spec, action)) {
    const auto g = static_cast<size_t>(d);
    if (g < executed.size()) action[g] = executed[g];
  }
  return action;
}

}  // namespace

Imperfections::Imperfections(const ImperfectionOptions& options) : options_(options) { check(options); }

void Imperfections::reset(uint64_t seed) {
  wrong_random_ = Random(seed, "human/wrong");
  tremor_random_ = Random(seed, "human/tremor");
  Random needless(seed, "human/needless");
  needless_step_ = needless.uniform() < options_.needless_probability
                       ? static_cast<int64_t>(needless.below(static_cast<uint64_t>(options_.needless_steps)))
                       : -1;
  wrong_ = false;
}

void Imperfections::begin_take_over() {
  needless_step_ = -1;
  wrong_ = options_.wrong_probability > 0 && wrong_random_.uniform() < options_.wrong_probability;
}

Action Imperfections::spoiled(Action expert, int64_t step, const environments::EnvironmentSpec& spec,
                              const Action& executed) {
  if (step < options_.hesitation_steps) return stopped(spec, executed);
  if (wrong_ && step < options_.hesitation_steps + options_.wrong_steps)
    for (const size_t d : motion(spec, expert, 2)) expert[d] = -expert[d];
  if (options_.tremor == 0) return expert;
  for (const size_t d : motion(spec, expert, 3)) {
    const float limit = std::max(1.0f, std::abs(expert[d]));
    expert[d] += static_cast<float>(options_.tremor * tremor_random_.normal());
    expert[d] = std::clamp(expert[d], -limit, limit);
  }
  return expert;
}

void ImperfectionOptions::visit(config::Visitor& v) {
  v("delay_steps", delay_steps,
    "steps between the one in which the human would take over for a concern and the one in which he does, "
    "even if the concern has passed",
    config::at_least(0));
  v("hesitation_steps", hesitation_steps,
    "first steps of a take-over in which he stops the arm and leaves the gripper's command as it is",
    config::at_least(0));
  v("tremor", tremor,
    "standard deviation of white noise on his x, y, z, in units of action, executed and recorded; within "
    "[-1, 1]",
    config::between(0, 2));
  v("needless_probability", needless_probability,
    "of an episode in which he takes over without a concern, if none comes before (reason \"needless\")",
    config::between(0, 1));
  v("needless_steps", needless_steps, "he does so in one of the first so many steps after the calm ones",
    config::at_least(1));
  v("wrong_probability", wrong_probability,
    "of a take-over that begins with a wrong correction: the expert's, its horizontal motion reversed",
    config::between(0, 1));
  v("wrong_steps", wrong_steps, "of a wrong correction, before he corrects rightly", config::at_least(1));
}

}  // namespace apo::deploy
