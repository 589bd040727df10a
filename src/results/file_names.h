// What the files of runs, loops and evaluations are called: docs/files.md.
#pragma once

namespace apo::results {

inline constexpr const char* kConfigFile = "config.yaml";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kSamplesFile = "samples.jsonl";
inline constexpr const char* kLabelsFile = "labels.json";
inline constexpr const char* kHeaviestFile = "heaviest_samples.json";
inline constexpr const char* kResultsFile = "results.json";
inline constexpr const char* kSummaryFile = "summary.json";
inline constexpr const char* kComparisonFile = "comparison.json";

}  // namespace apo::results
