#include "models/openvla/policy.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/safetensors.h"
#include "apo/pictures/lanczos.h"
#include "base/upload.h"
#include "models/adapters/copy.h"
#include "models/answers.h"
#include "models/observed.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr double kCenterCropArea = 0.9;
constexpr double kNormalizationEpsilon = 1e-8;  // of the released fine-tuning
constexpr double kUnmaskedMargin = 1e-3;
constexpr int64_t kLargestShard = int64_t{5} << 30;

PolicyParts oft_parts(const OpenVlaConfig& config, PolicyParts parts) {
  const OftConfig& oft = config.oft;
  // among the action tokens alone, the logits have no other columns
  const int64_t size = oft.among_actions ? config.action_bins : config.action_vocabulary;
  const tokenizers::VocabularyActionBins bins(size, config.action_bins);
  parts.codec = std::make_shared<tokenizers::VocabularyBinCodec>(bins, std::nullopt, config.action.size(),
                                                                 oft.chunk_steps);
  if (oft.among_actions) {
    parts.vocabulary_size = config.action_bins;
    parts.first_id = config.action_vocabulary - config.action_bins;
  }
  if (config.action_normalization == tokenizers::ActionNormalization::released_apo) return parts;
  tokenizers::NormalizerOptions how = parts.normalizer.options();
  how.inverse_epsilon = kNormalizationEpsilon;
  how.unmasked_margin = kUnmaskedMargin;
  parts.normalizer = tokenizers::Normalizer(config.action, how);
  return parts;
}

PolicyParts parts_of(const OpenVlaConfig& config, const tokenizers::TextTokenizer& tokenizer,
                     at::Device device) {
  const tokenizers::VocabularyActionBins bins(config.action_vocabulary, config.action_bins);
  PolicyParts parts{
      .codec = std::make_shared<tokenizers::VocabularyBinCodec>(bins, tokenizer.eos(), config.action.size()),
      .normalizer = tokenizers::Normalizer(config.action, config.action_normalization, kNormalizationEpsilon),
      .vocabulary_size = config.shape.llama.vocabulary,
      .gripper = config.gripper,
      .device = device};
  if (config.action_normalization != tokenizers::ActionNormalization::released_apo) {
    tokenizers::NormalizerOptions how = parts.normalizer.options();
    how.constant_to_zero = true;  // as OpenVLA's own data pipeline, before it cuts to [-1, 1]
    parts.normalizer = tokenizers::Normalizer(config.action, how);
  }
  return config.oft.is_oft() ? oft_parts(config, std::move(parts)) : parts;
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
  if (!config_.oft.state_keys.empty())
    state_normalizer_.emplace(config_.oft.state, config_.action_normalization, kNormalizationEpsilon);
}

std::vector<std::string> OpenVlaPolicy::cameras_of(const Observation& observation) const {
  const std::vector<std::string>& wanted = is_oft() ? config_.oft.cameras : options_.cameras;
  for (const std::string& camera : wanted) picture_of(observation, camera);
  if (!wanted.empty()) return wanted;
  APO_CHECK(DataError, observation.images.size() == 1,
            "observation: ", is_oft() ? "expected" : "OpenVLA sees",
            " one camera; there are: ", names_of(observation.images),
            is_oft() ? "; name those that it sees in policy.cameras" : "; choose one with policy.cameras");
  return {observation.images.begin()->first};
}

// With center_crop the recorded picture is kept: evaluation crops it before anything else resizes it.
void OpenVlaPolicy::prepare(Observation& observation) const {
  for (const std::string& camera : cameras_of(observation)) {
    at::Tensor& image = observation.images[camera];
    if (config_.oft.lanczos || !own_.center_crop) image = resized(image);
  }
}

at::Tensor OpenVlaPolicy::resized(const at::Tensor& image) const {
  if (config_.oft.lanczos) return pictures::resize_lanczos(image, config_.image_size(), config_.image_size());
  return pictures::resize_picture(image, config_.image_size(), config_.resize,
                                  pictures::Interpolation::bicubic, config_.padding_color());
}

