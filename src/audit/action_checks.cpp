// finite, range, spread, constant: what the numbers of the actions say.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/data/statistics.h"
#include "audit/number_checks.h"

namespace apo::audit {
namespace {

constexpr double kFarOutside = 10;   // spreads beyond q01 or q99
constexpr size_t kConstantRun = 10;  // equal actions in a row that look like a stuck policy

class Finite : public Check {
 public:
  Finite() : Check("finite", "no action is NaN or infinite") {}
  void see(const ScannedEpisode& e) override {
    for (size_t t = 0; t < e.record.actions.size(); ++t) {
      if (!e.record.recorded[t] || is_finite(e.record.actions[t])) continue;
      if (++count_ == 1) first_ = place(e, t);
    }
  }
  void finish() override {
    if (count_ > 0)
      find(Severity::error, count_, " steps with NaN or infinite numbers (first: ", first_, ")");
  }

 private:
  int64_t count_ = 0;
  std::string first_;
};

class ActionRange : public Check {
 public:
  explicit ActionRange(const DataOptions& options)
      : Check("range",
              concat("actions lie within ±", options.filter.max_abs_action, " (data.filter.max_abs_action)")),
        limit_(options.filter.max_abs_action),
        grippers_(options) {}
  void see(const ScannedEpisode& e) override {
    for (size_t t = 0; t < e.record.actions.size(); ++t) {
      if (!e.record.recorded[t]) continue;
      bool outside = false;
      for (size_t j = 0; j < e.record.actions[t].size(); ++j) {
        const double a = std::abs(static_cast<double>(e.record.actions[t][j]));
        if (!(a > limit_)) continue;
        outside = true;
        if (dimensions_.size() <= j) dimensions_.resize(e.record.actions[t].size());
        Beyond& beyond = dimensions_[j];
        if (beyond.count++ == 0) beyond.first = place(e, t);
        beyond.largest = std::max(beyond.largest, a);
      }
      ++steps_;
      skipped_ += outside;
    }
  }
  void finish() override {
    if (skipped_ == 0) return;
    for (size_t j = 0; j < dimensions_.size(); ++j)
      if (dimensions_[j].count > 0)
        find(Severity::note, grippers_.dimension(j, dimensions_.size()), ": ",
             share(dimensions_[j].count, steps_, "steps"), " beyond, the largest |a| is ",
             dimensions_[j].largest, " (first: ", dimensions_[j].first, ")");
    if (2 * skipped_ > steps_)
      find(Severity::error, share(skipped_, steps_, "steps"),
           " would be skipped: the actions are not in [-1, 1]; normalise them, or raise the limit");
    else
      find(Severity::warning, share(skipped_, steps_, "steps"), " are skipped for it");
  }

 private:
  struct Beyond {
    int64_t count = 0;
    double largest = 0;
    std::string first;
  };
  double limit_;
  Grippers grippers_;
  std::vector<Beyond> dimensions_;
  int64_t steps_ = 0, skipped_ = 0;
};

class Spread : public Numbers {
 public:
  explicit Spread(const DataOptions& options)
      : Numbers("spread", "every dimension varies (q01 < q99) and has no far outliers"), grippers_(options) {}

