// Evaluations of several policies side by side, each perhaps of several bases.
#include <algorithm>
#include <cmath>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/proportions.h"
#include "apo/config/options.h"
#include "apo/deploy/evaluator.h"
#include "apo/environments/environment.h"
#include "apo/loop/comparison.h"
#include "results/table.h"

namespace apo::loop {
namespace {

// One evaluation: its undisrupted trials, then those of each disruption.
struct Conditions {
  std::vector<std::string> names;
  std::vector<std::vector<bool>> success;
  std::string environment;      // its config; older files do not say
  std::vector<uint64_t> seeds;  // of the trials, the same under each
};

Conditions read(const std::string& directory) {
  const std::string file = directory + "/results.json";
  const results::EvalResult result = results::EvalResult::from_json(read_file(file), file);
  Conditions conditions{
      .names = {"none"}, .success = {result.successes()}, .environment = result.environment, .seeds = {}};
  for (const results::Trial& trial : result.trials) conditions.seeds.push_back(trial.seed);
  for (const results::DisruptedResult& disrupted : result.disruptions) {
    conditions.names.push_back(disrupted.disruption);
    conditions.success.push_back(disrupted.result.successes());
  }
  return conditions;
}

// A release that knows more keys prints more of them: what counts is what the texts say.
bool same_environment(const std::string& a, const std::string& b) {
  if (a == b || a.empty() || b.empty()) return a == b;
  const auto read_options = [](const std::string& text) {
    return config::load<environments::EnvironmentOptions>(config::Document::from_text(text));
  };
  try {
    return config::differences(read_options(a), read_options(b)).empty();
  } catch (const ConfigError&) {  // of a kind that is not registered here
    return false;
  }
}

struct Column {
  std::string name;
  std::vector<Conditions> bases;
};

// "0.838 [0.80, 0.87] (0.83 / 0.86 / 0.81)"; the bases' rates only where there are several.
std::string cell(const Column& column, size_t condition) {
  std::vector<std::vector<bool>> outcomes;
  int64_t count = 0, total = 0;
  std::string each;
  for (const Conditions& base : column.bases) {
    const std::vector<bool>& success = base.success[condition];
    const auto n = std::count(success.begin(), success.end(), true);
    count += n, total += std::ssize(success);
    each += concat(each.empty() ? "" : " / ",
                   results::fixed(static_cast<double>(n) / static_cast<double>(success.size()), 2));
    outcomes.push_back(success);
  }
  const Rate rate = wilson(count, total, kQuantile95 * std::sqrt(design_effect(outcomes)));
  const std::string pooled = concat(results::fixed(rate.rate, 3), " [", results::fixed(rate.low, 2), ", ",
                                    results::fixed(rate.high, 2), "]");
  return column.bases.size() > 1 ? concat(pooled, " (", each, ")") : pooled;
}

}  // namespace

std::string merge_evaluations(std::span<const std::pair<std::string, std::string>> named_directories) {
  APO_ASSERT(!named_directories.empty());
  std::vector<Column> columns;
  std::set<std::string> known;
  const std::string& first_directory = named_directories.front().second;
  Conditions first;
  for (const auto& [name, directory] : named_directories) {
    Conditions conditions = read(directory);
    if (columns.empty()) first = conditions;
    APO_CHECK(DataError, !conditions.seeds.empty(), directory, "/results.json: expected trials, found none");
    APO_CHECK(ConfigError, known.insert(directory).second, "--merge: expected each directory once, found ",
              directory, " twice");
    APO_CHECK(DataError, same_environment(conditions.environment, first.environment), directory,
              "/results.json: expected the environment of ", first_directory, "/results.json, found another");
    APO_CHECK(DataError, conditions.names == first.names && conditions.seeds == first.seeds, directory,
              "/results.json: expected the same disruptions and trial seeds as in ", first_directory,
              "/results.json, found others");
    for (const std::vector<bool>& success : conditions.success)
      APO_CHECK(DataError, success.size() == conditions.seeds.size(), directory,
                "/results.json: expected as many trials under each disruption as without, ",
                conditions.seeds.size(), ", found ", success.size());
    auto column = std::ranges::find(columns, name, &Column::name);
    if (column == columns.end()) column = columns.insert(column, {.name = name, .bases = {}});
    column->bases.push_back(std::move(conditions));
  }
  const size_t num_bases = columns.front().bases.size();
  results::TableRows rows = {{"disruption"}};
  for (const Column& column : columns) {
    APO_CHECK(ConfigError, column.bases.size() == num_bases, "--merge: expected as many directories of ",
              column.name, " as of ", columns.front().name, ", ", num_bases, ", found ", column.bases.size());
    rows[0].push_back(results::escaped(column.name));
  }
  for (size_t condition = 0; condition < first.names.size(); ++condition) {
    rows.push_back({first.names[condition]});
    for (const Column& column : columns) rows.back().push_back(cell(column, condition));
  }
  return concat(
      results::markdown_table(rows), "\nSuccess in ", first.seeds.size(), " trials",
      num_bases > 1
          ? concat(" of each of ", num_bases,
                   " bases with Wilson's 95 % interval at the effective number of trials (all bases are "
                   "tried on the same seeds: Kish's design effect), then each base; the intervals leave "
                   "out the spread between bases.\n")
          : std::string(" with Wilson's 95 % interval.\n"));
}

}  // namespace apo::loop
