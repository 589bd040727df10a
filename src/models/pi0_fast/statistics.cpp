#include "models/pi0_fast/statistics.h"

#include <torch/types.h>

#include <array>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "base/json.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using tokenizers::Normalization;
using tokenizers::NormalizerOptions;
using tokenizers::VectorStatistics;

constexpr double kOpenpiEpsilon = 1e-6, kLerobotEpsilon = 1e-8;
constexpr NormalizerOptions kOpenpi{
    .epsilon = kOpenpiEpsilon, .inverse_epsilon = kOpenpiEpsilon, .clip = false, .to_float32 = false};

// What is not there is filled in; nobody reads it.
void complete(VectorStatistics& s) {
  const size_t size = std::max(s.mean.size(), s.q01.size());
  for (auto* list : {&s.mean, &s.q01, &s.min})
    if (list->empty()) list->assign(size, list == &s.mean ? 0 : -1);
  for (auto* list : {&s.std, &s.q99, &s.max})
    if (list->empty()) list->assign(size, 1);
  s.mask.assign(size, true);
}

FeatureNormalization read_openpi_feature(const JsonField& field, Normalization how) {
  field.expect(field.raw().is_object(), "statistics (mean, std, q01, q99)");
  FeatureNormalization feature;
  feature.how = kOpenpi;
  feature.how.how = how;
  VectorStatistics& s = feature.statistics;
  s.mean = field["mean"].get<std::vector<double>>();
  s.std = field["std"].get<std::vector<double>>();
  feature.has_quantiles = field["q01"].present() && field["q99"].present();
  if (feature.has_quantiles) {
    s.q01 = field["q01"].get<std::vector<double>>();
    s.q99 = field["q99"].get<std::vector<double>>();
  } else {
    field["q01"].expect(how != Normalization::quantiles, "a list (the checkpoint normalises by quantiles)");
  }
  complete(s);
  field.expect(!s.mean.empty() && s.std.size() == s.mean.size() && s.q01.size() == s.mean.size() &&
                   s.q99.size() == s.mean.size(),
               "mean, std, q01 and q99 of one size");
  for (size_t j = 0; j < s.mean.size(); ++j)
    field.expect(s.std[j] >= 0 && s.q99[j] >= s.q01[j],
                 concat("std >= 0 and q99 >= q01 (dimension ", j, ")"));
  return feature;
}

std::vector<double> numbers_of(const SafetensorsReader& tensors, const std::string& name) {
  APO_CHECK(DataError, tensors.has(name), tensors.path().string(), ": no tensor ", name);
  const at::Tensor numbers = tensors.tensor(name).to(at::kDouble).flatten().contiguous();
  APO_CHECK(DataError, numbers.numel() > 0 && numbers.isfinite().all().item<bool>(), tensors.path().string(),
            ": tensor ", name, ": expected finite numbers, found ", numbers.sizes(), " with others");
  return {numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + numbers.numel()};
}

// The tensors that a mode needs, and which of ours they become.
struct LerobotMode {
  const char *name, *low, *high;
  Normalization how;
};
constexpr std::array<LerobotMode, 5> kModes{{{"MEAN_STD", "mean", "std", Normalization::z_score},
                                             {"QUANTILES", "q01", "q99", Normalization::quantiles},
                                             {"QUANTILE10", "q10", "q90", Normalization::quantiles},
                                             {"MIN_MAX", "min", "max", Normalization::quantiles},
                                             {"IDENTITY", "mean", "std", Normalization::none}}};

const LerobotMode& mode_of(const JsonField& mode) {
  std::string valid;
  for (const LerobotMode& known : kModes) {
    if (mode.present() && mode.raw() == known.name) return known;
    valid += concat(valid.empty() ? "" : ", ", known.name);
  }
  mode.fail(valid);
}

FeatureNormalization read_lerobot_feature(const SafetensorsReader& tensors, const std::string& feature_name,
                                          const JsonField& mode, double epsilon) {
  const LerobotMode& known = mode_of(mode);
  FeatureNormalization feature;
  feature.how = {.how = known.how,
                 .clip = false,
                 .in_float32 = true,
                 .zero_spread = known.how == Normalization::quantiles ? epsilon : 0};
  if (known.how == Normalization::z_score) feature.how.epsilon = epsilon;
  VectorStatistics& s = feature.statistics;
  const std::vector<double> low = numbers_of(tensors, feature_name + "." + known.low),
                            high = numbers_of(tensors, feature_name + "." + known.high);
  APO_CHECK(DataError, low.size() == high.size(), tensors.path().string(), ": tensors ", feature_name, ".",
            known.low, " and .", known.high, ": expected one size, found ", low.size(), " and ", high.size());
  if (known.how == Normalization::quantiles)
    s.q01 = low, s.q99 = high;
  else
    s.mean = low, s.std = high;
  if (tensors.has(feature_name + ".mean") && tensors.has(feature_name + ".std"))
    s.mean = numbers_of(tensors, feature_name + ".mean"), s.std = numbers_of(tensors, feature_name + ".std");
  feature.has_quantiles = known.how == Normalization::quantiles;
  complete(s);
  return feature;
}

