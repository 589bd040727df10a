#include "models/pi0_fast/statistics.h"

#include <torch/types.h>

#include <array>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/checkpoints/safetensors_types.h"

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

// One statistic of a feature by LeRobot's name for it: "mean", "q01"; nothing where it is not known.
using Statistic = std::function<std::optional<std::vector<double>>(const std::string&)>;

FeatureNormalization lerobot_feature(const Statistic& statistic, const std::string& where,
                                     const JsonField& mode, double epsilon) {
  const LerobotMode& known = mode_of(mode);
  FeatureNormalization feature;
  feature.how = {.how = known.how,
                 .clip = false,
                 .in_float32 = true,
                 .zero_spread = known.how == Normalization::quantiles ? epsilon : 0};
  if (known.how == Normalization::z_score) feature.how.epsilon = epsilon;
  VectorStatistics& s = feature.statistics;
  const auto needed = [&](const char* name) {
    const auto found = statistic(name);
    APO_CHECK(DataError, found.has_value(), where, ".", name, ": missing; the checkpoint normalises by ",
              known.name);
    return *found;
  };
  const std::vector<double> low = needed(known.low), high = needed(known.high);
  APO_CHECK(DataError, low.size() == high.size(), where, ".", known.low, " and .", known.high,
            ": expected one size, found ", low.size(), " and ", high.size());
  if (known.how == Normalization::quantiles)
    s.q01 = low, s.q99 = high;
  else
    s.mean = low, s.std = high;
  if (const auto mean = statistic("mean"), std = statistic("std"); mean && std) s.mean = *mean, s.std = *std;
  feature.has_quantiles = known.how == Normalization::quantiles;
  complete(s);
  return feature;
}

// LeRobot's names, and ours.
constexpr std::array<std::pair<const char*, std::vector<double> VectorStatistics::*>, 6> kStatistics{
    {{"mean", &VectorStatistics::mean},
     {"std", &VectorStatistics::std},
     {"min", &VectorStatistics::min},
     {"max", &VectorStatistics::max},
     {"q01", &VectorStatistics::q01},
     {"q99", &VectorStatistics::q99}}};

// In float32, as LeRobot keeps them.
Statistic own_statistic(const VectorStatistics& s) {
  return [&s](const std::string& name) -> std::optional<std::vector<double>> {
    for (const auto& [known, list] : kStatistics) {
      if (name != known) continue;
      std::vector<double> numbers;
      for (const double number : s.*list) numbers.push_back(static_cast<float>(number));
      return numbers;
    }
    return std::nullopt;
  };
}

struct OwnStatistics {
  VectorStatistics state, action;
};

OwnStatistics read_own(const fs::path& file, const std::string& entry,
                       const std::vector<std::string>& state_keys) {
  const tokenizers::DatasetStatistics all =
      tokenizers::statistics_from_json(read_file(file), entry, file.string());
  OwnStatistics own{.state = {}, .action = all.action};
  for (const std::string& key : state_keys) {
    const auto found = all.state.find(key);
    APO_CHECK(DataError, found != all.state.end(), file.string(), ": no statistics of the state \"", key,
              "\"");
    for (const auto& [name, list] : kStatistics)
      (own.state.*list)
          .insert((own.state.*list).end(), (found->second.*list).begin(), (found->second.*list).end());
  }
  APO_CHECK(ConfigError, !state_keys.empty(), file.string(),
            ": expected policy.state_keys, which say of which states the policy's is made, found none");
  return own;
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
  OwnStatistics own = read_own(file, entry, state_keys);
  Pi0FastNormalization normalization{.state = {.statistics = std::move(own.state), .how = kOpenpi},
                                     .action = {.statistics = std::move(own.action), .how = kOpenpi}};
  for (FeatureNormalization* feature : {&normalization.state, &normalization.action}) {
    feature->how.how = how;
    feature->has_quantiles = true;
    complete(feature->statistics);
  }
  return normalization;
}

namespace {

// The pipeline's step that normalises, and where its statistics are. Refuses what cannot be.
struct LerobotPipeline {
  explicit LerobotPipeline(const fs::path& directory) : file(directory / "policy_preprocessor.json") {
    const JsonField relative = step_named(file, "relative_actions_processor");
    relative["config"]["enabled"].expect(
        !relative.present() || !relative["config"]["enabled"].get_or(true),
        "false: actions relative to the state are not supported for LeRobot's checkpoints");
    const JsonField step = step_named(file, "normalizer_processor");
    step.expect(step.present(), "a step \"normalizer_processor\"");
    state_file = step["state_file"].inner_path();
    step["state_file"].expect(!state_file.empty(), "the file of the statistics");
    epsilon = step["config"]["eps"].get_or(kLerobotEpsilon);
  }
  JsonField modes() const { return step_named(file, "normalizer_processor")["config"]["norm_map"]; }
  // `of` gives a feature's statistics, `where` says it before the feature's name
  Pi0FastNormalization normalization(const std::function<Statistic(const std::string&)>& of,
                                     const std::string& where) const {
    const auto feature = [&](const std::string& name, const char* kind) {
      return lerobot_feature(of(name), where + name, modes()[kind], epsilon);
    };
    return {.state = feature("observation.state", "STATE"), .action = feature("action", "ACTION")};
  }

  JsonFile file;
  std::string state_file;
  double epsilon = 0;
};

}  // namespace

Pi0FastNormalization read_lerobot_normalization(const fs::path& directory) {
  const LerobotPipeline pipeline(directory);
  const SafetensorsReader tensors(directory / pipeline.state_file);
  const auto of = [&](const std::string& feature) -> Statistic {
    return [&tensors, feature](const std::string& statistic) -> std::optional<std::vector<double>> {
      const std::string name = feature + "." + statistic;
      return tensors.has(name) ? std::optional(numbers_of(tensors, name)) : std::nullopt;
    };
  };
  return pipeline.normalization(of, concat(tensors.path().string(), ": tensor "));
}

LerobotStatistics read_own_lerobot_normalization(const fs::path& directory, const fs::path& file,
                                                 const std::string& entry,
                                                 const std::vector<std::string>& state_keys) {
  const LerobotPipeline pipeline(directory);
  const OwnStatistics own = read_own(file, entry, state_keys);
  const auto of = [&own](const std::string& feature) {
    return own_statistic(feature == "action" ? own.action : own.state);
  };
  LerobotStatistics all{.normalization = pipeline.normalization(of, file.string() + ": "), .files = {}};
  NamedTensors tensors;
  for (const char* feature : {"observation.state", "action"})
    for (const auto& [name, list] : kStatistics)
      tensors.emplace_back(concat(feature, ".", name), at::tensor(of(feature)(name).value(), at::kFloat));
  const std::string text = safetensors_text(tensors);
  all.files[pipeline.state_file] = text;
  std::error_code ignored;
  if (const fs::path after = directory / "policy_postprocessor.json"; fs::exists(after, ignored)) {
    const JsonFile postprocessor(after);
    const std::string state_file =
        step_named(postprocessor, "unnormalizer_processor")["state_file"].inner_path();
    if (!state_file.empty()) all.files[state_file] = text;
  }
  return all;
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
