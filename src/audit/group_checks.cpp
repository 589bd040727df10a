// units, signs: groups of steps beside each other. A group is a source, and within one source who acts.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "apo/data/statistics.h"
#include "audit/number_checks.h"

namespace apo::audit {
namespace {

constexpr int64_t kEpisodesForSigns = 200;  // whose states are read, a source
constexpr double kBackwards = -0.3;         // correlation of an action with the motion along its axis
constexpr int64_t kFewChanges = 4;          // of control, too few to compare the gripper's commands by
constexpr size_t kActors = 3;

size_t actor_of(const ScannedEpisode& e, size_t t) {
  return e.in.is_expert ? static_cast<size_t>(ActionSource::expert)
                        : static_cast<size_t>(e.record.sources[t]);
}

std::string source_and_actor(const std::string& source, size_t actor) {
  return concat(source, " (", actor_name(actor), ")");
}

class Units : public Numbers {
 public:
  explicit Units(const DataOptions& options)
      : Numbers("units",
                "actions are of one scale in every source and whoever acts, and most of them move the robot"),
        min_motion_(options.filter.min_motion),
        grippers_(options) {}
  void see(const ScannedEpisode& e) override {
    Motion& motion = motions_[e.in.is_expert];
    for (const LabelledStep& step : e.steps) {
      motion.steps += step.is_imitable();
      motion.still += step.filtered && step.reason == "idle";
    }
    Numbers::see(e);
  }

 private:
  struct Source {
    std::string name;
    bool is_expert = false;
    ActionSample sample{size_t{1} << 16};
    std::array<ActionSample, kActors> actors{ActionSample(size_t{1} << 15), ActionSample(size_t{1} << 15),
                                             ActionSample(size_t{1} << 15)};
  };
  struct Motion {
    int64_t steps = 0, still = 0;
  };
  void add(const ScannedEpisode& e, size_t t, const Action& action) override {
    Source& source = sources_[e.in.source_number];
    source.name = e.in.source.path;
    source.is_expert = e.in.is_expert;
    if (source.sample.size() != 0 && source.sample.size() != action.size()) return;  // told by shapes
    source.sample.add(action);
    source.actors[actor_of(e, t)].add(action);
    statistics_.add(e, action);
  }
  void finish() override {
    const bool both = motions_[0].steps > 0 && motions_[1].steps > 0;
    for (const bool is_expert : {true, false}) {
      const Motion& motion = motions_[is_expert];
      if (2 * motion.still > motion.steps)
        find(Severity::warning,
             share(motion.still, motion.steps,
                   !both       ? "steps"
                   : is_expert ? "expert steps"
                               : "interaction steps"),
             " to imitate move by less than ", min_motion_,
             " (data.filter.min_motion) and are left out: metres or radians where the robot's own units are "
             "expected?");
    }
    for (auto a = sources_.begin(); a != sources_.end(); ++a)
      for (auto b = std::next(a); b != sources_.end(); ++b)
        if (a->second.is_expert == b->second.is_expert)
          compare(a->second.name, a->second.sample, b->second.name, b->second.sample, kFewSteps, false);
    for (const auto& [number, source] : sources_)
      for (size_t a = 0; a < kActors; ++a)
        for (size_t b = a + 1; b < kActors; ++b)
          compare(source_and_actor(source.name, a), source.actors[a], source_and_actor(source.name, b),
                  source.actors[b], kFewOfAnActor, false);
    if (!statistics_.of_experts()) return;
    // interactions are normalised by the experts' statistics, whatever single source of theirs looks like
    std::string experts;
    for (const auto& [number, source] : sources_)
      if (source.is_expert) experts = experts.empty() ? source.name : "the expert sources";
    for (const auto& [number, source] : sources_)
      if (!source.is_expert) compare(experts, statistics_.get(), source.name, source.sample, kFewSteps, true);
  }
  // Where `normalises`, a dimension that does not vary in `a` must not vary in `b` either.
  void compare(const std::string& a_name, const ActionSample& a, const std::string& b_name,
               const ActionSample& b, int64_t few, bool normalises) {
    if (a.num_seen() < few || b.num_seen() < few || a.size() != b.size()) return;
    for (size_t j = 0; j < a.size(); ++j) {
      if (grippers_.is_gripper(j, a.size())) continue;
      const double x = spread_of(a, j), y = spread_of(b, j);
      if (y < kSmallestSpread || (x < kSmallestSpread && !normalises) ||
          std::max(x, y) < kOtherUnits * std::min(x, y))
        continue;
      find(Severity::warning, grippers_.dimension(j, a.size()), ": spreads over ", x, " in ", a_name,
           " and over ", y, " in ", b_name, ": other units?");
    }
  }
  double min_motion_;
  Grippers grippers_;
  Motion motions_[2];  // of interactions, of experts
  std::map<int64_t, Source> sources_;
  StatisticsSample statistics_{size_t{1} << 16};
};

// Correlation of two numbers, gathered pair by pair.
struct Correlation {
  double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  void add(double a, double b) { n += 1, x += a, y += b, xx += a * a, yy += b * b, xy += a * b; }
  void add(const Correlation& o) { n += o.n, x += o.x, y += o.y, xx += o.xx, yy += o.yy, xy += o.xy; }
  double value() const {
    const double sx = n * xx - x * x, sy = n * yy - y * y;
    return sx > 0 && sy > 0 ? (n * xy - x * y) / std::sqrt(sx * sy) : 0.0;
  }
};

// Where control passes from one to the other, and what the gripper's command does there.
struct Handovers {
  int64_t number = 0, opened = 0, closed = 0;  // "opened": from the lower to the higher command
  bool mostly_change() const { return 4 * (opened + closed) > 3 * number; }
};

class Signs : public Numbers {
 public:
  explicit Signs(const DataOptions& options)
      : Numbers("signs", "gripper and motions have one sign convention in every source, whoever acts"),
        grippers_(options) {}
  void see(const ScannedEpisode& e) override {
    Numbers::see(e);
    Source& source = sources_[e.in.source_number];
    source.name = e.in.source.path;
    const Action& first = e.record.actions[0];
    for (const int64_t g : grippers_.of(first.size())) {
      const float command = first[static_cast<size_t>(g)];
      if (std::isfinite(command)) (command > source.middle() ? source.starts_high : source.starts_low)++;
      count_handovers(e, static_cast<size_t>(g), source);
    }
    if (++source.episodes <= kEpisodesForSigns) correlate(e, source);
  }

