#include "report/methods.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "apo/base/error.h"
#include "report/html.h"
#include "report/intervals.h"
#include "report/objective_text.h"
#include "report/page.h"

namespace apo::report {
namespace {

std::vector<std::string> names_of(const std::vector<Method>& methods) {
  std::vector<std::string> names;
  for (const Method& method : methods) names.push_back(method.name);
  return names;
}

std::string success_of_methods(const std::vector<Method>& methods) {
  RowIntervals chart;
  chart.title = "Success by method";
  chart.note =
      "Points: share of the trials; whiskers: 95% Wilson interval, where the true share plausibly "
      "lies. Unaided: without coming where a person would have stepped in.";
  chart.x_label = "share of trials (further right is better)";
  chart.rows = names_of(methods);
  IntervalChart::Group success{"success", {0}, {}}, unaided{"unaided", {2}, {}};
  for (const Method& method : methods) {
    const EvaluationSummary evaluation = method.evaluation.value_or(EvaluationSummary{});
    success.intervals.push_back(interval_of(evaluation.success));
    unaided.intervals.push_back(interval_of(evaluation.unaided));
  }
  chart.groups = {success, unaided};
  return draw(chart);
}

// Reasons for taking over, the base's commonest first.
std::vector<std::string> reasons_of(const std::vector<Method>& methods) {
  std::map<std::string, int64_t> all, of_base;
  for (const Method& method : methods)
    if (method.deployment)
      for (const auto& [reason, count] : method.deployment->take_overs_by_reason) {
        all[reason] += count;
        if (method.name == "base") of_base[reason] += count;
      }
  std::vector<std::string> names;
  for (const auto& [reason, count] : all) names.push_back(reason);
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return of_base[a] > of_base[b]; });
  return names;
}

std::string take_overs_of_methods(const std::vector<Method>& methods) {
  RowIntervals chart;
  chart.title = "Take-overs in the next deployment";
  chart.note =
      "Points: share of the episodes in which the human took over, for any reason and for each; "
      "whiskers: 95% Wilson interval. Lost: not solved in spite of the human, or gone nowhere without "
      "being taken over.";
  chart.x_label = "share of episodes (further left is better)";
  chart.rows = names_of(methods);
  const auto add = [&](const std::string& name, int hue, const auto& share_of) {
    IntervalChart::Group group{name, {hue}, {}};
    for (const Method& method : methods)
      group.intervals.push_back(method.deployment ? interval_of(share_of(*method.deployment)) : std::nullopt);
    chart.groups.push_back(std::move(group));
  };
  add("any take-over", 5, [](const CollectionSummary& d) { return corrected(d); });
  constexpr int kHues[] = {1, 4, 3, 2, 0};
  int place = 0;
  for (const std::string& reason : reasons_of(methods))
    add(reason, kHues[place++ % 5], [&](const CollectionSummary& d) { return corrected_for(d, reason); });
  add("lost", 6, [](const CollectionSummary& d) { return corrected(d) ? lost_share(d) : std::nullopt; });
  return draw(chart);
}

std::string share_text(const std::optional<Rate>& share) {
  if (!share) return "–";
  return concat(format_percent(share->rate, 1), " [", format_fixed(100 * share->low, 1), ", ",
                format_fixed(100 * share->high, 1), "]");
}

// The tests that any method has, in their order: "success against base".
std::vector<std::pair<std::string, std::string>> tests_of(const std::vector<Method>& methods) {
  std::vector<std::pair<std::string, std::string>> tests;
  for (const Method& method : methods)
    for (const PairedDifference& test : method.against) {
      const std::pair<std::string, std::string> name(test.of, test.method);
      if (std::find(tests.begin(), tests.end(), name) == tests.end()) tests.push_back(name);
    }
  return tests;
}

std::string test_text(const Method& method, const std::pair<std::string, std::string>& name) {
  for (const PairedDifference& test : method.against)
    if (test.of == name.first && test.method == name.second)
      return concat(test.test.difference >= 0 ? "+" : "−",
                    format_fixed(100 * std::abs(test.test.difference), 1), ", ", p_text(test.test.p));
  return "–";
}

// A column that says nothing of any method is left out.
Table without_empty_columns(Table table) {
  for (size_t column = table.head.size(); column-- > 1;) {
    const auto place = static_cast<std::ptrdiff_t>(column);
    if (!std::all_of(table.rows.begin(), table.rows.end(),
                     [&](const auto& row) { return row[column] == "–"; }))
      continue;
    table.head.erase(table.head.begin() + place);
    for (std::vector<std::string>& row : table.rows) row.erase(row.begin() + place);
  }
  return table;
}

