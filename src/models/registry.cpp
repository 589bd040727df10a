// Which kinds of policy there are, and how a config becomes one of them.
#include <torch/types.h>

#include <mutex>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/models/policy.h"
#include "models/json_file.h"
#include "models/openvla_policy.h"
#include "models/peft_file.h"
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
    instance.factories["small"] = {.create = SmallPolicy::create, .load = SmallPolicy::load};
    instance.factories["openvla"] = {.create = refuse_fresh_openvla, .load = OpenVlaPolicy::load};
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
  std::string list;
  for (const auto& [name, factory] : all.factories) {
    names.push_back(name);
    list += (list.empty() ? "" : ", ") + name;
  }
  const auto near = config::nearest(type, names);
  throw Kind(concat(where, ": no kind of policy is called \"", type, "\"",
                    near ? "; did you mean \"" + *near + "\"?" : "", " Valid: ", list));
}

// The adapter's options as the file has them; dropout is a matter of this run.
void check_adapter(const LoraOptions& wanted, const LoraOptions& found, const fs::path& directory) {
  APO_CHECK(ConfigError, wanted.rank == found.rank, "policy.lora.rank: is ", wanted.rank,
            ", but the adapter in ", directory.string(), " has rank ", found.rank,
            "; set policy.lora.rank=", found.rank, " to train it on, or 0 to merge it and train all weights");
  if (wanted.alpha != found.alpha || wanted.rslora != found.rslora)
    log_warn("policy.lora: the adapter in ", directory.string(), " keeps its own alpha ", found.alpha,
             " and rslora ", found.rslora ? "true" : "false", "; the config says ", wanted.alpha, " and ",
             wanted.rslora ? "true" : "false");
}

// Adds or loads the adapter as the options say; the base is frozen where an adapter trains.
void apply_adapter(Policy& policy, const PolicyOptions& options, const fs::path& directory, uint64_t seed) {
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
    load_adapter(*slots, kTrainedSlot, source, options.lora.dropout);
    if (!stored && !directory.empty()) warn_if_other_base(source, directory);
    if (options.lora.rank > 0) check_adapter(options.lora, slots->options(kTrainedSlot), source);
  }
  slots->activate(kTrainedSlot);
  if (options.lora.rank == 0) return;
  for (auto& [name, tensor] : policy.named_parameters())
    tensor.set_requires_grad(name.find(".lora_") != std::string::npos);
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
  std::string looked;
  std::error_code ignored;
  const auto is_policy = [&](const fs::path& directory) {
    looked += (looked.empty() ? "" : ", ") + (directory / "config.json").string();
    return fs::is_regular_file(directory / "config.json", ignored);
  };
  APO_CHECK(DataError, fs::exists(path, ignored), path.string(), ": no such checkpoint");
  if (fs::is_directory(path, ignored)) {
    if (is_policy(path)) return path;
    if (is_policy(path / "policy")) return path / "policy";
  }
  for (const fs::path& latest : {path, path / "latest", path / "checkpoints" / "latest"}) {
    const fs::path step = read_latest(latest);
    if (step.empty()) {
      if (latest != path) looked += ", " + latest.string();
      continue;
    }
    if (step == path) continue;
    if (is_policy(step / "policy")) return step / "policy";
    if (is_policy(step)) return step;
  }
  throw DataError(concat(path.string(), ": no policy here; looked for ", looked));
}

std::unique_ptr<Policy> make_policy(const PolicyOptions& given, const data::Dataset* dataset, uint64_t seed,
                                    at::Device device) {
  PolicyOptions options = given;
  // like a checkpoint, an adapter may be named by the run that trained it
  if (fs::is_directory(options.adapter) && !fs::exists(fs::path(options.adapter) / "adapter_config.json"))
    options.adapter = resolve_checkpoint(options.adapter).string();
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
    const fs::path config = directory / "config.json";
    policy = find_factory<DataError>(JsonFile(config).text("model_type"), config.string() + ": model_type")
                 .load(options, directory, device);
  }
  apply_adapter(*policy, options, directory, seed);
  return policy;
}

std::unique_ptr<Policy> load_policy(const fs::path& path, at::Device device) {
  PolicyOptions options;
  options.checkpoint = path.string();
  return make_policy(options, nullptr, 0, device);
}

}  // namespace apo::models
