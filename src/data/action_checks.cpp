// finite, range, spread, units, signs, constant: what the numbers of the actions say.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "apo/data/statistics.h"
#include "data/checks.h"

namespace apo::data {
namespace {

constexpr double kSmallestSpread = 1e-6;     // of q99 - q01, as in the statistics
constexpr double kFarOutside = 10;           // spreads beyond q01 or q99
constexpr double kOtherUnits = 5;            // ratio of two sources' spreads
constexpr int64_t kFewSteps = 100;           // too few to compare sources by
constexpr size_t kConstantRun = 10;          // equal actions in a row that look like a stuck policy
constexpr int64_t kEpisodesForSigns = 200;   // whose states are read, a source
constexpr double kBackwards = -0.3;          // correlation of an action with the motion along its axis

bool is_finite(const Action& action) {
  return std::all_of(action.begin(), action.end(), [](float a) { return std::isfinite(a); });
}

// The last dimension is the gripper, where there are several.
size_t num_moving(size_t action_size) { return action_size > 1 ? action_size - 1 : action_size; }

std::string dimension(size_t j, size_t action_size) {
  return concat("dimension ", j, action_size > 1 && j + 1 == action_size ? " (gripper)" : "");
}

std::string source_name(const ScannedFile& in) { return in.source.path; }

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
    if (count_ > 0) find(Severity::error, count_, " steps with NaN or infinite numbers (first: ", first_, ")");
  }

 private:
  int64_t count_ = 0;
  std::string first_;
};

class ActionRange : public Check {
 public:
  explicit ActionRange(double limit)
      : Check("range", concat("actions lie within ±", limit, " (data.filter.max_abs_action)")), limit_(limit) {}
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
        find(Severity::note, dimension(j, dimensions_.size()), ": ", share(dimensions_[j].count, steps_, "steps"),
             " beyond, the largest |a| is ", dimensions_[j].largest, " (first: ", dimensions_[j].first, ")");
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
  std::vector<Beyond> dimensions_;
  int64_t steps_ = 0, skipped_ = 0;
};

// Of the steps that training keeps, by source.
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

// What the statistics of the actions are computed from, and with them the normalisation: the expert sources' steps if
// there are any, else all. Both are gathered, for an expert source may come to nothing.
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

class Spread : public Numbers {
 public:
  Spread() : Numbers("spread", "every dimension varies (q01 < q99) and has no far outliers") {}

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
        const bool elsewhere = !nearly && all.max(j) > all.min(j);
        find(Severity::warning, dimension(j, n), ": q01 = q99 = ", q01, nearly ? " (nearly always the same" : " (always the same",
             elsewhere ? " in the expert sources" : "", "): it is left unnormalised, and the policy learns nothing there");
      } else if (j < num_moving(n) && (all.max(j) > q99 + kFarOutside * (q99 - q01) ||
                                       all.min(j) < q01 - kFarOutside * (q99 - q01))) {
        find(Severity::warning, dimension(j, n), ": q01..q99 is [", q01, ", ", q99, "], but the extremes are ",
             all.min(j), " and ", all.max(j), ": glitches or other units in some steps?");
      }
    }
    if (n > 0 && constant == n) find(Severity::error, "no dimension varies: there is nothing to learn");
  }
  StatisticsSample sample_;
};

class Units : public Numbers {
 public:
  explicit Units(double min_motion)
      : Numbers("units", "actions are of one scale in every source, and most of them move the robot"),
        min_motion_(min_motion) {}
  void see(const ScannedEpisode& e) override {
    Motion& motion = motions_[e.in.is_expert];
    for (const LabelledStep& step : e.steps) {
      motion.steps += step.filtered || step.label == StepLabel::desirable || step.label == StepLabel::intervention;
      motion.still += step.filtered && step.reason == "idle";
    }
    Numbers::see(e);
  }

