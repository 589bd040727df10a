#include "report/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/frame.h"
#include "report/html.h"
#include "report/markup.h"

namespace apo::report {
namespace {

using apo::testing::attribute_after;
using apo::testing::markup_fault;
using apo::testing::occurrences;
const double kNan = std::nan("");

bool says(const std::string& html, const std::string& text) { return html.find(text) != std::string::npos; }

Series counted(size_t n, double (*value)(double)) {
  Series series;
  for (size_t i = 0; i < n; ++i) {
    series.x.push_back(static_cast<double>(i));
    series.y.push_back(value(static_cast<double>(i)));
  }
  return series;
}

// The frame of a 0..10 axis: labels of two characters. left = 18 + 9 + 8.6 * 2 = 44.2, right = 440 - 14 =
// 426, top = 10, bottom = 270 - 22 - 18 = 230. x axis 0..4 (steps 0, 2, 4): 44.2, 235.1, 426. y axis 0..10
// (values 0, 10, 5): 230, 10, 120.
TEST(LineChart, PutsPointsWhereTheAxesSay) {
  LineChart chart;
  chart.title = "Loss";
  chart.y = {.label = "loss (nats)"};
  chart.curves.push_back({"loss", {{0, 2, 4}, {0, 10, 5}}, {1}, false});
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "<polyline", "points"), "44.2,230.0 235.1,10.0 426.0,120.0");
  EXPECT_EQ(attribute_after(html, "<polyline", "data-x"), "0 2 4");
  EXPECT_EQ(attribute_after(html, "<polyline", "data-y"), "0 10 5");
  EXPECT_EQ(occurrences(html, "<circle"), 3) << "few values get a mark each";
  EXPECT_TRUE(says(html, ">loss (nats)</text>"));
  EXPECT_TRUE(says(html, ">step</text>"));
  EXPECT_TRUE(says(html, "class=\"ink h1 t0\" data-name=\"loss\""));
}

TEST(LineChart, SaysHowItSmooths) {
  LineChart chart;
  chart.title = "t";
  chart.curves.push_back({"a", counted(500, [](double x) { return std::sin(x); }), {0}, false});
  std::string html = draw(chart);
  EXPECT_TRUE(says(html, "Line: centred mean of 13 steps; pale: single steps."));
  EXPECT_EQ(occurrences(html, "<polyline class=\"single\""), 1);
  chart.curves.push_back({"b", counted(2400, [](double x) { return std::cos(x); }), {1}, true});
  html = draw(chart);
  EXPECT_TRUE(says(html, "Line: centred mean of 13 to 61 steps; pale: least to largest single value."));
  EXPECT_EQ(occurrences(html, "<polygon class=\"band\""), 1);
  EXPECT_EQ(markup_fault(html), "");
  chart.smooth = false;
  EXPECT_FALSE(says(draw(chart), "centred mean"));
}

TEST(LineChart, BreaksTheLineAtGapsAndMarksLoneValues) {
  LineChart chart;
  chart.title = "t";
  Series series = counted(40, [](double x) { return x; });
  series.y[10] = kNan;
  series.y[12] = kNan;
  chart.curves.push_back({"a", series, {0}, false});
  const std::string html = draw(chart);
  EXPECT_EQ(occurrences(html, "<polyline"), 3);  // 0..9, 11, 13..39
  EXPECT_EQ(occurrences(html, "<circle"), 1);    // 11
}

// The frame of an axis from -20 to 0: labels of three characters, left = 18 + 9 + 8.6 * 3 = 52.8; -1 is at 10
// + 220 / 20 = 21, the bottom at 230.
TEST(LineChart, ShadesAZoneAsFarAsItIsInTheFrame) {
  LineChart chart;
  chart.title = "Reward";
  chart.curves.push_back({"desirable", {{0, 1, 2}, {0, -10, -20}}, {0}, false});
  chart.zone = {.below = -1, .name = "no place for it", .note = "Shaded: below -1.", .ink = {0}};
  std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "<rect class=\"band\"", "x"), "52.8");
  EXPECT_EQ(attribute_after(html, "<rect class=\"band\"", "y"), "21.0");
  EXPECT_EQ(attribute_after(html, "<rect class=\"band\"", "height"), "209.0");
  EXPECT_TRUE(says(html, "no place for it"));
  EXPECT_TRUE(says(html, "Shaded: below -1."));
  // wholly below it, the frame is full; wholly above it, there is nothing to shade or to say
  chart.curves[0].series.y = {-10, -15, -20};
  html = draw(chart);
  EXPECT_EQ(attribute_after(html, "<rect class=\"band\"", "y"), "10.0");
  EXPECT_EQ(attribute_after(html, "<rect class=\"band\"", "height"), "220.0");
  chart.curves[0].series.y = {0, 1, 2};
  html = draw(chart);
  EXPECT_EQ(occurrences(html, "<rect"), 0);
  EXPECT_FALSE(says(html, "Shaded") || says(html, "no place"));
}