 private:
  void add(const ScannedEpisode& e, size_t, const Action& action) override { sample_.add(e, action); }
  void finish() override {
    const ActionSample &statistics = sample_.get(), &all = sample_.all();
    size_t constant = 0;
    const size_t n = statistics.size();
    for (size_t j = 0; j < n; ++j) {
      const std::vector<double> x = statistics.sorted_column(j);
      const double q01 = quantile(x, 0.01), q99 = quantile(x, 0.99);
      if (q99 - q01 < kSmallestSpread) {
        ++constant;
        const bool nearly = statistics.max(j) > statistics.min(j);
        const bool pinned =
            statistics.max(j) - statistics.min(j) < kSmallestSpread && !grippers_.is_gripper(j, n);
        const bool elsewhere = !nearly && all.max(j) > all.min(j);
        // the number is learned and given back as it is; whoever moves there is another matter
        const Severity severity = pinned && !nearly && !elsewhere ? Severity::note : Severity::warning;
        find(severity, grippers_.dimension(j, n), ": q01 = q99 = ", q01,
             nearly ? " (nearly always the same" : " (always the same",
             elsewhere ? " in the expert sources" : "",
             pinned ? "): every action of a policy that learns from this has that number there"
                    : "): it is left unnormalised, and the policy learns nothing there",
             like_no_gripper(all, j));
      } else if (!grippers_.is_gripper(j, n) && (all.max(j) > q99 + kFarOutside * (q99 - q01) ||
                                                 all.min(j) < q01 - kFarOutside * (q99 - q01))) {
        find(Severity::warning, grippers_.dimension(j, n), ": q01..q99 is [", q01, ", ", q99,
             "], but the extremes are ", all.min(j), " and ", all.max(j),
             ": glitches or other units in some steps?");
      }
    }
    if (n > 0 && constant == n) find(Severity::error, "no dimension varies: there is nothing to learn");
    look_for_grippers(all);
  }
  // Said of a dimension that never changes, if it counts as a gripper because nobody said where that is.
  std::string like_no_gripper(const ActionSample& all, size_t j) const {
    if (!grippers_.is_gripper(j, all.size()) || !grippers_.options().dimension.empty()) return "";
    return concat(
        "; the last number of an action counts as its gripper, and this one does not look like it: `gripper: "
        "{dimension: N}` of its source says where it is",
        candidates(all));
  }
  // A gripper that takes many values beside a dimension that takes two.
  void look_for_grippers(const ActionSample& all) {
    if (!grippers_.options().dimension.empty() || all.num_seen() < kFewSteps) return;
    for (const int64_t g : grippers_.of(all.size())) {
      const std::string others = candidates(all);
      if (!others.empty() && few_values(all, static_cast<size_t>(g)).empty())
        find(Severity::warning, "dimension ", g, " (gripper): takes many values", others,
             "; `gripper: {dimension: N}` of its source says where it is");
    }
  }
  std::string candidates(const ActionSample& all) const {
    std::string text;
    for (size_t j = 0; j < all.size(); ++j) {
      const std::vector<double> values = few_values(all, j);
      if (values.size() != 2 || grippers_.is_gripper(j, all.size())) continue;
      text += concat(text.empty() ? ", and " : "; ", "dimension ", j, " takes two (", values[0], " and ",
                     values[1], ")");
    }
    return text;
  }
  Grippers grippers_;
  StatisticsSample sample_;
};

class ConstantPolicy : public Check {
 public:
  ConstantPolicy()
      : Check("constant", concat("the policy never gave the same action ", kConstantRun, " times in a row")) {
  }
  void see(const ScannedEpisode& e) override {
    size_t run = 0;
    bool found = false;
    for (size_t t = 0; t < e.record.actions.size(); ++t) {
      const bool policy = e.record.recorded[t] && e.record.sources[t] == ActionSource::policy;
      policy_steps_ += policy;
      run = !policy ? 0 : run > 0 && e.record.actions[t] == e.record.actions[t - 1] ? run + 1 : 1;
      if (run < kConstantRun) continue;
      constant_steps_ += run == kConstantRun ? static_cast<int64_t>(kConstantRun) : 1;
      longest_ = std::max(longest_, run);
      if (!found && episodes_++ == 0) first_ = place(e, t + 1 - kConstantRun);
      found = true;
    }
  }
  void finish() override {
    if (episodes_ == 0) return;
    const bool nearly_all = 10 * constant_steps_ > 9 * policy_steps_;
    find(nearly_all ? Severity::error : Severity::warning,
         share(constant_steps_, policy_steps_, "policy steps"), " in ", episodes_,
         " episodes repeat one action, at most ", longest_, " times in a row (first: ", first_,
         "): a stuck policy, or the recorder missed its actions");
  }

 private:
  int64_t policy_steps_ = 0, constant_steps_ = 0, episodes_ = 0;
  size_t longest_ = 0;
  std::string first_;
};

}  // namespace

void add_action_checks(const DataOptions& options, Checks& checks) {
  checks.push_back(std::make_unique<Finite>());
  checks.push_back(std::make_unique<ActionRange>(options));
  checks.push_back(std::make_unique<Spread>(options));
  add_group_checks(options, checks);
  checks.push_back(std::make_unique<ConstantPolicy>());
}

}  // namespace apo::audit
