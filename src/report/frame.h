// What all charts share: the frame with its axes, the legend, the figure around them.
#pragma once

#include <string>
#include <vector>

#include "report/chart.h"
#include "report/ticks.h"

namespace apo::report {

/// Size of every chart in its own units; the page scales it.
constexpr double kWidth = 440, kHeight = 270;

/// The rectangle in which values are drawn.
struct Frame {
  double left = 0, right = 0, top = 0, bottom = 0;
  double x(double share) const { return left + share * (right - left); }
  double y(double share) const { return bottom - share * (bottom - top); }
};

/// A frame that leaves room for the labels of `y` and for the axes' names.
Frame frame_for(const Scale& y);

/// "ink h2 t1", the classes of an ink.
std::string ink_class(const Ink& ink);

/// Grid lines, labels and names of both axes. `categories` are written centred in equal slots; where they are
/// absent, `x` is a scale of numbers.
std::string draw_value_axis(const Frame& frame, const Scale& y, const std::string& label);
std::string draw_number_axis(const Frame& frame, const Scale& x, const std::string& label);
std::string draw_category_axis(const Frame& frame, const std::vector<std::string>& categories,
                               const std::string& label);

struct LegendEntry {
  std::string name;
  Ink ink;
  enum class Mark { line, dashed, point, box } mark = Mark::line;
};

/// <figure> with title, legend, the SVG of this height around `drawing`, and the notes (empty ones left out).
std::string figure(const std::string& title, const std::vector<LegendEntry>& legend,
                   const std::string& svg_class, const std::string& drawing,
                   const std::vector<std::string>& notes, double height = kHeight);

}  // namespace apo::report
