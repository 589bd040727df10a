// An OpenVLA of the released size with random weights: what a training step, scoring and decoding take, and
// where the time goes. Elsewhere than on CUDA a tiny one runs through the same code, and the released size is
// built on the meta device.
#include <torch/types.h>

#include <array>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/registry.h"
#include "apo/objective/log_prob.h"
#include "gpu/check.h"
#include "models/openvla/policy.h"
#include "support/hollow_file.h"
#include "support/temp_dir.h"
#include "training/learner.h"
#include "training/optimizer.h"

namespace apo::gpu {
namespace {

namespace fs = std::filesystem;
using models::ActionTokens;
using models::OpenVlaShape;
using models::Policy;
using models::PolicyInput;

constexpr int64_t kBatch = 8, kRank = 32;
constexpr double kRate = 5e-5;

// The same family on a few pixels: heads of 64 and 72, as the rule of the two towers has it.
OpenVlaShape tiny_shape() {
  OpenVlaShape shape = OpenVlaShape::released();
  shape.dino.image_size = shape.siglip.image_size = 28;
  shape.dino.width = 64, shape.dino.heads = 1, shape.dino.depth = 2, shape.dino.mlp = 128;
  shape.siglip.width = 72, shape.siglip.heads = 1, shape.siglip.depth = 2, shape.siglip.mlp = 128;
  shape.projector = 128;
  shape.llama = {
      .vocabulary = 1024, .width = 64, .layers = 2, .heads = 2, .key_heads = 2, .head_size = 32, .mlp = 128};
  return shape;
}

// A checkpoint directory of that shape with the tiny OpenVLA's tokenizer and statistics. The file of weights
// is a hole as long as they would be: it takes no room on disk and is never read.
void make_checkpoint(const fs::path& directory, const OpenVlaShape& shape, const fs::path& companions) {
  for (const char* name : {"tokenizer.model", "preprocessor_config.json", "dataset_statistics.json"})
    fs::copy_file(companions / name, directory / name);
  Json config = Json::parse(read_file(companions / "config.json"));
  const int64_t pieces =
      config["text_config"]["vocab_size"].get<int64_t>() - config["pad_to_multiple_of"].get<int64_t>();
  config["image_sizes"] = {shape.dino.image_size, shape.siglip.image_size};
  config["text_config"] = {{"vocab_size", shape.llama.vocabulary},
                           {"num_attention_heads", shape.llama.heads}};
  config["pad_to_multiple_of"] =
      shape.llama.vocabulary - pieces;  // the ids above the tokenizer's count as padding
  write_file_atomic(directory / "config.json", config.dump());

  models::OpenVlaNetwork network(shape, at::TensorOptions(at::kBFloat16).device(at::kMeta));
  testing::write_hollow_safetensors(directory / "model.safetensors",
                                    models::collect_parameters(network, models::ParameterKind::base));
}

// Two operations a multiplication of everything that scoring `answers` answers to each of `batch`
// observations multiplies, adapters of rank kRank on all linear layers included: what OperationCounter must
// find.
double scoring_operations(const OpenVlaShape& shape, int64_t batch, int64_t prompt, int64_t answer,
                          int64_t answers) {
  const auto product = [](int64_t rows, int64_t in, int64_t out) {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(in * out + kRank * (in + out));
  };
  const auto attention = [batch](int64_t rows, int64_t keys, int64_t width) {
    return 4.0 * static_cast<double>(batch * rows) * static_cast<double>(keys * width);
  };
  double sum = 0;
  for (const models::VisionTowerShape* tower : {&shape.dino, &shape.siglip}) {
    const int64_t length = tower->patches() + tower->class_token + tower->registers, rows = batch * length;
    const double block = product(rows, tower->width, 3 * tower->width) +
                         product(rows, tower->width, tower->width) + product(rows, tower->width, tower->mlp) +
                         product(rows, tower->mlp, tower->width) + attention(length, length, tower->width);
    sum += product(batch * tower->patches(), 3 * tower->patch_size * tower->patch_size, tower->width);
    sum += static_cast<double>(tower->depth - 1) * block;  // the last one never runs
  }
  const int64_t patches = shape.dino.patches(), vision = shape.dino.width + shape.siglip.width;
  const models::LlamaShape& llama = shape.llama;
  sum += product(batch * patches, vision, shape.projector) +
         product(batch * patches, shape.projector, llama.width) +
         product(batch * patches, llama.width, llama.width);
  const int64_t length = patches + prompt + answers * (answer - 1), read = answers * (answer - 1) + 1;
  const int64_t queries = llama.heads * llama.head_size, keys = llama.key_heads * llama.head_size;
  for (int64_t layer = 0; layer < llama.layers; ++layer) {
    const int64_t rows =
        layer + 1 < llama.layers ? length : read;  // the last layer's other rows are read by nobody
    sum += 2 * product(batch * length, llama.width, keys) + product(batch * rows, llama.width, queries) +
           product(batch * rows, queries, llama.width) + 2 * product(batch * rows, llama.width, llama.mlp) +
           product(batch * rows, llama.mlp, llama.width) + attention(rows, length, queries);
  }
  return sum + product(batch * answers * answer, llama.width, llama.vocabulary);
}

// In place, one tensor at a time: norms and layer scales one, biases zero, the rest small and normal.
void fill_randomly(Policy& policy) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : policy.named_parameters()) {
    if (name.find(".lora_A.") != std::string::npos) continue;
    if (name.find(".lora_B.") != std::string::npos)
      tensor.normal_(0, 1e-3);  // not zero, so that every gradient is there
    else if (name.ends_with("norm.weight") || name.ends_with("norm1.weight") ||
             name.ends_with("norm2.weight") || name.ends_with("scale_factor"))
      tensor.fill_(1);
    else if (name.ends_with(".bias"))
      tensor.zero_();
    else
      tensor.normal_(0, 0.02);
  }
}

