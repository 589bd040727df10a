#include "apo/tokenizers/statistics.h"

#include <array>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "base/json.h"
#include "tokenizers/foreign_statistics.h"

namespace apo::tokenizers {
namespace {

using Json = nlohmann::json;

Json to_json(const VectorStatistics& s) {
  return {{"mean", s.mean}, {"std", s.std}, {"min", s.min},  {"max", s.max},
          {"q01", s.q01},   {"q99", s.q99}, {"mask", s.mask}};
}

// `size` of them; 0: any number but none.
std::vector<double> numbers(const JsonField& field, size_t size) {
  auto values = field.get<std::vector<double>>();
  field.expect(size == 0 ? !values.empty() : values.size() == size,
               size ? concat(size, " numbers") : "numbers");
  return values;
}

VectorStatistics vector_from_json(const JsonField& json) {
  json.expect(json.raw().is_object(), "an object with q01, q99, ...");
  VectorStatistics s;
  s.q01 = numbers(json["q01"], 0);
  const size_t size = s.q01.size();
  s.q99 = numbers(json["q99"], size);
  s.mean = numbers(json["mean"], size);
  s.std = numbers(json["std"], size);
  s.min = numbers(json["min"], size);
  s.max = numbers(json["max"], size);
  s.mask = json["mask"].get_or(std::vector<bool>(size, true));
  json["mask"].expect(s.mask.size() == size, concat(size, " booleans"));
  for (size_t j = 0; j < size; ++j) {
    APO_CHECK(DataError, !s.mask[j] || s.q99[j] >= s.q01[j], json.place(), ": dimension ", j,
              ": expected q99 not below q01, found q01 ", s.q01[j], " and q99 ", s.q99[j]);
    if (s.mask[j] && s.q99[j] == s.q01[j] && s.min[j] != s.max[j])
      log_warn(json.place(), ": dimension ", j, ": q01 = q99 = ", s.q01[j],
               ": every action becomes this number there");
  }
  return s;
}

Json to_json(const config::GripperOptions& gripper) {
  Json json{{"dimension", gripper.dimension}};
  if (gripper.is_coded()) json.update({{"open", *gripper.open}, {"closed", *gripper.closed}});
  return json;
}

config::GripperOptions gripper_from_json(const JsonField& json, int64_t action_size) {
  config::GripperOptions gripper{.dimension = json["dimension"].get<std::vector<int64_t>>(),
                                 .open = json["open"].find<double>(),
                                 .closed = json["closed"].find<double>()};
  try {
    config::gripper_dimensions(gripper, action_size, json.place());
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
  return gripper;
}

std::string_view name_of(ActionNormalization normalization) {
  for (const auto& [candidate, name] : enum_names(normalization))
    if (candidate == normalization) return name;
  return "unknown";
}

ActionNormalization normalization_from_json(const JsonField& json) {
  for (const auto& [candidate, name] : enum_names(ActionNormalization{}))
    if (candidate != ActionNormalization::automatic && json.raw() == name) return candidate;
  json.fail("quantiles, bounds or released-apo");
}

}  // namespace

std::span<const std::pair<ActionNormalization, std::string_view>> enum_names(ActionNormalization) {
  static constexpr std::array<std::pair<ActionNormalization, std::string_view>, 4> names{
      {{ActionNormalization::automatic, "auto"},
       {ActionNormalization::quantiles, "quantiles"},
       {ActionNormalization::bounds, "bounds"},
       {ActionNormalization::released_apo, "released-apo"}}};
  return names;
}

std::string to_text(const DatasetStatistics& statistics) {
  std::ostringstream out;
  out << statistics.num_transitions << " steps of " << statistics.num_trajectories << " episodes\n";
  const auto table = [&out](const std::string& what, const VectorStatistics& s) {
    out << '\n' << std::left << std::setw(24) << what << std::right;
    for (const char* column : {"mean", "std", "min", "q01", "q99", "max"}) out << std::setw(11) << column;
    out << "  normalised\n" << std::setprecision(4) << std::fixed;
    for (size_t j = 0; j < s.mean.size(); ++j) {
      out << "  " << std::left << std::setw(22) << j << std::right;
      for (const auto* column : {&s.mean, &s.std, &s.min, &s.q01, &s.q99, &s.max})
        out << std::setw(11) << (*column)[j];
      out << (s.mask[j] ? "  yes" : "  no")
          << (s.q99[j] - s.q01[j] < kSmallestSpread ? " (never changes)\n" : "\n");
    }
  };
  table("action", statistics.action);
  for (const auto& [name, s] : statistics.state) table("state " + name, s);
  return out.str();
}

std::string to_json(const DatasetStatistics& statistics, const std::string& name) {
  Json entry{{"action", to_json(statistics.action)},
             {"num_transitions", statistics.num_transitions},
             {"num_trajectories", statistics.num_trajectories}};
  for (const auto& [state, s] : statistics.state) entry["state"][state] = to_json(s);
  if (statistics.gripper.is_given()) entry["gripper"] = to_json(statistics.gripper);
  if (statistics.normalization != ActionNormalization::quantiles)
    entry["action_normalization"] = name_of(statistics.normalization);
  if (statistics.state.size() == 1) entry["proprio"] = to_json(statistics.state.begin()->second);
  return Json{{name, entry}}.dump(2, ' ', false, Json::error_handler_t::replace);
}

void refuse_foreign_statistics(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where);
  const auto has = [&json](const char* key, const char* inner) {
    return json.is_object() && json.contains(key) && json.at(key).contains(inner);
  };
  // openpi's are of what its transforms make of the actions (differences to the state, padded to the model's
  // width), LeRobot's have no mask of what is normalised
  const bool openpis = has("norm_stats", "actions") || has("norm_stats", "state");
  const bool lerobots = has("action", "mean") || has("observation.state", "mean");
  APO_CHECK(
      DataError, !openpis, where,
      ": found openpi's statistics (norm_stats: actions, state), which are of actions as its own "
      "transforms make them; expected those of the recorded actions, as `apo-data stats` computes them");
  APO_CHECK(DataError, !lerobots, where,
            ": found LeRobot's statistics (a feature each: action, observation.state); expected those that "
            "`apo-data stats` computes of the same recordings");
}

DatasetStatistics statistics_from_json(const std::string& text, const std::string& name,
                                       const std::string& where) {
  const Json json = parse_json(text, where);
  const JsonField root(&json, where);
  root.expect(json.is_object() && !json.empty(), "an object of action statistics");
  refuse_foreign_statistics(text, where);
  std::vector<std::string> names;
  for (const auto& [key, value] : json.items()) names.push_back(key);
  const std::string key = name.empty() && json.size() == 1 ? json.begin().key() : name;
  APO_CHECK(DataError, !key.empty(), where,
            ": holds several statistics, name one with unnorm_key (valid: ", join(names), ")");
  APO_CHECK(DataError, json.contains(key), where, ": no statistics '", key, "' (valid: ", join(names), ")");
  const JsonField entry = root[key];
  DatasetStatistics statistics;
  statistics.action = vector_from_json(entry["action"]);
  if (entry["gripper"].present())
    statistics.gripper = gripper_from_json(entry["gripper"], statistics.action.size());
  if (entry["action_normalization"].present())
    statistics.normalization = normalization_from_json(entry["action_normalization"]);
  if (entry["state"].raw().is_object()) {
    for (const auto& [state, s] : entry["state"].entries()) statistics.state[state] = vector_from_json(s);
  } else if (entry["proprio"].raw().is_object()) {
    statistics.state["proprio"] = vector_from_json(entry["proprio"]);
  }
  statistics.num_transitions = entry["num_transitions"].get_or(int64_t{0});
  statistics.num_trajectories = entry["num_trajectories"].get_or(int64_t{0});
  return statistics;
}

std::vector<int64_t> unmasked_dimensions(const VectorStatistics& s) {
  std::vector<int64_t> dimensions;
  for (size_t j = 0; j < s.mask.size(); ++j)
    if (!s.mask[j] && s.q99[j] - s.q01[j] >= kSmallestSpread) dimensions.push_back(static_cast<int64_t>(j));
  return dimensions;
}

}  // namespace apo::tokenizers