std::string table_of_methods(const std::vector<Method>& methods) {
  const std::vector<std::string> reasons = reasons_of(methods);
  const auto tests = tests_of(methods);
  Table table{{"method", "success", "unaided", "episodes with a take-over"}, {}};
  for (const std::string& reason : reasons) table.head.push_back(reason);
  for (const char* column : {"lost", "episodes", "take-overs", "human steps"})
    table.head.emplace_back(column);
  for (const auto& [of, method] : tests) table.head.push_back(concat(of, " against ", method));
  table.head.push_back("training time");
  for (const Method& method : methods) {
    const EvaluationSummary evaluation = method.evaluation.value_or(EvaluationSummary{});
    const auto of_deployment = [&](const auto& text_of) {
      return method.deployment ? text_of(*method.deployment) : std::string("–");
    };
    using Deployment = const CollectionSummary&;
    std::vector<std::string> row = {method.name, share_text(evaluation.success),
                                    share_text(evaluation.unaided),
                                    of_deployment([](Deployment d) { return share_text(corrected(d)); })};
    for (const std::string& reason : reasons)
      row.push_back(of_deployment([&](Deployment d) { return share_text(corrected_for(d, reason)); }));
    row.push_back(of_deployment([](Deployment d) { return share_text(lost_share(d)); }));
    row.push_back(of_deployment([](Deployment d) { return concat(d.episodes); }));
    row.push_back(of_deployment([](Deployment d) { return concat(d.take_overs); }));
    row.push_back(of_deployment([](Deployment d) {
      const auto human = d.steps.find("intervention");
      return d.steps.empty() ? "–" : concat(human == d.steps.end() ? 0 : human->second);
    }));
    for (const auto& test : tests) row.push_back(test_text(method, test));
    row.push_back(method.train_seconds ? format_duration(*method.train_seconds) : "–");
    table.rows.push_back(std::move(row));
  }
  return draw(without_empty_columns(std::move(table)));
}

// What the methods' objectives do: one line for each objective, with the methods that have it.
std::string objectives_of(const std::vector<Method>& methods) {
  std::vector<std::pair<std::string, std::string>> found;  // objective, its methods
  std::set<std::string> seen;
  for (const Method& method : methods) {
    if (method.name == "base" || objective_sentence(method.objective).empty()) continue;
    if (!seen.insert(method.name).second) continue;
    auto place = std::find_if(found.begin(), found.end(),
                              [&](const auto& entry) { return entry.first == method.objective; });
    if (place == found.end()) place = found.insert(found.end(), {method.objective, ""});
    append_item(place->second, "; ", method.name);
  }
  std::string out;
  for (const auto& [objective, names] : found)
    out += concat("<li><b>", escape(names), "</b> (", escape(objective),
                  "): ", escape(objective_sentence(objective)), "</li>\n");
  if (out.empty()) return "";
  const bool shared = seen.size() > found.size();  // an objective with several methods
  return concat("<ul class=\"objectives\">\n", out, "</ul>\n",
                shared
                    ? "<p class=\"note\">Methods in one line differ in the settings of their objective or in "
                      "what their batches draw: the config below has both.</p>\n"
                    : "");
}

}  // namespace

std::string methods_lead(const LoopSummary& summary) {
  if (summary.methods.empty()) return "";
  std::string out = "All were tried on the same seeds. ";
  out += summary.methods.back().round <= 1
             ? "They learned from the very same recordings, and differ in what they make of them."
             : "In round 1 they learned from the very same recordings, and differ in what they made of them; "
               "in later rounds each learned also from the recordings of its own deployments.";
  std::string controls;
  for (const std::string& name : summary.methods_that_see_corrections(false))
    append_item(controls, ", ", "\u201c", name, "\u201d");
  if (!controls.empty())
    out += concat(" Without the corrections, to show what more training alone does: ", controls, ".");
  return out;
}

std::string methods_panel(const LoopSummary& summary) {
  std::map<int64_t, std::vector<Method>> rounds;
  for (const Method& method : summary.methods) rounds[method.round].push_back(method);
  std::string out = objectives_of(summary.methods);
  bool tested = false;
  for (const auto& [round, methods] : rounds) {
    tested = tested || !tests_of(methods).empty();
    if (rounds.size() > 1) out += concat("<h3>After ", count_of(round, "round"), "</h3>\n");
    out +=
        wide_grid(success_of_methods(methods) + take_overs_of_methods(methods)) + table_of_methods(methods);
  }
  if (rounds.empty()) return "";
  out += "<p class=\"note\">In brackets: 95% Wilson intervals, in per cent.";
  if (tested)
    out +=
        " Against: the difference in points (hundredths) with the two-sided p of McNemar's exact test "
        "over the common seeds, not corrected for the number of tests; a p below 0.05 is hard to "
        "explain by chance alone.";
  return out + "</p>\n";
}

}  // namespace apo::report
