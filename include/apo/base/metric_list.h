// Every number that training writes for a step, once: what records, TensorBoard, the report, the docs and
// several ranks know of it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace apo {

/// How one number for a step comes of those of several ranks, each of which saw its share of the batch.
enum class AcrossRanks {
  same,    ///< equal on all of them
  sum,     ///< each saw a part
  mean,    ///< each is a mean over equally many samples
  group,   ///< a mean over a group of samples, by how many of these a rank has
  max,     ///< the slowest or largest counts
  pairs,   ///< as mean; where the objective compares pairs, each is a share of the sum over all ranks' pairs
  others,  ///< made anew of the numbers that it is made of
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
