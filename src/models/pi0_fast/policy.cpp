#include "models/pi0_fast/policy.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/safetensors.h"
#include "base/upload.h"
#include "models/adapters/copy.h"
#include "models/answers.h"
#include "models/observed.h"
#include "models/pi0_fast/choice.h"
#include "models/pi0_fast/pictures.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLargestShard = int64_t{5} << 30;

bool is_picture_part(const PaliGemmaNames& names, const std::string& layer) {
  return layer.starts_with(names.vision) || layer.starts_with(names.projector);
}

}  // namespace

Pi0FastPolicy::Pi0FastPolicy(Pi0FastConfig config, const tokenizers::TextTokenizer& text,
                             std::shared_ptr<const tokenizers::FastCodec> codec, const PolicyOptions& options,
                             fs::path base, at::Device device)
    : Policy({.codec = codec,
              .normalizer = config.normalization.action.normalizer(config.action_size),
              .vocabulary_size = config.shape.gemma.vocabulary,
              .gripper = options.gripper,
              .device = device}),
      config_(std::move(config)),
      text_(text),
      codec_(std::move(codec)),
      options_(options),
      own_(options.of<Pi0FastOptions>()),
      base_(std::move(base)),
      network_(std::make_unique<Pi0FastNetwork>(config_.shape, config_.names,
                                                at::TensorOptions(at::kFloat).device(at::kMeta))) {
  if (own_.decode_valid)
    grammar_ = std::make_unique<tokenizers::FastGrammar>(codec_->tokenizer(), horizon() * action_size());
  network_->activation_checkpointing = own_.activation_checkpointing;
  SlotAttacher attach(slots_);
  network_->visit(attach);
}

std::vector<std::string> Pi0FastPolicy::cameras_of(const Observation& observation) const {
  const std::vector<std::string>&slots = config_.image_keys, &named = options_.cameras;
  const std::string there = names_of(observation.images);
  if (!named.empty()) {
    APO_CHECK(ConfigError, named.size() == slots.size(), "policy.cameras: expected ", slots.size(),
              " names, one for each of ", join(slots), " (\"\": there is none), found ", named.size());
    for (const std::string& camera : named)
      if (!camera.empty()) picture_of(observation, camera);
    return named;
  }
  std::vector<std::string> found;
  for (const std::string& slot : slots) {
    APO_CHECK(DataError, observation.images.contains(slot), "observation: the policy sees ", join(slots),
              "; there are: ", there,
              ". Name the camera of each with policy.cameras, \"\" where there is none");
    found.push_back(slot);
  }
  return found;
}

// LeRobot resizes numbers, not bytes: its pictures stay as they are until they are encoded.
void Pi0FastPolicy::prepare(Observation& observation) const {
  const std::vector<std::string> cameras = cameras_of(observation);
  if (!is_openpi()) return;
  for (const std::string& camera : cameras)
    if (!camera.empty())
      observation.images[camera] = resize_with_border(picture_of(observation, camera), config_.image_size());
}

// [B, N, 3, Y, X]; a slot without camera is black for openpi and left out (masked) for LeRobot.
at::Tensor Pi0FastPolicy::pictures(std::span<const Observation> observations) const {
  const int64_t size = config_.image_size();
  std::vector<std::vector<std::string>> slots;
  for (const Observation& observation : observations) {
    slots.push_back(cameras_of(observation));
    if (!is_openpi()) std::erase(slots.back(), std::string());
  }
  const size_t count = slots.front().size();
  APO_CHECK(DataError,
            count > 0 && std::ranges::any_of(slots.front(), [](const auto& s) { return !s.empty(); }),
            "policy.cameras: expected at least one camera, found none");
  std::vector<at::Tensor> images(observations.size() * count);
  at::parallel_for(0, std::ssize(images), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const Observation& observation = observations[i / count];
      const std::string& camera = slots[i / count][i % count];
      if (camera.empty())
        images[i] = at::zeros({3, size, size}, at::kByte);
      else if (is_openpi())
        images[i] = resize_with_border(picture_of(observation, camera), size).permute({2, 0, 1});
      else
        images[i] = resize_with_border_float(picture_of(observation, camera), size);
    }
  });
  // openpi's travel as bytes, and are divided by a tensor: by a number, CUDA would multiply with its inverse
  const at::Tensor all = upload(at::stack(images), device()).to(at::kFloat);
  if (is_openpi()) all.div_(at::scalar_tensor(255.0F, all.options()));
  return all.mul_(2).sub_(1).view({std::ssize(observations), static_cast<int64_t>(count), 3, size, size});
}

