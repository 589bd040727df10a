#include "apo/data/statistics.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::data {
namespace {

using tokenizers::kSmallestSpread;
using tokenizers::VectorStatistics;

// `columns` [D][N]. An action that never changes counts as normalised, as OpenVLA has it: it comes back as
// its number whatever the policy says, where a token that nearly means it would move a robot a little in
// each step. One that hardly ever does, and a state, pass as they are.
VectorStatistics describe(std::vector<std::vector<double>>& columns, const std::vector<int64_t>& grippers,
                          const std::string& what, bool of_actions) {
  VectorStatistics s;
  std::string constant, rare;
  for (size_t j = 0; j < columns.size(); ++j) {
    std::vector<double>& x = columns[j];
    double sum = 0, squares = 0;
    for (const double v : x) sum += v;
    const double mean = sum / static_cast<double>(x.size());
    for (const double v : x) squares += (v - mean) * (v - mean);
    std::sort(x.begin(), x.end());
    s.mean.push_back(mean);
    s.std.push_back(std::sqrt(squares / static_cast<double>(x.size())));
    s.min.push_back(x.front());
    s.max.push_back(x.back());
    s.q01.push_back(quantile(x, 0.01));
    s.q99.push_back(quantile(x, 0.99));
    const bool gripper =
        std::find(grippers.begin(), grippers.end(), static_cast<int64_t>(j)) != grippers.end();
    const bool varies = s.q99[j] - s.q01[j] >= kSmallestSpread;
    // a gripper may close in corrections, if tokens can say where it stands
    const bool constant_gripper = gripper && std::abs(x.front()) <= 1;
    const bool pinned = of_actions && !constant_gripper && x.back() - x.front() < kSmallestSpread;
    if (pinned) s.min[j] = s.max[j] = s.q01[j] = s.q99[j] = x.front();
    s.mask.push_back(pinned || (!gripper && varies));
    if (pinned || (!gripper && !varies)) append_item(pinned ? constant : rare, ", ", j);
  }
  if (!constant.empty())
    log_info(what, ": dimensions ", constant,
             " never change; every action of the policy has their number there");
  if (!rare.empty())
    log_info(what, ": dimensions ", rare, " hardly ever change; they pass as they are, not normalized");
  return s;
}

}  // namespace

double quantile(const std::vector<double>& sorted, double share) {
  APO_ASSERT(!sorted.empty() && share >= 0 && share <= 1);
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

tokenizers::DatasetStatistics compute_statistics(const Dataset& dataset,
                                                 const std::vector<StepIndex>& steps) {
  APO_CHECK(DataError, !steps.empty(), "action statistics: expected at least one kept step, found none");
  tokenizers::DatasetStatistics statistics;
  std::vector<std::vector<double>> actions(static_cast<size_t>(dataset.action_size()));
  std::map<std::string, std::vector<std::vector<double>>> states;
  StepIndex previous{-1, -1, -1};
  for (const StepIndex& index : steps) {
    const Action action = dataset.sample_without_observation(index).actions.front();
    for (size_t j = 0; j < action.size(); ++j) actions[j].push_back(static_cast<double>(action[j]));
    const auto state = dataset.state(index).state;
    for (const auto& [name, values] : state) {
      auto& columns = states[name];
      if (columns.empty()) columns.resize(values.size());
      APO_CHECK(DataError, columns.size() == values.size(), dataset.file_path(index.file).string(),
                ": state ", name, ": expected ", columns.size(), " numbers as in the first step, found ",
                values.size());
      for (size_t j = 0; j < values.size(); ++j) columns[j].push_back(static_cast<double>(values[j]));
    }
    if (index.file != previous.file || index.episode != previous.episode) ++statistics.num_trajectories;
    previous = index;
  }
  statistics.num_transitions = static_cast<int64_t>(steps.size());
  statistics.gripper = dataset.gripper();
  const std::vector<int64_t> grippers = gripper_dimensions(statistics.gripper, dataset.action_size());
  statistics.action = describe(actions, grippers, "action statistics", true);
  for (auto& [name, columns] : states)
    statistics.state[name] = describe(columns, {}, "statistics of state " + name, false);
  return statistics;
}

}  // namespace apo::data
