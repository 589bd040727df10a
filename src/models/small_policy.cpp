#include "models/small_policy.h"

#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"
#include "models/choose_token.h"
#include "models/copy.h"
#include "models/json_file.h"

namespace apo::models {

SmallPolicy::SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary,
                         at::Device device)
    : preprocessing_(std::move(preprocessing)),
      vocabulary_(std::move(vocabulary)),
      bins_(shape.action_bins),
      device_(device),
      network_(std::make_unique<SmallNetwork>(shape, at::TensorOptions(at::kFloat).device(device))) {
  SlotAttacher attach(slots_);
  network_->visit(attach);
  for (auto& [name, tensor] : named_parameters()) tensor.set_requires_grad(true);
}

SmallPolicy::SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary,
                         uint64_t seed, at::Device device)
    : SmallPolicy(shape, std::move(preprocessing), std::move(vocabulary), device) {
  SmallNetwork fresh(shape, at::TensorOptions(at::kFloat));
  fresh.initialize(seed);
  const NamedTensors source = collect_parameters(fresh, ParameterKind::base);
  const NamedTensors target = collect_parameters(*network_, ParameterKind::base);
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < target.size(); ++i) target[i].second.copy_(source[i].second);
}

PolicyInput SmallPolicy::encode(std::span<const Observation> observations) const {
  APO_CHECK(DataError, !observations.empty(), "observations: expected at least one");
  PolicyInput input;
  input.images = preprocessing_.images(observations).to(device_);
  const at::Tensor state = preprocessing_.state(observations);
  if (state.defined()) input.state = state.to(device_);

  std::vector<std::vector<int64_t>> prompts;
  size_t longest = 0, shortest = SIZE_MAX;
  for (const Observation& observation : observations) {
    prompts.push_back(vocabulary_.encode(observation.instruction));
    longest = std::max(longest, prompts.back().size());
    shortest = std::min(shortest, prompts.back().size());
    APO_CHECK(DataError, static_cast<int64_t>(prompts.back().size()) <= network_->shape().prompt_length,
              "instruction \"", observation.instruction.substr(0, 200), "\": expected at most ",
              network_->shape().prompt_length, " words, found ", prompts.back().size());
  }
  const auto batch = static_cast<int64_t>(prompts.size()), length = static_cast<int64_t>(longest);
  at::Tensor prompt = at::full({batch, length}, Vocabulary::kPadding, at::kLong);
  at::Tensor mask = at::zeros({batch, length}, at::kBool);
  for (int64_t i = 0; i < batch; ++i) {
    const auto& ids = prompts[static_cast<size_t>(i)];
    std::copy(ids.begin(), ids.end(), prompt.data_ptr<int64_t>() + i * length);
    std::fill_n(mask.data_ptr<bool>() + i * length, ids.size(), true);
  }
  input.prompt = prompt.to(device_);
  if (shortest != longest) input.prompt_mask = mask.to(device_);  // undefined: nothing is padding
  return input;
}

ActionTokens SmallPolicy::tokenize(std::span<const Action> actions) const {
  APO_CHECK(DataError, !actions.empty(), "actions: expected at least one");
  ActionTokens tokens;
  tokens.ids = bins_.encode(preprocessing_.normalize(actions, &tokens.num_clipped)).to(device_);
  tokens.mask = at::ones_like(tokens.ids, at::kBool);
  tokens.dimension = at::arange(action_size(), tokens.ids.options()).expand_as(tokens.ids).contiguous();
  return tokens;
}

at::Tensor SmallPolicy::detokenize(const at::Tensor& ids) const { return bins_.decode(ids); }

std::vector<Action> SmallPolicy::to_actions(const at::Tensor& ids) const {
  APO_CHECK(DataError, ids.dim() == 2 && ids.size(1) == action_size(), "action tokens: expected [B, ",
            action_size(), "], found ", ids.sizes());
  return preprocessing_.unnormalize(detokenize(ids));
}