// In physical units, all of policy.state_keys behind one another.
std::vector<double> Pi0FastPolicy::state_of(const Observation& observation) const {
  std::vector<std::string> keys = options_.state_keys;
  if (keys.empty()) {
    APO_CHECK(DataError, observation.state.size() == 1,
              "observation: the policy reads one state; name what it is made of with policy.state_keys. "
              "There are: ",
              names_of(observation.state));
    keys = {observation.state.begin()->first};
  }
  std::vector<double> state;
  for (const std::string& key : keys) {
    const std::vector<float>& numbers = models::state_of(observation, key);
    state.insert(state.end(), numbers.begin(), numbers.end());
  }
  for (size_t i = 0; i < state.size(); ++i)
    APO_CHECK(DataError, std::isfinite(state[i]), "observation: state ", join(keys), ", number ", i,
              ": found ", state[i]);
  const int64_t size = std::ssize(state), known = config_.normalization.state.size();
  APO_CHECK(DataError, size >= 1 && (config_.state_size ? size == *config_.state_size : size <= known),
            "observation: state ", join(keys), ": expected ", config_.state_size ? "" : "at most ",
            config_.state_size.value_or(known), " numbers, as the policy's statistics have, found ", size);
  const int64_t delta = config_.delta_dimensions.empty() ? -1 : std::ranges::max(config_.delta_dimensions);
  APO_CHECK(DataError, size > delta, "observation: state ", join(keys), ": expected at least ", delta + 1,
            " numbers, from which actions are counted (delta_action_dims), found ", size);
  return state;
}

void Pi0FastPolicy::encode_prompts(std::span<const Observation> observations, PolicyInput& input) const {
  const auto batch = std::ssize(observations);
  std::vector<std::vector<int64_t>> prompts;
  input.room = at::empty({batch}, at::kLong);
  if (!config_.delta_dimensions.empty()) input.origin = at::zeros({batch, action_size()}, at::kDouble);
  for (int64_t i = 0; i < batch; ++i) {
    const Observation& observation = observations[static_cast<size_t>(i)];
    const std::vector<double> state = state_of(observation);
    for (const int64_t d : config_.delta_dimensions)
      input.origin.data_ptr<double>()[i * action_size() + d] = state[static_cast<size_t>(d)];
    const at::Tensor normalized =
        config_.normalization.state.normalizer(std::ssize(state)).normalize(at::tensor(state, at::kDouble));
    std::vector<double> numbers(normalized.const_data_ptr<double>(),
                                normalized.const_data_ptr<double>() + normalized.numel());
    numbers.resize(std::max(numbers.size(), static_cast<size_t>(own_.pad_state_to)), 0);
    const std::string text =
        prompt_text(task_text(observation.instruction, config_.dialect), state_bins(numbers));
    std::vector<int64_t>& ids = prompts.emplace_back(text_.encode(text));
    ids.insert(ids.begin(), text_.bos());
    const int64_t length = std::ssize(ids);
    if (config_.max_prompt > 0 && length > config_.max_prompt) {
      if (!warned_of_prompt_.exchange(true))
        log_warn("the prompt of \"", shortened(observation.instruction, 60), "\" has ", length,
                 " tokens, of which the policy reads the first ", config_.max_prompt,
                 " (tokenizer_max_length); longer ones are cut as this one");
      ids.resize(static_cast<size_t>(config_.max_prompt));
    }
    const int64_t room = is_openpi() ? config_.max_sequence - length : config_.max_answer;
    APO_CHECK(DataError, room >= 1, "observation: the prompt of \"", shortened(observation.instruction, 60),
              "\" has ", length, " tokens; expected less than ", config_.max_sequence,
              " (max_token_len), which an answer must fit into, too");
    input.room.data_ptr<int64_t>()[i] = room;
  }
  const PaddedIds prompt = pad_behind_first(prompts, 0);
  input.prompt = upload(prompt.ids, device());
  if (prompt.mask.defined()) input.prompt_mask = upload(prompt.mask, device());
}

bool Pi0FastPolicy::has_fixed_features() const {
  return models::has_fixed_features(
      slots_, [&](const std::string& layer) { return is_picture_part(config_.names, layer); });
}

PolicyInput Pi0FastPolicy::encode(std::span<const Observation> observations) const {
  APO_CHECK(DataError, !observations.empty(), "observations: expected at least one");
  PolicyInput input;
  encode_prompts(observations, input);
  put_pictures(input, pictures(observations).to(network_->type()), has_fixed_features(), *network_);
  return input;
}

at::Tensor Pi0FastPolicy::features(const PolicyInput& input) const {
  return picture_features(input, *network_);
}

