#include "models/small/policy.h"

#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "base/upload.h"
#include "models/adapters/copy.h"

namespace apo::models {

namespace {

PolicyParts parts_of(const SmallShape& shape, const Preprocessing& preprocessing, at::Device device) {
  const tokenizers::DatasetStatistics& statistics = preprocessing.statistics;
  return {.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(shape.action_bins),
                                                          shape.action_size, shape.horizon),
          .normalizer = tokenizers::Normalizer(statistics.action, statistics.normalization, /*epsilon=*/0),
          .vocabulary_size = shape.action_bins,
          .gripper = statistics.gripper,
          .device = device};
}

}  // namespace

SmallPolicy::SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary,
                         at::Device device)
    : Policy(parts_of(shape, preprocessing, device)),
      preprocessing_(std::move(preprocessing)),
      vocabulary_(std::move(vocabulary)),
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
  input.images = preprocessing_.images(observations, device());
  const at::Tensor state = preprocessing_.state(observations);
  if (state.defined()) input.state = upload(state, device());

  std::vector<std::vector<int64_t>> prompts;
  for (const Observation& observation : observations) {
    prompts.push_back(vocabulary_.encode(observation.instruction));
    APO_CHECK(DataError, std::ssize(prompts.back()) <= network_->shape().prompt_length, "instruction \"",
              observation.instruction.substr(0, 200), "\": expected at most ",
              network_->shape().prompt_length, " words, found ", prompts.back().size());
  }
  const PaddedIds prompt = pad_right(prompts, Vocabulary::kPadding);
  input.prompt = upload(prompt.ids, device());
  if (prompt.mask.defined()) input.prompt_mask = upload(prompt.mask, device());
  return input;
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
  const int64_t length = network_->shape().answer_length();
  APO_CHECK(DataError, tokens.ids.defined() && tokens.ids.sizes() == at::IntArrayRef({input.size(), length}),
            name, ": expected ids [", input.size(), ", ", length, "], found ",
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

at::Tensor SmallPolicy::decode(const PolicyInput& input, const DecodeOptions& options) {
  check_input(input);
  return network_->decode(input, token_chooser(options));
}

NamedTensors SmallPolicy::named_parameters() const {
  return collect_parameters(*network_, ParameterKind::base_and_adapters);
}

std::unique_ptr<Policy> SmallPolicy::clone() const {
  auto copy =
      std::unique_ptr<SmallPolicy>(new SmallPolicy(network_->shape(), preprocessing_, vocabulary_, device()));
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
  json["horizon"] = shape.horizon;
  json["vocabulary"] = vocabulary_.words();
  write_json(directory / "config.json", json);
  preprocessing_.save(directory);
  write_safetensors(directory / "model.safetensors", collect_parameters(*network_, ParameterKind::base),
                    {{"format", "pt"}});
  // The base is written too, so that the directory stands alone.
  if (slots_.has(kTrainedSlot)) save_adapter(slots_, kTrainedSlot, directory, ".");
}

}  // namespace apo::models
