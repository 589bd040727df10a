// Which kinds of policy there are, and how a config becomes one of them.
#include <torch/types.h>

#include <mutex>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/models/description.h"
#include "apo/models/linear.h"
#include "apo/models/policy.h"
#include "apo/models/safetensors.h"
#include "models/adapter_file.h"
#include "models/base_check.h"
#include "models/checkpoint_files.h"
#include "base/json.h"
#include "models/missing_path.h"
#include "models/openvla_policy.h"
#include "models/small_policy.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

struct Registry {
  std::mutex mutex;
  std::map<std::string, PolicyFactory> factories;
};

std::unique_ptr<Policy> refuse_fresh_openvla(const PolicyOptions&, const data::Dataset&, uint64_t,
                                             at::Device) {
  throw ConfigError(
      "policy.type: openvla is loaded, not made: set policy.checkpoint to a Hugging Face directory");
}

Registry& registry() {
  static Registry instance;
  static const bool filled = [] {
    instance.factories["small"] = {
        .create = SmallPolicy::create, .load = SmallPolicy::load, .describe = SmallPolicy::describe};
    instance.factories["openvla"] = {
        .create = refuse_fresh_openvla, .load = OpenVlaPolicy::load, .describe = OpenVlaPolicy::describe};
    return true;
  }();
  (void)filled;
  return instance;
}

// Throws `Kind` naming `where`, the type, the nearest valid one and all of them.
template <class Kind>
PolicyFactory find_factory(const std::string& type, const std::string& where) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.factories.find(type);
  if (found != all.factories.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, factory] : all.factories) names.push_back(name);
  const auto near = config::nearest(type, names);
  throw Kind(concat(where, ": no kind of policy is called \"", type, "\"",
                    near ? "; did you mean \"" + *near + "\"?" : "", " Valid: ", join(names)));
}

// What the config says of a loaded adapter beside its name. Its own rank, alpha and targets are those that
// train on.
void check_adapter(const LoraOptions& wanted, const LoraOptions& found, const fs::path& directory) {
  if (wanted.rank == 0) return;
  APO_CHECK(ConfigError, wanted.rank == found.rank, "policy.lora.rank: is ", wanted.rank,
            ", but the adapter in ", directory.string(), " has rank ", found.rank,
            "; leave policy.lora.rank away (or 0) to train it on");
  if (wanted.alpha != found.alpha || wanted.rslora != found.rslora)
    log_warn("policy.lora: the adapter in ", directory.string(), " keeps its own alpha ", found.alpha,
             " and rslora ", found.rslora ? "true" : "false", "; the config says ", wanted.alpha, " and ",
             wanted.rslora ? "true" : "false");
  if (wanted.target_modules != LoraOptions().target_modules && wanted.target_modules != found.target_modules)
    log_warn("policy.lora.target_modules: the adapter in ", directory.string(),
             " keeps its own layers; the config names ", wanted.target_modules);
}

// Metadata of the weights in a directory; nothing where they are in no safetensors file.
std::map<std::string, std::string> weights_metadata(const fs::path& directory) {
  std::error_code ignored;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(directory / name, ignored)) return SafetensorsReader(directory).metadata();
  return {};
}

// An adapter that comes from elsewhere than the weights, which `base` holds.
void check_base_of(const PeftAdapter& adapter, const fs::path& source, const fs::path& base,
                   const AdapterSlots& slots) {
  warn_if_other_base(source, base);
  refuse_marked(adapter, weights_metadata(base), base.string());
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, linear] : slots.layers()) weights.emplace(name, linear->weight);
  for (const auto& [layer, part] : adapter.layers)
    if (const auto found = weights.find(layer);
        found == weights.end() || found->second.sizes() != at::IntArrayRef(part.weight_shape()))
      return;  // does not fit, which is told where it is put in
  refuse_merged(
      adapter, [&](const std::string& layer) { return weights.at(layer); }, base.string());
}

