#include "report/panels.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <string_view>

#include "apo/base/error.h"
#include "report/chart.h"

namespace apo::report {
namespace {

struct Line {
  std::string_view field, name;
  int hue;
  bool dashed = false;
};

enum class Unit { as_is, seconds, bytes };

struct Panel {
  std::string_view title, label, note;
  std::vector<Line> lines;
  bool from_zero = false, log_if_wide = false, smooth = true;
  Unit unit = Unit::as_is;
};

// hue 0: desirable, hue 1: undesirable, hue 6: the baseline both are compared with
const std::vector<Panel>& learning_panels() {
  static const std::vector<Panel> kPanels = {
      {"Loss", "loss", "", {{"loss", "loss", 5}}},
      {"Loss without weights", "mean loss of a sample", "", {{"unweighted_loss", "unweighted_loss", 5}}},
      {"Imitation",
       "cross-entropy of a token (nats)",
       "On the desirable samples.",
       {{"sft_loss", "sft_loss", 5}}},
      {"Reward",
       "log-probability gained (nats)",
       "Reward: log-probability under the policy minus under the reference.",
       {{"reward_desirable", "desirable", 0},
        {"reward_undesirable", "undesirable", 1},
        {"z0", "z0, the KL baseline", 6, true}}},
      {"Reward margin", "desirable − undesirable (nats)", "", {{"reward_margin", "reward_margin", 3}}},
      {"KL baseline z0",
       "z0 (nats)",
       "",
       {{"z0", "as used", 6},
        {"z0_unclamped", "before clamping", 0, true},
        {"z0_standard_error", "standard error", 4}}},
      {"Action error",
       "mean |predicted − recorded|",
       "In normalised action units, over the action's dimensions.",
       {{"action_l1_desirable", "desirable", 0}, {"action_l1_undesirable", "undesirable", 1}},
       true},
      {"Sample weights λ",
       "Σ λ over the group's samples",
       "",
       {{"lambda_desirable", "desirable", 0}, {"lambda_undesirable", "undesirable", 1}},
       true},
  };
  return kPanels;
}

const std::vector<Panel>& running_panels() {
  static const std::vector<Panel> kPanels = {
      {"Gradient norm", "gradient norm before clipping", "", {{"grad_norm", "grad_norm", 5}}, true, true},
      {"Learning rate", "learning rate", "", {{"learning_rate", "learning_rate", 5}}, true, false, false},
      {"Samples in the batch",
       "samples",
       "",
       {{"num_desirable", "desirable", 0}, {"num_undesirable", "undesirable", 1}},
       true},
      {"Clamped and clipped",
       "times in a step",
       "",
       {{"z0_clamped", "z0 clamped", 6}, {"num_clipped_actions", "recorded action numbers clipped", 1}},
       true},
      {"Throughput", "samples / s", "", {{"samples_per_second", "samples_per_second", 2}}, true},
      {"Time of a step",
       "time",
       "",
       {{"step_seconds", "whole step", 2}, {"data_seconds", "waiting for data", 4}},
       true,
       true,
       true,
       Unit::seconds},
      {"Memory", "memory", "", {{"memory_bytes", "memory_bytes", 2}}, true, false, false, Unit::bytes},
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
  chart.title = panel.title;
  chart.note = panel.note;
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
  const auto [divisor, unit] = readable(panel.unit, largest);
  if (!unit.empty()) {
    chart.y.label += concat(" (", unit, ")");
    for (Curve& curve : chart.curves)
      for (double& value : curve.series.y) value /= divisor;
  }
  return draw(chart);
}

std::string draw_panels(std::span<const Panel> panels, const Metrics& metrics) {
  std::string out;
  for (const Panel& panel : panels) out += draw_panel(panel, metrics);
  return out;
}

bool is_known(const std::string& field) {
  for (const auto* panels : {&learning_panels(), &running_panels()})
    for (const Panel& panel : *panels)
      for (const Line& line : panel.lines)
        if (line.field == field) return true;
  return field == "epoch";  // beside the steps, in the header
}

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
    if (panel.title == "Loss" || panel.title == "Reward" || panel.title == "Action error")
      out += draw_panel(panel, metrics);
  return out;
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
          out += concat(out.empty() ? "" : ", ", line.field);
  return out;
}

}  // namespace apo::report
