// The kinds of policies, and how one is made or loaded.
#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apo/config/any_options.h"
#include "apo/models/options.h"
#include "apo/models/policy.h"
#include "apo/tokenizers/statistics.h"

namespace apo::models {

struct PolicyDescription;

/// What a fresh policy is made for: what the data that it will learn from hold.
struct DataFacts {
  tokenizers::DatasetStatistics statistics;
  std::vector<std::string> cameras, state_keys;  ///< of the first episode, sorted
  std::vector<std::string> instructions;         ///< every distinct one, sorted
  /// what else is recorded and cannot be used, for messages; may be empty
  std::string unused;
};

/// How a kind of policy is made: fresh for data, or from a directory that its `save` wrote.
struct PolicyFactory {
  std::function<std::unique_ptr<Policy>(const PolicyOptions&, const DataFacts&, uint64_t seed, at::Device)>
      create;
  std::function<std::unique_ptr<Policy>(const PolicyOptions&, const std::filesystem::path&, at::Device)> load;
  /// What can be said of a directory without reading weights (models/description.h); may be missing.
  std::function<PolicyDescription(const PolicyOptions&, const std::filesystem::path&)> describe = nullptr;
};
/// Adds a kind of policy; a second one of the same name replaces it. Thread-safe. `own` are the defaults of
/// its own options (`policy.NAME`, a type that no other kind has) and `doc` what they are, for people.
/// ConfigError for a name that is empty, has a dot in it or is a key of the section.
void register_policy(const std::string& type, PolicyFactory factory, config::AnyOptions own = {},
                     const std::string& doc = "of this policy");
/// The names of all kinds, sorted.
std::vector<std::string> policy_types();

/// What a simple policy keeps beside its weights, and how: config.json (model_type and notes),
/// dataset_statistics.json and model.safetensors.
struct PolicyFiles {
  std::string type;  ///< that it is registered under
  tokenizers::DatasetStatistics statistics;
  std::map<std::string, std::string> notes = {};  ///< what else loading must know

  /// A note that must be there, and one that is a whole number. DataError naming it.
  const std::string& note(const std::string& name) const;
  int64_t number(const std::string& name) const;

  void write(const std::filesystem::path& directory, const NamedTensors& parameters) const;
  /// DataError naming file and key.
  static PolicyFiles read(const std::filesystem::path& directory);
  /// Fills the parameters from model.safetensors. DataError naming a tensor that is missing or of another
  /// shape.
  static void load(const std::filesystem::path& directory, const NamedTensors& parameters);
  /// With what the options say instead: policy.gripper, .action_normalization and .statistics.
  PolicyFiles with(const PolicyOptions& options) const;
};
/// A factory whose `describe` reads the statistics of PolicyFiles.
void describe_by_files(PolicyFactory& factory);

/// A kind with options of its own, of a class that is made of its files: `register_policy<MyOptions,
/// Mine>("mine")`.
/// Asks for a constructor `Mine(const PolicyFiles&, at::Device)` and a static
/// `PolicyFiles fresh(const PolicyOptions&, const DataFacts&)`; weights are loaded by their names.
template <config::Visitable Own, std::derived_from<Policy> Made>
void register_policy(const std::string& type, const std::string& doc = "of this policy") {
  PolicyFactory factory;
  factory.create = [](const PolicyOptions& options, const DataFacts& data, uint64_t, at::Device device) {
    return std::make_unique<Made>(Made::fresh(options, data).with(options), device);
  };
  factory.load = [](const PolicyOptions& options, const std::filesystem::path& directory, at::Device device) {
    auto policy = std::make_unique<Made>(PolicyFiles::read(directory).with(options), device);
    PolicyFiles::load(directory, policy->named_parameters());
    return policy;
  };
  describe_by_files(factory);
  register_policy(type, std::move(factory), config::AnyOptions(Own()), doc);
}

/// The policy of the config: loaded from `options.checkpoint` (its config.json names the type), or fresh for
/// `data` (may be null only with a checkpoint). An adapter in the checkpoint or in `options.adapter` is
/// active and is what trains, with its own rank, alpha and targets, on a frozen base; lora.rank, if not 0,
/// must be its rank. With lora.merge it is active on a base that is not frozen (`merge_adapter` makes it part
/// of the weights). Without one, lora.rank > 0 adds a fresh adapter, and 0 none.
/// DataError naming file and tensor for a checkpoint that is missing, truncated, not as training wrote it
/// (where its state has hashes) or does not fit, or that has the adapter merged into it already; ConfigError
/// for another rank, or lora.merge with a rank.
std::unique_ptr<Policy> make_policy(const PolicyOptions& options, const DataFacts* data, uint64_t seed,
                                    at::Device device);
/// The policy in a directory, a training checkpoint or a run, with its adapter active.
std::unique_ptr<Policy> load_policy(const std::filesystem::path& path, at::Device device);
/// Resolves a checkpoint path: a policy directory, a training checkpoint `step-N` (its `policy`),
/// `checkpoints/latest` (a symbolic link, or a file that names a `step-N`), or a run directory. DataError
/// saying where it looked.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

}  // namespace apo::models