std::vector<data::Sample> make_samples(const Policy& policy, int64_t count) {
  constexpr std::array<const char*, 4> kInstructions{"lift", "stack the red block on the green block",
                                                     "thread the needle", "put the square nut on the peg"};
  std::vector<data::Sample> samples(static_cast<size_t>(count));
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].observation.images["agentview"] = at::randint(0, 256, {256, 256, 3}, at::kByte);
    samples[i].observation.instruction = kInstructions[i % kInstructions.size()];
    samples[i].actions = {Action(static_cast<size_t>(policy.action_size()), 0.002f * static_cast<float>(i))};
    samples[i].desirable = i < samples.size() * 3 / 4;
  }
  return samples;
}

std::vector<Observation> observations_of(const std::vector<data::Sample>& samples) {
  std::vector<Observation> all;
  for (const data::Sample& sample : samples) all.push_back(sample.observation);
  return all;
}

std::vector<Action> actions_of(const std::vector<data::Sample>& samples) {
  std::vector<Action> all;
  for (const data::Sample& sample : samples) all.push_back(sample.actions.front());
  return all;
}

struct Trainer {
  Trainer(Policy& policy, const objective::ObjectiveOptions& options)
      : policy(policy),
        options(options),
        reference(policy, {}),
        learner(policy, &reference, options, 0, false),
        adam({.type = "adam"}, models::trainable_parameters(policy)) {}

  /// One step of apo-train without its files; returns the loss.
  double step(const std::vector<data::Sample>& samples) {
    std::vector<data::Sample> batch = samples;  // learning takes the pictures
    adam.zero_gradients();
    const double loss = learner.learn(batch).loss;
    norm = adam.gradient_norm();
    adam.clip_gradients(norm, 1.0);
    adam.update(kRate);
    return loss;
  }

  Policy& policy;
  objective::ObjectiveOptions options;
  training::LiveReference reference;
  training::Learner learner;
  training::Adam adam;
  double norm = 0;
};

