// A vision-language-action policy, as others see it: observations in, action tokens scored or decoded.
//
// To plug in a policy of your own, derive from Policy and register it (apo/models/registry.h);
// examples/plugin/glance.cpp is a whole one. Everything else (training, reference, evaluation, collection)
// then works with `policy.type: mine`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apo/base/logits.h"
#include "apo/base/types.h"
#include "apo/config/gripper.h"
#include "apo/models/lora.h"
#include "apo/models/named_tensors.h"
#include "apo/tokenizers/action_codec.h"
#include "apo/tokenizers/normalizer.h"

namespace apo::models {

/// A batch of observations, ready for the network, on its device. Unused members stay undefined.
struct PolicyInput {
  /// [B, N, 3, Y, X] normalised pictures of N cameras (of each for every tower), network dtype
  at::Tensor images = {};
  at::Tensor prompt = {};       ///< [B, L] int64 text token ids
  at::Tensor prompt_mask = {};  ///< [B, L] bool, false at padding; undefined: no padding
  at::Tensor state = {};        ///< [B, D] normalised proprioception
  /// [B, P, W] picture features, in place of images where nothing that trains touches them
  at::Tensor features = {};
  /// [B, A] float64 on the CPU, environment units: what every action of a chunk is counted from; undefined: 0
  at::Tensor origin = {};
  at::Tensor room = {};  ///< [B] int64 on the CPU: the longest answer that is read; undefined: any
  int64_t size() const;
  /// Rows [begin, end); those of a list, in its order, where some may come more than once.
  PolicyInput slice(int64_t begin, int64_t end) const;
  PolicyInput select(const std::vector<int64_t>& rows) const;
};

/// Actions as tokens.
struct ActionTokens {
  at::Tensor ids = {};   ///< [B, T] int64, ids within the logits' last dimension
  at::Tensor mask = {};  ///< [B, T] bool, false at padding
  /// [B, T] bool, true at the end-of-action token; undefined if the model has none
  at::Tensor end_token = {};
  /// [B, T] int64 action dimension that a token codes, -1 where it codes none alone
  at::Tensor dimension = {};
  /// [B, H] bool, on the CPU: steps of each chunk that there are; undefined: all
  at::Tensor valid = {};
  int64_t num_clipped = 0;  ///< recorded numbers of the whole batch beyond what the tokens can express
  int64_t num_cut = 0;      ///< answers of the whole batch that were longer than their input has room for
  ActionTokens slice(int64_t begin, int64_t end) const;
};

using apo::Score;

struct DecodeOptions {
  double temperature = 0;            ///< 0: greedy; otherwise softmax(logits / temperature) is sampled
  std::vector<uint64_t> seeds = {};  ///< of each row's sampling stream, [B]; not read where greedy
  /// gets [B] float32 a step: how likely the token was that was decided, at temperature 1 among those that
  /// may be; NaN behind a row's end. Null: nobody asks. Policies that decode in their own way may leave it
  /// empty.
  std::vector<at::Tensor>* token_probs = nullptr;
};

/// What a policy decided for a batch.
struct Decision {
  at::Tensor ids;                    ///< [B, T] int64
  std::vector<ActionChunk> actions;  ///< [B][H][A] in environment units
  /// [B] bool, on the CPU; false: the ids code no actions, and these are none
  at::Tensor decoded;
  int64_t num_clamped = 0;  ///< tokens that were no action tokens, for which the nearest was taken
  /// [B] bool, on the CPU: the ids are no whole code, and the actions what could be made of them; undefined:
  /// all are whole
  at::Tensor malformed = {};
};

/// What a policy is made of beside its network and its preprocessing.
struct PolicyParts {
  std::shared_ptr<const tokenizers::ActionCodec> codec;
  tokenizers::Normalizer normalizer;
  int64_t vocabulary_size = 0;  ///< V, last dimension of the logits
  /// what the tokenizer calls the first of them, for people: 0 where the logits are of the whole vocabulary
  int64_t first_id = 0;
  /// where it is in an action and how its command is coded, as far as known
  config::GripperOptions gripper = {};
  at::Device device = at::kCPU;
};

/// Implementations say the six pure things below (and, where they have them, `prepare` and
/// `activation_bytes`); coding, normalising, adapter slots and modes come from here.
class Policy {
 public:
  /// ConfigError if codec and normaliser are of different sizes.
  explicit Policy(PolicyParts parts);
  virtual ~Policy() = default;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  /// Brings pictures to the size that the network sees (the one preprocessing of training, evaluation and
  /// serving); still uint8, so that augmentation can follow. Thread-safe.
  virtual void prepare(Observation&) const {}
  /// Tokenises, normalises and stacks prepared or raw observations ([B]); moves them to the policy's device.
  /// May run the parts of the network that nothing trains (OpenVLA: its vision towers).
  /// DataError naming a missing camera or state and what there is.
  virtual PolicyInput encode(std::span<const Observation> observations) const = 0;
  /// Teacher-forced logits of the action tokens, [B, T, V] in pieces; differentiable. With `mismatched`, also
  /// of a second answer to the same observations, encoded once for both. DataError for ids of other shapes.
  virtual Score score(const PolicyInput& input, const ActionTokens& tokens,
                      const ActionTokens* mismatched = nullptr) = 0;
  /// Decodes action tokens, [B, T] int64, without gradient, with a key-value cache. What is drawn for a row
  /// depends on its seed and observation alone, not on the other rows.
  virtual at::Tensor decode(const PolicyInput& input, const DecodeOptions& options = {}) = 0;
  /// All parameters with their checkpoint names, adapters included ("...lora_A.<slot>.weight").
  virtual NamedTensors named_parameters() const = 0;
  /// A second, independent policy with equal weights (the `copy` reference).
  virtual std::unique_ptr<Policy> clone() const = 0;
  /// Writes weights (of a large policy that trains an adapter: that, and where its base is), preprocessing
  /// and action statistics into an existing directory, so that `load_policy` reads them.
  virtual void save(const std::filesystem::path& directory) const = 0;
  /// Bytes that autograd will keep for the backward pass of `score` on these, where that can be said without
  /// running it; nothing: it must be measured.
  virtual std::optional<int64_t> activation_bytes(const PolicyInput&, const ActionTokens&) const {
    return {};
  }