 private:
  struct Source {
    std::string name;
    bool is_expert = false;
    ActionSample sample{size_t{1} << 16};
  };
  struct Motion {
    int64_t steps = 0, still = 0;
  };
  void add(const ScannedEpisode& e, size_t, const Action& action) override {
    Source& source = sources_[e.in.source_number];
    source.name = source_name(e.in);
    source.is_expert = e.in.is_expert;
    if (source.sample.size() == 0 || source.sample.size() == action.size()) source.sample.add(action);
    statistics_.add(e, action);
  }
  void finish() override {
    const bool both = motions_[0].steps > 0 && motions_[1].steps > 0;
    for (const bool is_expert : {true, false}) {
      const Motion& motion = motions_[is_expert];
      if (2 * motion.still > motion.steps)
        find(Severity::warning,
             share(motion.still, motion.steps, !both ? "steps" : is_expert ? "expert steps" : "interaction steps"),
             " to imitate move by less than ", min_motion_,
             " (data.filter.min_motion) and are left out: metres or radians where the robot's own units are expected?");
    }
    for (auto a = sources_.begin(); a != sources_.end(); ++a)
      for (auto b = std::next(a); b != sources_.end(); ++b)
        if (a->second.is_expert == b->second.is_expert)
          compare(a->second.name, a->second.sample, b->second.name, b->second.sample, false);
    if (!statistics_.of_experts()) return;
    // interactions are normalised by the experts' statistics, whatever single source of theirs looks like
    std::string experts;
    for (const auto& [number, source] : sources_)
      if (source.is_expert) experts = experts.empty() ? source.name : "the expert sources";
    for (const auto& [number, source] : sources_)
      if (!source.is_expert) compare(experts, statistics_.get(), source.name, source.sample, true);
  }
  // Where `normalises`, a dimension that does not vary in `a` must not vary in `b` either.
  void compare(const std::string& a_name, const ActionSample& a, const std::string& b_name, const ActionSample& b,
               bool normalises) {
    if (a.num_seen() < kFewSteps || b.num_seen() < kFewSteps || a.size() != b.size()) return;
    for (size_t j = 0; j < num_moving(a.size()); ++j) {
      const auto spread = [j](const ActionSample& sample) {
        const auto x = sample.sorted_column(j);
        return quantile(x, 0.99) - quantile(x, 0.01);
      };
      const double x = spread(a), y = spread(b);
      if (y < kSmallestSpread || (x < kSmallestSpread && !normalises) || std::max(x, y) < kOtherUnits * std::min(x, y))
        continue;
      find(Severity::warning, dimension(j, a.size()), ": spreads over ", x, " in ", a_name, " and over ", y, " in ", b_name,
           ": other units?");
    }
  }
  double min_motion_;
  Motion motions_[2];   // of interactions, of experts
  std::map<int64_t, Source> sources_;
  StatisticsSample statistics_{size_t{1} << 16};
};

// Correlation of two numbers, gathered pair by pair.
struct Correlation {
  double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  void add(double a, double b) { n += 1, x += a, y += b, xx += a * a, yy += b * b, xy += a * b; }
  double value() const {
    const double sx = n * xx - x * x, sy = n * yy - y * y;
    return sx > 0 && sy > 0 ? (n * xy - x * y) / std::sqrt(sx * sy) : 0.0;
  }
};

class Signs : public Numbers {
 public:
  Signs() : Numbers("signs", "gripper and motions have one sign convention in every source") {}
  void see(const ScannedEpisode& e) override {
    Numbers::see(e);
    Source& source = sources_[e.in.source_number];
    source.name = source_name(e.in);
    const Action& first = e.record.actions[0];
    if (first.size() > 1 && std::isfinite(first.back())) (first.back() > source.middle() ? source.starts_high : source.starts_low)++;
    if (++source.episodes <= kEpisodesForSigns) correlate(e, source);
  }

