#include <algorithm>
#include <cmath>
#include <limits>

#include "apo/base/error.h"
#include "report/chart.h"
#include "report/frame.h"
#include "report/html.h"

namespace apo::report {
namespace {

constexpr size_t kLinePoints = 300;    // of a smoothed line
constexpr size_t kSinglePoints = 600;  // values drawn one by one; more become an envelope
constexpr size_t kMarkedPoints = 30;   // values that get a mark each
constexpr double kMarkRadius = 2.6;

bool has_finite(const Series& series) {
  return std::any_of(series.y.begin(), series.y.end(), [](double y) { return std::isfinite(y); });
}

// The least and the largest of what has been put in.
struct Bounds {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// A curve with what will be drawn of it.
struct Prepared {
  const Curve* curve = nullptr;
  size_t window = 1;
  Series line;
};

struct Plan {
  Frame frame;
  Scale x, y;
};

Plan lay_out(const LineChart& chart, const std::vector<Prepared>& curves) {
  Bounds x, y;
  for (const Prepared& prepared : curves) {
    const Series& all = prepared.curve->series;
    for (size_t i = 0; i < all.size(); ++i)
      if (std::isfinite(all.y[i])) x.add(all.x[i]);
    for (double value : prepared.line.y) y.add(value);
    if (prepared.window > 1) {
      y.add(quantile(all.y, 0.005));
      y.add(quantile(all.y, 0.995));
    }
  }
  Plan plan;
  if (chart.y.log_if_wide && y.low > 0 && y.high > 100 * y.low) {
    plan.y = log_scale(y.low, y.high);
  } else {
    if (chart.y.from_zero) y.add(0);
    plan.y = linear_scale(y.low, y.high, 5, true);
  }
  // runs begin at 0; one that was resumed far from there does not
  if (x.low > 0 && x.low <= x.high - x.low) x.low = 0;
  // a single step gets room on both sides
  if (x.low == x.high) {
    x.low -= 1;
    x.high += 1;
  }
  plan.x = linear_scale(x.low, x.high, 6, false);
  plan.frame = frame_for(plan.y);
  return plan;
}

// Positions stay within one frame's height of the frame: what is outside is not seen, and no coordinate is
// huge.
std::string position(const Plan& plan, double x, double y) {
  const double share = plan.y.log && y <= 0 ? -1 : std::clamp(plan.y.share(y), -1.0, 2.0);
  return concat(px(plan.frame.x(plan.x.share(x))), ",", px(plan.frame.y(share)));
}

// The stretches of finite values as polylines; `with_values` adds what the pointer shows.
std::string polylines(const Plan& plan, const Series& series, const std::string& css, bool with_values) {
  std::string out, points, xs, ys;
  const auto flush = [&] {
    if (points.empty()) return;
    points.pop_back();
    out += concat("<polyline class=\"", css, "\" points=\"", points, "\"");
    if (with_values) {
      xs.pop_back();
      ys.pop_back();
      out += concat(" data-x=\"", xs, "\" data-y=\"", ys, "\"");
    }
    out += "/>\n";
    points.clear();
    xs.clear();
    ys.clear();
  };
  for (size_t i = 0; i < series.size(); ++i) {
    if (!std::isfinite(series.y[i])) {
      flush();
      continue;
    }
    points += position(plan, series.x[i], series.y[i]) + " ";
    xs += format_count(static_cast<int64_t>(series.x[i])) + " ";
    ys += format_number(series.y[i], 4) + " ";
  }
  flush();
  return out;
}

std::string draw_single_values(const Plan& plan, const Series& series) {
  if (series.size() <= kSinglePoints) return polylines(plan, series, "single", false);
  const Envelope band = envelope(series, kLinePoints);
  std::string points;
  for (size_t i = 0; i < band.x.size(); ++i) points += position(plan, band.x[i], band.high[i]) + " ";
  for (size_t i = band.x.size(); i-- > 0;) points += position(plan, band.x[i], band.low[i]) + " ";
  return concat("<polygon class=\"band\" points=\"", points, "\"/>\n");
}

std::string draw_marks(const Plan& plan, const Series& series) {
  std::string out;
  for (size_t i = 0; i < series.size(); ++i) {
    // a value between two gaps would have no line to be seen by
    const bool before = i > 0 && std::isfinite(series.y[i - 1]);
    const bool after = i + 1 < series.size() && std::isfinite(series.y[i + 1]);
    if (!std::isfinite(series.y[i]) || (series.size() > kMarkedPoints && (before || after))) continue;
    const std::string at = position(plan, series.x[i], series.y[i]);
    const size_t comma = at.find(',');
    out += concat("<circle class=\"fill\" cx=\"", at.substr(0, comma), "\" cy=\"", at.substr(comma + 1),
                  "\" r=\"", px(kMarkRadius), "\"/>\n");
  }
  return out;
}

std::string draw_curve(const Plan& plan, const Prepared& prepared) {
  const Curve& curve = *prepared.curve;
  std::string out =
      concat("<g class=\"", ink_class(curve.ink), "\" data-name=\"", escape(curve.name), "\">\n");
  if (prepared.window > 1) out += draw_single_values(plan, curve.series);
  out += polylines(plan, prepared.line, curve.dashed ? "line dashed" : "line", true);
  out += draw_marks(plan, prepared.line);
  return out + "</g>\n";
}

bool is_in_frame(const std::optional<Zone>& zone, const Plan& plan) {
  return zone && !plan.y.log && plan.y.low < zone->below;
}

std::string draw_zone(const Plan& plan, const Zone& zone) {
  const double top = plan.frame.y(std::min(plan.y.share(zone.below), 1.0));
  return concat("<g class=\"", ink_class(zone.ink), "\"><rect class=\"band\" x=\"", px(plan.frame.left),
                "\" y=\"", px(top), "\" width=\"", px(plan.frame.right - plan.frame.left), "\" height=\"",
                px(plan.frame.bottom - top), "\"/></g>\n");
}

std::vector<std::string> notes_of(const LineChart& chart, const std::vector<Prepared>& curves,
                                  const Plan& plan) {
  size_t least = std::numeric_limits<size_t>::max(), most = 0, longest = 0;
  int64_t outside = 0, all = 0;
  for (const Prepared& prepared : curves) {
    const Series& series = prepared.curve->series;
    if (prepared.window > 1) {
      least = std::min(least, prepared.window);
      most = std::max(most, prepared.window);
      longest = std::max(longest, series.size());
    }
    for (double value : series.y)
      if (std::isfinite(value)) {
        ++all;
        outside += value < plan.y.low || value > plan.y.high ? 1 : 0;
      }
  }
  std::vector<std::string> notes = {chart.note};
  if (is_in_frame(chart.zone, plan)) notes.push_back(chart.zone->note);
  if (most > 1) {
    const std::string window = least == most ? format_count(static_cast<int64_t>(most))
                                             : concat(format_count(static_cast<int64_t>(least)), " to ",
                                                      format_count(static_cast<int64_t>(most)));
    notes.push_back(concat("Line: centred mean of ", window, " steps; pale: ",
                           longest > kSinglePoints ? "least to largest single value." : "single steps."));
  }
  if (plan.y.log) notes.emplace_back("Logarithmic axis.");
  if (outside > 0)
    notes.push_back(concat(format_count(outside), " of ", count_of(all, "value"), " lie",
                           outside == 1 ? "s" : "", " outside the frame."));
  return notes;
}

}  // namespace

std::string draw(const LineChart& chart) {
  std::vector<Prepared> curves;
  for (const Curve& curve : chart.curves) {
    if (!has_finite(curve.series)) continue;
    const size_t window = chart.smooth ? smoothing_window(curve.series.size()) : 1;
    curves.push_back({&curve, window, smoothed(curve.series, window, kLinePoints)});
  }
  if (curves.empty()) return "";
  const Plan plan = lay_out(chart, curves);
  const Frame& frame = plan.frame;

  std::string drawing =
      draw_value_axis(frame, plan.y, chart.y.label) + draw_number_axis(frame, plan.x, chart.x_label);
  // an inner svg cuts off what lies outside the frame, but for the halves of marks on its border
  const std::string left = px(frame.left - kMarkRadius), top = px(frame.top - kMarkRadius);
  const std::string width = px(frame.right - frame.left + 2 * kMarkRadius);
  const std::string height = px(frame.bottom - frame.top + 2 * kMarkRadius);
  drawing += concat("<svg x=\"", left, "\" y=\"", top, "\" width=\"", width, "\" height=\"", height,
                    "\" viewBox=\"", left, " ", top, " ", width, " ", height, "\">\n");
  std::vector<LegendEntry> legend;
  if (is_in_frame(chart.zone, plan)) drawing += draw_zone(plan, *chart.zone);
  for (const Prepared& prepared : curves) {
    drawing += draw_curve(plan, prepared);
    const auto mark = prepared.curve->dashed ? LegendEntry::Mark::dashed : LegendEntry::Mark::line;
    legend.push_back({prepared.curve->name, prepared.curve->ink, mark});
  }
  if (is_in_frame(chart.zone, plan))
    legend.push_back({chart.zone->name, chart.zone->ink, LegendEntry::Mark::box});
  drawing +=
      concat("<line class=\"cursor\" y1=\"", px(frame.top), "\" y2=\"", px(frame.bottom), "\"/></svg>\n");
  return figure(chart.title, legend, "lines", drawing, notes_of(chart, curves, plan));
}

}  // namespace apo::report
