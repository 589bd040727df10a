#include "models/openvla/policy.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/safetensors.h"
#include "models/adapters/copy.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr double kCenterCropArea = 0.9;
constexpr double kNormalizationEpsilon = 1e-8;  // of the released fine-tuning
constexpr int64_t kLargestShard = int64_t{5} << 30;

PolicyParts parts_of(const OpenVlaConfig& config, const tokenizers::TextTokenizer& tokenizer,
                     at::Device device) {
  const tokenizers::VocabularyActionBins bins(config.action_vocabulary, config.action_bins);
  return {
      .codec = std::make_shared<tokenizers::VocabularyBinCodec>(bins, tokenizer.eos(), config.action.size()),
      .normalizer = tokenizers::Normalizer(config.action, config.action_normalization, kNormalizationEpsilon),
      .vocabulary_size = config.shape.llama.vocabulary,
      .gripper = config.gripper,
      .device = device};
}

bool is_picture_part(const std::string& layer) {
  return layer.starts_with("vision_backbone.") || layer.starts_with("projector.");
}

}  // namespace

OpenVlaPolicy::OpenVlaPolicy(OpenVlaConfig config, const tokenizers::TextTokenizer& tokenizer,
                             const PolicyOptions& options, fs::path base, at::Device device)
    : Policy(parts_of(config, tokenizer, device)),
      config_(std::move(config)),
      tokenizer_(tokenizer),
      options_(options),
      own_(options.of<OpenVlaOptions>()),
      base_(std::move(base)),
      network_(
          std::make_unique<OpenVlaNetwork>(config_.shape, at::TensorOptions(at::kFloat).device(at::kMeta))) {
  network_->activation_checkpointing = own_.activation_checkpointing;
  SlotAttacher attach(slots_);
  network_->visit(attach);
}

const std::string& OpenVlaPolicy::camera_of(const Observation& observation) const {
  const std::vector<std::string>& wanted = options_.cameras;
  if (!wanted.empty() && observation.images.contains(wanted.front())) return wanted.front();
  const std::string list = join(std::views::keys(observation.images));
  APO_CHECK(DataError, wanted.empty(), "observation: the policy needs the camera \"", wanted.front(),
            "\"; there are: ", list.empty() ? "none" : list);
  APO_CHECK(DataError, observation.images.size() == 1,
            "observation: OpenVLA sees one camera; there are: ", list.empty() ? "none" : list,
            "; choose one with policy.cameras");
  return observation.images.begin()->first;
}

// With center_crop the recorded picture is kept: evaluation crops it before anything else resizes it.
void OpenVlaPolicy::prepare(Observation& observation) const {
  at::Tensor& image = observation.images[camera_of(observation)];
  if (!own_.center_crop) image = resized(image);
}

at::Tensor OpenVlaPolicy::resized(const at::Tensor& image) const {
  return pictures::resize_picture(image, config_.image_size(), config_.resize,
                                  pictures::Interpolation::bicubic, config_.padding_color());
}

at::Tensor OpenVlaPolicy::pictures(std::span<const Observation> observations) const {
  const int64_t size = config_.image_size();
  const bool crop = own_.center_crop && !training();
  std::vector<at::Tensor> images(observations.size());
  at::parallel_for(0, std::ssize(observations), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const at::Tensor& image = observations[i].images.at(camera_of(observations[i]));
      images[i] = crop ? pictures::center_crop(image, kCenterCropArea, size, size) : resized(image);
    }
  });
  // bytes travel; the device makes numbers of them
  const at::Tensor all = at::stack(images).to(device()).permute({0, 3, 1, 2}).contiguous().to(at::kFloat);
  const auto there = [this](std::vector<double> numbers) {
    return at::tensor(numbers).to(at::kFloat).to(device());
  };
  std::vector<double> means, stds;
  for (const PictureNormalization& tower : config_.normalization) {
    means.insert(means.end(), tower.mean.begin(), tower.mean.end());
    stds.insert(stds.end(), tower.std.begin(), tower.std.end());
  }
  const auto towers = std::ssize(config_.normalization);
  // divided by tensors: by a number, CUDA would multiply with its inverse
  return (all.unsqueeze(1) / there({255}) - there(means).view({1, towers, 3, 1, 1})) /
         there(stds).view({1, towers, 3, 1, 1});
}

