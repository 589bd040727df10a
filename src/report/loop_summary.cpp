#include "report/loop_summary.h"

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "report/label_names.h"

namespace apo::report {
namespace {

// The trials of an evaluation, from the file that lies where loops write it; trials of other counts are not
// these.
void read_trials(const std::filesystem::path& loop_dir, const Round& round, LoopSummary& summary) {
  const std::string name =
      concat(round.round == 0 ? "base" : concat("round-", round.round), "/evaluation/results.json");
  std::error_code ignored;
  if (!round.evaluation || !round.evaluation->success || !std::filesystem::exists(loop_dir / name, ignored))
    return;
  const std::filesystem::path file = loop_dir / name;
  int64_t successes = 0;
  std::map<int64_t, Trial> trials;
  for (const Trial& trial : results::EvalResult::from_json(read_file(file), file.string()).trials) {
    successes += trial.success ? 1 : 0;
    trials[static_cast<int64_t>(trial.seed)] = trial;
  }
  const Rate& success = *round.evaluation->success;
  if (std::ssize(trials) == success.total && successes == success.count)
    summary.trials[round.round] = std::move(trials);
  else
    summary.notes.push_back(concat(name, " holds other trials than the summary tells of, and was left out."));
}

}  // namespace

Interval interval_of(const Rate& rate) { return {rate.rate, rate.low, rate.high}; }

std::optional<Interval> interval_of(const std::optional<Rate>& rate) {
  return rate ? std::optional(interval_of(*rate)) : std::nullopt;
}

std::optional<Rate> corrected(const CollectionSummary& deployment) {
  const auto& episodes = deployment.take_overs_by_episode;
  if (episodes.empty()) return std::nullopt;
  return wilson(std::ranges::count_if(episodes, [](const auto& reasons) { return !reasons.empty(); }),
                std::ssize(episodes));
}

std::optional<Rate> corrected_for(const CollectionSummary& deployment, const std::string& reason) {
  const auto& episodes = deployment.take_overs_by_episode;
  if (episodes.empty()) return std::nullopt;
  return wilson(
      std::ranges::count_if(
          episodes, [&](const auto& reasons) { return std::ranges::find(reasons, reason) != reasons.end(); }),
      std::ssize(episodes));
}

std::optional<Rate> lost_share(const CollectionSummary& deployment) {
  if (deployment.episodes < 1 || deployment.lost > deployment.episodes) return std::nullopt;
  return wilson(deployment.lost, deployment.episodes);
}

bool sees_corrections(const Method& method) {
  return method.labels.empty() || std::ranges::any_of(method.labels, [](const auto& entry) {
           return LabelName(entry.first).source != "expert";
         });
}

const Round& LoopSummary::current() const {
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round)
    if (round->promoted && round->evaluation && round->evaluation->success) return *round;
  return rounds.front();
}

std::vector<std::string> LoopSummary::methods_that_see_corrections(bool see) const {
  std::vector<std::string> names;
  for (const Method& method : methods)
    if (method.name != "base" && sees_corrections(method) == see &&
        std::find(names.begin(), names.end(), method.name) == names.end())
      names.push_back(method.name);
  return names;
}

const Method* LoopSummary::best_method() const {
  const Method* best = nullptr;
  for (const Method& method : methods) {
    const bool counts = method.name != "base" && method.round == methods.back().round && method.evaluation &&
                        method.evaluation->success;
    if (counts && (!best || method.evaluation->success->rate > best->evaluation->success->rate))
      best = &method;
  }
  return best;
}

LoopSummary read_summary(const std::filesystem::path& path) {
  LoopSummary summary{results::read_summary(path), {}, {}};
  for (const Round& round : summary.rounds) read_trials(path.parent_path(), round, summary);
  return summary;
}

}  // namespace apo::report
