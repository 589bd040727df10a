#include "apo/results/comparison.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "base/json.h"

namespace apo::results {
namespace {

using nlohmann::ordered_json;

// absent from older files
constexpr const char* kHumanSteps = "human_steps";
constexpr const char* kTakeOvers = "take_overs";

std::vector<int> numbers(const std::vector<bool>& bits) { return {bits.begin(), bits.end()}; }

std::vector<bool> bits(const JsonField& list) {
  std::vector<bool> bits;
  for (const JsonField& bit : list.list()) bits.push_back(bit.integer(0, 1) == 1);
  return bits;
}

MethodResult read_result(const JsonField& object) {
  MethodResult result;
  result.method = object["method"].get<std::string>();
  result.round = object["round"].get<int64_t>();
  result.objective = object["objective"].get<std::string>();
  result.policy = object["policy"].get<std::string>();
  result.steps = object["steps"].get<int64_t>();
  result.train_seconds = object["train_seconds"].get<double>();
  object["success"].expect(object["success"].present(), "a list");
  result.success = bits(object["success"]);
  result.unaided = bits(object["unaided"]);
  object["unaided"].expect(result.success.size() == result.unaided.size(),
                           concat(result.success.size(), " trials as in success"));
  result.take_overs = object["take_overs"].get<std::vector<std::vector<std::string>>>();
  result.lost = object["lost"].get<int64_t>();
  result.human_steps = object[kHumanSteps].find<int64_t>();
  return result;
}

}  // namespace

std::string Comparison::json() const {
  ordered_json all = ordered_json::array();
  for (const MethodResult& r : results) {
    all.push_back({{"method", r.method},
                   {"round", r.round},
                   {"objective", r.objective},
                   {"policy", r.policy},
                   {"steps", r.steps},
                   {"train_seconds", r.train_seconds},
                   {"success", numbers(r.success)},
                   {"unaided", numbers(r.unaided)},
                   {"take_overs", r.take_overs},
                   {"lost", r.lost}});
    if (r.human_steps) all.back()[kHumanSteps] = *r.human_steps;
  }
  const ordered_json object = {{"seed", seed},
                               {"eval_seed", eval_seed},
                               {kTakeOvers, take_overs},
                               {"against", against},
                               {"results", all}};
  return object.dump() + "\n";
}

Comparison Comparison::from_json(const std::string& json, const std::string& where) {
  const auto parsed = parse_json(json, where);
  const JsonField object(&parsed, where);
  Comparison comparison;
  comparison.seed = object["seed"].get<int64_t>();
  comparison.eval_seed = object["eval_seed"].get<int64_t>();
  comparison.take_overs = object[kTakeOvers].get_or(comparison.take_overs);
  comparison.against = object["against"].get<std::vector<std::string>>();
  for (const JsonField& result : object["results"].list()) comparison.results.push_back(read_result(result));
  object["results"].expect(!comparison.results.empty(), "a list of results");
  return comparison;
}

std::vector<bool> corrected(const MethodResult& result) {
  std::vector<bool> out;
  for (const auto& reasons : result.take_overs) out.push_back(!reasons.empty());
  return out;
}

std::vector<bool> corrected_for(const MethodResult& result, const std::string& reason) {
  std::vector<bool> out;
  for (const auto& reasons : result.take_overs)
    out.push_back(std::find(reasons.begin(), reasons.end(), reason) != reasons.end());
  return out;
}

}  // namespace apo::results
