// metrics.jsonl as columns.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "report/series.h"

namespace apo::report {

/// What a metrics.jsonl holds: one series for each field besides `step`, and what was strange about the file.
struct Metrics {
  std::map<std::string, Series>
      fields;                 ///< absent and null values are left out; not-finite ones are kept as NaN
  std::vector<double> steps;  ///< ascending, each once
  std::vector<std::string>
      notes;  ///< in plain words: a cut last line, repeated steps, values not finite, ...

  /// The field's series; an empty one if no line has it.
  const Series& operator[](const std::string& name) const;
  /// Sum of the field's finite values.
  double sum(const std::string& name) const;
};

/// Reads a metrics file. Errors as `write_run_report` promises.
Metrics read_metrics(const std::filesystem::path& path);

}  // namespace apo::report