at::Tensor OpenVlaPolicy::pictures(std::span<const Observation> observations) const {
  const int64_t size = config_.image_size();
  const bool crop = own_.center_crop && !training();
  const bool lanczos = config_.oft.lanczos;
  std::vector<at::Tensor> recorded, images;
  for (const Observation& observation : observations)
    for (const std::string& camera : cameras_of(observation))
      recorded.push_back(picture_of(observation, camera));
  images.resize(recorded.size());
  at::parallel_for(0, std::ssize(recorded), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const at::Tensor image = crop && !lanczos ? recorded[i] : resized(recorded[i]);
      images[i] = crop ? pictures::center_crop(image, kCenterCropArea, size, size) : image;
    }
  });
  // bytes travel; the device makes numbers of them
  const at::Tensor all = upload(at::stack(images), device())
                             .permute({0, 3, 1, 2})
                             .to(at::kFloat, false, false, at::MemoryFormat::Contiguous);
  const auto there = [this](std::vector<double> numbers) {
    return upload(at::tensor(numbers).to(at::kFloat), device());
  };
  std::vector<double> means, stds;
  for (const PictureNormalization& tower : config_.normalization) {
    means.insert(means.end(), tower.mean.begin(), tower.mean.end());
    stds.insert(stds.end(), tower.std.begin(), tower.std.end());
  }
  const auto towers = std::ssize(config_.normalization);
  // divided by tensors: by a number, CUDA would multiply with its inverse
  const at::Tensor normalized =
      (all.div_(there({255})).unsqueeze(1) - there(means).view({1, towers, 3, 1, 1}))
          .div_(there(stds).view({1, towers, 3, 1, 1}));
  return normalized.view({std::ssize(observations), -1, 3, size, size});
}

at::Tensor OpenVlaPolicy::states(std::span<const Observation> observations) const {
  if (!state_normalizer_) return {};
  const int64_t size = state_normalizer_->size();
  std::vector<double> numbers;
  for (const Observation& observation : observations) {
    const size_t before = numbers.size();
    for (const std::string& key : config_.oft.state_keys) {
      for (const float number : state_of(observation, key)) {
        APO_CHECK(DataError, std::isfinite(number), "observation: state \"", key, "\": found ", number);
        numbers.push_back(number);
      }
    }
    APO_CHECK(DataError, static_cast<int64_t>(numbers.size() - before) == size, "observation: the state (",
              join(config_.oft.state_keys), "): expected ", size,
              " numbers, as the state projector takes, found ", numbers.size() - before);
  }
  const at::Tensor all = at::tensor(numbers, at::kDouble).view({std::ssize(observations), size});
  return upload(state_normalizer_->normalize(all).to(at::kFloat), device());
}

// The begin token, padding, the rest of the prompt: all prompts end in the same column.
void OpenVlaPolicy::encode_prompts(std::span<const Observation> observations, PolicyInput& input) const {
  std::vector<std::vector<int64_t>> prompts;
  for (const Observation& observation : observations)
    prompts.push_back(tokenizers::openvla_prompt(tokenizer_, observation.instruction,
                                                 {.lower_case = true, .underscores_to_spaces = !is_oft()}));
  const PaddedIds prompt = pad_behind_first(prompts, tokenizer_.eos());
  input.prompt = upload(prompt.ids, device());
  if (prompt.mask.defined()) input.prompt_mask = upload(prompt.mask, device());
}

bool OpenVlaPolicy::has_fixed_features() const { return models::has_fixed_features(slots_, is_picture_part); }