// The begin token, padding, the rest of the prompt: all prompts end in the same column.
void OpenVlaPolicy::encode_prompts(std::span<const Observation> observations, PolicyInput& input) const {
  std::vector<std::vector<int64_t>> prompts;
  for (const Observation& observation : observations)
    prompts.push_back(tokenizers::openvla_prompt(tokenizer_, observation.instruction,
                                                 {.lower_case = true, .underscores_to_spaces = true}));
  const PaddedIds prompt = pad_behind_first(prompts, tokenizer_.eos());
  input.prompt = prompt.ids.to(device());
  if (prompt.mask.defined()) input.prompt_mask = prompt.mask.to(device());
}

bool OpenVlaPolicy::has_fixed_features() const {
  for (const auto& [name, linear] : slots_.layers())
    if (is_picture_part(name) && (!linear->adapters.empty() || linear->weight.requires_grad())) return false;
  return true;
}

PolicyInput OpenVlaPolicy::encode(std::span<const Observation> observations) const {
  APO_CHECK(DataError, !observations.empty(), "observations: expected at least one");
  PolicyInput input;
  encode_prompts(observations, input);
  const at::Tensor images = pictures(observations).to(network_->type());
  if (!has_fixed_features()) {
    input.images = images;
    return input;
  }
  const at::NoGradGuard no_grad;
  input.features = network_->picture_features(images);
  return input;
}

at::Tensor OpenVlaPolicy::features(const PolicyInput& input) const {
  APO_CHECK(DataError, input.prompt.defined() && (input.features.defined() || input.images.defined()),
            "policy input: expected a prompt and images or features");
  return input.features.defined() ? input.features : network_->picture_features(input.images);
}

Score OpenVlaPolicy::score(const PolicyInput& input, const ActionTokens& tokens,
                           const ActionTokens* mismatched) {
  if (at::GradMode::is_enabled()) decisions_.clear();  // training wants the memory
  std::vector<at::Tensor> answers{tokens.ids};
  if (mismatched != nullptr) answers.push_back(mismatched->ids);
  for (const at::Tensor& answer : answers)
    APO_CHECK(DataError,
              answer.defined() && answer.dim() == 2 && answer.size(0) == input.size() && answer.size(1) >= 1,
              "action tokens: expected ids [", input.size(), ", at least 1], found ",
              answer.defined() ? concat(answer.sizes()) : "nothing");
  const std::vector<Logits> logits =
      network_->score(features(input), input.prompt, input.prompt_mask, answers);
  return {.logits = logits[0], .mismatched_logits = mismatched != nullptr ? logits[1] : Logits()};
}

at::Tensor OpenVlaPolicy::decode(const PolicyInput& input, const DecodeOptions& options) {
  const at::NoGradGuard no_grad;
  // on the CPU, there is nothing to win; drawn tokens come from the host
  const bool replays = !device().is_cpu() && options.temperature == 0 && !training() &&
                       !at::autocast::is_autocast_enabled(device().type());
  auto choose = token_chooser(options);
  if (replays) choose.token_probs = nullptr;  // what is recorded says no more than tokens
  const tokenizers::TokenRange bins = codec().bins().value();
  const auto range = own_.action_tokens_only ? std::pair{bins.first, bins.last}
                                             : std::pair{int64_t{0}, vocabulary_size() - 1};
  const auto decode = [this, has_features = input.features.defined(), range,
                       choose](const Replayed::Inputs& in) {
    return network_->decode(has_features ? in[0] : network_->picture_features(in[0]), in[1], in[2],
                            action_size(), range, choose);
  };
  const Replayed::Inputs inputs{input.features.defined() ? input.features : input.images, input.prompt,
                                input.prompt_mask};
  APO_CHECK(DataError, inputs[0].defined() && inputs[1].defined(),
            "policy input: expected a prompt and images or features");
  return replays ? decisions_.run(inputs, replay_state(input), decode) : decode(inputs);
}