// Steps as apo-train takes them, and what they cost.
void time_training(const std::string& name, Trainer& trainer, const std::vector<data::Sample>& samples,
                   int64_t steps, double peak, Item& item) {
  const at::Device device = trainer.policy.device();
  reset_peak(device);
  double loss = 0;
  bool finite = true;
  const Timing timing = measure(device, std::min<int64_t>(3, steps), steps, [&] {
    loss = trainer.step(samples);
    finite = finite && std::isfinite(loss) && std::isfinite(trainer.norm);
  });
  Json json = timing.json();
  json["samples_per_second"] = static_cast<double>(samples.size()) / timing.median;
  json["batch"] = samples.size();
  json["last_loss"] = loss;
  json["peak_bytes"] = peak_bytes(device);
  item.put(name, json);
  item.expect(finite && trainer.norm > 0, concat(name, ": expected finite losses and gradients, found loss ",
                                                 loss, " and gradient norm ", trainer.norm));
  double operations = 0;
  {
    const OperationCounter counter;
    trainer.step(samples);
    synchronize(device);
    operations = counter.operations();
  }
  item.put(name + "/operations_of_a_step", operations);
  item.put(name + "/operations_per_second", operations / timing.median);
  if (device.is_cuda()) item.put(name + "/share_of_matmul_peak", operations / timing.median / peak);
  item.progress();
}

// The same step taken apart, the device waited for between its parts: the sum is therefore more than a step.
void time_phases(Trainer& trainer, const std::vector<data::Sample>& samples, int64_t repeats, Item& item) {
  Policy& policy = trainer.policy;
  const at::Device device = policy.device();
  const std::vector<Observation> observations = observations_of(samples);
  const std::vector<Action> actions = actions_of(samples);
  std::vector<uint8_t> desirable;
  for (const data::Sample& sample : samples) desirable.push_back(sample.desirable);
  std::vector<std::pair<std::string, std::vector<double>>> parts;
  for (int64_t i = -1; i < repeats; ++i) {
    size_t at = 0;
    const auto part = [&](const char* name, const std::function<void()>& body) {
      if (at == parts.size()) parts.emplace_back(name, std::vector<double>());
      const double took = seconds(device, body);
      if (i >= 0) parts[at].second.push_back(took);  // the first round warms up
      ++at;
    };
    PolicyInput input;
    ActionTokens tokens, other;
    objective::ObjectiveInput in;
    models::Score score;
    at::Tensor loss;
    trainer.adam.zero_gradients();
    part("pictures_prompts_tokens", [&] {
      input = policy.encode(observations);
      tokens = policy.tokenize(actions);
      other = {tokens.ids.roll(-1, 0), tokens.mask, tokens.end_token, tokens.dimension};
      in.tokens = tokens.ids, in.mask = tokens.mask, in.end_token = tokens.end_token;
      in.mismatched_tokens = other.ids, in.mismatched_mask = other.mask,
      in.mismatched_end_token = other.end_token;
      in.desirable = at::tensor(desirable, at::kByte).to(at::kBool).to(device);
    });
    part("reference", [&] {
      const models::Score of_reference = trainer.reference.policy().score(input, tokens, &other);
      in.reference_logits = of_reference.logits.whole();
      in.mismatched_reference_logits = of_reference.mismatched_logits.whole();
    });
    part("policy", [&] {
      score = policy.score(input, tokens, &other);
      in.policy_logits = score.logits.whole();
      in.mismatched_policy_logits = score.mismatched_logits.whole().detach();
    });
    const auto [first_bin, last_bin] = policy.codec().bins().value();
    part("objective", [&, first_bin = first_bin, last_bin = last_bin] {
      in.action_l1 =
          models::action_l1(policy,
                            models::greedy_action_tokens(
                                policy, objective::greedy_tokens(score.logits, first_bin, last_bin), tokens),
                            tokens);
      loss = objective::apo_loss(in, trainer.options).loss;
    });
    part("backward", [&] { loss.backward(); });
    part("gradient_norm_and_clipping",
         [&] { trainer.adam.clip_gradients(trainer.adam.gradient_norm(), 1.0); });
    part("optimizer", [&] { trainer.adam.update(kRate); });
  }
  for (const auto& [name, times] : parts) item.put("train/phases_ms/" + name, 1e3 * median(times));
  item.put("train/phases_repeats", repeats);
}