 private:
  struct Source {
    std::string name;
    float lowest = 0, highest = 0;
    int64_t starts_high = 0, starts_low = 0, episodes = 0;
    std::map<std::string, std::array<Correlation, 3>> motions;   // by state
    float middle() const { return lowest < -0.25f ? 0.0f : 0.5f; }
  };
  void add(const ScannedEpisode& e, size_t, const Action& action) override {
    if (action.size() < 2) return;
    Source& source = sources_[e.in.source_number];
    source.lowest = std::min(source.lowest, action.back());
    source.highest = std::max(source.highest, action.back());
  }
  // Does the hand go where the first three numbers of the action say?
  static void correlate(const ScannedEpisode& e, Source& source) {
    for (const auto& [name, width] : e.record.states) {
      if (width < 3 || (name.find("eef_pos") == std::string::npos && name.find("ee_pos") == std::string::npos)) continue;
      if (e.record.actions[0].size() < 4) continue;
      for (int64_t t = 0; t + 1 < e.record.num_steps(); ++t) {
        const auto now = e.in.file.state(e.index, t).state.at(name), next = e.in.file.state(e.index, t + 1).state.at(name);
        const Action& action = e.record.actions[static_cast<size_t>(t)];
        if (!is_finite(action)) continue;
        for (size_t j = 0; j < 3; ++j)
          source.motions[name][j].add(static_cast<double>(action[j]), static_cast<double>(next[j]) - static_cast<double>(now[j]));
      }
    }
  }
  void finish() override {
    for (const auto& [number, source] : sources_)
      for (const auto& [state, axes] : source.motions)
        for (size_t j = 0; j < 3; ++j)
          if (axes[j].n >= kFewSteps && axes[j].value() < kBackwards)
            find(Severity::warning, "dimension ", j, ": ", state, " moves against it in ", source.name, " (correlation ",
                 axes[j].value(), "): a wrong sign, or another frame?");
    for (auto a = sources_.begin(); a != sources_.end(); ++a)
      for (auto b = std::next(a); b != sources_.end(); ++b) compare(a->second, b->second);
  }
  void compare(const Source& a, const Source& b) {
    const auto from_zero = [](const Source& s) { return s.lowest >= 0 && s.highest > 0.5f; };
    const auto both_signs = [](const Source& s) { return s.lowest < -0.5f; };
    if ((from_zero(a) && both_signs(b)) || (from_zero(b) && both_signs(a)))
      find(Severity::warning, "gripper: 0..1 in ", from_zero(a) ? a.name : b.name, ", -1..1 in ",
           from_zero(a) ? b.name : a.name);
    const auto starts_high = [](const Source& s) { return s.starts_high > 3 * s.starts_low; };
    const auto starts_low = [](const Source& s) { return s.starts_low > 3 * s.starts_high; };
    if ((starts_high(a) && starts_low(b)) || (starts_low(a) && starts_high(b)))
      find(Severity::warning, "gripper: episodes of ", a.name, " begin with it ", starts_high(a) ? "high" : "low",
           ", those of ", b.name, " the other way round: opposite conventions?");
  }
  std::map<int64_t, Source> sources_;
};

class ConstantPolicy : public Check {
 public:
  ConstantPolicy() : Check("constant", concat("the policy never gave the same action ", kConstantRun, " times in a row")) {}
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
    find(nearly_all ? Severity::error : Severity::warning, share(constant_steps_, policy_steps_, "policy steps"), " in ",
         episodes_, " episodes repeat one action, at most ", longest_, " times in a row (first: ", first_,
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
  checks.push_back(std::make_unique<ActionRange>(options.filter.max_abs_action));
  checks.push_back(std::make_unique<Spread>());
  checks.push_back(std::make_unique<Units>(options.filter.min_motion));
  checks.push_back(std::make_unique<Signs>());
  checks.push_back(std::make_unique<ConstantPolicy>());
}

}  // namespace apo::data
