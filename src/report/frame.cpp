#include "report/frame.h"

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "report/html.h"

namespace apo::report {
namespace {

constexpr double kCharacter =
    8.6;  // width of a label's character, at the 14 units of height of a narrow screen
constexpr double kAxisName = 18;  // height of an axis's name

// Characters, not bytes.
size_t length(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, begins_character));
}

std::string x_name(const Frame& frame, const std::string& label) {
  return concat("<text class=\"name\" x=\"", px((frame.left + frame.right) / 2), "\" y=\"", px(kHeight - 4),
                "\" text-anchor=\"middle\">", escape(label), "</text>\n");
}

std::string swatch(const LegendEntry& entry) {
  std::string mark;
  using Mark = LegendEntry::Mark;
  if (entry.mark == Mark::box) mark = "<rect class=\"fill\" x=\"3\" y=\"1\" width=\"12\" height=\"10\"/>";
  if (entry.mark == Mark::point) mark = "<circle class=\"fill\" cx=\"9\" cy=\"6\" r=\"4\"/>";
  if (entry.mark == Mark::line || entry.mark == Mark::dashed)
    mark = concat("<line class=\"line", entry.mark == Mark::dashed ? " dashed" : "",
                  "\" x1=\"0\" y1=\"6\" x2=\"18\" y2=\"6\"/>");
  return concat("<svg class=\"swatch ", ink_class(entry.ink),
                "\" viewBox=\"0 0 18 12\" aria-hidden=\"true\">", mark, "</svg>");
}

}  // namespace

Frame frame_for(const Scale& y) {
  size_t longest = 0;
  for (const std::string& label : y.labels) longest = std::max(longest, length(label));
  Frame frame;
  frame.left = kAxisName + 9 + kCharacter * static_cast<double>(longest);
  frame.right = kWidth - 14;
  frame.top = 10;
  frame.bottom = kHeight - 22 - kAxisName;
  return frame;
}

std::string ink_class(const Ink& ink) { return concat("ink h", ink.hue, " t", ink.tint); }

std::string draw_value_axis(const Frame& frame, const Scale& y, const std::string& label) {
  std::string out;
  for (size_t i = 0; i < y.ticks.size(); ++i) {
    const std::string at = px(frame.y(y.share(y.ticks[i])));
    out += concat("<line class=\"grid\" x1=\"", px(frame.left), "\" x2=\"", px(frame.right), "\" y1=\"", at,
                  "\" y2=\"", at, "\"/><text x=\"", px(frame.left - 6), "\" y=\"", at,
                  "\" dy=\"0.35em\" text-anchor=\"end\">", escape(y.labels[i]), "</text>\n");
  }
  const std::string middle = px((frame.top + frame.bottom) / 2);
  return out + concat("<text class=\"name\" x=\"12\" y=\"", middle,
                      "\" text-anchor=\"middle\" transform=\"rotate(-90 12 ", middle, ")\">", escape(label),
                      "</text>\n");
}

std::string draw_number_axis(const Frame& frame, const Scale& x, const std::string& label) {
  std::string out = concat("<line class=\"axis\" x1=\"", px(frame.left), "\" x2=\"", px(frame.right),
                           "\" y1=\"", px(frame.bottom), "\" y2=\"", px(frame.bottom), "\"/>\n");
  for (size_t i = 0; i < x.ticks.size(); ++i) {
    const std::string at = px(frame.x(x.share(x.ticks[i])));
    out += concat("<line class=\"axis\" x1=\"", at, "\" x2=\"", at, "\" y1=\"", px(frame.bottom), "\" y2=\"",
                  px(frame.bottom + 4), "\"/><text x=\"", at, "\" y=\"", px(frame.bottom + 16),
                  "\" text-anchor=\"middle\">", escape(x.labels[i]), "</text>\n");
  }
  return out + x_name(frame, label);
}

std::string draw_category_axis(const Frame& frame, const std::vector<std::string>& categories,
                               const std::string& label) {
  std::string out = concat("<line class=\"axis\" x1=\"", px(frame.left), "\" x2=\"", px(frame.right),
                           "\" y1=\"", px(frame.bottom), "\" y2=\"", px(frame.bottom), "\"/>\n");
  size_t longest = 1;
  for (const std::string& category : categories) longest = std::max(longest, length(category));
  // each second, third, ... name where they would touch
  const double slot =
      (frame.right - frame.left) / static_cast<double>(std::max<size_t>(1, categories.size()));
  const auto stride = static_cast<size_t>(kCharacter * static_cast<double>(longest + 1) / slot) + 1;
  for (size_t i = 0; i < categories.size(); i += stride)
    out += concat("<text x=\"", px(frame.left + slot * (static_cast<double>(i) + 0.5)), "\" y=\"",
                  px(frame.bottom + 16), "\" text-anchor=\"middle\">", escape(categories[i]), "</text>\n");
  return out + x_name(frame, label);
}

std::string figure(const std::string& title, const std::vector<LegendEntry>& legend,
                   const std::string& svg_class, const std::string& drawing,
                   const std::vector<std::string>& notes, double height) {
  std::string names;
  for (const LegendEntry& entry : legend)
    names += concat("<span>", swatch(entry), escape(entry.name), "</span>");
  std::string out = concat("<figure>\n<figcaption>", escape(title), "</figcaption>\n");
  if (!names.empty()) out += concat("<div class=\"legend\">", names, "</div>\n");
  out += concat("<svg class=\"chart ", svg_class, "\" viewBox=\"0 0 ", px(kWidth), " ", px(height),
                "\" role=\"img\" aria-label=\"", escape(title), "\">\n", drawing, "</svg>\n");
  std::string joined;
  for (const std::string& note : notes)
    if (!note.empty()) append_item(joined, " ", note);
  if (!joined.empty()) out += concat("<p class=\"note\">", escape(joined), "</p>\n");
  return out + "</figure>\n";
}

}  // namespace apo::report