TEST(LineChart, IsNothingWithoutFiniteValues) {
  LineChart chart;
  chart.title = "t";
  EXPECT_EQ(draw(chart), "");
  chart.curves.push_back({"a", {{1, 2}, {kNan, std::numeric_limits<double>::infinity()}}, {0}, false});
  EXPECT_EQ(draw(chart), "");
}

TEST(LineChart, CountsWhatLiesOutsideTheFrame) {
  LineChart chart;
  chart.title = "t";
  // two spikes in 500 values: beyond the 99.5th percentile only one more may be
  Series series = counted(1000, [](double x) { return x == 500 || x == 800 ? 1e6 : 1 + 0.001 * x; });
  chart.curves.push_back({"a", series, {0}, false});
  const std::string html = draw(chart);
  // the smoothed line feels the spikes (1e6 / 25 = 40,000), the frame ends there
  EXPECT_TRUE(says(html, "2 of 1,000 values lie outside the frame."));
  EXPECT_FALSE(says(html, "nan") || says(html, "inf"));
}

TEST(LineChart, TurnsLogarithmicOnlyWhereItMayAndPays) {
  LineChart chart;
  chart.title = "t";
  chart.y.log_if_wide = true;
  chart.curves.push_back({"a", {{1, 2, 3}, {0.01, 1, 100}}, {0}, false});
  EXPECT_TRUE(says(draw(chart), "Logarithmic axis."));
  chart.curves[0].series.y = {0, 1, 100};  // zero has no logarithm
  EXPECT_FALSE(says(draw(chart), "Logarithmic axis."));
  chart.curves[0].series.y = {1, 2, 50};
  EXPECT_FALSE(says(draw(chart), "Logarithmic axis."));
}

// One zero in 600 values lies under the 0.5th percentile, so that the axis may be logarithmic without it.
TEST(LineChart, DrawsAZeroBelowALogarithmicFrame) {
  LineChart chart;
  chart.title = "t";
  chart.y.log_if_wide = true;
  Series series = counted(600, [](double x) { return x == 300 ? 0 : std::pow(10, x / 200); });
  chart.curves.push_back({"a", series, {0}, false});
  const std::string html = draw(chart);
  EXPECT_TRUE(says(html, "Logarithmic axis."));
  EXPECT_TRUE(says(html, "1 of 600 values lies outside the frame."));
  EXPECT_FALSE(says(html, "inf") || says(html, "nan"));
}

TEST(LineChart, SurvivesExtremeValues) {
  LineChart chart;
  chart.title = "t";
  const double largest = std::numeric_limits<double>::max();
  chart.curves.push_back({"a", {{0, 1, 2}, {-largest, 5e-324, largest}}, {0}, false});
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  const std::string points = attribute_after(html, "<polyline", "points");
  EXPECT_LT(points.size(), 60u) << points;
}

TEST(LineChart, EscapesNames) {
  LineChart chart;
  chart.title = "<script>alert(1)</script>";
  chart.note = "a & b";
  chart.curves.push_back({"\"><script>", {{1, 2}, {1, 2}}, {0}, false});
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(occurrences(html, "<script"), 0);
  EXPECT_TRUE(says(html, "a &amp; b"));
}

// The frame of a 0..100 % axis: left = 18 + 9 + 8.6 * 4 = 61.4, right = 426, top = 10, bottom = 230.
// Two categories: slots of 182.3, the first's centre at 152.55 -> 152.5 or 152.6; one group: no offset.
// 50 % is at 120, the whisker from 25 % (175) to 75 % (65).
TEST(IntervalChart, PutsWhiskersWhereTheIntervalEnds) {
  IntervalChart chart;
  chart.title = "Success";
  chart.y_label = "share";
  chart.categories = {"base", "round 1"};
  chart.groups = {{"success", {0}, {Interval{0.5, 0.25, 0.75}, std::nullopt}}};
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "<line class=\"whisker\"", "y1"), "175.0");
  EXPECT_EQ(attribute_after(html, "<line class=\"whisker\"", "y2"), "65.0");
  EXPECT_NEAR(std::stod(attribute_after(html, "<line class=\"whisker\"", "x1")), 152.55, 0.06);
  EXPECT_EQ(attribute_after(html, "<circle class=\"fill\" cx=\"152", "cy"), "120.0");
  EXPECT_EQ(occurrences(html, "class=\"whisker\""), 3) << "one interval: a line and two caps";
  EXPECT_TRUE(says(html, "base, success: 50.0% [25.0%, 75.0%]"));
}

// Two groups lie 54 apart: 152.55 ± 27.
TEST(IntervalChart, SetsGroupsApartAndHollowsWhatWasNotPromoted) {
  IntervalChart chart;
  chart.title = "Success";
  chart.categories = {"base", "round 1"};
  const Interval half{0.5, 0.4, 0.6};
  chart.groups = {{"success", {0}, {half, half}}, {"unaided", {2}, {half, half}}};
  chart.hollow = {false, true};
  const std::string html = draw(chart);
  EXPECT_NEAR(std::stod(attribute_after(html, "base, success", "x1")), 125.55, 0.06);
  EXPECT_NEAR(std::stod(attribute_after(html, "base, unaided", "x1")), 179.55, 0.06);
  EXPECT_EQ(occurrences(html, "<circle class=\"hollow\""), 2);
  chart.groups = {{"success", {0}, {std::nullopt, std::nullopt}}};
  EXPECT_EQ(draw(chart), "");
}