 private:
  struct Range {
    float lowest = INFINITY, highest = -INFINITY;
    bool from_zero() const { return lowest >= 0 && lowest < 0.5f && highest > 0.5f; }
    bool both_signs() const { return lowest < -0.5f; }
  };
  struct Source {
    std::string name;
    Range range;
    std::array<Range, kActors> actors;
    int64_t starts_high = 0, starts_low = 0, episodes = 0;
    Handovers to_human, to_policy;
    std::map<std::string, std::array<std::array<Correlation, 3>, kActors>> motions;  // by state, actor, axis
    float middle() const { return range.lowest < -0.25f ? 0.0f : 0.5f; }
  };
  void add(const ScannedEpisode& e, size_t t, const Action& action) override {
    Source& source = sources_[e.in.source_number];
    for (const int64_t g : grippers_.of(action.size()))
      for (Range* range : {&source.range, &source.actors[actor_of(e, t)]}) {
        range->lowest = std::min(range->lowest, action[static_cast<size_t>(g)]);
        range->highest = std::max(range->highest, action[static_cast<size_t>(g)]);
      }
  }
  // On the recorded stream: a command that is turned round changes whenever control does.
  static void count_handovers(const ScannedEpisode& e, size_t gripper, Source& source) {
    std::optional<size_t> before;
    for (size_t t = 0; t < e.record.actions.size(); ++t) {
      if (!e.record.recorded[t] || e.in.is_expert) continue;
      const auto from = before, now = std::optional(t);
      before = now;
      if (!from || e.record.sources[*from] == e.record.sources[t]) continue;
      const bool human = e.record.sources[t] == ActionSource::intervention;
      if (!human && e.record.sources[*from] != ActionSource::intervention) continue;
      Handovers& handovers = human ? source.to_human : source.to_policy;
      const float middle = source.middle(), a = e.record.actions[*from][gripper],
                  b = e.record.actions[t][gripper];
      ++handovers.number;
      handovers.opened += a < middle && b > middle;
      handovers.closed += a > middle && b < middle;
    }
  }
  // Does the hand go where the first three numbers of the action say?
  static void correlate(const ScannedEpisode& e, Source& source) {
    for (const auto& [name, width] : e.record.states) {
      if (width < 3 ||
          (name.find("eef_pos") == std::string::npos && name.find("ee_pos") == std::string::npos))
        continue;
      if (e.record.actions[0].size() < 4) continue;
      for (int64_t t = 0; t + 1 < e.record.num_steps(); ++t) {
        const auto now = e.in.file.state(e.index, t).state.at(name),
                   next = e.in.file.state(e.index, t + 1).state.at(name);
        const Action& action = e.record.actions[static_cast<size_t>(t)];
        if (!is_finite(action)) continue;
        for (size_t j = 0; j < 3; ++j)
          source.motions[name][actor_of(e, static_cast<size_t>(t))][j].add(
              static_cast<double>(action[j]), static_cast<double>(next[j]) - static_cast<double>(now[j]));
      }
    }
  }
  void finish() override {
    for (const auto& [number, source] : sources_) {
      for (const auto& [state, actors] : source.motions) look_for_wrong_signs(source, state, actors);
      for (size_t a = 0; a < kActors; ++a)
        for (size_t b = a + 1; b < kActors; ++b)
          compare_ranges(source_and_actor(source.name, a), source.actors[a], source_and_actor(source.name, b),
                         source.actors[b]);
      look_at_handovers(source);
    }
    for (auto a = sources_.begin(); a != sources_.end(); ++a)
      for (auto b = std::next(a); b != sources_.end(); ++b) compare(a->second, b->second);
  }
  void look_for_wrong_signs(const Source& source, const std::string& state,
                            const std::array<std::array<Correlation, 3>, kActors>& actors) {
    for (size_t j = 0; j < 3; ++j) {
      Correlation all;
      for (const auto& axes : actors) all.add(axes[j]);
      const auto tell = [&](const std::string& where, const Correlation& c) {
        find(Severity::warning, "dimension ", j, ": ", state, " moves against it in ", where,
             " (correlation ", c.value(), "): a wrong sign, or another frame?");
      };
      if (all.n >= kFewSteps && all.value() < kBackwards) {
        tell(source.name, all);
        continue;
      }
      for (size_t a = 0; a < kActors; ++a)
        if (actors[a][j].n >= kFewOfAnActor && actors[a][j].n < all.n && actors[a][j].value() < kBackwards)
          tell(source_and_actor(source.name, a), actors[a][j]);
    }
  }
  // A human who takes over in order to grasp changes it too, but one way and not when handing back.
  void look_at_handovers(const Source& source) {
    const Handovers &there = source.to_human, &back = source.to_policy;
    if (there.number < kFewChanges || !there.mostly_change()) return;
    const bool both_ways = there.opened > 0 && there.closed > 0;
    if (back.number >= kFewChanges ? !back.mostly_change() : !both_ways) return;
    find(Severity::warning, "gripper: its command changes at ",
         share(there.opened + there.closed + back.opened + back.closed, there.number + back.number,
               "changes of control"),
         " in ", source.name, ": is it coded the other way round for the human?");
  }
  void compare_ranges(const std::string& a_name, const Range& a, const std::string& b_name, const Range& b) {
    if (!(a.from_zero() && b.both_signs()) && !(b.from_zero() && a.both_signs())) return;
    find(Severity::warning, "gripper: 0..1 in ", a.from_zero() ? a_name : b_name, ", -1..1 in ",
         a.from_zero() ? b_name : a_name, "; `gripper: {open, closed}` of each source says how it is coded");
  }
  void compare(const Source& a, const Source& b) {
    compare_ranges(a.name, a.range, b.name, b.range);
    const auto starts_high = [](const Source& s) { return s.starts_high > 3 * s.starts_low; };
    const auto starts_low = [](const Source& s) { return s.starts_low > 3 * s.starts_high; };
    if ((starts_high(a) && starts_low(b)) || (starts_low(a) && starts_high(b)))
      find(Severity::warning, "gripper: episodes of ", a.name, " begin with it ",
           starts_high(a) ? "high" : "low", ", those of ", b.name,
           " the other way round: opposite conventions?");
  }
  Grippers grippers_;
  std::map<int64_t, Source> sources_;
};

}  // namespace

double spread_of(const ActionSample& sample, size_t j) {
  const std::vector<double> x = sample.sorted_column(j);
  return x.empty() ? 0.0 : quantile(x, 0.99) - quantile(x, 0.01);
}

std::vector<double> few_values(const ActionSample& sample, size_t j) {
  std::vector<double> values = sample.sorted_column(j);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  if (values.size() > 2) values.clear();
  return values;
}

void add_group_checks(const DataOptions& options, Checks& checks) {
  checks.push_back(std::make_unique<Units>(options));
  checks.push_back(std::make_unique<Signs>(options));
}

}  // namespace apo::audit
