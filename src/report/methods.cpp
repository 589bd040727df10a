#include "report/methods.h"

#include <algorithm>
#include <map>

#include "apo/base/error.h"
#include "report/html.h"
#include "report/page.h"

namespace apo::report {
namespace {

constexpr const char* kAxis = "method, by its number in the table";

// Their names would not fit under a chart.
std::vector<std::string> numbers_of(const std::vector<Method>& methods) {
  std::vector<std::string> numbers;
  for (size_t i = 1; i <= methods.size(); ++i) numbers.push_back(concat(i));
  return numbers;
}

std::string success_of_methods(const std::vector<Method>& methods) {
  IntervalChart chart;
  chart.title = "Success by method";
  chart.note = "Whiskers: 95% Wilson interval. All methods on the same seeds.";
  chart.x_label = kAxis;
  chart.y_label = "share of trials";
  chart.categories = numbers_of(methods);
  IntervalChart::Group success{"success", {0}, {}}, unaided{"unaided", {2}, {}};
  for (const Method& method : methods) {
    const auto interval = [&](std::optional<Share> Evaluation::*share) -> std::optional<Interval> {
      if (!method.evaluation || !((*method.evaluation).*share)) return std::nullopt;
      return ((*method.evaluation).*share)->interval;
    };
    success.intervals.push_back(interval(&Evaluation::success));
    unaided.intervals.push_back(interval(&Evaluation::unaided));
  }
  chart.groups = {success, unaided};
  return draw(chart);
}

// Reasons for taking over, the commonest first.
std::vector<std::string> reasons_of(const std::vector<Method>& methods) {
  std::map<std::string, int64_t> counts;
  for (const Method& method : methods)
    if (method.deployment)
      for (const auto& [reason, count] : method.deployment->take_overs_by_reason) counts[reason] += count;
  std::vector<std::string> names;
  for (const auto& [reason, count] : counts) names.push_back(reason);
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return counts[a] > counts[b]; });
  return names;
}

double per_hundred(const Method& method, int64_t count) {
  const int64_t episodes = method.deployment ? method.deployment->episodes.value_or(0) : 0;
  return episodes > 0 ? 100.0 * static_cast<double>(count) / static_cast<double>(episodes) : 0;
}

int64_t count_for(const Method& method, const std::string& reason) {
  if (!method.deployment) return 0;
  const auto found = method.deployment->take_overs_by_reason.find(reason);
  return found == method.deployment->take_overs_by_reason.end() ? 0 : found->second;
}

std::string take_overs_of_methods(const std::vector<Method>& methods) {
  StackedBars chart;
  chart.title = "Take-overs in the next deployment";
  chart.note = "Each policy deployed on the same seeds, by why the human took over.";
  chart.x_label = kAxis;
  chart.y_label = "take-overs in 100 episodes";
  chart.categories = numbers_of(methods);
  constexpr int kHues[] = {4, 1, 3, 5, 2};
  for (const std::string& reason : reasons_of(methods)) {
    StackedBars::Layer layer{reason, {kHues[chart.layers.size() % 5]}, {}};
    for (const Method& method : methods)
      layer.heights.push_back(per_hundred(method, count_for(method, reason)));
    chart.layers.push_back(std::move(layer));
  }
  return draw(chart);
}

std::string share_text(const std::optional<Share>& share) {
  if (!share) return "–";
  return concat(format_percent(share->interval.value, 1), " [", format_fixed(100 * share->interval.low, 1),
                ", ", format_fixed(100 * share->interval.high, 1), "]");
}

std::string table_of_methods(const std::vector<Method>& methods) {
  const std::vector<std::string> reasons = reasons_of(methods);
  Table table{{"method", "success", "unaided", "take-overs in 100 episodes"}, {}};
  for (const std::string& reason : reasons) table.head.push_back(reason);
  table.head.push_back("lost");
  table.head.push_back("training time");
  for (const Method& method : methods) {
    const Evaluation evaluation = method.evaluation.value_or(Evaluation{});
    std::vector<std::string> row = {concat(table.rows.size() + 1, " ", method.name),
                                    share_text(evaluation.success), share_text(evaluation.unaided)};
    const auto take_overs = method.deployment ? method.deployment->take_overs : std::nullopt;
    row.push_back(take_overs ? format_fixed(per_hundred(method, *take_overs), 1) : "–");
    for (const std::string& reason : reasons)
      row.push_back(method.deployment ? format_fixed(per_hundred(method, count_for(method, reason)), 1)
                                      : "–");
    const auto lost = method.deployment ? method.deployment->lost : std::nullopt;
    row.push_back(lost ? format_fixed(per_hundred(method, *lost), 1) : "–");
    row.push_back(method.train_seconds ? format_duration(*method.train_seconds) : "–");
    table.rows.push_back(std::move(row));
  }
  return draw(table);
}

}  // namespace

std::string methods_panel(const LoopSummary& summary) {
  std::map<int64_t, std::vector<Method>> rounds;
  for (const Method& method : summary.methods) rounds[method.round].push_back(method);
  std::string out;
  for (const auto& [round, methods] : rounds) {
    if (rounds.size() > 1) out += concat("<h3>After ", count_of(round, "round"), "</h3>\n");
    out += grid(success_of_methods(methods) + take_overs_of_methods(methods)) + table_of_methods(methods);
    out +=
        "<p class=\"note\">Take-overs, their reasons and lost episodes in 100 episodes of the next "
        "deployment. A policy "
        "that goes nowhere is lost without being taken over.</p>\n";
  }
  return out;
}

}  // namespace apo::report
