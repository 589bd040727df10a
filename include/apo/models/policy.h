// A vision-language-action policy as the rest of the house sees it: observations in, action tokens scored or decoded.
//
// To plug in a policy of your own, derive from Policy and register it under a name:
//   models::register_policy("mine", {.create = ..., .load = ...});
// Everything else (training, reference, evaluation, collection) then works with `policy.type: mine`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/logits.h"
#include "apo/base/types.h"
#include "apo/config/gripper.h"
#include "apo/data/normalization.h"
#include "apo/models/lora.h"

namespace apo::config {
class Visitor;
}
namespace apo::data {
class Dataset;
struct DatasetStatistics;
}  // namespace apo::data

namespace apo::models {

struct PolicyDescription;

/// A batch of observations, ready for the network, on its device. Unused members stay undefined.
struct PolicyInput {
  at::Tensor images;        ///< [B, N, 3, Y, X] normalised pictures of N cameras (or for N towers), network dtype
  at::Tensor prompt;        ///< [B, L] int64 text token ids
  at::Tensor prompt_mask;   ///< [B, L] bool, false at padding; undefined: no padding
  at::Tensor state;         ///< [B, D] normalised proprioception
  at::Tensor features;      ///< [B, P, W] picture features, in place of images where nothing that trains touches them
  int64_t size() const;
  /// Rows [begin, end).
  PolicyInput slice(int64_t begin, int64_t end) const;
};

/// Actions as tokens.
struct ActionTokens {
  at::Tensor ids;         ///< [B, T] int64, ids within the logits' last dimension
  at::Tensor mask;        ///< [B, T] bool, false at padding
  at::Tensor end_token;   ///< [B, T] bool, true at the end-of-action token; undefined if the model has none
  at::Tensor dimension;   ///< [B, T] int64 action dimension that a token codes, -1 where it codes none alone
  int64_t num_clipped = 0;  ///< recorded numbers of the whole batch beyond what the tokens can express
  ActionTokens slice(int64_t begin, int64_t end) const;
};

using apo::Score;

struct DecodeOptions {
  double temperature = 0;   ///< 0: greedy; otherwise softmax(logits / temperature) is sampled
  std::vector<uint64_t> seeds = {};  ///< of each row's sampling stream, [B]; not read where greedy
};

/// How a policy is made or loaded (config section `policy`).
struct PolicyOptions {
  std::string checkpoint;            ///< directory of weights; empty: a fresh policy of `type`, made for the data
  std::string adapter;               ///< PEFT adapter directory to start from; empty: none
  std::string type = "small";        ///< which registered policy a fresh one is
  LoraOptions lora;                  ///< rank > 0: train an adapter, the base stays frozen; a loaded one, too
  std::string unnorm_key;            ///< which entry of the action statistics; empty: the only one
  data::ActionNormalization action_normalization = data::ActionNormalization::automatic;
  config::GripperOptions gripper;      ///< in the policy's actions; what is left open is as the checkpoint says
  std::vector<std::string> cameras;  ///< cameras used by a fresh policy; empty: all of the first episode, sorted
  std::vector<std::string> state_keys;  ///< proprioception used by a fresh policy; empty: none
  int64_t image_size = 64;           ///< square input of a fresh policy, pixels
  int64_t width = 64;                ///< of a fresh policy's transformer
  int64_t layers = 3;
  int64_t heads = 4;
  int64_t channels = 16;             ///< of its first convolution
  int64_t action_bins = 256;
  std::string statistics;            ///< action statistics (JSON) in place of the checkpoint's; empty: the checkpoint's
  std::string dtype = "auto";        ///< of a loaded OpenVLA's weights: auto (as stored) | float32 | bfloat16 | float16
  bool center_crop = false;          ///< evaluate on the centre 90 % of the picture's area (OpenVLA)
  bool action_tokens_only = true;    ///< decode only among the action tokens, not the whole vocabulary (OpenVLA)
  bool activation_checkpointing = false;  ///< recompute activations block by block in the backward pass (OpenVLA)
  void visit(config::Visitor& v);
};

/// A named parameter, in the order and with the names of the checkpoint.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class Policy {
 public:
  virtual ~Policy() = default;

  /// Brings pictures to the size that the network sees (the one preprocessing of training, evaluation and serving);
  /// still uint8, so that augmentation can follow. Thread-safe.
  virtual void prepare(Observation& observation) const = 0;
  /// Tokenises, normalises and stacks prepared or raw observations ([B]); moves them to the policy's device.
  /// DataError naming a missing camera or state and what there is.
  virtual PolicyInput encode(std::span<const Observation> observations) const = 0;
  /// Actions in environment units to tokens (normalisation included), on the policy's device.
  virtual ActionTokens tokenize(std::span<const Action> actions) const = 0;
  /// Tokens to normalised actions in [-1, 1]: [B, T] -> [B, A] float32 (what action_l1 compares).
  virtual at::Tensor detokenize(const at::Tensor& ids) const = 0;
  /// Tokens to actions in environment units, [B][A].
  virtual std::vector<Action> to_actions(const at::Tensor& ids) const = 0;

