// Which kinds of policy there are, and how a config becomes one of them.
#include "apo/models/registry.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/models/description.h"
#include "apo/models/linear.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "config/kinds.h"
#include "models/adapters/adapter_file.h"
#include "models/adapters/base_check.h"
#include "models/checkpoints/checkpoint_files.h"
#include "models/checkpoints/missing_path.h"
#include "models/openvla/policy.h"
#include "models/pi0_fast/policy.h"
#include "models/sequence/quantized.h"
#include "models/small/policy.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

using PolicyKinds = config::Kinds<PolicyFactory>;

std::unique_ptr<Policy> refuse_fresh_openvla(const PolicyOptions&, const DataFacts&, uint64_t, at::Device) {
  throw ConfigError(
      "policy.type: openvla is loaded, not made: set policy.checkpoint to a Hugging Face directory");
}

std::unique_ptr<Policy> refuse_fresh_pi0_fast(const PolicyOptions&, const DataFacts&, uint64_t, at::Device) {
  throw ConfigError(
      "policy.type: pi0_fast is loaded, not made: set policy.checkpoint to a directory as docs/pi0_fast.md "
      "describes it");
}

PolicyKinds& known() {
  static auto* instance =
      new PolicyKinds({{"small",
                        {.factory = {.create = SmallPolicy::create,
                                     .load = SmallPolicy::load,
                                     .describe = SmallPolicy::describe},
                         .own = config::AnyOptions(SmallOptions()),
                         .doc = "a fresh policy of the built-in kind; a loaded one keeps its own sizes"}},
                       {"openvla",
                        {.factory = {.create = refuse_fresh_openvla,
                                     .load = OpenVlaPolicy::load,
                                     .describe = OpenVlaPolicy::describe},
                         .own = config::AnyOptions(OpenVlaOptions()),
                         .doc = "how a checkpoint of the OpenVLA family runs"}},
                       {"pi0_fast",
                        {.factory = {.create = refuse_fresh_pi0_fast,
                                     .load = Pi0FastPolicy::load,
                                     .describe = Pi0FastPolicy::describe},
                         .own = config::AnyOptions(Pi0FastOptions()),
                         .doc = "how a pi0-FAST checkpoint of openpi or LeRobot runs"}}});
  return *instance;
}

// Throws `Error` naming `where`, the type, the nearest valid one and all of them.
template <class Error>
PolicyFactory find_factory(const std::string& type, const std::string& where) {
  const PolicyKinds::Map kinds = known().all();
  if (const auto found = kinds.find(type); found != kinds.end()) return found->second.factory;
  const std::vector<std::string> names = policy_types();
  const auto near = config::nearest(type, names);
  throw Error(concat(where, ": no kind of policy is called \"", type, "\"",
                     near ? "; did you mean \"" + *near + "\"?" : "", " Valid: ", join(names)));
}

// Options of another kind than the one that is made would pass unread.
void refuse_other_kinds(const PolicyOptions& options, const std::string& made, const std::string& where) {
  for (const auto& [name, kind] : known().all()) {
    if (name == made || !kind.own.has_value()) continue;
    const config::AnyOptions* held = options.own.find(kind.own);
    if (held == nullptr) continue;
    const std::vector<std::string> changed = config::differences(kind.own, *held);
    APO_CHECK(ConfigError, changed.empty(), "policy.", name, ".",
              changed.front().substr(0, changed.front().find(':')), ": expected none of policy.", name,
              " for a policy of the kind ", made, " (", where, "); `policy.", name,
              ": {}` takes its defaults");
  }
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
  std::map<std::string, const Linear*> layers;
  for (const auto& [name, linear] : slots.layers()) layers.emplace(name, linear);
  for (const auto& [layer, part] : adapter.layers)
    if (const auto found = layers.find(layer);
        found == layers.end() || found->second->weight.sizes() != at::IntArrayRef(part.weight_shape()))
      return;  // does not fit, which is told where it is put in
  refuse_merged(
      adapter, [&](const std::string& layer) { return layers.at(layer)->plain_weight(); }, base.string());
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
    const auto trained_on = SafetensorsReader(adapter.file).metadata();
    const std::string_view quantization = quantization_of(*slots);
    if (const auto found = trained_on.find(kBaseQuantization);
        found != trained_on.end() && found->second != quantization)
      log_warn(adapter.file.string(), ": was trained on weights with quantization ", found->second,
               "; here it changes weights with quantization ", quantization,
               " (policy.openvla.quantization, policy.pi0_fast.quantization)");
    apply_adapter(policy, kTrainedSlot, std::move(adapter), options.lora.dropout);
    check_adapter(options.lora, slots->options(kTrainedSlot), source);
  }
  slots->activate(kTrainedSlot);
  if (options.lora.merge && !source.empty()) return;
  for (auto& [name, tensor] : policy.named_parameters())
    tensor.set_requires_grad(name.find(".lora_") != std::string::npos);
}

// config.json calls it model_type; LeRobot's, type.
std::string kind_of(const fs::path& directory) {
  const JsonFile file(directory / "config.json");
  const JsonField type = file["type"];
  if (file["model_type"].present() || !type.present()) return file["model_type"].get<std::string>();
  const std::string kind = type.get<std::string>();
  type.expect(
      kind != "pi0" && kind != "pi05" && kind != "smolvla",
      "\"pi0_fast\" (a flow model gives actions no probabilities, which preferences are learned from)");
  return kind;
}