// Adds or loads the adapter as the options say; the base is frozen where an adapter trains.
void take_adapter(Policy& policy, const PolicyOptions& options, const fs::path& directory, uint64_t seed) {
  const bool stored = !directory.empty() && fs::exists(directory / "adapter_config.json");
  AdapterSlots* slots = policy.adapter_slots();
  if (options.lora.rank == 0 && options.adapter.empty() && !stored) return;
  APO_CHECK(ConfigError, slots != nullptr, "policy: this kind of policy takes no adapters");
  APO_CHECK(ConfigError, options.adapter.empty() || !stored, "policy.adapter: is ", options.adapter,
            ", but the checkpoint ", directory.string(),
            " already holds an adapter; leave policy.adapter empty to go on with that one");
  const fs::path source = !options.adapter.empty() ? fs::path(options.adapter)
                          : stored                 ? directory
                                                   : fs::path();
  if (source.empty()) {
    add_adapter(*slots, kTrainedSlot, options.lora, seed);
  } else {
    APO_CHECK(ConfigError, !options.lora.merge || options.lora.rank == 0,
              "policy.lora.merge: all weights train; expected "
              "policy.lora.rank 0, found ",
              options.lora.rank,
              " (for a fresh adapter on merged weights, write these with "
              "`apo-data export` first)");
    PeftAdapter adapter = read_peft(source);
    if (!stored && !directory.empty()) check_base_of(adapter, source, directory, *slots);
    apply_adapter(policy, kTrainedSlot, std::move(adapter), options.lora.dropout);
    check_adapter(options.lora, slots->options(kTrainedSlot), source);
  }
  slots->activate(kTrainedSlot);
  if (options.lora.merge && !source.empty()) return;
  for (auto& [name, tensor] : policy.named_parameters())
    tensor.set_requires_grad(name.find(".lora_") != std::string::npos);
}

PolicyFactory factory_of(const fs::path& directory) {
  const fs::path config = directory / "config.json";
  return find_factory<DataError>(JsonFile(config)["model_type"].get<std::string>(), config.string() + ": model_type");
}

// What checkpoints/latest points to: a symbolic link to a directory, or a file that holds its name.
fs::path read_latest(const fs::path& latest) {
  std::error_code ignored;
  if (fs::is_directory(latest, ignored)) return latest;
  if (!fs::is_regular_file(latest, ignored)) return {};
  std::string name = read_file(latest).substr(0, 4096);
  for (const char c : name)
    if (static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\r') return {};  // no name: some other file
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r' || name.back() == ' ')) name.pop_back();
  return name.empty() ? fs::path() : latest.parent_path() / name;
}

}  // namespace

void register_policy(const std::string& type, PolicyFactory factory) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.factories[type] = std::move(factory);
}

fs::path resolve_checkpoint(const fs::path& path) {
  std::vector<std::string> looked;
  std::error_code ignored;
  const auto is_policy = [&](const fs::path& directory) {
    looked.push_back((directory / "config.json").string());
    return fs::is_regular_file(directory / "config.json", ignored);
  };
  refuse_missing(path, concat(path.string(), ": no such checkpoint"));
  if (fs::is_directory(path, ignored)) {
    if (is_policy(path)) return path;
    if (is_policy(path / "policy")) return path / "policy";
  }
  for (const fs::path& latest : {path, path / "latest", path / "checkpoints" / "latest"}) {
    const fs::path step = read_latest(latest);
    if (step.empty()) {
      if (latest != path) looked.push_back(latest.string());
      continue;
    }
    if (step == path) continue;
    if (is_policy(step / "policy")) return step / "policy";
    if (is_policy(step)) return step;
  }
  throw DataError(concat(path.string(), ": no policy here; looked for ", join(looked)));
}

std::unique_ptr<Policy> make_policy(const PolicyOptions& given, const data::Dataset* dataset, uint64_t seed,
                                    at::Device device) {
  PolicyOptions options = given;
  if (!options.adapter.empty()) options.adapter = resolve_adapter(options.adapter, "policy.adapter").string();
  std::unique_ptr<Policy> policy;
  fs::path directory;
  if (options.checkpoint.empty()) {
    const PolicyFactory factory = find_factory<ConfigError>(options.type, "policy.type");
    APO_CHECK(ConfigError, dataset != nullptr,
              "policy.checkpoint: expected a checkpoint, found none, and there is no data "
              "to make a fresh policy for");
    policy = factory.create(options, *dataset, seed, device);
  } else {
    directory = resolve_checkpoint(options.checkpoint);
    check_policy_files(directory);
    policy = factory_of(directory).load(options, directory, device);
  }
  take_adapter(*policy, options, directory, seed);
  return policy;
}

std::optional<PolicyDescription> describe_policy(const PolicyOptions& given) {
  if (given.checkpoint.empty()) return std::nullopt;
  PolicyOptions options = given;
  if (!options.adapter.empty()) options.adapter = resolve_adapter(options.adapter, "policy.adapter").string();
  const fs::path directory = resolve_checkpoint(options.checkpoint);
  const PolicyFactory factory = factory_of(directory);
  return factory.describe ? std::optional(factory.describe(options, directory)) : std::nullopt;
}

std::unique_ptr<Policy> load_policy(const fs::path& path, at::Device device) {
  PolicyOptions options;
  options.checkpoint = path.string();
  return make_policy(options, nullptr, 0, device);
}

}  // namespace apo::models