  /// Teacher-forced logits of the action tokens; differentiable. With `mismatched`, also those of a second answer to
  /// the same observations: the observation is encoded once for both.
  virtual Score score(const PolicyInput& input, const ActionTokens& tokens,
                      const ActionTokens* mismatched = nullptr) = 0;
  /// Decodes action tokens, [B, T] int64, without gradient, with a key-value cache. What is drawn for a row
  /// depends on its seed and observation alone, not on the other rows.
  virtual at::Tensor act(const PolicyInput& input, const DecodeOptions& options = {}) = 0;

  virtual int64_t action_size() const = 0;                    ///< A
  /// Where the gripper is in an action and how its command is coded, as far as that is known.
  virtual config::GripperOptions gripper() const { return {}; }
  virtual int64_t vocabulary_size() const = 0;                ///< V, last dimension of the logits
  virtual std::pair<int64_t, int64_t> action_token_range() const = 0;  ///< [first, last] ids that code action bins

  /// All parameters with their checkpoint names, adapters included ("...lora_A.<slot>.weight").
  virtual NamedTensors named_parameters() const = 0;
  virtual at::Device device() const = 0;
  /// Training mode: dropout on.
  virtual void set_training(bool training) = 0;
  /// What `set_training` was last told; policies without dropout need not remember.
  virtual bool training() const { return false; }

  /// Adapter slots of all linear layers; null for policies without.
  virtual AdapterSlots* adapter_slots() { return nullptr; }
  /// A second, independent policy with equal weights (the `copy` reference).
  virtual std::unique_ptr<Policy> clone() const = 0;
  /// Bytes that autograd will keep for the backward pass of `score` on these, where that can be said without running it;
  /// nothing: it must be measured.
  virtual std::optional<int64_t> activation_bytes(const PolicyInput&, const ActionTokens&) const { return {}; }
  /// Writes weights, preprocessing and action statistics into an existing directory, so that `load_policy` reads them.
  /// Large policies that train an adapter write the adapter and where its base is.
  virtual void save(const std::filesystem::path& directory) const = 0;
};

/// How a kind of policy is made: fresh for a data set, or from a directory that its `save` wrote.
struct PolicyFactory {
  std::function<std::unique_ptr<Policy>(const PolicyOptions&, const data::Dataset&, uint64_t seed, at::Device)> create;
  std::function<std::unique_ptr<Policy>(const PolicyOptions&, const std::filesystem::path&, at::Device)> load;
  /// What can be said of a directory without reading weights (models/description.h); may be missing.
  std::function<PolicyDescription(const PolicyOptions&, const std::filesystem::path&)> describe = nullptr;
};
/// Adds a kind of policy; a second one of the same name replaces it.
void register_policy(const std::string& type, PolicyFactory factory);

/// The policy of the config: loaded from `options.checkpoint` (its config.json names the type), or fresh for
/// `dataset` (may be null only with a checkpoint). An adapter in the checkpoint or in `options.adapter` is
/// active and is what trains, with its own rank, alpha and targets, on a frozen base; lora.rank, if not 0,
/// must be its rank. With lora.merge it is active on a base that is not frozen (`merge_adapter` makes it part
/// of the weights). Without one, lora.rank > 0 adds a fresh adapter, and 0 none.
/// DataError naming file and tensor for a checkpoint that is missing, truncated, not as training wrote it
/// (where its state has hashes) or does not fit, or that has the adapter merged into it already; ConfigError
/// for another rank, or lora.merge with a rank.
std::unique_ptr<Policy> make_policy(const PolicyOptions& options, const data::Dataset* dataset, uint64_t seed,
                                    at::Device device);
/// The policy in a directory, a training checkpoint or a run, with its adapter active.
std::unique_ptr<Policy> load_policy(const std::filesystem::path& path, at::Device device);
/// Resolves a checkpoint path: a policy directory, a training checkpoint `step-N` (its `policy`), `checkpoints/latest`
/// (a symbolic link, or a file that names a `step-N`), or a run directory. DataError saying where it looked.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);
/// A content hash (16 hex digits) of the policy's parameters, for trajectory files and results.
std::string parameter_hash(const Policy& policy);
/// The same of those alone that do not train: of the base beneath an adapter. Empty where all of them train.
std::string frozen_parameter_hash(const Policy& policy);

/// The action that `greedy` [B, T], the most likely ids teacher forced, stands for: an id below or above the action
/// tokens' counts as the first or last of them (`num_clamped`, if given, grows by how many there were), and where `tokens`
/// has no action token (end token, padding) its own id stays. [B, T] ids.
at::Tensor greedy_action_tokens(const Policy& policy, const at::Tensor& greedy, const ActionTokens& tokens,
                                int64_t* num_clamped = nullptr);
/// How many of the decoded `ids` ([B, T], of `act`) are no action tokens, for which `to_actions` takes the nearest one.
/// What follows the first action_size() ids of a row (end token, padding) codes no action and does not count.
int64_t count_clamped_tokens(const Policy& policy, const at::Tensor& ids);
/// Mean |predicted − recorded| over the action's dimensions, in normalised units, [B] float32 on the ids' device.
at::Tensor action_l1(const Policy& policy, const at::Tensor& predicted, const ActionTokens& tokens);

/// The parameters that training changes: those that require a gradient.
NamedTensors trainable_parameters(const Policy& policy);

}  // namespace apo::models