// Scoring without gradient: all of it, without the towers, and the prefix with one token of an answer. What
// lies between them is the towers' share, and the answers' and the head's.
void time_scoring(Policy& policy, const std::vector<data::Sample>& samples, const OpenVlaShape& shape,
                  int64_t repeats, Item& item) {
  const at::NoGradGuard no_grad;
  const at::Device device = policy.device();
  const std::vector<Observation> observations = observations_of(samples);
  const ActionTokens tokens = policy.tokenize(actions_of(samples));
  ActionTokens first = tokens;
  first.ids = tokens.ids.narrow(1, 0, 1);
  const PolicyInput input = policy.encode(observations);
  PolicyInput without_towers = input;
  without_towers.images = at::Tensor();
  const int64_t patches = shape.dino.patches();
  without_towers.features = at::randn({input.size(), patches, shape.llama.width}, input.images.options());
  const Timing whole =
      measure(device, 2, repeats, [&] { policy.score(policy.encode(observations), tokens); });
  const Timing scored = measure(device, 2, repeats, [&] { policy.score(input, tokens); });
  const Timing language = measure(device, 2, repeats, [&] { policy.score(without_towers, tokens); });
  const Timing prefix = measure(device, 2, repeats, [&] { policy.score(without_towers, first); });
  Json json = whole.json();
  json["samples_per_second"] = static_cast<double>(samples.size()) / whole.median;
  json["prefix_tokens"] = patches + input.prompt.size(1);
  json["phases_ms"] = {{"pictures_prompts", 1e3 * (whole.median - scored.median)},
                       {"towers_and_projector", 1e3 * (scored.median - language.median)},
                       {"prefix", 1e3 * prefix.median},
                       {"answers_and_head", 1e3 * (language.median - prefix.median)}};
  // the count that the share of the peak rests on, against the formula
  {
    const OperationCounter counter;
    policy.score(input, tokens);
    synchronize(device);
    json["operations"] = counter.operations();
  }
  json["operations_by_formula"] =
      scoring_operations(shape, input.size(), input.prompt.size(1), tokens.ids.size(1), 1);
  item.put("score", json);
  if (device.is_cpu() || device.is_cuda())  // a simulated device computes on the host: counted twice
    item.at_most("score/operations_off_formula",
                 std::abs(json["operations"].get<double>() / json["operations_by_formula"].get<double>() - 1),
                 0.01);
  item.progress();
}

// How far the decided tokens' logits lie below the largest ones, of the logits' spread, where every token
// before them is given: 0 but for rounding, or a token is wrong.
double distance_to_greedy(Policy& policy, const PolicyInput& input, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  ActionTokens tokens;
  tokens.ids = ids;
  const auto [low, high] = policy.codec().bins().value();
  const at::Tensor logits = policy.score(input, tokens).logits.whole().narrow(-1, low, high + 1 - low);
  const at::Tensor chosen = logits.gather(-1, (ids - low).unsqueeze(-1)).squeeze(-1);
  return ((logits.amax(-1) - chosen).max() / logits.std()).item<double>();
}

