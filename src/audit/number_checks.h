// What the checks that look at the numbers of actions have in common.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "apo/config/gripper.h"
#include "apo/data/statistics.h"
#include "audit/checks.h"

namespace apo::audit {

inline constexpr double kOtherUnits = 5;      // ratio of two spreads
inline constexpr int64_t kFewSteps = 100;     // too few to compare sources by
inline constexpr int64_t kFewOfAnActor = 30;  // too few to compare by who acts in one source

inline bool is_finite(const Action& action) {
  return std::all_of(action.begin(), action.end(), [](float a) { return std::isfinite(a); });
}

/// Of an ActionSource, as a number.
inline const char* actor_name(size_t actor) {
  constexpr std::array<const char*, 3> names{"expert", "policy", "human"};
  return names.at(actor);
}

/// Which dimensions are grippers, as far as the sources and the policy say.
class Grippers {
 public:
  explicit Grippers(const DataOptions& options) : gripper_(gripper_of(options)) {}
  const GripperOptions& options() const { return gripper_; }
  std::vector<int64_t> of(size_t action_size) const {
    return gripper_dimensions(gripper_, static_cast<int64_t>(action_size));
  }
  bool is_gripper(size_t j, size_t action_size) const {
    const std::vector<int64_t> grippers = of(action_size);
    return std::find(grippers.begin(), grippers.end(), static_cast<int64_t>(j)) != grippers.end();
  }
  std::string dimension(size_t j, size_t action_size) const {
    return concat("dimension ", j, is_gripper(j, action_size) ? " (gripper)" : "");
  }

 private:
  GripperOptions gripper_;
};

/// Of the steps that training keeps.
class Numbers : public Check {
 public:
  using Check::Check;
  void see(const ScannedEpisode& e) override {
    for (size_t t = 0; t < e.steps.size(); ++t) {
      const Action& action = e.record.actions[t];
      if (e.steps[t].label == StepLabel::skipped || !is_finite(action)) continue;
      add(e, t, action);
    }
  }

 protected:
  virtual void add(const ScannedEpisode& e, size_t t, const Action& action) = 0;
};

/// What the statistics of the actions are computed from, and with them the normalisation: the expert sources'
/// steps if there are any, else all. Both are gathered, for an expert source may come to nothing.
class StatisticsSample {
 public:
  explicit StatisticsSample(size_t capacity = size_t{1} << 19) : all_(capacity), expert_(capacity) {}
  void add(const ScannedEpisode& e, const Action& action) {
    if (all_.size() != 0 && all_.size() != action.size()) return;  // told by shapes
    all_.add(action);
    if (e.in.is_expert) expert_.add(action);
  }
  bool of_experts() const { return expert_.num_seen() > 0; }
  const ActionSample& get() const { return of_experts() ? expert_ : all_; }
  const ActionSample& all() const { return all_; }

 private:
  ActionSample all_, expert_;
};

/// q99 - q01 of a dimension.
double spread_of(const ActionSample& sample, size_t j);
/// The one or two values that a dimension takes; empty if it takes more.
std::vector<double> few_values(const ActionSample& sample, size_t j);

/// units, signs: groups of steps beside each other.
void add_group_checks(const DataOptions& options, Checks& checks);

}  // namespace apo::audit
