#include "data/onset.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"

namespace apo::data {
namespace {

constexpr double kNoMotion = 1e-3;  // Σ|mean| of a human who does not move, whatever the filters say
constexpr int64_t kPause = 1;       // agreeing steps in a row that do not end a mistake

// The numbers of an action that move the robot.
std::vector<double> motion(const Action& action, std::span<const int64_t> gripper) {
  std::vector<double> numbers;
  for (size_t j = 0; j < action.size(); ++j)
    if (!std::binary_search(gripper.begin(), gripper.end(), static_cast<int64_t>(j)))
      numbers.push_back(static_cast<double>(action[j]));
  return numbers;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

double squared_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) sum += (a[j] - b[j]) * (a[j] - b[j]);
  return sum;
}

class Mean {
 public:
  void add(const std::vector<double>& numbers) {
    sum_.resize(numbers.size(), 0.0);
    for (size_t j = 0; j < numbers.size(); ++j) sum_[j] += numbers[j];
    ++count_;
  }
  bool empty() const { return count_ == 0; }
  std::vector<double> value() const {
    std::vector<double> mean = sum_;
    for (double& x : mean) x /= static_cast<double>(count_);
    return mean;
  }

 private:
  std::vector<double> sum_;
  int64_t count_ = 0;
};

}  // namespace

std::optional<int64_t> estimate_window(const TakeOverView& in) {
  Mean human, policy;
  for (const size_t i : in.human) {
    human.add(motion(in.episode.actions[i], in.gripper));
    if (const auto& wanted = in.episode.policy_actions[i]) policy.add(motion(*wanted, in.gripper));
  }
  APO_ASSERT(!human.empty());
  const std::vector<double> correction = human.value();
  const std::vector<double> wanted = policy.empty() ? std::vector<double>{} : policy.value();
  double size = 0;
  for (const double x : correction) size += std::abs(x);
  if (!(size >= std::max(in.min_motion, kNoMotion))) return std::nullopt;
  const auto wrong = [&](size_t i) {
    const std::vector<double> action = motion(in.episode.actions[i], in.gripper);
    if (dot(action, correction) < 0) return true;
    return !wanted.empty() && squared_distance(action, wanted) < squared_distance(action, correction);
  };
  const int64_t n = std::ssize(in.before), most = std::min(n, in.max_window);
  int64_t length = std::min<int64_t>(most, 1);
  int64_t pause = 0;
  for (int64_t back = 1; back <= most && pause <= kPause; ++back) {
    const size_t i = in.before[static_cast<size_t>(n - back)];
    const bool part = wrong(i) || (in.since && static_cast<int64_t>(i) >= *in.since);
    pause = part ? 0 : pause + 1;
    if (part) length = back;
  }
  return length;
}

}  // namespace apo::data