// One decision: observations to actions, as in deployment.
void time_decisions(Policy& policy, const std::vector<data::Sample>& samples, int64_t repeats, Item& item) {
  const at::Device device = policy.device();
  for (const size_t batch : {size_t{1}, samples.size()}) {
    const std::vector<data::Sample> some(samples.begin(),
                                         samples.begin() + static_cast<std::ptrdiff_t>(batch));
    const std::vector<Observation> observations = observations_of(some);
    at::Tensor ids;
    // on CUDA, later decisions on inputs of these shapes are recorded and replayed, which must not change
    // them, nor keep old pictures
    std::vector<Observation> others = observations;
    for (Observation& other : others)
      other.images["agentview"] = at::randint(0, 256, {256, 256, 3}, at::kByte);
    const std::array<at::Tensor, 2> first_ids{policy.decode(policy.encode(observations)),
                                              policy.decode(policy.encode(others))};
    reset_peak(device);
    const Timing whole = measure(device, 2, repeats, [&] {
      ids = policy.decode(policy.encode(observations));
      policy.to_actions(ids);
    });
    const PolicyInput input = policy.encode(observations);
    const Timing recorded = measure(device, 1, repeats, [&] { policy.decode(input); });
    policy.set_training(true);  // in which nothing is recorded
    const Timing network = measure(device, 1, repeats, [&] { policy.decode(input); });
    policy.set_training(false);
    ActionTokens first;
    first.ids = ids.narrow(1, 0, 1);
    const Timing up_to_first = measure(device, 1, repeats, [&] {
      const at::NoGradGuard no_grad;
      policy.score(input, first);
    });
    const std::string name = concat("decide/batch_", batch);
    const PolicyInput other_input = policy.encode(others);
    const at::Tensor other_ids = policy.decode(other_input);
    Json json = whole.json();
    json["distance_to_greedy"] = {{"first_decisions", distance_to_greedy(policy, input, first_ids[0])},
                                  {"later_decisions", distance_to_greedy(policy, input, ids)},
                                  {"other_pictures", distance_to_greedy(policy, other_input, other_ids)}};
    for (const auto& [which, distance] : json["distance_to_greedy"].items())
      item.expect(distance.get<double>() <= 0.1,
                  concat(name, ": ", which, ": expected the largest logits, found one ",
                         distance.get<double>(), " standard deviations below"));
    json["tokens_unlike_the_first"] =
        (ids.ne(first_ids[0]).sum() + other_ids.ne(first_ids[1]).sum()).item<double>() /
        static_cast<double>(ids.numel() + other_ids.numel());
    item.expect(policy.decode(input).equal(ids), name + ": expected the same tokens again, found others");
    json["decisions_per_second"] = static_cast<double>(batch) / whole.median;
    json["peak_bytes"] = peak_bytes(device);
    json["phases_ms"] = {
        {"pictures_prompts_actions", 1e3 * (whole.median - recorded.median)},
        {"without_recording", 1e3 * network.median},
        {"towers_and_prefix", 1e3 * up_to_first.median},
        {"each_further_token", 1e3 * (network.median - up_to_first.median) /
                                   static_cast<double>(std::max<int64_t>(ids.size(1) - 1, 1))}};
    item.put(name, json);
    const auto [low, high] = policy.codec().bins().value();
    item.expect(ids.ge(low).logical_and(ids.le(high)).all().item<bool>(),
                name + ": expected action tokens alone, found others");
    item.progress();
  }
}

std::unique_ptr<Policy> load(const fs::path& directory, const char* dtype, bool checkpointing,
                             at::Device device) {
  models::PolicyOptions options;
  options.checkpoint = directory.string();
  options.of<models::OpenVlaOptions>().dtype = dtype;
  options.lora.rank = kRank;
  options.of<models::OpenVlaOptions>().activation_checkpointing = checkpointing;
  std::unique_ptr<Policy> policy = models::OpenVlaPolicy::load_unfilled(options, directory, device);
  models::add_adapter(*policy->adapter_slots(), models::kTrainedSlot, options.lora, 0);
  policy->adapter_slots()->activate(models::kTrainedSlot);
  return policy;
}

