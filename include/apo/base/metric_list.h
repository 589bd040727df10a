// Every number that training writes for a step, once: what records, TensorBoard, the report, the docs and
// several ranks know of it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace apo {

/// How one number for a step comes of those of several ranks. What the objective says is the whole batch's on
/// each of them; what a rank measures of itself is not.
enum class AcrossRanks {
  same,      ///< equal on all of them
  largest,   ///< of the slowest, or that which has the most
  smallest,  ///< of the slowest
};
std::string_view to_string(AcrossRanks how);

struct MetricInfo {
  std::string_view name;     ///< key of metrics.jsonl, tag of TensorBoard
  std::string_view unit;     ///< empty: a number of things, or none
  std::string_view meaning;  ///< one line
  AcrossRanks across_ranks;
  std::string_view panel;  ///< title of the report's chart; empty: none of its own
  std::string_view curve;  ///< its name there
};

/// In the order of metrics.jsonl, after "step".
std::span<const MetricInfo> metric_list();
/// Null if there is none of this name ("eval/...", numbers of other people's runs).
const MetricInfo* find_metric(std::string_view name);
/// The list as a Markdown table, for docs.
std::string metric_table();

}  // namespace apo
