#include "report/loop_summary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "report/intervals.h"

namespace apo::report {
namespace {

using nlohmann::json;

// A JSON value that knows its place, for messages: "runs/loop/summary.json: rounds[1].evaluation.trials".
class Field {
 public:
  Field(const json* value, std::string file, std::string key = "")
      : value_(value), file_(std::move(file)), key_(std::move(key)) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }

  Field operator[](const std::string& key) const {
    if (!present()) return {nullptr, file_, child(key)};
    expect(value_->is_object(), "an object");
    const auto found = value_->find(key);
    return {found == value_->end() ? nullptr : &*found, file_, child(key)};
  }
  std::vector<Field> list() const {
    std::vector<Field> fields;
    if (!present()) return fields;
    expect(value_->is_array(), "a list");
    for (size_t i = 0; i < value_->size(); ++i)
      fields.emplace_back(&(*value_)[i], file_, concat(key_, "[", i, "]"));
    return fields;
  }
  std::string text() const {
    if (!present()) return "";
    expect(value_->is_string(), "a text");
    return value_->get<std::string>();
  }
  bool boolean(bool otherwise) const {
    if (!present()) return otherwise;
    expect(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }
  std::optional<double> number() const {
    if (!present()) return std::nullopt;
    expect(value_->is_number() && std::isfinite(value_->get<double>()), "a number");
    return value_->get<double>();
  }
  std::optional<int64_t> count() const {
    const std::optional<double> value = number();
    if (!value) return std::nullopt;
    expect(*value >= 0 && *value < 9e15 && *value == std::floor(*value), "a whole number, at least 0");
    return static_cast<int64_t>(*value);
  }
  std::optional<double> share() const {
    const std::optional<double> value = number();
    if (value) expect(*value >= 0 && *value <= 1, "a number between 0 and 1");
    return value;
  }
  std::map<std::string, Field> entries() const {
    std::map<std::string, Field> fields;
    if (!present()) return fields;
    expect(value_->is_object(), "an object");
    for (const auto& [key, value] : value_->items()) fields.emplace(key, Field(&value, file_, child(key)));
    return fields;
  }
  std::map<std::string, int64_t> counts() const {
    std::map<std::string, int64_t> out;
    for (const auto& [key, field] : entries()) out[key] = field.count().value_or(0);
    return out;
  }
  void expect(bool condition, const char* what) const {
    if (condition) return;
    std::string found = value_ == nullptr ? "nothing" : value_->dump();
    if (found.size() > 60) found = found.substr(0, 57) + "...";
    throw DataError(concat(file_, key_.empty() ? "" : ": ", key_, ": expected ", what, ", found ", found));
  }

 private:
  std::string child(const std::string& key) const { return key_.empty() ? key : concat(key_, ".", key); }

  const json* value_;
  std::string file_, key_;
};

// A share from its parts; the interval is computed where the file does not give it.
std::optional<Share> read_share(const Field& count, const Field& total, const Field& rate, const Field& low,
                                const Field& high, int64_t trials) {
  const std::optional<int64_t> counted = count.count();
  const std::optional<double> given = rate.share();
  if (!counted && !given) return std::nullopt;
  Share share;
  share.total = total.count().value_or(trials);
  share.count = counted.value_or(std::llround(given.value_or(0) * static_cast<double>(share.total)));
  count.expect(share.count <= share.total, concat("at most the ", share.total, " trials").c_str());
  if (share.total == 0) return std::nullopt;
  share.interval = wilson_interval(share.count, share.total);
  if (given) share.interval.value = *given;
  const std::optional<double> given_low = low.share(), given_high = high.share();
  if (given_low) share.interval.low = *given_low;
  if (given_high) share.interval.high = *given_high;
  low.expect(share.interval.low <= share.interval.value + 1e-9, "at most the rate");
  high.expect(share.interval.high >= share.interval.value - 1e-9, "at least the rate");
  return share;
}

Evaluation read_evaluation(const Field& field) {
  Evaluation evaluation;
  evaluation.trials = field["trials"].count().value_or(0);
  evaluation.success = read_share(field["successes"], field["trials"], field["success_rate"],
                                  field["success_low"], field["success_high"], evaluation.trials);
  const Field unaided = field["unaided"];
  evaluation.unaided = read_share(unaided["count"], unaided["total"], unaided["rate"], unaided["low"],
                                  unaided["high"], evaluation.trials);
  evaluation.outcomes = field["outcomes"].counts();
  for (const auto& [fact, share] : field["success_by_fact"].entries()) {
    // where the number of such trials is missing, the file's own interval has to do
    const std::optional<double> rate = share["rate"].share();
    if (!rate || share["total"].count() == 0) continue;
    Share read{share["count"].count().value_or(0), share["total"].count().value_or(0), {*rate, *rate, *rate}};
    read.interval.low = std::min(share["low"].share().value_or(*rate), *rate);
    read.interval.high = std::max(share["high"].share().value_or(*rate), *rate);
    evaluation.success_by_fact[fact] = read;
  }
  evaluation.seconds = field["seconds"].number();
  return evaluation;
}

Deployment read_deployment(const Field& field) {
  Deployment deployment;
  deployment.episodes = field["episodes"].count();
  deployment.take_overs = field["take_overs"].count();
  // "alone" is the collector's own name
  deployment.successes_alone = field["successes_alone"].count();
  if (!deployment.successes_alone) deployment.successes_alone = field["alone"].count();
  deployment.lost = field["lost"].count();
  deployment.take_overs_by_reason = field["take_overs_by_reason"].counts();
  deployment.steps = field["steps"].counts();
  return deployment;
}

// A path that stays in the loop's directory.
std::string read_inner_path(const Field& field) {
  const std::filesystem::path path = field.text();
  const std::filesystem::path normal = path.lexically_normal();
  field.expect(!path.is_absolute() && (normal.empty() || *normal.begin() != ".."),
               "a relative path that stays in the loop's directory");
  return path.string();
}

Round read_round(const Field& field, int64_t position) {
  Round round;
  round.round = field["round"].count().value_or(position);
  round.policy = field["policy"].text();
  round.objective = field["objective"].text();
  round.promoted = field["promoted"].boolean(true);
  round.training = read_inner_path(field["training"]);
  round.train_seconds = field["train_seconds"].number();
  if (field["evaluation"].present()) round.evaluation = read_evaluation(field["evaluation"]);
  if (field["deployment"].present()) round.deployment = read_deployment(field["deployment"]);
  round.labels = field["labels"].counts();
  return round;
}

Method read_method(const Field& field) {
  Method method;
  method.name = field["method"].text();
  method.round = field["round"].count().value_or(1);
  method.train_seconds = field["train_seconds"].number();
  if (field["evaluation"].present()) method.evaluation = read_evaluation(field["evaluation"]);
  if (field["deployment"].present()) method.deployment = read_deployment(field["deployment"]);
  return method;
}

json parse(const std::string& text, const std::filesystem::path& path) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    const size_t byte = std::min(error.byte, text.size());
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), '\n');
    const bool cut = error.byte > text.size() || text.empty();
    throw DataError(concat(path.string(), ":", line, ": expected JSON, ",
                           cut ? "found the end of the file (is it cut?)" : "found something else"));
  } catch (const json::exception&) {
    throw DataError(concat(path.string(), ": expected JSON with numbers that fit into a double"));
  }
}

}  // namespace

