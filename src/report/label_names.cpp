#include "report/label_names.h"

#include <algorithm>

#include "report/html.h"

namespace apo::report {

LabelName::LabelName(const std::string& name) {
  const size_t colon = std::min(name.find(':'), name.size());
  const size_t slash = name.find('/');
  const size_t start = slash < colon ? slash + 1 : 0;
  source = name.substr(0, start == 0 ? 0 : slash);
  label = name.substr(start, colon - start);
  const size_t words = name.find_first_not_of(": ", colon);
  if (words != std::string::npos) reason = name.substr(words);
}

std::map<std::string, int64_t> labelled_steps(const std::map<std::string, int64_t>& labels) {
  std::map<std::string, int64_t> steps = labels;
  std::erase_if(steps, [](const auto& entry) { return LabelName(entry.first).label == "take-over"; });
  return steps;
}

int label_hue(const LabelName& name) {
  if (name.label == "skipped") return 6;
  if (name.label == "undesirable") return 1;
  if (name.label == "intervention" || name.source == "intervention") return 2;
  return name.source == "expert" ? 5 : 0;
}

int label_place(int hue) {
  constexpr int kPlace[] = {1, 3, 2, 9, 9, 0, 4};
  return kPlace[hue];
}

std::string label_bars(const std::map<std::string, int64_t>& labels) {
  RowBars chart;
  chart.title = "Recorded steps by label";
  chart.note =
      "In brackets: share of all recorded steps. Desirable actions are to become likelier, undesirable ones "
      "less likely, as far as batches draw them; skipped steps are not learned from, for the reason named.";
  for (const auto& [name, count] : labelled_steps(labels))
    chart.rows.push_back({name, {label_hue(LabelName(name))}, count});
  std::stable_sort(chart.rows.begin(), chart.rows.end(), [](const RowBars::Row& a, const RowBars::Row& b) {
    return label_place(a.ink.hue) < label_place(b.ink.hue);
  });
  return draw(chart);
}

}  // namespace apo::report
