#include "report/loop_summary.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "apo/base/error.h"
#include "base/json.h"
#include "report/label_names.h"

namespace apo::report {
namespace {

// Within [0, 1].
std::optional<double> share_of(const JsonField& field) {
  const auto value = field.find<double>();
  field.expect(!value || (*value >= 0 && *value <= 1), "a number between 0 and 1");
  return value;
}

// A share from its parts; the interval is computed where the file does not give it.
std::optional<Share> read_share(const JsonField& count, const JsonField& total, const JsonField& rate,
                                const JsonField& low, const JsonField& high, int64_t trials) {
  const std::optional<int64_t> counted = count.count();
  const std::optional<double> given = share_of(rate);
  if (!counted && !given) return std::nullopt;
  Share share;
  share.total = total.count().value_or(trials);
  share.count = counted.value_or(std::llround(given.value_or(0) * static_cast<double>(share.total)));
  count.expect(share.count <= share.total, concat("at most the ", share.total, " trials"));
  if (share.total == 0) return std::nullopt;
  share.interval = wilson_interval(share.count, share.total);
  if (given) share.interval.value = *given;
  const std::optional<double> given_low = share_of(low), given_high = share_of(high);
  if (given_low) share.interval.low = *given_low;
  if (given_high) share.interval.high = *given_high;
  low.expect(share.interval.low <= share.interval.value + 1e-9, "at most the rate");
  high.expect(share.interval.high >= share.interval.value - 1e-9, "at least the rate");
  return share;
}

Evaluation read_evaluation(const JsonField& field) {
  Evaluation evaluation;
  evaluation.trials = field["trials"].count().value_or(0);
  evaluation.success = read_share(field["successes"], field["trials"], field["success_rate"],
                                  field["success_low"], field["success_high"], evaluation.trials);
  const JsonField unaided = field["unaided"];
  evaluation.unaided = read_share(unaided["count"], unaided["total"], unaided["rate"], unaided["low"],
                                  unaided["high"], evaluation.trials);
  evaluation.outcomes = field["outcomes"].counts();
  for (const auto& [fact, share] : field["success_by_fact"].entries()) {
    // where the number of such trials is missing, the file's own interval has to do
    const std::optional<double> rate = share_of(share["rate"]);
    if (!rate || share["total"].count() == 0) continue;
    Share read{share["count"].count().value_or(0), share["total"].count().value_or(0), {*rate, *rate, *rate}};
    read.interval.low = std::min(share_of(share["low"]).value_or(*rate), *rate);
    read.interval.high = std::max(share_of(share["high"]).value_or(*rate), *rate);
    evaluation.success_by_fact[fact] = read;
  }
  evaluation.seconds = field["seconds"].find<double>();
  return evaluation;
}

Deployment read_deployment(const JsonField& field) {
  Deployment deployment;
  deployment.episodes = field["episodes"].count();
  deployment.take_overs = field["take_overs"].count();
  // "alone" is the collector's own name
  deployment.successes_alone = field["successes_alone"].count();
  if (!deployment.successes_alone) deployment.successes_alone = field["alone"].count();
  deployment.lost = field["lost"].count();
  deployment.take_overs_by_reason = field["take_overs_by_reason"].counts();
  deployment.steps = field["steps"].counts();
  const std::vector<JsonField> episodes = field["take_overs_by_episode"].list();
  if (episodes.empty()) return deployment;
  int64_t corrected = 0;
  std::map<std::string, int64_t> by_reason;
  for (const JsonField& episode : episodes) {
    std::set<std::string> reasons;
    for (const JsonField& reason : episode.list()) reasons.insert(reason.get_or<std::string>());
    corrected += reasons.empty() ? 0 : 1;
    for (const std::string& reason : reasons) ++by_reason[reason];
  }
  const auto total = static_cast<int64_t>(episodes.size());
  const auto share = [&](int64_t count) { return Share{count, total, wilson_interval(count, total)}; };
  deployment.corrected = share(corrected);
  for (const auto& [reason, count] : by_reason) deployment.corrected_by_reason[reason] = share(count);
  return deployment;
}

Round read_round(const JsonField& field, int64_t position) {
  Round round;
  round.round = field["round"].count().value_or(position);
  round.policy = field["policy"].get_or<std::string>();
  round.objective = field["objective"].get_or<std::string>();
  round.promoted = field["promoted"].get_or(true);
  if (const JsonField promotion = field["promotion"]; promotion.present())
    round.promotion = {.method = "the policy in use",
                       .of = "success",
                       .difference = promotion["difference"].find<double>().value_or(0),
                       .p = promotion["p"].find<double>().value_or(1)};
  round.training = field["training"].inner_path();
  round.train_seconds = field["train_seconds"].find<double>();
  if (field["evaluation"].present()) round.evaluation = read_evaluation(field["evaluation"]);
  if (field["deployment"].present()) round.deployment = read_deployment(field["deployment"]);
  round.labels = field["labels"].counts();
  return round;
}

// The trials of an evaluation, from the file that lies where loops write it; trials of other counts are not
// these.
void read_trials(const std::filesystem::path& loop_dir, Round& round, std::vector<std::string>& notes) {
  const std::string name =
      concat(round.round == 0 ? "base" : concat("round-", round.round), "/evaluation/results.json");
  std::error_code ignored;
  if (!round.evaluation || !round.evaluation->success || !std::filesystem::exists(loop_dir / name, ignored))
    return;
  const JsonFile file(loop_dir / name);
  int64_t successes = 0;
  for (const JsonField& field : file.root()["trials"].list()) {
    Trial trial{field["success"].get_or(false), {}};
    for (const auto& [fact, value] : field["facts"].entries())
      trial.facts[fact] = value.get_or<std::string>();
    successes += trial.success ? 1 : 0;
    const std::optional<int64_t> seed = field["seed"].count();
    field["seed"].expect(seed.has_value(), "a whole number, at least 0");
    round.trials[*seed] = std::move(trial);
  }
  const Share& success = *round.evaluation->success;
  if (std::ssize(round.trials) == success.total && successes == success.count) return;
  round.trials.clear();
  notes.push_back(concat(name, " holds other trials than the summary tells of, and was left out."));
}

Provenance read_origin(const JsonField& field) {
  Provenance origin;
  Provenance::for_each_field(origin, [&](const char* name, auto& member) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(member)>, std::string>)
      member = field[name].get_or<std::string>();
    else
      member = field[name].count().value_or(0);
  });
  return origin;
}