std::string Round::name() const { return round == 0 ? "base" : concat("round ", round); }

const Round& LoopSummary::current() const {
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round)
    if (round->promoted && round->evaluation && round->evaluation->success) return *round;
  return rounds.front();
}

LoopSummary read_summary(const std::filesystem::path& path) {
  const json parsed = parse(read_file(path), path);
  const Field root(&parsed, path.string());
  LoopSummary summary;
  summary.command = root["command"].text();
  summary.config = root["config"].text();
  summary.environment = root["environment"].text();
  summary.seed = root["seed"].count();
  summary.seconds = root["seconds"].number();
  const std::vector<Field> rounds = root["rounds"].list();
  root["rounds"].expect(!rounds.empty(), "a list with at least one round");
  for (const Field& field : rounds)
    summary.rounds.push_back(read_round(field, static_cast<int64_t>(summary.rounds.size())));
  std::stable_sort(summary.rounds.begin(), summary.rounds.end(),
                   [](const Round& a, const Round& b) { return a.round < b.round; });
  for (const Field& field : root["animations"].list())
    summary.animations.push_back(
        {field["title"].text(), field["caption"].text(), read_inner_path(field["path"])});
  for (const Field& field : root["methods"].list()) summary.methods.push_back(read_method(field));
  return summary;
}

}  // namespace apo::report