  /// Chunks of at most H actions in environment units to tokens (normalisation included), on the policy's
  /// device; answers to `input`, whose origin and room count (null: neither). A shorter chunk is filled up
  /// with its last action, and those steps are not `valid` unless the codec codes whole chunks.
  /// DataError for another size, an empty or too long chunk, or a number that is not finite.
  ActionTokens tokenize(std::span<const ActionChunk> chunks, const PolicyInput* input = nullptr) const;
  /// Of one action each.
  ActionTokens tokenize(std::span<const Action> actions) const;
  /// Tokens to normalised actions, [B, T] -> [B, H, A] float32 on their device (what action_l1 compares).
  at::Tensor detokenize(const at::Tensor& ids) const { return parts_.codec->decode(ids).actions; }
  /// Tokens to actions in environment units; answers to `input`, as above.
  Decision to_actions(const at::Tensor& ids, const PolicyInput* input = nullptr) const;
  /// decode, and what it means.
  Decision act(const PolicyInput& input, const DecodeOptions& options = {}) {
    return to_actions(decode(input, options), &input);
  }

  const tokenizers::ActionCodec& codec() const { return *parts_.codec; }
  const tokenizers::Normalizer& normalizer() const { return parts_.normalizer; }
  int64_t action_size() const { return codec().action_size(); }  ///< A
  int64_t horizon() const { return codec().horizon(); }          ///< H
  int64_t vocabulary_size() const { return parts_.vocabulary_size; }
  /// Added to an id of the logits, it is the tokenizer's.
  int64_t first_id() const { return parts_.first_id; }
  /// Actions of a decision that are executed before the policy is asked again: 1 to H, H unless said.
  int64_t execute_steps() const { return execute_steps_ > 0 ? execute_steps_ : horizon(); }
  /// 0: H. ConfigError for more than H.
  void set_execute_steps(int64_t steps);
  const config::GripperOptions& gripper() const { return parts_.gripper; }
  at::Device device() const { return parts_.device; }

  /// Training mode: dropout on.
  void set_training(bool training) { slots_.set_training(training); }
  bool training() const { return slots_.training(); }
  /// Adapter slots of all linear layers; null for policies without.
  AdapterSlots* adapter_slots() { return slots_.layers().empty() ? nullptr : &slots_; }

 protected:
  /// attach linear layers (AdapterSlots::attach) for adapters; none: the policy takes none
  AdapterSlots slots_;

 private:
  PolicyParts parts_;
  int64_t execute_steps_ = 0;
};

/// A content hash (16 hex digits) of the policy's parameters, for trajectory files and results.
std::string parameter_hash(const Policy& policy);
/// The same of those alone that do not train: of the base beneath an adapter. Empty where all of them train.
std::string frozen_parameter_hash(const Policy& policy);

/// The action that `greedy` [B, T], the most likely ids teacher forced, stands for. Of a codec with bins, an
/// id below or above the action tokens' counts as the first or last of them (`num_clamped`, if given, grows
/// by how many there were), and where `tokens` has no action token (end token, padding) its own id stays. Of
/// another codec, every id of an answer is the most likely one. [B, T] ids.
at::Tensor greedy_action_tokens(const Policy& policy, const at::Tensor& greedy, const ActionTokens& tokens,
                                int64_t* num_clamped = nullptr);
/// Mean |predicted − recorded| over the valid steps of a chunk and their dimensions, in normalised units, [B]
/// float32 on the ids' device; 2 (the largest distance there is) where `predicted` codes none.
at::Tensor action_l1(const Policy& policy, const at::Tensor& predicted, const ActionTokens& tokens);

/// The picture of a camera, [Y, X, 3] uint8. DataError for another form, and for a camera that is missing,
/// naming what there is.
const at::Tensor& picture_of(const Observation& observation, const std::string& camera);

/// The parameters that training changes: those that require a gradient.
NamedTensors trainable_parameters(const Policy& policy);

}  // namespace apo::models
