#include "apo/loop/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/proportions.h"
#include "apo/config/options.h"
#include "base/json.h"

namespace apo::loop {
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

void MethodOptions::visit(config::Visitor& v) {
  v("name", name, "in tables and directories; not \"base\"");
  v("objective", objective, "as the top-level section, whose values are no defaults here");
  v("pools", pools, "as data.pools");
  v("interactions", interactions, "false: learns from the expert data alone, a control");
  v("learning_rate", learning_rate, "null: optimizer.learning_rate", config::positive());
  v("batch_size", batch_size, "null: train.batch_size", config::at_least(1));
}

void ComparisonOptions::visit(config::Visitor& v) {
  v("methods", methods,
    "what is refined side by side from the same corrections; none: no comparison, only the top-level "
    "objective");
  v("episodes", episodes, "of each method's next deployment, on the same seeds", config::at_least(1));
  v("take_overs", take_overs,
    "end each method's next deployment after so many take-overs, so that all learn from as many; `episodes` "
    "is then the most; 0 = `episodes` alone count",
    config::at_least(0));
  v("against", against, "methods that every other one is tested against; base: before any refinement");
}

void check(const ComparisonOptions& options) {
  std::set<std::string> names = {"base"};
  for (size_t i = 0; i < options.methods.size(); ++i) {
    const MethodOptions& method = options.methods[i];
    const std::string key = concat("refine.comparison.methods[", i, "].");
    APO_CHECK(ConfigError, !method.name.empty(), key, "name: expected a name, found nothing");
    APO_CHECK(ConfigError, names.insert(method.name).second, key, "name: expected a name of its own, found ",
              method.name,
              method.name == "base" ? ", which is the policy before any refinement" : " once more");
    try {
      objective::check(method.objective);
    } catch (const ConfigError& error) {
      throw ConfigError(concat(key, error.what()));
    }
  }
  for (const std::string& name : options.against)
    APO_CHECK(ConfigError, names.contains(name),
              "refine.comparison.against: expected base or a method's name, found ", name);
}

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

std::string merge_comparisons(std::span<const std::string> directories) {
  std::vector<Comparison> loops;
  std::vector<std::string> names;
  for (const std::string& directory : directories) {
    const std::filesystem::path file = std::filesystem::path(directory) / "comparison.json";
    APO_CHECK(DataError, std::filesystem::exists(file), file.string(),
              ": no such file; expected the directory of a loop with refine.comparison.methods");
    loops.push_back(Comparison::from_json(read_file(file), file.string()));
    names.push_back(file.string());
  }
  return comparison_markdown(loops, names);
}

}  // namespace apo::loop
