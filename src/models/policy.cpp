#include "apo/models/policy.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <tuple>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "apo/base/text.h"
#include "base/upload.h"
#include "models/observed.h"

namespace apo::models {
namespace {

at::Tensor rows(const at::Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.defined() ? tensor.slice(0, begin, end) : tensor;
}

void check_rows(int64_t begin, int64_t end, int64_t size) {
  APO_CHECK(DataError, 0 <= begin && begin <= end && end <= size, "slice: expected rows within [0, ", size,
            "], found [", begin, ", ", end, ")");
}

// Eight bytes at a time: large policies are hashed at memory speed. Recordings and results hold it, so it
// stays as it is.
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

// Tensors of one shape to the device in one copy; undefined ones stay so.
void move_together(std::initializer_list<at::Tensor*> tensors, at::Device device) {
  if (device.is_cpu()) return;
  std::vector<at::Tensor> there;
  for (const at::Tensor* tensor : tensors)
    if (tensor->defined()) there.push_back(tensor->to(at::kLong));
  const at::Tensor moved = upload(at::stack(there), device);
  int64_t i = 0;
  for (at::Tensor* tensor : tensors)
    if (tensor->defined()) *tensor = moved[i++].to(tensor->scalar_type());
}

// Leaves of each answer as many tokens as there is room for, [B].
void cut_to(const at::Tensor& room, ActionTokens& tokens) {
  const at::Tensor kept = tokens.mask.logical_and(tokens.mask.to(at::kLong).cumsum(1).le(room.unsqueeze(1)));
  tokens.num_cut = kept.ne(tokens.mask).any(1).sum().item<int64_t>();
  if (tokens.num_cut == 0) return;
  const int64_t longest = std::max<int64_t>(1, kept.to(at::kLong).sum(1).max().item<int64_t>());
  tokens.mask = kept;
  if (tokens.end_token.defined()) tokens.end_token = tokens.end_token.logical_and(kept);
  for (at::Tensor* tensor : {&tokens.ids, &tokens.mask, &tokens.end_token, &tokens.dimension})
    if (tensor->defined()) *tensor = tensor->narrow(1, 0, longest).contiguous();
}

constexpr double kLargestDistance = 2;  // of two numbers in [-1, 1]

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
          .features = rows(features, begin, end),
          .origin = rows(origin, begin, end),
          .room = rows(room, begin, end)};
}

PolicyInput PolicyInput::select(const std::vector<int64_t>& rows) const {
  const at::Tensor chosen = at::tensor(rows, at::kLong);
  const auto of = [&chosen](const at::Tensor& all) {
    return all.defined() ? all.index_select(0, chosen.to(all.device())) : all;
  };
  return {.images = of(images),
          .prompt = of(prompt),
          .prompt_mask = of(prompt_mask),
          .state = of(state),
          .features = of(features),
          .origin = of(origin),
          .room = of(room)};
}

ActionTokens ActionTokens::slice(int64_t begin, int64_t end) const {
  check_rows(begin, end, ids.defined() ? ids.size(0) : 0);
  return {.ids = rows(ids, begin, end),
          .mask = rows(mask, begin, end),
          .end_token = rows(end_token, begin, end),
          .dimension = rows(dimension, begin, end),
          .valid = rows(valid, begin, end)};
}

Policy::Policy(PolicyParts parts) : parts_(std::move(parts)) {
  APO_CHECK(ConfigError, parts_.codec != nullptr && parts_.codec->action_size() == parts_.normalizer.size(),
            "policy: expected a codec and a normaliser of one action size, found ",
            parts_.codec ? parts_.codec->action_size() : 0, " and ", parts_.normalizer.size());
}

void Policy::set_execute_steps(int64_t steps) {
  APO_CHECK(ConfigError, 0 <= steps && steps <= horizon(), "policy.execute_steps: expected at most ",
            horizon(), ", as many as the policy decides at once, found ", steps);
  execute_steps_ = steps;
}

ActionTokens Policy::tokenize(std::span<const ActionChunk> chunks, const PolicyInput* input) const {
  APO_CHECK(DataError, !chunks.empty(), "actions: expected at least one");
  const int64_t batch = std::ssize(chunks), size = action_size();
  at::Tensor numbers = at::empty({batch, horizon(), size}, at::kDouble);
  at::Tensor valid = at::zeros({batch, horizon()}, at::kBool);
  double* out = numbers.data_ptr<double>();
  bool* is_valid = valid.data_ptr<bool>();
  bool all_valid = true;
  for (const ActionChunk& chunk : chunks) {
    APO_CHECK(DataError, !chunk.empty() && std::ssize(chunk) <= horizon(),
              "actions: expected a chunk of 1 to ", horizon(), ", found ", chunk.size());
    for (int64_t h = 0; h < horizon(); ++h) {
      const Action& action = chunk[std::min(static_cast<size_t>(h), chunk.size() - 1)];
      APO_CHECK(DataError, std::ssize(action) == size, "action: expected ", size, " numbers, found ",
                action.size());
      for (size_t i = 0; i < action.size(); ++i) {
        APO_CHECK(DataError, std::isfinite(action[i]), "action: dimension ", i, ": found ", action[i]);
        *out++ = static_cast<double>(action[i]);
      }
      *is_valid++ = h < std::ssize(chunk);
    }
    all_valid = all_valid && std::ssize(chunk) == horizon();
  }
  if (input != nullptr && input->origin.defined()) numbers -= input->origin.unsqueeze(1);
  ActionTokens tokens;
  all_valid = all_valid || codec().codes_whole_chunks();
  if (!all_valid) tokens.valid = valid;
  const tokenizers::CodedActions coded = parts_.codec->encode(
      parts_.normalizer.normalize(numbers, all_valid ? &tokens.num_clipped : nullptr), tokens.valid);
  if (!all_valid)
    parts_.normalizer.normalize(numbers.index({valid}), &tokens.num_clipped);  // not what fills up
  std::tie(tokens.ids, tokens.mask, tokens.end_token, tokens.dimension) =
      std::tie(coded.ids, coded.mask, coded.end_token, coded.dimension);
  tokens.num_clipped += coded.num_clipped;
  if (input != nullptr && input->room.defined()) cut_to(input->room, tokens);
  move_together({&tokens.ids, &tokens.mask, &tokens.end_token, &tokens.dimension}, device());
  return tokens;
}

