#include "apo/data/statistics.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "base/json.h"

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

// `size` of them; 0: any number but none.
std::vector<double> numbers(const JsonField& field, size_t size) {
  auto values = field.get<std::vector<double>>();
  field.expect(size == 0 ? !values.empty() : values.size() == size, size ? concat(size, " numbers") : "numbers");
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
    if (s.mask[j] && s.q99[j] == s.q01[j])
      log_warn(json.place(), ": dimension ", j, ": q01 = q99 = ", s.q01[j], ": every action becomes this number there");
  }
  return s;
}

Json to_json(const GripperOptions& gripper) {
  Json json{{"dimension", gripper.dimension}};
  if (gripper.is_coded()) json.update({{"open", *gripper.open}, {"closed", *gripper.closed}});
  return json;
}

GripperOptions gripper_from_json(const JsonField& json, int64_t action_size) {
  GripperOptions gripper{.dimension = json["dimension"].get<std::vector<int64_t>>(),
                         .open = json["open"].find<double>(),
                         .closed = json["closed"].find<double>()};
  try {
    gripper_dimensions(gripper, action_size, json.place());
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
  json.fail("quantiles or released-apo");
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
  const Json json = parse_json(text, where);
  const JsonField root(&json, where);
  root.expect(json.is_object() && !json.empty(), "an object of action statistics");
  std::vector<std::string> names;
  for (const auto& [key, value] : json.items()) names.push_back(key);
  const std::string key = name.empty() && json.size() == 1 ? json.begin().key() : name;
  APO_CHECK(DataError, !key.empty(), where, ": holds several statistics, name one with unnorm_key (valid: ", join(names), ")");
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
