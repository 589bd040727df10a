// The one list of metrics.
#include "apo/base/metric_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace apo {
namespace {

using ::testing::HasSubstr;

TEST(MetricList, NamesEachMetricOnceAndSaysWhatItIs) {
  std::set<std::string_view> names;
  for (const MetricInfo& metric : metric_list()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name;
    EXPECT_FALSE(metric.meaning.empty()) << metric.name;
    EXPECT_EQ(metric.panel.empty(), metric.curve.empty()) << metric.name;
    EXPECT_EQ(find_metric(metric.name), &metric);
  }
  EXPECT_EQ(find_metric("eval/success_rate"), nullptr);
  EXPECT_EQ(find_metric("z0")->unit, "nats");
}

TEST(MetricList, IsATableWhoseCellsHoldTheirBars) {
  EXPECT_THAT(metric_table(),
              HasSubstr("| `reference_kl` | nats a token | mean KL(reference \\|\\| policy) over"));
  EXPECT_THAT(metric_table(), HasSubstr("| `step_seconds` | s | of the whole step, waiting for data included "
                                        "| the largest | Time of a step |"));
}

}  // namespace
}  // namespace apo