ActionTokens Policy::tokenize(std::span<const Action> actions) const {
  std::vector<ActionChunk> chunks;
  for (const Action& action : actions) chunks.push_back({action});
  return tokenize(std::span<const ActionChunk>(chunks));
}

Decision Policy::to_actions(const at::Tensor& ids, const PolicyInput* input) const {
  const tokenizers::DecodedActions decoded = parts_.codec->decode(ids);
  at::Tensor numbers = parts_.normalizer.unnormalize(decoded.actions);
  if (input != nullptr && input->origin.defined())
    numbers = (numbers.to(at::kDouble) + input->origin.unsqueeze(1)).to(at::kFloat);
  Decision decision{.ids = ids,
                    .actions = {},
                    .decoded = decoded.decoded,
                    .num_clamped = decoded.num_clamped.sum().item<int64_t>(),
                    .malformed = decoded.malformed};
  const float* number = numbers.const_data_ptr<float>();
  const auto size = static_cast<size_t>(action_size());
  for (int64_t row = 0; row < numbers.size(0); ++row) {
    ActionChunk& chunk = decision.actions.emplace_back();
    const bool is_code = decoded.decoded[row].item<bool>();
    for (int64_t h = 0; h < horizon(); ++h, number += size)
      if (is_code) chunk.emplace_back(number, number + size);
  }
  return decision;
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
  at::Tensor is_action = tokens.mask;
  if (tokens.end_token.defined()) is_action = is_action.logical_and(tokens.end_token.logical_not());
  const auto bins = policy.codec().bins();
  if (!bins) return at::where(tokens.mask, greedy, tokens.ids);
  if (num_clamped != nullptr) {
    const at::Tensor coding = greedy.masked_select(is_action);
    *num_clamped += at::logical_or(coding.lt(bins->first), coding.gt(bins->last)).sum().item<int64_t>();
  }
  // the released program decodes an id that is no action's as the end of the range that lies nearer
  return at::where(is_action, greedy.clamp(bins->first, bins->last), tokens.ids);
}

at::Tensor action_l1(const Policy& policy, const at::Tensor& predicted, const ActionTokens& tokens) {
  const at::NoGradGuard no_grad;
  const tokenizers::DecodedActions found = policy.codec().decode(predicted);
  at::Tensor distance = (found.actions - policy.detokenize(tokens.ids)).abs().mean(-1);  // [B, H]
  if (tokens.valid.defined()) {
    const at::Tensor valid = tokens.valid.to(distance.device(), distance.scalar_type());
    distance = (distance * valid).sum(1) / valid.sum(1);
  } else {
    distance = distance.mean(1);
  }
  if (!found.decoded.all().item<bool>())
    distance = distance.masked_fill(found.decoded.logical_not().to(distance.device()), kLargestDistance);
  return distance.to(tokens.ids.device(), at::kFloat);
}

const at::Tensor& picture_of(const Observation& observation, const std::string& camera) {
  const auto found = observation.images.find(camera);
  APO_CHECK(DataError, found != observation.images.end(), "observation: the policy needs the camera \"",
            camera, "\"; there are: ", names_of(observation.images));
  const at::Tensor& image = found->second;
  APO_CHECK(DataError,
            image.defined() && image.dim() == 3 && image.size(2) == 3 && image.scalar_type() == at::kByte,
            "observation: camera \"", camera, "\": expected a [Y, X, 3] uint8 picture, found ",
            image.defined() ? concat(image.sizes(), " ", image.scalar_type()) : "nothing");
  return image;
}

int64_t num_weights(std::string_view name, const at::Tensor& tensor) {
  if (name.ends_with(".weight.scales")) return 0;
  return tensor.numel() * (name.ends_with(".weight.codes") && tensor.scalar_type() == at::kByte ? 2 : 1);
}

NamedTensors trainable_parameters(const Policy& policy) {
  NamedTensors trainable;
  for (const auto& [name, tensor] : policy.named_parameters())
    if (tensor.requires_grad()) trainable.emplace_back(name, tensor);
  return trainable;
}

}  // namespace apo::models