// A processor step under its registered name; absent if the pipeline lacks it.
JsonField step_named(const JsonFile& file, const std::string& name) {
  for (const JsonField& step : file["steps"].list())
    if (step["registry_name"].get_or<std::string>() == name) return step;
  return {nullptr, file.path().string(), concat("steps (", name, ")")};
}

}  // namespace

tokenizers::Normalizer FeatureNormalization::normalizer(int64_t wanted) const {
  APO_ASSERT(wanted <= size());
  VectorStatistics cut = statistics;
  for (auto* list : {&cut.mean, &cut.std, &cut.min, &cut.max, &cut.q01, &cut.q99})
    list->resize(static_cast<size_t>(wanted));
  cut.mask.resize(static_cast<size_t>(wanted));
  return {cut, how};
}

Pi0FastNormalization read_openpi_normalization(const fs::path& path, Normalization how) {
  const JsonFile file(path);
  const JsonField all = file["norm_stats"].present() ? file["norm_stats"] : file.root();
  return {.state = read_openpi_feature(all["state"], how),
          .action = read_openpi_feature(all["actions"], how)};
}

Pi0FastNormalization read_own_normalization(const fs::path& file, const std::string& entry,
                                            const std::vector<std::string>& state_keys, Normalization how) {
  const tokenizers::DatasetStatistics all =
      tokenizers::statistics_from_json(read_file(file), entry, file.string());
  Pi0FastNormalization normalization;
  for (FeatureNormalization* feature : {&normalization.state, &normalization.action}) {
    feature->how = kOpenpi;
    feature->how.how = how;
    feature->has_quantiles = true;
  }
  normalization.action.statistics = all.action;
  complete(normalization.action.statistics);
  VectorStatistics& state = normalization.state.statistics;
  for (const std::string& key : state_keys) {
    const auto found = all.state.find(key);
    APO_CHECK(DataError, found != all.state.end(), file.string(), ": no statistics of the state \"", key,
              "\"");
    for (const auto list : {&VectorStatistics::mean, &VectorStatistics::std, &VectorStatistics::min,
                            &VectorStatistics::max, &VectorStatistics::q01, &VectorStatistics::q99})
      (state.*list).insert((state.*list).end(), (found->second.*list).begin(), (found->second.*list).end());
  }
  APO_CHECK(ConfigError, !state_keys.empty(), file.string(),
            ": expected policy.state_keys, which say of which states the policy's is made, found none");
  complete(state);
  return normalization;
}

Pi0FastNormalization read_lerobot_normalization(const fs::path& directory) {
  const JsonFile file(directory / "policy_preprocessor.json");
  const JsonField relative = step_named(file, "relative_actions_processor");
  relative["config"]["enabled"].expect(
      !relative.present() || !relative["config"]["enabled"].get_or(true),
      "false: actions relative to the state are not supported for LeRobot's checkpoints");
  const JsonField step = step_named(file, "normalizer_processor");
  step.expect(step.present(), "a step \"normalizer_processor\"");
  const std::string state_file = step["state_file"].inner_path();
  step["state_file"].expect(!state_file.empty(), "the file of the statistics");
  const SafetensorsReader tensors(directory / state_file);
  const double epsilon = step["config"]["eps"].get_or(kLerobotEpsilon);
  const JsonField modes = step["config"]["norm_map"];
  return {.state = read_lerobot_feature(tensors, "observation.state", modes["STATE"], epsilon),
          .action = read_lerobot_feature(tensors, "action", modes["ACTION"], epsilon)};
}

std::string openpi_statistics_json(const Pi0FastNormalization& normalization) {
  const auto feature = [](const FeatureNormalization& of) {
    const VectorStatistics& s = of.statistics;
    nlohmann::ordered_json json{{"mean", s.mean}, {"std", s.std}};
    json["q01"] = of.has_quantiles ? nlohmann::ordered_json(s.q01) : nlohmann::ordered_json(nullptr);
    json["q99"] = of.has_quantiles ? nlohmann::ordered_json(s.q99) : nlohmann::ordered_json(nullptr);
    return json;
  };
  const nlohmann::ordered_json json{
      {"norm_stats", {{"state", feature(normalization.state)}, {"actions", feature(normalization.action)}}}};
  return json.dump(2) + "\n";
}

}  // namespace apo::models