Method read_method(const JsonField& field) {
  Method method;
  method.name = field["method"].get_or<std::string>();
  method.objective = field["objective"].get_or<std::string>();
  method.training = field["training"].inner_path();
  method.round = field["round"].count().value_or(1);
  const std::map<std::string, int64_t> labels = field["labels"].counts();
  method.sees_corrections =
      labels.empty() || std::any_of(labels.begin(), labels.end(), [](const auto& entry) {
        return LabelName(entry.first).source != "expert";
      });
  for (const JsonField& test : field["against"].list())
    method.against.push_back({test["method"].get_or<std::string>(), test["of"].get_or<std::string>(),
                              test["difference"].find<double>().value_or(0),
                              share_of(test["p"]).value_or(1)});
  method.train_seconds = field["train_seconds"].find<double>();
  if (field["evaluation"].present()) method.evaluation = read_evaluation(field["evaluation"]);
  if (field["deployment"].present()) method.deployment = read_deployment(field["deployment"]);
  return method;
}

}  // namespace

std::optional<Share> Deployment::corrected_for(const std::string& reason) const {
  if (!corrected) return std::nullopt;
  const auto found = corrected_by_reason.find(reason);
  if (found != corrected_by_reason.end()) return found->second;
  return Share{0, corrected->total, wilson_interval(0, corrected->total)};
}

std::optional<Share> Deployment::lost_share() const {
  const int64_t total = episodes.value_or(0);
  if (!lost || total < 1 || *lost > total) return std::nullopt;
  return Share{*lost, total, wilson_interval(*lost, total)};
}

std::string Round::name() const { return round == 0 ? "base" : concat("round ", round); }

const Round& LoopSummary::current() const {
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round)
    if (round->promoted && round->evaluation && round->evaluation->success) return *round;
  return rounds.front();
}

std::vector<std::string> LoopSummary::methods_that_see_corrections(bool see) const {
  std::vector<std::string> names;
  for (const Method& method : methods)
    if (method.name != "base" && method.sees_corrections == see &&
        std::find(names.begin(), names.end(), method.name) == names.end())
      names.push_back(method.name);
  return names;
}

const Method* LoopSummary::best_method() const {
  const Method* best = nullptr;
  for (const Method& method : methods) {
    const bool counts = method.name != "base" && method.round == methods.back().round && method.evaluation &&
                        method.evaluation->success;
    if (counts &&
        (!best || method.evaluation->success->interval.value > best->evaluation->success->interval.value))
      best = &method;
  }
  return best;
}

LoopSummary read_summary(const std::filesystem::path& path) {
  const JsonFile file(path);
  const JsonField root = file.root();
  LoopSummary summary;
  summary.command = root["command"].get_or<std::string>();
  summary.config = root["config"].get_or<std::string>();
  summary.environment = root["environment"].get_or<std::string>();
  if (root["provenance"].present()) summary.provenance = read_origin(root["provenance"]);
  summary.seed = root["seed"].count();
  summary.seconds = root["seconds"].find<double>();
  const std::vector<JsonField> rounds = root["rounds"].list();
  root["rounds"].expect(!rounds.empty(), "a list with at least one round");
  for (const JsonField& field : rounds)
    summary.rounds.push_back(read_round(field, static_cast<int64_t>(summary.rounds.size())));
  std::stable_sort(summary.rounds.begin(), summary.rounds.end(),
                   [](const Round& a, const Round& b) { return a.round < b.round; });
  for (const JsonField& field : root["animations"].list())
    summary.animations.push_back(
        {field["title"].get_or<std::string>(), field["caption"].get_or<std::string>(),
         field["path"].inner_path(), field["instruction"].get_or<std::string>(),
         field["kind"].get_or<std::string>(), field["chosen"].get_or<std::string>()});
  for (const Animation& animation : summary.animations)
    root["animations"].expect(
        animation.kind.empty() || animation.kind == "solved" || animation.kind == "failed",
        "animations of kind solved or failed");
  for (const JsonField& field : root["methods"].list()) summary.methods.push_back(read_method(field));
  if (root["corrections"].present()) summary.corrections = read_deployment(root["corrections"]);
  for (Round& round : summary.rounds) read_trials(path.parent_path(), round, summary.notes);
  return summary;
}

}  // namespace apo::report
