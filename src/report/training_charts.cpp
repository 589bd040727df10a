#include "report/training_charts.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/metric_list.h"
#include "report/chart.h"

namespace apo::report {
namespace {

// A metric's curve; it is called as in its own panel unless `name` says otherwise.
struct Line {
  std::string_view field;
  int hue;
  bool dashed = false;
  std::string_view name = find_metric(field)->curve;
};

enum class Unit { as_is, seconds, bytes };

struct Panel {
  std::string_view label, note;
  std::vector<Line> lines;
  bool from_zero = false, log_if_wide = false, smooth = true;
  Unit unit = Unit::as_is;

  // Every panel begins with a metric of its own.
  std::string_view title() const { return find_metric(lines.front().field)->panel; }
  bool shows(std::string_view field) const { return lines.front().field == field; }
};

// Where train.guard warns of desirable rewards without an anchor.
constexpr double kDangerNats = -1;

// hue 0: desirable, hue 1: undesirable, hue 6: the baseline both are compared with
const std::vector<Panel>& learning_panels() {
  static const std::vector<Panel> kPanels = {
      {"loss",
       "What training makes smaller: each sample's loss times its weight, plus the anchor (imitation of the "
       "desirable actions) where there is one.",
       {{"loss", 5}}},
      {"mean loss of a sample",
       "For apo and kto it begins at 0.5, where the policy is its own reference. It falls where desirable "
       "rewards stand above the baseline z0 and undesirable ones below, and rises where z0 outruns the "
       "desirable ones, though both groups are told apart.",
       {{"unweighted_loss", 5}}},
      {"cross-entropy of a token (nats)",
       "How surprised the policy is by the desirable actions; lower is better.",
       {{"sft_loss", 5}}},
      {"KL to the reference (nats a token)",
       "How much of what the reference does on demonstrations and good steps of its own the policy has given "
       "up; 0 is nothing.",
       {{"reference_kl", 3}}},
      {"log-probability gained (nats)",
       "How much likelier the recorded actions have become since training began: desirable ones should rise "
       "over undesirable ones, and not fall themselves.",
       {{"reward_desirable", 0}, {"reward_undesirable", 1}, {"z0", 6, true, "z0, the KL baseline"}}},
      {"desirable − undesirable (nats)",
       "How far the two groups are told apart. It grows as well where both fall and the policy forgets what "
       "it could do: look at the rewards first.",
       {{"reward_margin", 3}}},
      {"z0 (nats)",
       "What rewards are compared with: how far the policy as a whole has moved from its reference.",
       {{"z0", 6}, {"z0_unclamped", 0, true}, {"z0_standard_error", 4}}},
      {"mean |predicted − recorded|",
       "How far the predicted action lies from the recorded one, in normalized action units: small is right "
       "for desirable steps, not for undesirable ones.",
       {{"action_l1_desirable", 0}, {"action_l1_undesirable", 1}},
       true},
      {"Σ λ over the group's samples",
       "How much each group counts in a batch.",
       {{"lambda_desirable", 0}, {"lambda_undesirable", 1}},
       true},
      {"share of the batch's pairs",
       "Pairs whose preferred action has the larger reward; 0.5 is chance.",
       {{"pair_accuracy", 3}},
       true},
      {"pairs, samples",
       "Corrections with and without a recorded counterpart.",
       {{"num_pairs", 0}, {"num_unpaired", 6}},
       true},
  };
  return kPanels;
}

const std::vector<Panel>& running_panels() {
  static const std::vector<Panel> kPanels = {
      {"gradient norm before clipping",
       "How strongly a batch pulls at the policy; jumps are a sign of trouble.",
       {{"grad_norm", 5}},
       true,
       true},
      {"learning rate", "The size of an update.", {{"learning_rate", 5}}, true, false, false},
      {"samples",
       "Of both groups; corrections count as desirable.",
       {{"num_desirable", 0}, {"num_undesirable", 1}},
       true},
      {"times in a step",
       "Where z0 or a recorded action lay outside its allowed range; many clipped actions mean that policy "
       "and data do not belong together.",
       {{"z0_clamped", 6}, {"num_clipped_actions", 1}, {"num_clamped_tokens", 3}},
       true},
      {"samples / s", "Samples learned from in a second.", {{"samples_per_second", 2}}, true},
      {"time",
       "Waiting for data should be a small part of it.",
       {{"step_seconds", 2}, {"data_seconds", 4}},
       true,
       true,
       true,
       Unit::seconds},
      {"memory",
       "Held by the process (CPU) or its tensors (GPU).",
       {{"memory_bytes", 2}},
       true,
       false,
       false,
       Unit::bytes},
  };
  return kPanels;
}

// What to divide by, so that the largest value is easy to read, and the unit's name.
std::pair<double, std::string_view> readable(Unit unit, double largest) {
  if (unit == Unit::bytes) {
    if (largest >= 1024.0 * (1 << 20)) return {1024.0 * (1 << 20), "GiB"};
    return {1 << 20, "MiB"};
  }
  if (unit == Unit::seconds) return largest < 1 ? std::pair{1e-3, "ms"} : std::pair{1.0, "s"};
  return {1, ""};
}

std::string draw_panel(const Panel& panel, const Metrics& metrics) {
  LineChart chart;
  chart.title = panel.title();
  chart.note = panel.note;
  if (panel.shows("loss") && metrics["z0"].size() > 0 && metrics["reward_margin"].size() > 0)
    chart.note +=
        " Compared with the baseline z0 it need not fall: z0 and the weights move with the policy. What was "
        "learned shows in the rewards.";
  chart.y = {
      .label = std::string(panel.label), .from_zero = panel.from_zero, .log_if_wide = panel.log_if_wide};
  chart.smooth = panel.smooth;
  double largest = 0;
  for (const Line& line : panel.lines) {
    const Series& series = metrics[std::string(line.field)];
    for (double value : series.y)
      if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
    chart.curves.push_back({std::string(line.name), series, {line.hue}, line.dashed});
  }
  if (panel.shows("reward_desirable") && metrics["reward_desirable"].size() > 0)
    chart.zone = {.below = kDangerNats,
                  .name = "no place for desirable ones",
                  .note =
                      "Shaded: below −1 nat. A desirable curve there means that the policy forgets what it "
                      "could do. An undesirable one belongs there, but below about −4 nats for each token of "
                      "an action it takes others along. Above, a policy may be lost all the same: only an "
                      "evaluation tells.",
                  .ink = {0}};
  const auto [divisor, unit] = readable(panel.unit, largest);
  if (!unit.empty()) {
    chart.y.label += concat(" (", unit, ")");
    for (Curve& curve : chart.curves)
      for (double& value : curve.series.y) value /= divisor;
  }
  return draw(chart);
}

bool is_brief(const Panel& panel) {
  return panel.shows("loss") || panel.shows("reward_desirable") || panel.shows("reward_margin") ||
         panel.shows("action_l1_desirable");
}

std::string draw_panels(std::span<const Panel> panels, const Metrics& metrics) {
  std::string out;
  for (const Panel& panel : panels) out += draw_panel(panel, metrics);
  return out;
}

bool is_known(const std::string& field) { return find_metric(field) != nullptr; }

std::string lone_chart(const std::string& field, const Series& series) {
  LineChart chart;
  chart.title = field;
  chart.y.label = field;
  chart.curves.push_back({field, series, {5}, false});
  return draw(chart);
}

bool is_share(const std::string& field, const Series& series) {
  const bool within =
      std::all_of(series.y.begin(), series.y.end(), [](double y) { return !(y < 0 || y > 1); });
  return within && (field.find("rate") != std::string::npos || field.find("success") != std::string::npos ||
                    field.find("unaided") != std::string::npos);
}

}  // namespace

std::string learning_charts(const Metrics& metrics) { return draw_panels(learning_panels(), metrics); }

std::string brief_learning_charts(const Metrics& metrics) {
  std::string out;
  for (const Panel& panel : learning_panels())
    if (is_brief(panel)) out += draw_panel(panel, metrics);
  return out;
}

std::string remaining_charts(const Metrics& metrics) {
  std::string out;
  for (const Panel& panel : learning_panels())
    if (!is_brief(panel)) out += draw_panel(panel, metrics);
  return out + running_charts(metrics) + evaluation_charts(metrics) + other_charts(metrics);
}

std::string running_charts(const Metrics& metrics) { return draw_panels(running_panels(), metrics); }

std::string evaluation_charts(const Metrics& metrics) {
  LineChart shares;
  shares.title = "Evaluation";
  shares.y = {.label = "share of trials", .from_zero = true};
  std::string out, others;
  int hue = 0;
  for (const auto& [field, series] : metrics.fields) {
    if (!field.starts_with("eval/")) continue;
    if (!is_share(field, series)) {
      others += lone_chart(field, series);
      continue;
    }
    shares.curves.push_back({field, series, {hue}, false});
    hue = (hue + 1) % 6;
    if (hue == 0) {
      out += draw(shares);
      shares.curves.clear();
    }
  }
  return out + draw(shares) + others;
}

std::string other_charts(const Metrics& metrics) {
  std::string out;
  for (const auto& [field, series] : metrics.fields)
    if (!is_known(field) && !field.starts_with("eval/")) out += lone_chart(field, series);
  return out;
}

std::string absent_fields(const Metrics& metrics) {
  std::string out;
  std::set<std::string_view> seen;  // z0 has two charts
  for (const auto* panels : {&learning_panels(), &running_panels()})
    for (const Panel& panel : *panels)
      for (const Line& line : panel.lines)
        if (seen.insert(line.field).second && metrics[std::string(line.field)].size() == 0)
          append_item(out, ", ", line.field);
  return out;
}

}  // namespace apo::report