// Names and shapes of the released size, without its memory, and what it multiplies.
void count_released(const Options& options, Item& item) {
  const testing::TempDir directory;
  const OpenVlaShape shape = OpenVlaShape::released();
  make_checkpoint(directory.path(), shape, options.data / "openvla/checkpoint");
  const auto policy = load(directory.path(), "bfloat16", false, at::kMeta);
  double frozen = 0, trained = 0;
  for (const auto& [name, tensor] : policy->named_parameters()) {
    (tensor.requires_grad() ? trained : frozen) += static_cast<double>(tensor.numel());
    item.expect(tensor.is_meta(), name + ": expected on the meta device, found on " + tensor.device().str());
  }
  item.put("released/frozen_parameters", frozen);
  item.put("released/trained_parameters", trained);
  item.expect(frozen == 7541237184 && trained == 110828288,
              concat("released: expected 7541237184 + 110828288 parameters, found ", frozen, " + ", trained));
  constexpr int64_t kPrompt = 32, kAnswer = 8;
  item.put("released/prefix_tokens", shape.dino.patches() + kPrompt);
  item.put("released/batch", kBatch);
  item.put("released/operations_of_scoring", scoring_operations(shape, kBatch, kPrompt, kAnswer, 1));
  item.progress();
}

// One part, whose failure (a lack of memory, say) costs that part alone.
void attempt(const std::string& name, at::Device device, Item& item, const std::function<void()>& part) {
  try {
    part();
  } catch (const c10::Error& error) {
    item.complain(name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    item.complain(name + ": " + error.what());
  }
  free_cache(device);
  item.progress();
}

}  // namespace

void check_openvla(const Options& options, at::Device device, Item& item) {
  at::manual_seed(7);
  const bool released = device.is_cuda() && !options.small;
  const OpenVlaShape shape = released ? OpenVlaShape::released() : tiny_shape();
  const int64_t steps = released ? 20 : 3, repeats = released ? 5 : 2;
  const double peak = matmul_peak(device, released ? 8192 : 512);
  item.put("matmul_peak_operations_per_second", peak);
  item.put("matmul_size", released ? 8192 : 512);
  if (!released) count_released(options, item);

  const testing::TempDir directory;
  make_checkpoint(directory.path(), shape, options.data / "openvla/checkpoint");
  std::unique_ptr<Policy> policy;
  item.put("load_seconds", seconds(device, [&] {
             policy = load(directory.path(), "bfloat16", options.checkpointing, device);
           }));
  item.put("fill_seconds", seconds(device, [&] { fill_randomly(*policy); }));
  item.put("weights_bytes", peak_bytes(device));
  item.progress();

  const std::vector<data::Sample> samples = make_samples(*policy, kBatch);
  policy->set_training(true);
  item.put("train/activation_checkpointing", options.checkpointing);
  attempt("train/mismatched", device, item, [&] {
    Trainer trainer(*policy, {.z0 = objective::Z0Estimator::mismatched});
    time_training("train/mismatched", trainer, samples, options.checkpointing ? 5 : steps, peak, item);
    if (options.checkpointing) return;
    time_phases(trainer, samples, repeats, item);
  });
  if (options.checkpointing) return;
  policy->set_training(false);
  attempt("decide", device, item, [&] { time_decisions(*policy, samples, repeats, item); });
  attempt("score", device, item, [&] { time_scoring(*policy, samples, shape, repeats, item); });
  policy->set_training(true);
  // the released program's estimate of z0, which needs no second answer
  attempt("train/shifted_labels", device, item, [&] {
    Trainer trainer(*policy, {.z0 = objective::Z0Estimator::shifted_labels});
    time_training("train/shifted_labels", trainer, samples, (steps + 1) / 2, peak, item);
  });
  // last: of all parts the profiler is the likeliest to fail on a machine that it has not seen
  attempt("train/profile", device, item, [&] {
    Trainer trainer(*policy, {.z0 = objective::Z0Estimator::mismatched});
    trainer.step(samples);
    item.put("train/profile", profile(device, [&] { trainer.step(samples); }));
  });
  policy->set_training(false);
  attempt("decide/profile", device, item, [&] {
    const PolicyInput input = policy->encode(observations_of({samples.front()}));
    policy->decode(input);
    item.put("decide/batch_1/profile", profile(device, [&] { policy->decode(input); }));
  });
}

}  // namespace apo::gpu
