#include "report/loop_charts.h"

#include <algorithm>
#include <set>

#include "apo/base/error.h"
#include "report/html.h"
#include "report/label_names.h"

namespace apo::report {
namespace {

std::vector<std::string> names_of(const std::vector<Round>& rounds) {
  std::vector<std::string> names;
  for (const Round& round : rounds) names.push_back(round.name());
  return names;
}

std::vector<bool> not_promoted(const std::vector<Round>& rounds) {
  std::vector<bool> hollow;
  for (const Round& round : rounds) hollow.push_back(!round.promoted);
  return hollow;
}

// Fills the layers of a bar chart from counts by name, one bar a round; `scale` says what a count is
// multiplied with.
template <class Counts, class Scale>
void stack(const std::vector<Round>& rounds, const Counts& counts_of, const Scale& scale,
           StackedBars& chart) {
  std::set<std::string> names;
  for (const Round& round : rounds)
    for (const auto& [name, count] : counts_of(round)) names.insert(name);
  for (const std::string& name : names) {
    StackedBars::Layer layer{name, {static_cast<int>(chart.layers.size()) % 6}, {}};
    for (const Round& round : rounds) {
      const std::map<std::string, int64_t> counts = counts_of(round);
      const auto found = counts.find(name);
      layer.heights.push_back(found == counts.end() ? 0 : static_cast<double>(found->second) * scale(round));
    }
    chart.layers.push_back(std::move(layer));
  }
}

// The policy that was deployed for each round: the last promoted one before it; told apart where that is one
// twice.
std::map<int64_t, std::string> deployed_policies(const LoopSummary& summary) {
  std::map<int64_t, std::string> policies;
  std::set<std::string> seen;
  std::string policy = "base";
  for (const Round& round : summary.rounds) {
    if (round.deployment)
      policies[round.round] = seen.insert(policy).second ? policy : concat(policy, ", for ", round.name());
    if (round.promoted) policy = round.name();
  }
  return policies;
}

// "Deployed were: base for round 1, round 1 for round 2."
std::string deployed_note(const LoopSummary& summary) {
  std::string list;
  for (const auto& [round, policy] : deployed_policies(summary)) {
    const std::string name = policy.substr(0, policy.find(','));
    list += concat(list.empty() ? "Deployed: " : ", ", name, " for round ", round);
  }
  return list.empty() ? "" : list + " to learn from.";
}

// One color for each way to end or to be taken over, the same in both charts: success blue, the others by
// name.
Ink ending_ink(const LoopSummary& summary, const std::string& name) {
  std::set<std::string> names;
  for (const Round& round : summary.rounds) {
    if (round.evaluation)
      for (const auto& [outcome, count] : round.evaluation->outcomes) names.insert(outcome);
    if (round.deployment)
      for (const auto& [reason, count] : round.deployment->take_overs_by_reason) names.insert(reason);
  }
  names.erase("success");
  constexpr int kHues[] = {4, 1, 3, 5, 2};
  const auto place = std::distance(names.begin(), names.find(name));
  return {name == "success" ? 0 : kHues[place % 5]};
}

// Paler for each further reason of a label.
void ink_labels(std::vector<StackedBars::Layer>& layers) {
  std::map<int, int> used;
  for (StackedBars::Layer& layer : layers) {
    layer.ink.hue = label_hue(LabelName(layer.name));
    layer.ink.tint = std::min(2, used[layer.ink.hue]++);
  }
  std::stable_sort(layers.begin(), layers.end(), [](const auto& a, const auto& b) {
    return label_place(a.ink.hue) < label_place(b.ink.hue);
  });
}

}  // namespace

std::string success_chart(const LoopSummary& summary) {
  IntervalChart chart;
  chart.title = "Success by round";
  chart.note =
      "Points: share of trials; whiskers: 95% Wilson interval, where the true share plausibly lies. Unaided: "
      "without coming where a person would have stepped in.";
  chart.y_label = "share of trials";
  chart.x_label = "policy after";
  chart.categories = names_of(summary.rounds);
  chart.hollow = not_promoted(summary.rounds);
  if (std::find(chart.hollow.begin(), chart.hollow.end(), true) != chart.hollow.end())
    chart.note += " Hollow: not promoted.";
  IntervalChart::Group success{"success", {0}, {}}, unaided{"unaided success", {2}, {}};
  for (const Round& round : summary.rounds) {
    const auto interval = [](const std::optional<Rate>& share) { return interval_of(share); };
    success.intervals.push_back(round.evaluation ? interval(round.evaluation->success) : std::nullopt);
    unaided.intervals.push_back(round.evaluation ? interval(round.evaluation->unaided) : std::nullopt);
  }
  chart.groups = {success, unaided};
  return draw(chart);
}

std::string fact_charts(const LoopSummary& summary) {
  std::string out;
  for (const auto& [fact, values] : summary.facts()) {
    IntervalChart chart;
    chart.title = concat("Success by ", fact);
    chart.note =
        "Points: share of the trials with this circumstance, as the environment reports it; whiskers: 95% "
        "interval.";
    if (const std::optional<FactChange> change = summary.largest_change(fact))
      chart.note =
          concat("The largest change: where ", fact, " is ", change->value, ", ",
                 format_percent(change->before.value), " \u2192 ", format_percent(change->after.value),
                 change->clear() ? "" : ", which may be chance", ". ", chart.note);
    chart.y_label = "share of trials";
    chart.x_label = "policy after";
    chart.categories = names_of(summary.rounds);
    chart.hollow = not_promoted(summary.rounds);
    int hue = 2;
    for (const std::string& value : values) {
      const std::string member = concat(fact, "=", value);
      IntervalChart::Group group{member, {hue++ % 6}, {}};
      for (const Round& round : summary.rounds) {
        group.intervals.push_back(std::nullopt);
        if (!round.evaluation) continue;
        const auto found = round.evaluation->success_by_fact.find(member);
        if (found != round.evaluation->success_by_fact.end())
          group.intervals.back() = interval_of(found->second);
      }
      chart.groups.push_back(std::move(group));
    }
    out += draw(chart);
  }
  return out;
}

std::string outcome_chart(const LoopSummary& summary) {
  StackedBars chart;
  chart.title = "How the trials ended";
  chart.note =
      "All trials of the evaluation; the same seeds for every policy. The counts are in the table below.";
  chart.y_label = "share of trials";
  chart.x_label = "policy after";
  chart.shares = true;
  chart.categories = names_of(summary.rounds);
  const auto counts = [](const Round& round) {
    return round.evaluation ? round.evaluation->outcomes : std::map<std::string, int64_t>{};
  };
  stack(
      summary.rounds, counts,
      [&](const Round& round) {
        int64_t sum = 0;
        for (const auto& [name, count] : counts(round)) sum += count;
        return sum == 0 ? 0.0 : 1.0 / static_cast<double>(sum);
      },
      chart);
  std::stable_partition(chart.layers.begin(), chart.layers.end(),
                        [](const auto& layer) { return layer.name == "success"; });
  for (StackedBars::Layer& layer : chart.layers) layer.ink = ending_ink(summary, layer.name);
  return draw(chart);
}

std::string take_over_chart(const LoopSummary& summary) {
  StackedBars chart;
  chart.title = "Take-overs";
  chart.note = concat("Why the person took over. ", deployed_note(summary));
  chart.x_label = "deployed policy";
  const std::map<int64_t, std::string> policies = deployed_policies(summary);
  std::vector<Round> deployed;
  bool all_have_episodes = true;
  for (const Round& round : summary.rounds)
    if (round.deployment) {
      all_have_episodes = all_have_episodes && round.deployment->episodes > 0;
      deployed.push_back(round);
      chart.categories.push_back(policies.at(round.round));
      // without reasons: the number alone
      CollectionSummary& deployment = *deployed.back().deployment;
      if (deployment.take_overs_by_reason.empty())
        deployment.take_overs_by_reason["take-over"] = deployment.take_overs;
    }
  if (deployed.empty()) return "";
  chart.y_label = all_have_episodes ? "take-overs in 100 episodes" : "take-overs";
  stack(
      deployed, [](const Round& round) { return round.deployment->take_overs_by_reason; },
      [&](const Round& round) {
        return all_have_episodes ? 100.0 / static_cast<double>(round.deployment->episodes) : 1.0;
      },
      chart);
  for (StackedBars::Layer& layer : chart.layers) layer.ink = ending_ink(summary, layer.name);
  for (const Round& round : deployed) {
    int64_t sum = 0;
    for (const auto& [reason, count] : round.deployment->take_overs_by_reason) sum += count;
    chart.above.push_back(all_have_episodes
                              ? concat(format_count(sum), " in ", format_count(round.deployment->episodes))
                              : format_count(sum));
  }
  return draw(chart);
}

std::string corrected_chart(const LoopSummary& summary) {
  IntervalChart chart;
  chart.title = "Episodes with a take-over";
  chart.note = concat(
      "How often a person had to step in while this policy was deployed; whiskers: 95% Wilson interval. "
      "Fewer is better. ",
      deployed_note(summary));
  chart.x_label = "deployed policy";
  chart.y_label = "share of episodes";
  const std::map<int64_t, std::string> policies = deployed_policies(summary);
  std::vector<CollectionSummary> deployments;
  std::set<std::string> reasons;
  for (const Round& round : summary.rounds) {
    if (round.deployment && corrected(*round.deployment)) {
      chart.categories.push_back(policies.at(round.round));
      deployments.push_back(*round.deployment);
      for (const auto& [reason, count] : round.deployment->take_overs_by_reason) reasons.insert(reason);
    }
  }
  const auto add = [&](const std::string& name, const Ink& ink, const auto& share_of) {
    IntervalChart::Group group{name, ink, {}};
    for (const CollectionSummary& deployment : deployments)
      group.intervals.push_back(interval_of(share_of(deployment)));
    chart.groups.push_back(std::move(group));
  };
  add("any take-over", {0}, [](const CollectionSummary& d) { return corrected(d); });
  if (reasons.size() > 1)
    for (const std::string& reason : reasons)
      add(reason, ending_ink(summary, reason),
          [&](const CollectionSummary& d) { return corrected_for(d, reason); });
  return draw(chart);
}

std::string label_chart(const LoopSummary& summary) {
  StackedBars chart;
  chart.title = "What each round learned from";
  chart.note =
      "Undesirable: the policy's own last steps before a take-over; intervention: what the person did "
      "instead.";
  chart.y_label = "recorded steps";
  chart.x_label = "training of";
  std::vector<Round> labelled;
  for (const Round& round : summary.rounds)
    if (!labelled_steps(round.labels).empty()) labelled.push_back(round);
  if (labelled.empty()) return "";
  chart.categories = names_of(labelled);
  stack(
      labelled, [](const Round& round) { return labelled_steps(round.labels); },
      [](const Round&) { return 1.0; }, chart);
  for (size_t i = 0; i < labelled.size(); ++i) {
    int64_t sum = 0;
    for (const auto& [label, count] : labelled_steps(labelled[i].labels)) sum += count;
    chart.above.push_back(format_count(sum));
  }
  ink_labels(chart.layers);
  return draw(chart);
}

}  // namespace apo::report
