#include "results/summary.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "apo/base/error.h"
#include "base/provenance_json.h"
#include "results/collection_json.h"
#include "results/json_parts.h"
#include "results/paired_json.h"

namespace apo::results {
namespace {

using nlohmann::json;

json rate_json(const Rate& rate) {
  json object;
  for_each_field(rate, [&](const char* name, const auto& member) { object[name] = member; });
  return object;
}

json evaluation_json(const EvaluationSummary& evaluation) {
  json object = {{"trials", evaluation.trials}, {"outcomes", evaluation.outcomes}};
  if (const std::optional<Rate>& success = evaluation.success) {
    object["successes"] = success->count;
    object["success_rate"] = success->rate;
    object["success_low"] = success->low;
    object["success_high"] = success->high;
  }
  if (evaluation.unaided) object["unaided"] = rate_json(*evaluation.unaided);
  json& by_fact = object["success_by_fact"] = json::object();
  for (const auto& [fact, rate] : evaluation.success_by_fact) by_fact[fact] = rate_json(rate);
  if (evaluation.mean_steps) object["mean_steps"] = *evaluation.mean_steps;
  if (evaluation.seconds) object["seconds"] = *evaluation.seconds;
  return object;
}

json collection_json(const std::optional<CollectionSummary>& collection) {
  return collection ? to_json<json>(*collection) : json();
}

json policy_json(const PolicySummary& policy) {
  json object = {{"policy", policy.policy}, {"deployment", collection_json(policy.deployment)}};
  if (!policy.objective.empty()) object["objective"] = policy.objective;
  if (!policy.training.empty()) object["training"] = policy.training;
  if (policy.train_seconds) object["train_seconds"] = *policy.train_seconds;
  if (!policy.labels.empty()) object["labels"] = policy.labels;
  if (policy.evaluation) object["evaluation"] = evaluation_json(*policy.evaluation);
  return object;
}

json round_json(const Round& round) {
  json object = policy_json(round);
  object["round"] = round.round;
  object["promoted"] = round.promoted;
  if (round.promotion) {
    object["promotion"] = paired_json<json>(round.promotion->test, "refined", "in_use");
    object["promotion"]["tolerance"] = round.promotion->tolerance;
  }
  return object;
}

json method_json(const Method& method) {
  json object = policy_json(method);
  object["method"] = method.name;
  object["round"] = method.round;
  json& against = object["against"] = json::array();
  for (const PairedDifference& difference : method.against) {
    against.push_back(paired_json<json>(difference.test, "this", "other"));
    against.back()["method"] = difference.method;
    against.back()["of"] = difference.of;
  }
  return object;
}

// Within [0, 1].
std::optional<double> share_of(const JsonField& field) {
  const auto value = field.find<double>();
  field.expect(!value || (*value >= 0 && *value <= 1), "a number between 0 and 1");
  return value;
}

// A share from its parts; the interval is computed where the file does not give it.
std::optional<Rate> read_rate(const JsonField& count, const JsonField& total, const JsonField& rate,
                              const JsonField& low, const JsonField& high, int64_t trials) {
  const std::optional<int64_t> counted = count.count();
  const std::optional<double> given = share_of(rate);
  if (!counted && !given) return std::nullopt;
  const int64_t all = total.count().value_or(trials);
  const int64_t counts = counted.value_or(std::llround(given.value_or(0) * static_cast<double>(all)));
  count.expect(counts <= all, concat("at most the ", all, " trials"));
  if (all == 0) return std::nullopt;
  Rate read = wilson(counts, all);
  read.rate = given.value_or(read.rate);
  read.low = share_of(low).value_or(read.low);
  read.high = share_of(high).value_or(read.high);
  low.expect(read.low <= read.rate + 1e-9, "at most the rate");
  high.expect(read.high >= read.rate - 1e-9, "at least the rate");
  return read;
}

EvaluationSummary read_evaluation(const JsonField& field) {
  EvaluationSummary evaluation;
  evaluation.trials = field["trials"].count().value_or(0);
  evaluation.success = read_rate(field["successes"], field["trials"], field["success_rate"],
                                 field["success_low"], field["success_high"], evaluation.trials);
  const JsonField unaided = field["unaided"];
  evaluation.unaided = read_rate(unaided["count"], unaided["total"], unaided["rate"], unaided["low"],
                                 unaided["high"], evaluation.trials);
  evaluation.outcomes = field["outcomes"].counts();
  for (const auto& [fact, share] : field["success_by_fact"].entries()) {
    // where the number of such trials is missing, the file's own interval has to do
    const std::optional<double> rate = share_of(share["rate"]);
    if (!rate || share["total"].count() == 0) continue;
    evaluation.success_by_fact[fact] = {.count = share["count"].count().value_or(0),
                                        .total = share["total"].count().value_or(0),
                                        .rate = *rate,
                                        .low = std::min(share_of(share["low"]).value_or(*rate), *rate),
                                        .high = std::max(share_of(share["high"]).value_or(*rate), *rate)};
  }
  evaluation.mean_steps = field["mean_steps"].find<double>();
  evaluation.seconds = field["seconds"].find<double>();
  return evaluation;
}

void read_policy(const JsonField& field, PolicySummary& policy) {
  policy.policy = field["policy"].get_or<std::string>();
  policy.objective = field["objective"].get_or<std::string>();
  policy.training = field["training"].inner_path();
  policy.train_seconds = field["train_seconds"].find<double>();
  policy.labels = field["labels"].counts();
  if (field["evaluation"].present()) policy.evaluation = read_evaluation(field["evaluation"]);
  if (field["deployment"].present()) policy.deployment = read_collection(field["deployment"]);
}

Round read_round(const JsonField& field, int64_t position) {
  Round round;
  read_policy(field, round);
  round.round = field["round"].count().value_or(position);
  round.promoted = field["promoted"].get_or(true);
  if (const JsonField promotion = field["promotion"]; promotion.present())
    round.promotion = PromotionTest{read_paired(promotion, "refined", "in_use"),
                                    promotion["tolerance"].find<double>().value_or(0)};
  return round;
}

Method read_method(const JsonField& field) {
  Method method;
  read_policy(field, method);
  method.name = field["method"].get_or<std::string>();
  method.round = field["round"].count().value_or(1);
  for (const JsonField& test : field["against"].list()) {
    PairedDifference& difference = method.against.emplace_back(
        PairedDifference{test["method"].get_or<std::string>(), test["of"].get_or<std::string>(), {}});
    if (test["pairs"].present()) {
      difference.test = read_paired(test, "this", "other");
    } else {
      difference.test.difference = test["difference"].find<double>().value_or(0);
      difference.test.p = share_of(test["p"]).value_or(1);
    }
  }
  return method;
}

// Older files say it in the caption alone: "seed 7: timeout after 40 steps".
std::optional<int64_t> seed_in(std::string_view caption) {
  constexpr std::string_view kWord = "seed ";
  if (!caption.starts_with(kWord)) return std::nullopt;
  int64_t seed = 0;
  const auto read = std::from_chars(caption.data() + kWord.size(), caption.data() + caption.size(), seed);
  return read.ec == std::errc() ? std::optional(seed) : std::nullopt;
}

}  // namespace

std::string Round::name() const { return round == 0 ? "base" : concat("round ", round); }

EvaluationSummary summary_of(const EvalResult& evaluation) {
  return {.trials = evaluation.success.total,
          .success = evaluation.success,
          .unaided = evaluation.unaided,
          .outcomes = evaluation.outcomes,
          .success_by_fact = evaluation.success_by_fact,
          .mean_steps = evaluation.mean_steps,
          .seconds = evaluation.seconds};
}

json to_json(const std::vector<Animation>& animations) {
  json list = json::array();
  for (const Animation& animation : animations) {
    list.push_back({{"kind", animation.kind},
                    {"chosen", animation.chosen},
                    {"title", animation.title},
                    {"instruction", animation.instruction},
                    {"caption", animation.caption},
                    {"path", animation.path}});
    if (animation.seed) list.back()["seed"] = *animation.seed;
  }
  return list;
}

std::vector<Animation> read_animations(const JsonField& list) {
  std::vector<Animation> animations;
  for (const JsonField& field : list.list()) {
    Animation& animation = animations.emplace_back();
    animation.kind = field["kind"].get_or<std::string>();
    animation.chosen = field["chosen"].get_or<std::string>();
    animation.title = field["title"].get_or<std::string>();
    animation.instruction = field["instruction"].get_or<std::string>();
    animation.caption = field["caption"].get_or<std::string>();
    animation.path = field["path"].inner_path();
    animation.seed = field["seed"].count();
    if (!animation.seed) animation.seed = seed_in(animation.caption);
    list.expect(animation.kind.empty() || animation.kind == "solved" || animation.kind == "failed",
                "animations of kind solved or failed");
  }
  return animations;
}

std::string Summary::json() const {
  nlohmann::json object = {{"command", command},
                           {"config", config},
                           {"environment", environment},
                           {"rounds", nlohmann::json::array()},
                           {"animations", to_json(animations)}};
  if (provenance) object["provenance"] = provenance_json(*provenance);
  if (seed) object["seed"] = *seed;
  if (seconds) object["seconds"] = *seconds;
  for (const Round& round : rounds) object["rounds"].push_back(round_json(round));
  for (const Method& method : methods) object["methods"].push_back(method_json(method));
  if (corrections) object["corrections"] = collection_json(corrections);
  return object.dump(1);
}

Summary read_summary(const std::filesystem::path& path) {
  const JsonFile file(path);
  const JsonField root = file.root();
  Summary summary;
  summary.command = root["command"].get_or<std::string>();
  summary.config = root["config"].get_or<std::string>();
  summary.environment = root["environment"].get_or<std::string>();
  if (root["provenance"].present()) summary.provenance = read_provenance(root["provenance"]);
  summary.seed = root["seed"].count();
  summary.seconds = root["seconds"].find<double>();
  const std::vector<JsonField> rounds = root["rounds"].list();
  root["rounds"].expect(!rounds.empty(), "a list with at least one round");
  for (const JsonField& field : rounds)
    summary.rounds.push_back(read_round(field, static_cast<int64_t>(summary.rounds.size())));
  std::stable_sort(summary.rounds.begin(), summary.rounds.end(),
                   [](const Round& a, const Round& b) { return a.round < b.round; });
  summary.animations = read_animations(root["animations"]);
  for (const JsonField& field : root["methods"].list()) summary.methods.push_back(read_method(field));
  if (root["corrections"].present()) summary.corrections = read_collection(root["corrections"]);
  return summary;
}

}  // namespace apo::results