// A recorded decision reads these very tensors, and the adapters as they were cast for it.
std::vector<int64_t> OpenVlaPolicy::replay_state(const PolicyInput& input) const {
  std::vector<int64_t> state{input.features.defined()};
  const auto add = [&state](const at::Tensor& tensor, bool with_numbers) {
    if (!tensor.defined()) return;
    state.push_back(reinterpret_cast<int64_t>(tensor.const_data_ptr()));
    if (with_numbers) state.push_back(tensor._version());
  };
  for (const auto& [name, linear] : slots_.layers()) {
    add(linear->weight, false);
    add(linear->bias, false);
    if (const LinearAdapter* adapter = linear->find(slots_.active())) {
      add(adapter->a, true);
      add(adapter->b, true);
    }
  }
  return state;
}

NamedTensors OpenVlaPolicy::named_parameters() const {
  return collect_parameters(*network_, ParameterKind::base_and_adapters);
}

std::unique_ptr<Policy> OpenVlaPolicy::clone() const {
  auto copy =
      std::unique_ptr<OpenVlaPolicy>(new OpenVlaPolicy(config_, tokenizer_, options_, base_, device()));
  copy_weights(*network_, *copy->network_);
  copy_slots(slots_, copy->slots_);
  return copy;
}

void OpenVlaPolicy::save(const fs::path& directory) const {
  for (const auto& [name, text] : config_.companions) write_file_atomic(directory / name, text);
  if (slots_.has(kTrainedSlot)) {
    save_adapter(slots_, kTrainedSlot, directory, fs::absolute(base_).lexically_normal().string());
    return;
  }
  write_sharded_safetensors(directory, collect_parameters(*network_, ParameterKind::base), kLargestShard);
}

// By counting, for one sample, the tensors that each block saves for its backward pass; the largest
// block and every block's input alone with activation checkpointing.
std::optional<int64_t> OpenVlaPolicy::activation_bytes(const PolicyInput& input,
                                                       const ActionTokens& tokens) const {
  const int64_t prompt_length = input.prompt.size(1), answer_length = tokens.ids.size(1);
  const LlamaShape& llama = config_.shape.llama;
  const auto bytes = static_cast<int64_t>(c10::elementSize(network_->type()));
  const bool checkpointing = own_.activation_checkpointing;
  int64_t total = 0;
  const auto add_blocks = [&](int64_t blocks, int64_t rows, int64_t block_numbers, int64_t width) {
    total += checkpointing ? blocks * rows * width + rows * block_numbers : blocks * rows * block_numbers;
  };
  if (!has_fixed_features()) {
    for (const VisionTowerShape* tower : {&config_.shape.dino, &config_.shape.siglip})
      add_blocks(tower->depth - 1, tower->patches() + tower->class_token + tower->registers,
                 10 * tower->width + 2 * tower->mlp, tower->width);
    total += config_.shape.dino.patches() * (2 * config_.shape.projector + 3 * llama.width);
  }
  const int64_t rows = config_.shape.dino.patches() + prompt_length + answer_length - 1;
  // norms run in float32; on CUDA in one operation, which keeps its input alone
  const int64_t wide = device().is_cuda() ? 0 : network_->type() == at::kFloat ? 1 : 2;
  const int64_t attention = (2 * llama.heads + 2 * llama.key_heads + llama.heads) * llama.head_size;
  add_blocks(llama.layers, rows, (4 + 4 * wide) * llama.width + attention + 3 * llama.mlp, llama.width);
  return input.size() * (total * bytes + answer_length * llama.vocabulary * int64_t{sizeof(float)} * 3);
}

}  // namespace apo::models