PolicyInput OpenVlaPolicy::encode(std::span<const Observation> observations) const {
  APO_CHECK(DataError, !observations.empty(), "observations: expected at least one");
  PolicyInput input;
  encode_prompts(observations, input);
  input.state = states(observations);
  if (is_oft()) {
    const int64_t pictures = std::ssize(cameras_of(observations.front())) * config_.shape.dino.patches();
    const int64_t length = pictures + (input.state.defined() ? 1 : 0) + input.prompt.size(1) +
                           places().count + (config_.oft.stop_token ? 1 : 0);
    APO_CHECK(DataError, length <= config_.oft.max_positions, "observation: ", length,
              " places (pictures, state, prompt and ", places().count, " action tokens); expected at most ",
              config_.oft.max_positions, " (text_config.max_position_embeddings of the checkpoint)");
  }
  put_pictures(input, pictures(observations).to(network_->type()), has_fixed_features(), *network_);
  return input;
}

at::Tensor OpenVlaPolicy::features(const PolicyInput& input) const {
  const at::Tensor pictures = picture_features(input, *network_);
  if (!state_normalizer_) return pictures;
  APO_CHECK(DataError, input.state.defined(), "policy input: expected a state");
  return at::cat({pictures, network_->state_feature(input.state)}, 1);
}

std::pair<int64_t, int64_t> OpenVlaPolicy::scored_ids() const {
  return {first_id(), first_id() + vocabulary_size() - 1};
}

ActionPlaces OpenVlaPolicy::places() const {
  ActionPlaces places{.count = horizon() * action_size()};
  if (config_.oft.stop_token) places.stop = tokenizer_.eos();
  return places;
}

Score OpenVlaPolicy::score(const PolicyInput& input, const ActionTokens& tokens,
                           const ActionTokens* mismatched) {
  if (at::GradMode::is_enabled()) decisions_.clear();  // training wants the memory
  const std::vector<at::Tensor> answers = answers_of(input, tokens, mismatched);
  if (is_oft()) {
    // the answers are no input: one pass says all there is of any of them
    for (const at::Tensor& answer : answers)
      APO_CHECK(DataError, answer.size(1) == places().count, "action tokens: expected ids [", input.size(),
                ", ", places().count, "], found ", answer.sizes());
    const Logits logits = network_->logits_of(
        network_->parallel(features(input), input.prompt, input.prompt_mask, places()), scored_ids());
    return {.logits = logits, .mismatched_logits = mismatched != nullptr ? logits : Logits()};
  }
  const std::vector<Logits> logits =
      network_->score(features(input), input.prompt, input.prompt_mask, answers);
  return {.logits = logits[0], .mismatched_logits = mismatched != nullptr ? logits[1] : Logits()};
}

at::Tensor OpenVlaPolicy::decode(const PolicyInput& input, const DecodeOptions& options) {
  const at::NoGradGuard no_grad;
  // on the CPU, there is nothing to win; drawn tokens come from the host
  const bool drafts = own_.speculative && !is_oft() && options.temperature == 0;
  const bool replays = !drafts && !device().is_cpu() && options.temperature == 0 && !training() &&
                       !at::autocast::is_autocast_enabled(device().type());
  DecodeOptions how = options;
  if (replays) how.token_probs = nullptr;  // what is recorded says no more than tokens
  const auto choose = token_chooser(how);
  const tokenizers::TokenRange bins = codec().bins().value();
  const auto range = own_.action_tokens_only ? std::pair{bins.first, bins.last}
                                             : std::pair{int64_t{0}, vocabulary_size() - 1};
  const at::Tensor draft =
      drafts && draft_.defined() && draft_.size(0) == input.size() ? draft_ : at::Tensor();
  const auto decode = [this, has_features = input.features.defined(), range, choose, draft,
                       how](const Replayed::Inputs& in) {
    PolicyInput again{.prompt = in[1], .prompt_mask = in[2], .state = in[3]};
    (has_features ? again.features : again.images) = in[0];
    const at::Tensor before = features(again);
    return is_oft() ? decode_parallel(before, in[1], in[2], how)
                    : network_->decode(before, in[1], in[2], action_size(), range, choose, draft);
  };
  const Replayed::Inputs inputs{input.features.defined() ? input.features : input.images, input.prompt,
                                input.prompt_mask, input.state};
  APO_CHECK(DataError, inputs[0].defined() && inputs[1].defined(),
            "policy input: expected a prompt and images or features");
  if (replays) return decisions_.run(inputs, replay_state(input), decode);
  at::Tensor ids = decode(inputs);
  if (drafts) draft_ = ids;
  return ids;
}

