// Methods side by side: several objectives that learn from the very same corrections, tried on the same
// seeds.
//
//   refine: {comparison: {methods: [{name: apo, objective: {type: apo}},
//                                   {name: dagger, objective: {type: sft}}]}}
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/objective/options.h"
#include "apo/results/comparison.h"

namespace apo::config {
class Visitor;
}

namespace apo::loop {

/// One way to learn from corrections; what is not here is as in the top-level sections.
struct MethodOptions {
  std::string name;  ///< in tables; not "base"
  objective::ObjectiveOptions objective;
  data::PoolOptions pools;
  bool interactions = true;             ///< false: learns from the expert data alone, a control
  std::optional<double> learning_rate;  ///< unset: optimizer.learning_rate
  std::optional<int64_t> batch_size;    ///< unset: train.batch_size
  void visit(config::Visitor& v);
};

/// Config section `refine.comparison`.
struct ComparisonOptions {
  /// none: no comparison, the loop refines as the top-level sections say
  std::vector<MethodOptions> methods;
  int64_t episodes = 200;                       ///< of each method's next deployment, on the same seeds
  int64_t take_overs = 0;                       ///< it ends after so many, too; 0: after `episodes` alone
  std::vector<std::string> against = {"base"};  ///< methods that every other one is tested against
  void visit(config::Visitor& v);
};

/// ConfigError for names that are missing, taken twice, or unknown in `against`.
void check(const ComparisonOptions& options);

using results::Comparison;
using results::MethodResult;

/// Markdown tables, two for each round: success in trials, and take-overs in the next deployment. Rates are
/// pooled over `loops` (freshly trained bases), intervals are Wilson's 95 %, tests are McNemar's. Trials have
/// the same seeds in every loop: their intervals are those of the effective sample size n / design_effect,
/// and in the tests a seed counts once, by the sign of its sum over loops. Deployments have their own seeds
/// in each loop: there every episode counts, and a test is over the seeds that both methods' deployments came
/// to.
/// DataError naming `names` (one a loop) where two loops have other methods, trials or seeds, or next
/// deployments of another number of episodes (or of take-overs, where these end them).
std::string comparison_markdown(std::span<const Comparison> loops, std::span<const std::string> names);

/// The tables of several loops' directories. DataError as above, or where one holds no whole comparison.
std::string merge_comparisons(std::span<const std::string> directories);

/// Success of several policies, undisrupted and under each disruption, as a Markdown table: a column for each
/// name, pooled over its directories (one a base, each with a results.json of `apo-eval`), with intervals as
/// in `comparison_markdown`.
/// ConfigError for a name with another number of directories than the first, or a directory that is named
/// twice. DataError naming the file that is missing, damaged, or has another environment, other trials or
/// other disruptions than the first.
std::string merge_evaluations(std::span<const std::pair<std::string, std::string>> named_directories);

}  // namespace apo::loop
