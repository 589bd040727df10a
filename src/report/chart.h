// Charts as inline SVG inside a <figure>: lines over steps, points with intervals, stacked bars.
//
// Colors are classes of the page's style sheet (`Ink`), so that one drawing serves light and dark. All text
// given here is plain and is escaped when drawn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "report/series.h"

namespace apo::report {

/// A place in the palette: `hue` 0-5 are told apart by color-blind readers too (hue 6 is grey), `tint` 0-2
/// pales it.
struct Ink {
  int hue = 0;
  int tint = 0;
};

/// How a value axis is laid out.
struct ValueAxis {
  std::string label;         ///< what and in which unit
  bool from_zero = false;    ///< for amounts; otherwise the axis spans the data
  bool log_if_wide = false;  ///< logarithmic where all values are positive and span more than a factor of 100
};

struct Curve {
  std::string name;  ///< in the legend
  Series series;
  Ink ink;
  bool dashed = false;
};

/// Values below which a curve of this ink should not come.
struct Zone {
  double below = 0;
  std::string name;  ///< in the legend
  std::string note;  ///< under the chart, where the zone is in the frame
  Ink ink;
};

/// Curves over steps. Few values (fewer than 60 of a curve) are drawn as they are, up to 30 with a mark each;
/// more are smoothed by a centred mean with the single values pale behind it, and the chart says so. A value
/// far outside (beyond the 0.5 and 99.5 percentiles and all smoothed values) may lie outside the frame; the
/// chart then says how many do.
struct LineChart {
  std::string title;
  std::string note;  ///< one line under the chart; may be empty
  std::string x_label = "step";
  ValueAxis y;
  std::vector<Curve> curves;
  bool smooth = true;
  std::optional<Zone> zone = {};  ///< shaded as far as it is in the frame, which it does not widen
};
/// The chart, or nothing if no curve has a finite value.
std::string draw(const LineChart& chart);

/// A measured share with its interval.
struct Interval {
  double value = 0, low = 0, high = 0;
};

/// Points with whiskers, one per category and group, on an axis from 0 to 100 %.
struct IntervalChart {
  struct Group {
    std::string name;
    Ink ink;
    std::vector<std::optional<Interval>> intervals;  ///< one a category; absent ones are left out
  };
  std::string title;
  std::string note;
  std::string x_label, y_label;
  std::vector<std::string> categories;
  std::vector<Group> groups;
  std::vector<bool> hollow;  ///< categories that are drawn hollow (empty: none)
};
/// The chart, or nothing if it has no interval.
std::string draw(const IntervalChart& chart);

/// The same lying flat: for each row its name on a line of its own (it may be long) and one whisker a group
/// below it, with the numbers written behind.
struct RowIntervals {
  std::string title;
  std::string note;
  std::string x_label;
  std::vector<std::string> rows;
  std::vector<IntervalChart::Group> groups;  ///< one interval a row
};
/// The chart, or nothing if it has no interval.
std::string draw(const RowIntervals& chart);

/// Amounts as bars that lie flat, one a row, with its name above it and count and share behind it.
struct RowBars {
  struct Row {
    std::string name;
    Ink ink;
    int64_t count = 0;  ///< >= 0
  };
  std::string title;
  std::string note;
  std::vector<Row> rows;
};
/// The chart, or nothing if all counts are zero.
std::string draw(const RowBars& chart);

/// Bars of stacked layers, one bar a category.
struct StackedBars {
  struct Layer {
    std::string name;
    Ink ink;
    std::vector<double> heights;  ///< one a category, >= 0
  };
  std::string title;
  std::string note;
  std::string x_label, y_label;
  std::vector<std::string> categories;
  std::vector<Layer> layers;       ///< lowest first
  std::vector<std::string> above;  ///< written over the bars (empty: nothing)
  bool shares = false;             ///< heights are shares of one, written in per cent
};
/// The chart, or nothing if all heights are zero.
std::string draw(const StackedBars& chart);

}  // namespace apo::report