// A place's token does not depend on the others'.
at::Tensor OpenVlaPolicy::decode_parallel(const at::Tensor& features, const at::Tensor& prompt,
                                          const at::Tensor& mask, const DecodeOptions& options) const {
  const int64_t first = own_.action_tokens_only ? config_.action_vocabulary - config_.action_bins : 0,
                last = own_.action_tokens_only ? config_.action_vocabulary - 1
                                               : config_.shape.llama.vocabulary - 1;
  const at::Tensor logits =
      network_->logits(network_->parallel(features, prompt, mask, places()), first, last + 1);
  const auto choose = token_chooser(options);
  std::vector<at::Tensor> ids;
  if (options.temperature == 0)
    ids.push_back(logits.argmax(-1));
  else
    for (int64_t t = 0; t < logits.size(1); ++t) ids.push_back(choose(logits.select(1, t)).unsqueeze(1));
  const at::Tensor columns = at::cat(ids, 1);
  if (options.token_probs != nullptr) {
    for (const at::Tensor& place : probs_of(logits, columns).unbind(1)) options.token_probs->push_back(place);
  }
  return columns + (first - first_id());
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
    add(linear->is_quantized() ? linear->quantized.codes : linear->weight, false);
    add(linear->bias, false);
    if (const LinearAdapter* adapter = linear->find(slots_.active())) {
      add(adapter->a, true);
      add(adapter->b, true);
    }
  }
  return state;
}

NamedTensors OpenVlaPolicy::named_parameters() const {
  NamedTensors all = collect_parameters(*network_, ParameterKind::base_and_adapters);
  // the state projector never changes
  std::erase_if(all, [](const auto& entry) { return is_state_projector_tensor(entry.first); });
  return all;
}

std::unique_ptr<Policy> OpenVlaPolicy::clone() const {
  auto copy =
      std::unique_ptr<OpenVlaPolicy>(new OpenVlaPolicy(config_, tokenizer_, options_, base_, device()));
  copy_weights(*network_, *copy->network_);
  copy_slots(slots_, copy->slots_);
  return copy;
}

void OpenVlaPolicy::save(const fs::path& directory) const {
  APO_CHECK(ConfigError, slots_.has(kTrainedSlot) || quantization_of(slots_) == "none",
            "policy.openvla.quantization: weights in few bits are not written; expected none, or an adapter "
            "to write, found ",
            own_.quantization);
  for (const auto& [name, text] : config_.companions) write_file_atomic(directory / name, text);
  if (slots_.has(kTrainedSlot)) {
    save_adapter(slots_, kTrainedSlot, directory, fs::absolute(base_).lexically_normal().string());
    return;
  }
  if (is_oft())
    write_file_atomic(
        directory / "config.json",
        config_.oft.written_whole(config_.companions.at("config.json"), config_.shape.state_size));
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
  const int64_t pictures = input.features.defined() ? input.features.size(1)
                                                    : input.images.size(1) / 2 * config_.shape.dino.patches();
  const int64_t rows = pictures + prompt_length + answer_length + (is_oft() ? 2 : -1);
  // norms run in float32; on CUDA in one operation, which keeps its input alone
  const int64_t wide = device().is_cuda() ? 0 : network_->type() == at::kFloat ? 1 : 2;
  const int64_t attention = (2 * llama.heads + 2 * llama.key_heads + llama.heads) * llama.head_size;
  add_blocks(llama.layers, rows, (4 + 4 * wide) * llama.width + attention + 3 * llama.mlp, llama.width);
  return input.size() * (total * bytes + answer_length * vocabulary_size() * int64_t{sizeof(float)} * 3);
}

}  // namespace apo::models
