// How a small policy is made: fresh for a data set, or from a directory.
#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/models/description.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/small/policy.h"

namespace apo::models {
namespace {

constexpr int64_t kLongestChunk = 1024;

// Every wanted name must be among those that the data has.
void check_names(const std::string& option, const std::vector<std::string>& wanted,
                 const std::vector<std::string>& available, const std::string& unused) {
  for (const std::string& name : wanted) {
    if (std::find(available.begin(), available.end(), name) != available.end()) continue;
    const auto near = config::nearest(name, available);
    throw ConfigError(concat(option, ": the data has no \"", name, "\"",
                             near ? " (did you mean \"" + *near + "\"?)" : "",
                             "; there are: ", available.empty() ? "none" : join(available), unused));
  }
}

void check_shape(const SmallOptions& options) {
  APO_CHECK(ConfigError, options.image_size >= 16 && options.image_size % 16 == 0,
            "policy.small.image_size: expected a multiple of 16, found ", options.image_size);
  APO_CHECK(ConfigError, options.heads >= 1 && options.width % options.heads == 0 && options.width % 2 == 0,
            "policy.small.width: expected an even multiple of policy.small.heads (", options.heads,
            "), found ", options.width);
}

// Those of policy.statistics in place of what there is: actions, and the states that it has.
void take_statistics(const PolicyOptions& options, Preprocessing& preprocessing) {
  if (options.statistics.empty()) return;
  tokenizers::DatasetStatistics& statistics = preprocessing.statistics;
  const tokenizers::DatasetStatistics given =
      tokenizers::statistics_from_json(read_file(options.statistics), options.unnorm_key, options.statistics);
  const auto take = [&](const std::string& what, tokenizers::VectorStatistics& into,
                        const tokenizers::VectorStatistics& from) {
    APO_CHECK(DataError, from.size() == into.size(), "policy.statistics: ", options.statistics, ": ", what,
              ": expected ", into.size(), " numbers, found ", from.size());
    into = from;
  };
  take("action", statistics.action, given.action);
  for (auto& [key, own] : statistics.state)
    if (const auto found = given.state.find(key); found != given.state.end())
      take("state " + key, own, found->second);
  statistics.normalization = given.normalization;
  preprocessing.dataset = !options.unnorm_key.empty()
                              ? options.unnorm_key
                              : JsonFile(options.statistics).root().entries().at(0).first;
  statistics.gripper = config::or_else(given.gripper, statistics.gripper);
}

// What `save` wrote beside the weights, with what the options say instead.
Preprocessing load_preprocessing(const PolicyOptions& options, const std::filesystem::path& directory) {
  Preprocessing preprocessing =
      Preprocessing::load(directory, options.statistics.empty() ? options.unnorm_key : "");
  take_statistics(options, preprocessing);
  override_statistics(options, preprocessing.dataset, preprocessing.statistics);
  return preprocessing;
}

// Older checkpoints, which decide one step, do not say so.
int64_t horizon_of(const PolicyOptions& options, const JsonField& stored) {
  const int64_t wanted = options.of<SmallOptions>().horizon;
  const int64_t horizon = stored.present() ? stored.integer(1, kLongestChunk) : 1;
  APO_CHECK(ConfigError, wanted == 0 || wanted == horizon, "policy.small.horizon: is ", wanted, ", but ",
            stored.place(), " ", horizon, "; expected the same, or 0 to take the checkpoint's");
  return horizon;
}

}  // namespace

PolicyDescription SmallPolicy::describe(const PolicyOptions& options,
                                        const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  const JsonFile json(path);
  const Vocabulary vocabulary(json["vocabulary"].get<std::vector<std::string>>(),
                              path.string() + ": vocabulary");
  horizon_of(options, json["horizon"]);
  const Preprocessing preprocessing = load_preprocessing(options, directory);
  return {.statistics = preprocessing.statistics,
          .cameras = preprocessing.cameras,
          .state_keys = preprocessing.state_keys,
          .image_size = preprocessing.image_size,
          .words = {vocabulary.words().begin() + 2, vocabulary.words().end()}};
}

std::unique_ptr<SmallPolicy> SmallPolicy::create(const PolicyOptions& options, const DataFacts& data,
                                                 uint64_t seed, at::Device device) {
  const auto own = options.of<SmallOptions>();
  check_shape(own);
  Preprocessing preprocessing;
  preprocessing.image_size = own.image_size;
  preprocessing.state_keys = options.state_keys;
  if (!options.unnorm_key.empty()) preprocessing.dataset = options.unnorm_key;
  preprocessing.cameras = options.cameras.empty() ? data.cameras : options.cameras;
  APO_CHECK(DataError, !preprocessing.cameras.empty(), "a fresh policy needs a camera; the data has none");
  check_names("policy.cameras", preprocessing.cameras, data.cameras, data.unused);
  check_names("policy.state_keys", preprocessing.state_keys, data.state_keys, data.unused);
  preprocessing.statistics = data.statistics;
  take_statistics(options, preprocessing);
  if (!options.statistics.empty())  // the recordings are recoded to what the config says
    preprocessing.statistics.gripper = config::or_else(options.gripper, preprocessing.statistics.gripper);
  if (options.action_normalization != tokenizers::ActionNormalization::automatic)
    preprocessing.statistics.normalization = options.action_normalization;

  Vocabulary vocabulary = Vocabulary::from_texts(data.instructions);
  SmallShape shape;
  shape.cameras = static_cast<int64_t>(preprocessing.cameras.size());
  shape.image_size = own.image_size;
  shape.channels = own.channels;
  shape.width = own.width;
  shape.layers = own.layers;
  shape.heads = own.heads;
  shape.vocabulary = vocabulary.size();
  for (const std::string& text : data.instructions)
    shape.prompt_length = std::max(shape.prompt_length, static_cast<int64_t>(split_words(text).size()));
  shape.state_size = preprocessing.state_size();
  shape.action_size = data.statistics.action.size();
  shape.action_bins = own.action_bins;
  shape.horizon = std::max<int64_t>(1, own.horizon);
  return std::make_unique<SmallPolicy>(shape, std::move(preprocessing), std::move(vocabulary), seed, device);
}

std::unique_ptr<SmallPolicy> SmallPolicy::load(const PolicyOptions& options,
                                               const std::filesystem::path& directory, at::Device device) {
  const std::filesystem::path path = directory / "config.json";
  const JsonFile json(path);
  Vocabulary vocabulary(json["vocabulary"].get<std::vector<std::string>>(), path.string() + ": vocabulary");
  SmallShape shape;
  shape.cameras = json["cameras"].integer(1, 64);
  shape.image_size = json["image_size"].integer(16, 4096);
  if (shape.image_size % 16 != 0) json["image_size"].fail("a multiple of 16");
  shape.channels = json["channels"].integer(1, 4096);
  shape.width = json["width"].integer(2, 65536);
  shape.layers = json["layers"].integer(1, 1024);
  shape.heads = json["heads"].integer(1, shape.width);
  if (shape.width % shape.heads != 0 || shape.width % 2 != 0) json["width"].fail("an even multiple of heads");
  shape.vocabulary = vocabulary.size();
  shape.prompt_length = json["prompt_length"].integer(1, 65536);
  shape.state_size = json["state_size"].integer(0, 65536);
  shape.action_size = json["action_size"].integer(1, 4096);
  shape.action_bins = json["action_bins"].integer(2, 1 << 20);
  shape.horizon = horizon_of(options, json["horizon"]);

  Preprocessing preprocessing = load_preprocessing(options, directory);
  const auto tell = [&](const char* key, const auto& wanted, const auto& stored) {
    if (!wanted.empty() && wanted != stored)
      log_warn(key, ": the config says ", join(wanted),
               "; the checkpoint's own hold: ", stored.empty() ? "none" : join(stored), " (",
               directory.string(), ")");
  };
  tell("policy.cameras", options.cameras, preprocessing.cameras);
  tell("policy.state_keys", options.state_keys, preprocessing.state_keys);
  const auto agree = [&](const char* what, int64_t in_config, int64_t in_preprocessing) {
    APO_CHECK(DataError, in_config == in_preprocessing, directory.string(), ": ", what, ": config.json says ",
              in_config, ", the preprocessing beside it ", in_preprocessing);
  };
  agree("cameras", shape.cameras, static_cast<int64_t>(preprocessing.cameras.size()));
  agree("image_size", shape.image_size, preprocessing.image_size);
  agree("state_size", shape.state_size, preprocessing.state_size());
  agree("action_size", shape.action_size, preprocessing.action_size());

  // Shapes are compared before anything is allocated for them.
  SmallNetwork expected(shape, at::TensorOptions(at::kFloat).device(at::kMeta));
  const SafetensorsReader reader(directory);
  reader.check(collect_parameters(expected, ParameterKind::base));
  auto policy = std::unique_ptr<SmallPolicy>(
      new SmallPolicy(shape, std::move(preprocessing), std::move(vocabulary), device));
  const NamedTensors parameters = policy->named_parameters();
  reader.load_into(parameters);
  for (const auto& [name, tensor] : parameters)
    APO_CHECK(DataError, tensor.isfinite().all().item<bool>(), directory.string(), ": tensor ", name,
              ": found NaN or infinity");
  return policy;
}

}  // namespace apo::models