// Heights 30 and 10 on an axis 0..50 (40 * 1.08 = 43.2, step 10): 220 / 50 = 4.4 a unit. The lower layer
// reaches from 230 to 98 (height 132), the upper one to 54 (height 44).
TEST(StackedBars, StackTheirLayers) {
  StackedBars chart;
  chart.title = "Take-overs";
  chart.categories = {"round 1"};
  chart.layers = {{"wrong object", {1}, {30}}, {"off course", {2}, {10}}, {"never", {3}, {0}}};
  chart.above = {"40 in 90"};
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "round 1, wrong object: 30", "y"), "98.0");
  EXPECT_EQ(attribute_after(html, "round 1, wrong object: 30", "height"), "132.0");
  EXPECT_EQ(attribute_after(html, "round 1, off course: 10", "y"), "54.0");
  EXPECT_EQ(attribute_after(html, "round 1, off course: 10", "height"), "44.0");
  EXPECT_TRUE(says(html, ">40 in 90</text>"));
  EXPECT_FALSE(says(html, "never")) << "an empty layer is not in the legend";
  chart.layers = {{"none", {1}, {0}}};
  EXPECT_EQ(draw(chart), "");
}

TEST(StackedBars, WriteSharesInPerCent) {
  StackedBars chart;
  chart.title = "t";
  chart.shares = true;
  chart.categories = {"base"};
  chart.layers = {{"success", {0}, {0.53}}, {"timeout", {1}, {0.47}}};
  const std::string html = draw(chart);
  EXPECT_TRUE(says(html, "base, success: 53.0%"));
  EXPECT_TRUE(says(html, ">100%</text>"));
}

// An axis of 0..100 % from 12 to 440 - 122 = 318: 50 % at 165, 25 % at 88.5, 75 % at 241.5. The first name
// stands in a line of 19 units from 4 on, its whisker in the middle of the 17 below: at 31.5; the next row 9
// units further down.
TEST(RowIntervals, PutWhiskersWhereTheIntervalEnds) {
  RowIntervals chart;
  chart.title = "Success";
  chart.x_label = "share";
  chart.rows = {"a <method> with a name that is much longer than what fits into a line of a chart", "b"};
  chart.groups = {{"success", {0}, {Interval{0.5, 0.25, 0.75}, Interval{0.042, 0.01, 0.1}}},
                  {"never", {1}, {std::nullopt, std::nullopt}}};
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "<line class=\"whisker\"", "x1"), "88.5");
  EXPECT_EQ(attribute_after(html, "<line class=\"whisker\"", "x2"), "241.5");
  EXPECT_EQ(attribute_after(html, "<circle class=\"fill\" cx=\"165", "cy"), "31.5");
  EXPECT_TRUE(says(html, ">50% [25, 75]</text>"));
  EXPECT_TRUE(says(html, ">4.2% [1, 10]</text>"));
  EXPECT_TRUE(says(html, ">a &lt;method&gt; with a name that is much longer t…</text>"));
  EXPECT_FALSE(says(html, "never"));
  EXPECT_EQ(attribute_after(html, "<title>b, success", "y1"), "76.5");  // 31.5 + 8.5 + 9 + 19 + 8.5
  chart.groups.erase(chart.groups.begin());
  EXPECT_EQ(draw(chart), "");
}

// The longest bar fills the 306 units; a quarter of it is 76.5.
TEST(RowBars, AreAsLongAsTheirCounts) {
  RowBars chart;
  chart.title = "Labels";
  chart.rows = {{"desirable & good", {0}, 3000}, {"undesirable", {1}, 750}, {"none", {6}, 0}};
  const std::string html = draw(chart);
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_EQ(attribute_after(html, "<title>desirable &amp; good: 3,000 (80.0%)", "width"), "306.0");
  EXPECT_EQ(attribute_after(html, "<title>undesirable: 750 (20.0%)", "width"), "76.5");
  EXPECT_EQ(attribute_after(html, "<title>none", "width"), "0.0");
  chart.rows = {{"none", {6}, 0}};
  EXPECT_EQ(draw(chart), "");
}

TEST(CategoryAxis, LeavesOutNamesThatWouldTouch) {
  const Frame frame = frame_for(linear_scale(0, 1, 5, true));
  std::vector<std::string> names;
  for (int i = 0; i < 30; ++i) names.push_back("round " + std::to_string(i));
  const std::string axis = draw_category_axis(frame, names, "");
  // 30 slots of 12.4 units, names of 8 characters (69 units, with one between them 77): each seventh
  EXPECT_EQ(occurrences(axis, ">round "), 5);
}

}  // namespace
}  // namespace apo::report