// openpi's checkpoints as they are published.
void refuse_orbax(const fs::path& directory) {
  std::error_code ignored;
  for (const fs::path& params : {directory, directory / "params"})
    for (const char* mark : {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "_sharding"})
      APO_CHECK(DataError, !fs::exists(params / mark, ignored), directory.string(),
                ": found an orbax checkpoint of openpi; expected safetensors. Convert it with "
                "`python scripts/pi0_fast/convert_openpi.py` (docs/pi0_fast.md)");
}

PolicyFactory factory_of(const std::string& kind, const fs::path& directory) {
  return find_factory<DataError>(kind, (directory / "config.json").string() + ": model_type");
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

void PolicyOptions::visit(config::Visitor& v) {
  v.path("checkpoint", checkpoint,
         "directory of weights, a training checkpoint or a run; empty: a fresh policy");
  v.path("adapter", adapter, "PEFT adapter directory to start from, or the run that trained it; empty: none");
  v("type", type, "which kind of policy a fresh one is");
  v("lora", lora, "low-rank adapter: what training changes instead of the weights");
  v("unnorm_key", unnorm_key, "which entry of the action statistics; empty: the only one");
  v("action_normalization", action_normalization,
    "quantiles: q01..q99 to [-1, 1] but for the gripper; bounds: min..max likewise; released-apo: quantiles "
    "of "
    "all dimensions, as the authors' program; auto: as the checkpoint says, else quantiles");
  v("gripper", gripper,
    "where the gripper is in the policy's actions, and how its command is coded; what is left open is "
    "as the checkpoint says");
  v("cameras", cameras,
    "cameras of a fresh policy; empty: all of the first episode. Of an OpenVLA: the one that it sees, of an "
    "OpenVLA-OFT those, in their order");
  v("state_keys", state_keys,
    "proprioception of a fresh policy, or of an OpenVLA-OFT with a state projector, in its order; empty: "
    "none");
  v("execute_steps", execute_steps,
    "of a policy that decides several steps at once: how many are executed before it is asked again; 0: all",
    config::at_least(0));
  v.path("statistics", statistics,
         "action statistics (JSON, from `apo-data stats`) in place of the checkpoint's; empty: the "
         "checkpoint's");
  config::visit_kinds(v, known().all(), own, "a policy");
}

void register_policy(const std::string& type, PolicyFactory factory, config::AnyOptions own,
                     const std::string& doc) {
  static const std::set<std::string> keys{
      "checkpoint", "adapter", "type",       "lora",          "unnorm_key", "action_normalization",
      "gripper",    "cameras", "state_keys", "execute_steps", "statistics"};
  APO_CHECK(ConfigError, !type.empty() && type.find('.') == std::string::npos && !keys.contains(type),
            "register_policy: expected a name that can be a key beside policy.checkpoint, .type, .lora ..., "
            "found \"",
            type, "\"");
  PolicyKinds::Map::mapped_type added{std::move(factory), std::move(own), doc};
  const auto is_apart = [&type, own = added.own](const PolicyKinds::Map& kinds) {
    for (const auto& [other, kind] : kinds)
      APO_CHECK(ConfigError, other == type || !own.has_value() || !own.is_like(kind.own),
                "register_policy: \"", type, "\": expected options of a type of its own, found those of \"",
                other, "\"");
  };
  known().put(type, std::move(added), is_apart);
}

std::vector<std::string> policy_types() { return known().names(); }

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
  refuse_orbax(path);
  throw DataError(concat(path.string(), ": no policy here; looked for ", join(looked)));
}

std::unique_ptr<Policy> make_policy(const PolicyOptions& given, const DataFacts* data, uint64_t seed,
                                    at::Device device) {
  PolicyOptions options = given;
  if (!options.adapter.empty()) options.adapter = resolve_adapter(options.adapter, "policy.adapter").string();
  std::unique_ptr<Policy> policy;
  fs::path directory;
  if (options.checkpoint.empty()) {
    const PolicyFactory factory = find_factory<ConfigError>(options.type, "policy.type");
    APO_CHECK(ConfigError, data != nullptr,
              "policy.checkpoint: expected a checkpoint, found none, and there is no data "
              "to make a fresh policy for");
    refuse_other_kinds(options, options.type, "policy.type");
    policy = factory.create(options, *data, seed, device);
  } else {
    directory = resolve_checkpoint(options.checkpoint);
    check_policy_files(directory);
    const std::string kind = kind_of(directory);
    const PolicyFactory factory = factory_of(kind, directory);
    refuse_other_kinds(options, kind, directory.string());
    policy = factory.load(options, directory, device);
  }
  policy->set_execute_steps(options.execute_steps);
  take_adapter(*policy, options, directory, seed);
  return policy;
}

std::optional<PolicyDescription> describe_policy(const PolicyOptions& given) {
  if (given.checkpoint.empty()) return std::nullopt;
  PolicyOptions options = given;
  if (!options.adapter.empty()) options.adapter = resolve_adapter(options.adapter, "policy.adapter").string();
  const fs::path directory = resolve_checkpoint(options.checkpoint);
  const PolicyFactory factory = factory_of(kind_of(directory), directory);
  return factory.describe ? std::optional(factory.describe(options, directory)) : std::nullopt;
}

std::unique_ptr<Policy> load_policy(const fs::path& path, at::Device device) {
  PolicyOptions options;
  options.checkpoint = path.string();
  return make_policy(options, nullptr, 0, device);
}

}  // namespace apo::models
