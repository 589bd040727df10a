#include <algorithm>

#include "apo/base/error.h"
#include "report/chart.h"
#include "report/frame.h"
#include "report/html.h"

namespace apo::report {
namespace {

constexpr double kLeastLabelSlot = 50;              // narrower slots carry no numbers
constexpr double kCharacter = 8.6, kTextLine = 17;  // room for a number inside a bar, on a narrow screen too

constexpr double kBarShare = 0.62, kWidestBar = 76;  // of a slot; of all

// Shares as an axis in per cent.
Scale percent_scale(double high) {
  Scale scale = linear_scale(0, high, 5, true);
  for (size_t i = 0; i < scale.ticks.size(); ++i) scale.labels[i] = format_percent(scale.ticks[i]);
  return scale;
}

std::string vertical(const std::string& css, double x, double from, double to) {
  return concat("<line class=\"", css, "\" x1=\"", px(x), "\" x2=\"", px(x), "\" y1=\"", px(from), "\" y2=\"",
                px(to), "\"/>");
}

std::string horizontal(const std::string& css, double y, double from, double to) {
  return concat("<line class=\"", css, "\" x1=\"", px(from), "\" x2=\"", px(to), "\" y1=\"", px(y),
                "\" y2=\"", px(y), "\"/>");
}

std::string draw_interval(const Frame& frame, const Scale& y, double x, const Interval& interval, bool hollow,
                          bool with_label, const std::string& what) {
  const double low = frame.y(y.share(interval.low)), high = frame.y(y.share(interval.high));
  std::string out = "<g>";
  out += concat("<title>", escape(what), ": ", format_percent(interval.value, 1), " [",
                format_percent(interval.low, 1), ", ", format_percent(interval.high, 1), "]</title>");
  out += vertical("whisker", x, low, high) + horizontal("whisker", low, x - 5, x + 5) +
         horizontal("whisker", high, x - 5, x + 5);
  out += concat("<circle class=\"", hollow ? "hollow" : "fill", "\" cx=\"", px(x), "\" cy=\"",
                px(frame.y(y.share(interval.value))), "\" r=\"4.5\"/>");
  if (with_label) {
    // over the whisker, or under it where the frame ends
    const double above = high - 6 > frame.top + 8 ? high - 6 : low + 14;
    out += concat("<text class=\"value\" x=\"", px(x), "\" y=\"", px(above), "\" text-anchor=\"middle\">",
                  format_number(100 * interval.value), "%</text>");
  }
  return out + "</g>\n";
}

std::string draw_bar(const Frame& frame, const Scale& y, const StackedBars& chart, size_t category, double x,
                     double slot) {
  const double width = std::min(kWidestBar, slot * kBarShare);
  const auto written = [&](double height) {
    return chart.shares ? format_percent(height, height < 0.0995 ? 1 : 0) : format_number(height);
  };
  std::string out, numbers;  // numbers over all bars
  double below = 0;
  for (const StackedBars::Layer& layer : chart.layers) {
    const double height = layer.heights[category];
    if (!(height > 0)) continue;
    const double bottom = frame.y(y.share(below)), top = frame.y(y.share(below + height));
    const std::string text = chart.shares ? format_percent(height, 1) : format_number(height);
    out +=
        concat("<g class=\"", ink_class(layer.ink), "\"><title>", escape(chart.categories[category]), ", ",
               escape(layer.name), ": ", text, "</title><rect class=\"fill\" x=\"", px(x - width / 2),
               "\" y=\"", px(top), "\" width=\"", px(width), "\" height=\"", px(bottom - top), "\"/></g>\n");
    if (bottom - top >= kTextLine && width > kCharacter * (static_cast<double>(written(height).size()) + 0.5))
      numbers += concat("<text class=\"value inside\" x=\"", px(x), "\" y=\"", px((bottom + top) / 2),
                        "\" dy=\"0.35em\" text-anchor=\"middle\">", written(height), "</text>\n");
    below += height;
  }
  out += numbers;
  if (category < chart.above.size() && !chart.above[category].empty() &&
      slot > 8.6 * static_cast<double>(chart.above[category].size()))
    out += concat("<text class=\"value\" x=\"", px(x), "\" y=\"", px(frame.y(y.share(below)) - 5),
                  "\" text-anchor=\"middle\">", escape(chart.above[category]), "</text>\n");
  return out;
}

}  // namespace

std::string draw(const IntervalChart& chart) {
  const Scale y = percent_scale(1);
  const Frame frame = frame_for(y);
  const size_t num_groups = chart.groups.size();
  const double slot =
      (frame.right - frame.left) / static_cast<double>(std::max<size_t>(1, chart.categories.size()));
  const double apart = std::min(54.0, slot / static_cast<double>(std::max<size_t>(1, num_groups)));

  std::string drawing =
      draw_value_axis(frame, y, chart.y_label) + draw_category_axis(frame, chart.categories, chart.x_label);
  std::vector<LegendEntry> legend;
  bool any = false;
  for (size_t g = 0; g < num_groups; ++g) {
    const IntervalChart::Group& group = chart.groups[g];
    APO_ASSERT(group.intervals.size() == chart.categories.size());
    if (std::none_of(group.intervals.begin(), group.intervals.end(),
                     [](const auto& i) { return i.has_value(); }))
      continue;
    any = true;
    legend.push_back({group.name, group.ink, LegendEntry::Mark::point});
    drawing += concat("<g class=\"", ink_class(group.ink), "\">\n");
    for (size_t c = 0; c < chart.categories.size(); ++c) {
      if (!group.intervals[c]) continue;
      const double offset = static_cast<double>(g) - (static_cast<double>(num_groups) - 1) / 2;
      const double x = frame.left + slot * (static_cast<double>(c) + 0.5) + apart * offset;
      drawing += draw_interval(frame, y, x, *group.intervals[c], c < chart.hollow.size() && chart.hollow[c],
                               apart >= kLeastLabelSlot, concat(chart.categories[c], ", ", group.name));
    }
    drawing += "</g>\n";
  }
  return any ? figure(chart.title, legend, "bars", drawing, {chart.note}) : "";
}

std::string draw(const StackedBars& chart) {
  const size_t num_bars = chart.categories.size();
  double tallest = 0;
  for (size_t c = 0; c < num_bars; ++c) {
    double sum = 0;
    for (const StackedBars::Layer& layer : chart.layers) {
      APO_ASSERT(layer.heights.size() == num_bars);
      sum += std::max(0.0, layer.heights[c]);
    }
    tallest = std::max(tallest, sum);
  }
  if (!(tallest > 0)) return "";
  // room for what is written over the bars
  const double room = chart.above.empty() ? 1 : 1.08;
  const Scale y =
      chart.shares ? percent_scale(std::min(1.0, tallest)) : linear_scale(0, tallest * room, 5, true);
  const Frame frame = frame_for(y);
  const double slot = (frame.right - frame.left) / static_cast<double>(num_bars);

  std::string drawing = draw_value_axis(frame, y, chart.y_label);
  for (size_t c = 0; c < num_bars; ++c)
    drawing += draw_bar(frame, y, chart, c, frame.left + slot * (static_cast<double>(c) + 0.5), slot);
  drawing += draw_category_axis(frame, chart.categories, chart.x_label);
  std::vector<LegendEntry> legend;
  for (const StackedBars::Layer& layer : chart.layers)
    if (std::any_of(layer.heights.begin(), layer.heights.end(), [](double h) { return h > 0; }))
      legend.push_back({layer.name, layer.ink, LegendEntry::Mark::box});
  return figure(chart.title, legend, "bars", drawing, {chart.note});
}

}  // namespace apo::report
