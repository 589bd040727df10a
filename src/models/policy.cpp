#include "apo/models/policy.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "apo/config/options.h"

namespace apo::models {
namespace {

constexpr std::array<std::string_view, 4> kDtypes{"auto", "float32", "bfloat16", "float16"};

at::Tensor rows(const at::Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.defined() ? tensor.slice(0, begin, end) : tensor;
}

void check_rows(int64_t begin, int64_t end, int64_t size) {
  APO_CHECK(DataError, 0 <= begin && begin <= end && end <= size, "slice: expected rows within [0, ", size,
            "], found [", begin, ", ", end, ")");
}

// Eight bytes at a time: large policies are hashed at memory speed.
uint64_t hash_bytes(uint64_t hash, const void* data, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  }
  for (; size > 0; ++bytes, --size) hash = (hash ^ *bytes) * 0x100000001b3ULL;
  return hash ^ (hash >> 32);
}

// True for the tensors of a slot other than the trained one (a reference's snapshot is not the policy).
bool in_other_slot(const std::string& name) {
  for (const char* part : {".lora_A.", ".lora_B."}) {
    const size_t at = name.rfind(part);
    if (at == std::string::npos) continue;
    return name.substr(at + std::strlen(part)) != std::string(kTrainedSlot) + ".weight";
  }
  return false;
}

int64_t count_outside(const at::Tensor& ids, int64_t first, int64_t last) {
  return at::logical_or(ids.lt(first), ids.gt(last)).sum().item<int64_t>();
}

// Of the parameters that `counts`; empty if there are none.
template <class Counts>
std::string hash_of(const Policy& policy, Counts counts) {
  uint64_t hash = mix_seed(0, "parameters");
  bool any = false;
  for (const auto& [name, tensor] : policy.named_parameters()) {
    if (in_other_slot(name) || !counts(tensor)) continue;
    any = true;
    const at::Tensor value = tensor.detach().to(at::kCPU).contiguous();
    hash = hash_bytes(hash, name.data(), name.size());
    hash = hash_bytes(hash, value.sizes().data(), value.sizes().size() * sizeof(int64_t));
    hash = hash_bytes(hash, value.const_data_ptr(), value.nbytes());
  }
  if (!any) return "";
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace

int64_t PolicyInput::size() const {
  for (const at::Tensor* tensor : {&images, &prompt, &state, &features})
    if (tensor->defined()) return tensor->size(0);
  return 0;
}

PolicyInput PolicyInput::slice(int64_t begin, int64_t end) const {
  check_rows(begin, end, size());
  return {.images = rows(images, begin, end),
          .prompt = rows(prompt, begin, end),
          .prompt_mask = rows(prompt_mask, begin, end),
          .state = rows(state, begin, end),
          .features = rows(features, begin, end)};
}

ActionTokens ActionTokens::slice(int64_t begin, int64_t end) const {
  check_rows(begin, end, ids.defined() ? ids.size(0) : 0);
  return {.ids = rows(ids, begin, end),
          .mask = rows(mask, begin, end),
          .end_token = rows(end_token, begin, end),
          .dimension = rows(dimension, begin, end)};
}

void PolicyOptions::visit(config::Visitor& v) {
  v.path("checkpoint", checkpoint,
         "directory of weights, a training checkpoint or a run; empty: a fresh policy");
  v.path("adapter", adapter, "PEFT adapter directory to start from, or the run that trained it; empty: none");
  v("type", type, "which kind of policy a fresh one is");
  v("lora", lora, "low-rank adapter: what training changes instead of the weights");
  v("unnorm_key", unnorm_key, "which entry of the action statistics; empty: the only one");
  v("action_normalization", action_normalization,
    "quantiles: q01..q99 to [-1, 1] but for the gripper; released-apo: of all dimensions, as the authors' "
    "program; auto: as the checkpoint says, else quantiles");
  v("gripper", gripper,
    "where the gripper is in the policy's actions, and how its command is coded; what is left open is "
    "as the checkpoint says");
  v("cameras", cameras,
    "cameras of a fresh policy; empty: all of the first episode. Of an OpenVLA: the one that it sees");
  v("state_keys", state_keys, "proprioception of a fresh policy; empty: none");
  v("image_size", image_size, "square pictures of a fresh policy, pixels, a multiple of 16",
    config::between(16, 4096));
  v("width", width, "of a fresh policy's transformer; larger learns more and slower",
    config::between(2, 65536));
  v("layers", layers, "transformer layers of a fresh policy", config::between(1, 1024));
  v("heads", heads, "attention heads of a fresh policy; must divide width", config::at_least(1));
  v("channels", channels, "of a fresh policy's first convolution", config::between(1, 4096));
  v("action_bins", action_bins, "bins that a fresh policy cuts an action dimension into",
    config::between(2, 1 << 20));
  v.path("statistics", statistics,
         "action statistics (JSON, from `apo-data stats`) in place of the checkpoint's; empty: the "
         "checkpoint's");
  v.choice("dtype", dtype, kDtypes, "of a loaded OpenVLA's frozen weights; auto: as stored");
  v("center_crop", center_crop,
    "evaluate on the centre 90 % of the picture, for an OpenVLA that trained on random crops of that area");
  v("action_tokens_only", action_tokens_only,
    "OpenVLA decodes only among its action tokens; false: among the whole vocabulary, as the released "
    "program");
  v("activation_checkpointing", activation_checkpointing,
    "OpenVLA recomputes each block's activations in the backward pass: less memory, a third more time");
}

std::string parameter_hash(const Policy& policy) {
  return hash_of(policy, [](const at::Tensor&) { return true; });
}

std::string frozen_parameter_hash(const Policy& policy) {
  return hash_of(policy, [](const at::Tensor& tensor) { return !tensor.requires_grad(); });
}

at::Tensor greedy_action_tokens(const Policy& policy, const at::Tensor& greedy, const ActionTokens& tokens,
                                int64_t* num_clamped) {
  const at::NoGradGuard no_grad;
  const auto [first, last] = policy.action_token_range();
  at::Tensor is_action = tokens.mask;
  if (tokens.end_token.defined()) is_action = is_action.logical_and(tokens.end_token.logical_not());
  if (num_clamped != nullptr) *num_clamped += count_outside(greedy.masked_select(is_action), first, last);
  // the released program decodes an id that is no action's as the end of the range that lies nearer
  return at::where(is_action, greedy.clamp(first, last), tokens.ids);
}

int64_t count_clamped_tokens(const Policy& policy, const at::Tensor& ids) {
  const auto [first, last] = policy.action_token_range();
  return count_outside(ids.narrow(1, 0, std::min(ids.size(1), policy.action_size())), first, last);
}

at::Tensor action_l1(const Policy& policy, const at::Tensor& predicted, const ActionTokens& tokens) {
  const at::NoGradGuard no_grad;
  return (policy.detokenize(predicted) - policy.detokenize(tokens.ids))
      .abs()
      .mean(-1)
      .to(tokens.ids.device(), at::kFloat);
}

NamedTensors trainable_parameters(const Policy& policy) {
  NamedTensors trainable;
  for (const auto& [name, tensor] : policy.named_parameters())
    if (tensor.requires_grad()) trainable.emplace_back(name, tensor);
  return trainable;
}

}  // namespace apo::models