void SmallPolicy::check_input(const PolicyInput& input) const {
  const SmallShape& shape = network_->shape();
  APO_CHECK(DataError, input.images.defined() && input.prompt.defined(),
            "policy input: expected images and a prompt");
  const int64_t batch = input.size();
  const std::vector<int64_t> images{batch, shape.cameras, 3, shape.image_size, shape.image_size};
  APO_CHECK(DataError, input.images.sizes() == at::IntArrayRef(images), "policy input: images: expected ",
            at::IntArrayRef(images), ", found ", input.images.sizes());
  APO_CHECK(DataError, input.images.scalar_type() == at::kFloat,
            "policy input: images: expected float32, found ", input.images.scalar_type());
  APO_CHECK(DataError,
            input.prompt.dim() == 2 && input.prompt.size(0) == batch && input.prompt.size(1) >= 1 &&
                input.prompt.size(1) <= shape.prompt_length,
            "policy input: prompt: expected [", batch, ", 1 to ", shape.prompt_length, "], found ",
            input.prompt.sizes());
  if (shape.state_size == 0) return;
  APO_CHECK(DataError,
            input.state.defined() && input.state.sizes() == at::IntArrayRef({batch, shape.state_size}),
            "policy input: state: expected [", batch, ", ", shape.state_size, "], found ",
            input.state.defined() ? concat(input.state.sizes()) : "nothing");
}

void SmallPolicy::check_tokens(const PolicyInput& input, const ActionTokens& tokens, const char* name) const {
  APO_CHECK(DataError,
            tokens.ids.defined() && tokens.ids.sizes() == at::IntArrayRef({input.size(), action_size()}),
            name, ": expected ids [", input.size(), ", ", action_size(), "], found ",
            tokens.ids.defined() ? concat(tokens.ids.sizes()) : "nothing");
}

Score SmallPolicy::score(const PolicyInput& input, const ActionTokens& tokens,
                         const ActionTokens* mismatched) {
  check_input(input);
  check_tokens(input, tokens, "action tokens");
  std::vector<at::Tensor> answers{tokens.ids};
  if (mismatched != nullptr) {
    check_tokens(input, *mismatched, "mismatched action tokens");
    answers.push_back(mismatched->ids);
  }
  const std::vector<at::Tensor> logits = network_->score(input, answers);
  return {.logits = logits[0], .mismatched_logits = mismatched != nullptr ? logits[1] : at::Tensor()};
}

at::Tensor SmallPolicy::act(const PolicyInput& input, const DecodeOptions& options) {
  check_input(input);
  return network_->decode(input, token_chooser(options));
}

NamedTensors SmallPolicy::named_parameters() const {
  return collect_parameters(*network_, ParameterKind::base_and_adapters);
}

std::unique_ptr<Policy> SmallPolicy::clone() const {
  auto copy =
      std::unique_ptr<SmallPolicy>(new SmallPolicy(network_->shape(), preprocessing_, vocabulary_, device_));
  copy_weights(*network_, *copy->network_);
  copy_slots(slots_, copy->slots_);
  return copy;
}

void SmallPolicy::save(const std::filesystem::path& directory) const {
  const SmallShape& shape = network_->shape();
  nlohmann::ordered_json json;
  json["model_type"] = "small";
  json["cameras"] = shape.cameras;
  json["image_size"] = shape.image_size;
  json["channels"] = shape.channels;
  json["width"] = shape.width;
  json["layers"] = shape.layers;
  json["heads"] = shape.heads;
  json["prompt_length"] = shape.prompt_length;
  json["state_size"] = shape.state_size;
  json["action_size"] = shape.action_size;
  json["action_bins"] = shape.action_bins;
  json["vocabulary"] = vocabulary_.words();
  write_json(directory / "config.json", json);
  preprocessing_.save(directory);
  write_safetensors(directory / "model.safetensors", collect_parameters(*network_, ParameterKind::base),
                    {{"format", "pt"}});
  // The base is written too, so that the directory stands alone.
  if (slots_.has(kTrainedSlot)) save_adapter(slots_, kTrainedSlot, directory, ".");
}

}  // namespace apo::models