AnswerStyle Pi0FastPolicy::style(bool decodes) const {
  const bool released = decodes && own_.decode_as == "released";
  if (is_openpi()) return {.begin = std::nullopt, .position_gap = released ? 1 : 0};
  return {.begin = text_.bos(), .begin_in_prefix = released};
}

Score Pi0FastPolicy::score(const PolicyInput& input, const ActionTokens& tokens,
                           const ActionTokens* mismatched) {
  const std::vector<at::Tensor> answers = answers_of(input, tokens, mismatched);
  const std::vector<Logits> logits =
      network_->score(features(input), input.prompt, input.prompt_mask, answers, style(false));
  return {.logits = logits[0], .mismatched_logits = mismatched != nullptr ? logits[1] : Logits()};
}

at::Tensor Pi0FastPolicy::decode(const PolicyInput& input, const DecodeOptions& options) {
  const at::NoGradGuard no_grad;
  TokenChooser choose = token_chooser(options);
  int64_t steps = config_.max_decoding_steps;
  if (own_.action_tokens_only || own_.decode_valid) choose = answers_only(*codec_, grammar_.get(), choose);
  if (own_.decode_valid) steps = std::max(steps, codec_->max_length());
  return network_->decode(features(input), input.prompt, input.prompt_mask, style(true), steps,
                          codec_->answer().end, choose);
}

NamedTensors Pi0FastPolicy::named_parameters() const {
  return collect_parameters(*network_, ParameterKind::base_and_adapters);
}

std::unique_ptr<Policy> Pi0FastPolicy::clone() const {
  auto copy =
      std::unique_ptr<Pi0FastPolicy>(new Pi0FastPolicy(config_, text_, codec_, options_, base_, device()));
  copy_weights(*network_, *copy->network_);
  copy->network_->tie();
  copy_slots(slots_, copy->slots_);
  return copy;
}

void Pi0FastPolicy::save(const fs::path& directory) const {
  APO_CHECK(ConfigError, slots_.has(kTrainedSlot) || quantization_of(slots_) == "none",
            "policy.pi0_fast.quantization: weights in few bits are not written; expected none, or an adapter "
            "to write, found ",
            own_.quantization);
  for (const auto& [name, text] : config_.companions) {
    fs::create_directories((directory / name).parent_path());
    write_file_atomic(directory / name, text);
  }
  if (slots_.has(kTrainedSlot)) {
    save_adapter(slots_, kTrainedSlot, directory, fs::absolute(base_).lexically_normal().string());
    return;
  }
  NamedTensors weights = collect_parameters(*network_, ParameterKind::base);
  if (const auto& names = config_.names; !names.head_copy.empty()) {
    const auto table =
        std::ranges::find_if(weights, [&](const auto& named) { return named.first == names.embedding; });
    weights.emplace_back(names.head_copy, table->second);
  }
  write_sharded_safetensors(directory, weights, kLargestShard);
}

// As OpenVLA's: for one sample, the tensors that each block saves for its backward pass.
std::optional<int64_t> Pi0FastPolicy::activation_bytes(const PolicyInput& input,
                                                       const ActionTokens& tokens) const {
  const LlamaShape& gemma = config_.shape.gemma;
  const SiglipShape& siglip = config_.shape.siglip;
  const auto bytes = static_cast<int64_t>(c10::elementSize(network_->type()));
  int64_t total = 0;
  const auto add_blocks = [&](int64_t blocks, int64_t rows, int64_t block_numbers, int64_t width) {
    total += own_.activation_checkpointing ? blocks * rows * width + rows * block_numbers
                                           : blocks * rows * block_numbers;
  };
  const int64_t pictures =
      input.features.defined() ? input.features.size(1) / siglip.patches() : input.images.size(1);
  const int64_t patches = pictures * siglip.patches();
  if (!has_fixed_features()) {
    add_blocks(siglip.layers, patches, 10 * siglip.width + 2 * siglip.mlp, siglip.width);
    total += patches * (siglip.width + gemma.width);
  }
  const int64_t rows = patches + input.prompt.size(1) + tokens.ids.size(1);
  const int64_t wide = network_->type() == at::kFloat ? 1 : 2;  // norms run in float32
  const int64_t attention = (3 * gemma.heads + 2 * gemma.heads) * gemma.head_size;
  add_blocks(gemma.layers, rows, (4 + 6 * wide) * gemma.width + attention + 4 * gemma.mlp, gemma.width);
  // logits are made in pieces, and never whole
  const int64_t logits =
      std::min(tokens.ids.numel() * gemma.vocabulary * int64_t{sizeof(float)}, network_->logits_piece_bytes);
  return input.size() * total * bytes + 4 * logits;
}

}  // namespace apo::models
