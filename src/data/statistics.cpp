#include "apo/data/statistics.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "base/json_depth.h"

namespace apo::data {
namespace {

using Json = nlohmann::json;
constexpr double kReleasedEpsilon = 1e-8;

// `columns` [D][N]; a dimension that does not vary is masked and named.
VectorStatistics describe(std::vector<std::vector<double>>& columns, const std::vector<int64_t>& grippers,
                          const std::string& what) {
  VectorStatistics s;
  std::string constant;
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
    s.mask.push_back(!gripper && varies);
    if (!gripper && !varies) constant += concat(constant.empty() ? "" : ", ", j);
  }
  if (!constant.empty())
    log_info(what, ": dimensions ", constant, " never change; they pass as they are, not normalized");
  return s;
}

Json to_json(const VectorStatistics& s) {
  return {{"mean", s.mean}, {"std", s.std}, {"min", s.min}, {"max", s.max}, {"q01", s.q01}, {"q99", s.q99}, {"mask", s.mask}};
}

std::vector<double> numbers(const Json& json, const char* key, size_t size, const std::string& where) {
  APO_CHECK(DataError, json.contains(key), where, ".", key, ": missing");
  const Json& list = json[key];
  APO_CHECK(DataError, list.is_array() && !list.empty() && (size == 0 || list.size() == size), where, ".", key,
            ": expected ", size ? concat(size, " numbers") : "numbers", ", found ", list.dump().substr(0, 80));
  std::vector<double> values;
  for (const Json& x : list) {
    APO_CHECK(DataError, x.is_number(), where, ".", key, ": expected numbers, found ", x.dump().substr(0, 80));
    values.push_back(x.get<double>());
  }
  return values;
}

VectorStatistics vector_from_json(const Json& json, const std::string& where) {
  APO_CHECK(DataError, json.is_object(), where, ": expected an object with q01, q99, ..., found ", json.type_name());
  VectorStatistics s;
  s.q01 = numbers(json, "q01", 0, where);
  const size_t size = s.q01.size();
  s.q99 = numbers(json, "q99", size, where);
  s.mean = numbers(json, "mean", size, where);
  s.std = numbers(json, "std", size, where);
  s.min = numbers(json, "min", size, where);
  s.max = numbers(json, "max", size, where);
  s.mask.assign(size, true);
  if (json.contains("mask")) {
    const Json& mask = json["mask"];
    APO_CHECK(DataError, mask.is_array() && mask.size() == size, where, ".mask: expected ", size, " booleans, found ",
              mask.dump().substr(0, 80));
    for (size_t j = 0; j < size; ++j) {
      APO_CHECK(DataError, mask[j].is_boolean(), where, ".mask: expected booleans, found ", mask[j].dump());
      s.mask[j] = mask[j].get<bool>();
    }
  }
  for (size_t j = 0; j < size; ++j) {
    APO_CHECK(DataError, !s.mask[j] || s.q99[j] >= s.q01[j], where, ": dimension ", j,
              ": expected q99 not below q01, found q01 ", s.q01[j], " and q99 ", s.q99[j]);
    if (s.mask[j] && s.q99[j] == s.q01[j])
      log_warn(where, ": dimension ", j, ": q01 = q99 = ", s.q01[j], ": every action becomes this number there");
  }
  return s;
}

Json to_json(const GripperOptions& gripper) {
  Json json{{"dimension", gripper.dimension}};
  if (gripper.is_coded()) json.update({{"open", *gripper.open}, {"closed", *gripper.closed}});
  return json;
}

GripperOptions gripper_from_json(const Json& json, int64_t action_size, const std::string& where) {
  GripperOptions gripper;
  const auto wrong = [&] {
    throw DataError(concat(where, ": expected {dimension: [integers], open: number, closed: number}, found ",
                           json.dump().substr(0, 80)));
  };
  if (!json.is_object() || !json.contains("dimension") || !json["dimension"].is_array()) wrong();
  for (const Json& d : json["dimension"]) {
    if (!d.is_number_integer()) wrong();
    gripper.dimension.push_back(d.get<int64_t>());
  }
  for (const auto& [key, command] :
       {std::pair("open", &gripper.open), std::pair("closed", &gripper.closed)}) {
    if (!json.contains(key)) continue;
    if (!json[key].is_number()) wrong();
    *command = json[key].get<double>();
  }
  try {
    gripper_dimensions(gripper, action_size, where);
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

ActionNormalization normalization_from_json(const Json& json, const std::string& where) {
  for (const auto& [candidate, name] : enum_names(ActionNormalization{}))
    if (candidate != ActionNormalization::automatic && json.is_string() && json.get<std::string>() == name)
      return candidate;
  throw DataError(concat(where, ": expected quantiles or released-apo, found ", json.dump().substr(0, 80)));
}

}  // namespace

double quantile(const std::vector<double>& sorted, double share) {
  APO_ASSERT(!sorted.empty() && share >= 0 && share <= 1);
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

DatasetStatistics compute_statistics(const Dataset& dataset, const std::vector<StepIndex>& steps) {
  APO_CHECK(DataError, !steps.empty(), "action statistics: expected at least one kept step, found none");
  DatasetStatistics statistics;
  std::vector<std::vector<double>> actions(static_cast<size_t>(dataset.action_size()));
  std::map<std::string, std::vector<std::vector<double>>> states;
  StepIndex previous{-1, -1, -1};
  for (const StepIndex& index : steps) {
    const Action action = dataset.sample_without_observation(index).action;
    for (size_t j = 0; j < action.size(); ++j) actions[j].push_back(static_cast<double>(action[j]));
    const auto state = dataset.state(index).state;
    for (const auto& [name, values] : state) {
      auto& columns = states[name];
      if (columns.empty()) columns.resize(values.size());
      APO_CHECK(DataError, columns.size() == values.size(), dataset.file_path(index.file).string(), ": state ", name,
                ": expected ", columns.size(), " numbers as in the first step, found ", values.size());
      for (size_t j = 0; j < values.size(); ++j) columns[j].push_back(static_cast<double>(values[j]));
    }
    if (index.file != previous.file || index.episode != previous.episode) ++statistics.num_trajectories;
    previous = index;
  }
  statistics.num_transitions = static_cast<int64_t>(steps.size());
  statistics.gripper = dataset.gripper();
  const std::vector<int64_t> grippers = gripper_dimensions(statistics.gripper, dataset.action_size());
  statistics.action = describe(actions, grippers, "action statistics");
  for (auto& [name, columns] : states)
    statistics.state[name] = describe(columns, {}, "statistics of state " + name);
  return statistics;
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
      for (const auto* column : {&s.mean, &s.std, &s.min, &s.q01, &s.q99, &s.max}) out << std::setw(11) << (*column)[j];
      out << (s.mask[j] ? "  yes\n" : s.q99[j] - s.q01[j] < kSmallestSpread ? "  no (never changes)\n" : "  no\n");
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

DatasetStatistics statistics_from_json(const std::string& text, const std::string& name, const std::string& where) {
  const Json json = Json::parse(text, depth_guard<Json>(where), false);
  APO_CHECK(DataError, json.is_object() && !json.empty(), where, ": expected a JSON object of action statistics, found ",
            json.is_discarded() ? "text that is not JSON" : json.type_name());
  std::string names;
  for (const auto& [key, value] : json.items()) names += (names.empty() ? "" : ", ") + key;
  const std::string key = name.empty() && json.size() == 1 ? json.begin().key() : name;
  APO_CHECK(DataError, !key.empty(), where, ": holds several statistics, name one with unnorm_key (valid: ", names, ")");
  APO_CHECK(DataError, json.contains(key), where, ": no statistics '", key, "' (valid: ", names, ")");
  const Json& entry = json[key];
  const std::string at = where + ": " + key;
  APO_CHECK(DataError, entry.is_object() && entry.contains("action"), at, ".action: missing");
  DatasetStatistics statistics;
  statistics.action = vector_from_json(entry["action"], at + ".action");
  if (entry.contains("gripper"))
    statistics.gripper = gripper_from_json(entry["gripper"], statistics.action.size(), at + ".gripper");
  if (entry.contains("action_normalization"))
    statistics.normalization =
        normalization_from_json(entry["action_normalization"], at + ".action_normalization");
  if (entry.contains("state") && entry["state"].is_object()) {
    for (const auto& [state, s] : entry["state"].items()) statistics.state[state] = vector_from_json(s, at + ".state." + state);
  } else if (entry.contains("proprio") && entry["proprio"].is_object()) {
    statistics.state["proprio"] = vector_from_json(entry["proprio"], at + ".proprio");
  }
  const auto count = [&entry](const char* what) {
    return entry.contains(what) && entry[what].is_number_integer() ? entry[what].get<int64_t>() : int64_t{0};
  };
  statistics.num_transitions = count("num_transitions");
  statistics.num_trajectories = count("num_trajectories");
  return statistics;
}

std::vector<double> normalize(const VectorStatistics& s, const std::vector<float>& action,
                              int64_t* num_clipped, double epsilon, ActionNormalization how) {
  APO_CHECK(DataError, static_cast<int64_t>(action.size()) == s.size(), "normalise: expected ", s.size(),
            " numbers as in the statistics, found ", action.size());
  const bool released = how == ActionNormalization::released_apo;
  std::vector<double> result(action.size());
  for (size_t j = 0; j < action.size(); ++j) {
    double x = static_cast<double>(action[j]);
    const double spread = s.q99[j] - s.q01[j] + (released ? kReleasedEpsilon : epsilon);
    if (s.mask[j] || released) x = spread > 0 ? 2 * (x - s.q01[j]) / spread - 1 : 0;
    // a touch of rounding is no clipping
    if (num_clipped && std::abs(x) > 1 + 1e-6) ++*num_clipped;
    x = std::clamp(x, -1.0, 1.0);
    result[j] = released ? x : static_cast<double>(static_cast<float>(x));
  }
  return result;
}

std::vector<float> unnormalize(const VectorStatistics& s, const std::vector<float>& action) {
  APO_CHECK(DataError, static_cast<int64_t>(action.size()) == s.size(), "unnormalise: expected ", s.size(),
            " numbers as in the statistics, found ", action.size());
  std::vector<float> result(action.size());
  for (size_t j = 0; j < action.size(); ++j) {
    const double x = static_cast<double>(action[j]);
    result[j] = static_cast<float>(s.mask[j] ? (x + 1) / 2 * (s.q99[j] - s.q01[j]) + s.q01[j] : x);
  }
  return result;
}

std::vector<int64_t> unmasked_dimensions(const VectorStatistics& s) {
  std::vector<int64_t> dimensions;
  for (size_t j = 0; j < s.mask.size(); ++j)
    if (!s.mask[j] && s.q99[j] - s.q01[j] >= kSmallestSpread) dimensions.push_back(static_cast<int64_t>(j));
  return dimensions;
}

}  // namespace apo::data
