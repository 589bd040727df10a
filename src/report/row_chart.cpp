// Charts that lie flat: one row a name, so that names may be long and a phone needs no second screen.
#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "report/chart.h"
#include "report/frame.h"
#include "report/html.h"
#include "report/ticks.h"

namespace apo::report {
namespace {

constexpr double kLeft = 12, kNameLine = 19, kWhiskerLine = 17, kBarLine = 16, kBetweenRows = 9;
constexpr double kNumbers = 122;  // width of "100% [100, 100]" behind the frame
constexpr size_t kLongestName = 44;

// At most so many characters; never cuts one of several bytes in two.
std::string fitting(const std::string& name) {
  size_t count = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (!begins_character(name[i])) continue;
    if (count++ == kLongestName) return name.substr(0, i) + "…";
  }
  return name;
}

std::string text_at(double x, double y, const std::string& css, const std::string& text) {
  return concat("<text", css.empty() ? "" : concat(" class=\"", css, "\""), " x=\"", px(x), "\" y=\"", px(y),
                "\">", escape(text), "</text>\n");
}

std::string line(const std::string& css, double x1, double y1, double x2, double y2) {
  return concat("<line class=\"", css, "\" x1=\"", px(x1), "\" x2=\"", px(x2), "\" y1=\"", px(y1), "\" y2=\"",
                px(y2), "\"/>");
}

std::string percent_axis(double left, double right, double bottom, const std::string& name) {
  std::string out;
  for (const int percent : {0, 25, 50, 75, 100}) {
    const double x = left + (right - left) * percent / 100;
    out += line("grid", x, 4, x, bottom);
    out += concat("<text x=\"", px(x), "\" y=\"", px(bottom + 15), "\" text-anchor=\"middle\">", percent,
                  "%</text>\n");
  }
  return out + concat("<text class=\"name\" x=\"", px((left + right) / 2), "\" y=\"", px(bottom + 32),
                      "\" text-anchor=\"middle\">", escape(name), "</text>\n");
}

std::string whisker(const Interval& interval, const Ink& ink, double left, double right, double y,
                    const std::string& what) {
  const auto x = [&](double share) { return left + (right - left) * std::clamp(share, 0.0, 1.0); };
  const std::string numbers =
      concat(format_percent(interval.value, interval.value < 0.0995 && interval.value > 0 ? 1 : 0), " [",
             format_fixed(100 * interval.low, 0), ", ", format_fixed(100 * interval.high, 0), "]");
  return concat("<g class=\"", ink_class(ink), "\"><title>", escape(what), ": ",
                format_percent(interval.value, 1), " [", format_percent(interval.low, 1), ", ",
                format_percent(interval.high, 1), "]</title>",
                line("whisker", x(interval.low), y, x(interval.high), y),
                line("whisker", x(interval.low), y - 4, x(interval.low), y + 4),
                line("whisker", x(interval.high), y - 4, x(interval.high), y + 4),
                "<circle class=\"fill\" cx=\"", px(x(interval.value)), "\" cy=\"", px(y),
                "\" r=\"4.5\"/></g>", text_at(right + 10, y + 4, "number", numbers));
}

}  // namespace

std::string draw(const RowIntervals& chart) {
  const double left = kLeft, right = kWidth - kNumbers;
  std::vector<const IntervalChart::Group*> shown;
  for (const IntervalChart::Group& group : chart.groups) {
    APO_ASSERT(group.intervals.size() == chart.rows.size());
    if (std::any_of(group.intervals.begin(), group.intervals.end(),
                    [](const auto& i) { return i.has_value(); }))
      shown.push_back(&group);
  }
  if (shown.empty()) return "";
  std::string rows;
  double y = 4;
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    rows += text_at(left, y + 13, "value", fitting(chart.rows[r]));
    y += kNameLine;
    for (const IntervalChart::Group* group : shown) {
      if (!group->intervals[r]) continue;
      rows += whisker(*group->intervals[r], group->ink, left, right, y + kWhiskerLine / 2,
                      concat(chart.rows[r], ", ", group->name));
      y += kWhiskerLine;
    }
    y += kBetweenRows;
  }
  std::vector<LegendEntry> legend;
  for (const IntervalChart::Group* group : shown)
    legend.push_back({group->name, group->ink, LegendEntry::Mark::point});
  return figure(chart.title, legend, "rows", percent_axis(left, right, y, chart.x_label) + rows, {chart.note},
                y + 38);
}

std::string draw(const RowBars& chart) {
  int64_t largest = 0, sum = 0;
  for (const RowBars::Row& row : chart.rows) {
    largest = std::max(largest, row.count);
    sum += row.count;
  }
  if (largest <= 0) return "";
  const double left = kLeft, right = kWidth - kNumbers;
  std::string drawing;
  double y = 4;
  for (const RowBars::Row& row : chart.rows) {
    drawing += text_at(left, y + 13, "value", fitting(row.name));
    y += kNameLine;
    const double width = (right - left) * static_cast<double>(row.count) / static_cast<double>(largest);
    const std::string numbers =
        concat(format_count(row.count), " (",
               format_percent(static_cast<double>(row.count) / static_cast<double>(sum), 1), ")");
    drawing +=
        concat("<g class=\"", ink_class(row.ink), "\"><title>", escape(row.name), ": ", numbers,
               "</title><rect class=\"fill\" x=\"", px(left), "\" y=\"", px(y), "\" width=\"",
               px(row.count > 0 ? std::max(1.0, width) : 0), "\" height=\"", px(kBarLine - 4), "\"/></g>");
    drawing += text_at(left + width + 8, y + 10, "number", numbers);
    y += kBarLine + kBetweenRows;
  }
  return figure(chart.title, {}, "rows", drawing, {chart.note}, y);
}

}  // namespace apo::report
