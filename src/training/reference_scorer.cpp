#include "training/reference_scorer.h"

#include <ATen/autocast_mode.h>
#include <errno.h>
#include <string.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/hash.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/models/registry.h"
#include "base/tensor_hash.h"
#include "training/cached_reference.h"
#include "training/checkpoint.h"

namespace apo::training {
namespace {

// bfloat16 arithmetic for linear layers, convolutions and attention while it lives.
class AutocastScope {
 public:
  AutocastScope(at::DeviceType device, bool enabled) : device_(device), enabled_(enabled) {
    if (!enabled_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(device_);
    dtype_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~AutocastScope() {
    if (!enabled_) return;
    // weights cast once a scope: they change between scopes
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, dtype_);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  at::DeviceType device_;
  bool enabled_, was_enabled_ = false;
  at::ScalarType dtype_ = at::kFloat;
};

template <class Network>
models::Score score_of(Network& network, const Question& question) {
  const AutocastScope autocast(question.tokens.ids.device().type(), question.bfloat16);
  return network.score(question.input, question.tokens,
                       question.mismatched.ids.defined() ? &question.mismatched : nullptr);
}

// Before anything is done that would be lost: whether it could be made.
void check_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(directory, error);
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const bool is_directory = std::filesystem::is_directory(there, error);
  APO_CHECK(ConfigError, is_directory && ::access(there.c_str(), W_OK | X_OK) == 0,
            "reference.cache: ", directory.string(),
            ": expected a directory that can be made and written, found ", there.string(), ": ",
            is_directory ? strerror(errno) : "no directory");
}

}  // namespace

models::Score answer(models::Policy& policy, const Question& question) { return score_of(policy, question); }

Question Question::select(const std::vector<int64_t>& rows) const {
  const at::Tensor chosen = at::tensor(rows, at::kLong);
  const auto of = [&chosen](const at::Tensor& all) {
    return all.defined() ? all.index_select(0, chosen.to(all.device())) : all;
  };
  Question some;
  some.input = input.select(rows);
  some.options = options;
  some.bfloat16 = bfloat16;
  some.tokens = {.ids = of(tokens.ids),
                 .mask = of(tokens.mask),
                 .end_token = of(tokens.end_token),
                 .dimension = of(tokens.dimension),
                 .valid = of(tokens.valid)};
  return some;
}

models::Score ReferenceScorer::ask(const Question& question,
                                   const std::function<models::Score(const Question&)>& ask,
                                   const InPlace& in_place) {
  if (cache_ == nullptr) return ask(question);
  APO_ASSERT(std::ssize(question.keys) == question.tokens.ids.size(0) && !question.mismatched.ids.defined());
  const auto ask_some = [&](const std::vector<int64_t>& rows) {
    return std::ssize(rows) == std::ssize(question.keys) ? ask(question) : ask(question.select(rows));
  };
  models::Score score;
  in_place([&] {
    score = cache_->score(question.keys, question.tokens.ids.size(1), question.tokens.ids.device(), ask_some);
  });
  return score;
}

void ReferenceScorer::tell_found() const {
  if (cache_ == nullptr) return;
  log_info("reference.cache: found ", cache_->num_found(), " of ", cache_->num_wanted(), " answers; ",
           cache_->size(), " are kept");
}

objective::ReferenceScores LiveReference::score(const Question& question) {
  const models::Score said = ask(
      question, [this](const Question& some) { return score_of(reference_, some); },
      [this](const std::function<void()>& work) { reference_.in_place(work); });
  return objective::reference_scores(question.batch, question.options, said);
}

objective::ReferenceScores PolicyItself::score(const Question& question) {
  const at::NoGradGuard no_grad;
  const bool before = policy_.training();
  policy_.set_training(false);
  const models::Score said = ask(
      question, [this](const Question& some) { return answer(policy_, some); },
      [](const std::function<void()>& work) { work(); });
  objective::ReferenceScores scores = objective::reference_scores(question.batch, question.options, said);
  policy_.set_training(before);
  return scores;
}

void check_reference(const TrainingOptions& options) {
  const objective::ObjectiveOptions& objective = options.objective;
  if (!objective.needs_reference()) return;
  if (!options.reference.cache.empty()) {
    check_directory(options.reference.cache);
    APO_CHECK(
        ConfigError, !objective.needs_mismatched_logits(),
        "reference.cache finds recorded answers again, but objective.z0: mismatched asks for others, drawn "
        "anew in each batch; expected objective.z0 exact, shifted-labels or none, or no cache");
    APO_CHECK(
        ConfigError, options.policy.lora.dropout == 0,
        "policy.lora.dropout: policy and reference must drop the same units, but what reference.cache keeps "
        "was said without; expected 0, or no cache, found ",
        options.policy.lora.dropout);
  }
  if (options.reference.keeps_policy()) return;
  const char* const kept = "reference.mode: cached keeps log-probabilities of recorded tokens, but ";
  APO_CHECK(ConfigError, !objective.uses_z0() || objective.z0 != objective::Z0Estimator::exact, kept,
            "objective.z0: exact compares whole distributions; expected objective.z0 shifted-labels, "
            "mismatched or none, or reference.mode copy or adapter");
  APO_CHECK(ConfigError, objective.hold() == 0, kept,
            "objective.reference_kl_weight compares whole distributions; expected "
            "objective.reference_kl_weight: 0, or reference.mode copy or adapter, found ",
            objective.hold());
  APO_CHECK(
      ConfigError, options.policy.lora.dropout == 0,
      "policy.lora.dropout: policy and reference must drop the same units, but reference.mode: cached "
      "scores the reference before any are drawn; expected 0, or reference.mode copy or adapter, found ",
      options.policy.lora.dropout);
}

namespace {

// Of rows that an earlier release kept: grows where this one would keep others.
constexpr int64_t kRowsVersion = 1;

// What the texts beside a checkpoint's weights say.
void add_texts(ContentHash& hash, const std::string& checkpoint) {
  if (checkpoint.empty()) return;
  std::map<std::string, std::string> texts;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(models::resolve_checkpoint(checkpoint), error), end;
       !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".json" && entry->is_regular_file(error))
      texts[entry->path().filename().string()] = file_hash(entry->path());
  for (const auto& [name, text] : texts) hash.add_text(concat(name, ": ", text));
}

// Everything that decides what the policy says now, as far as that is known without asking it. An adapter
// whose B is 0 changes nothing, whatever its A is.
std::string identity_of(const TrainingOptions& options, models::Policy& policy) {
  ContentHash hash;
  hash.add_number(kRowsVersion);
  hash.add_text(options.run.precision);
  hash.add_text(policy.device().is_cpu() ? "cpu" : "cuda");
  hash.add_text(models::frozen_parameter_hash(policy));
  const models::NamedTensors trained = models::trainable_parameters(policy);
  const bool adapts = std::ranges::any_of(trained, [](const auto& named) {
    return named.first.find(".lora_B.") != std::string::npos &&
           named.second.count_nonzero().template item<int64_t>() > 0;
  });
  for (const auto& [name, tensor] : trained) {
    if (!adapts && name.find(".lora_") != std::string::npos) continue;
    hash.add_text(name);
    add_tensor(hash, tensor);
  }
  models::PolicyOptions kind = options.policy;
  add_texts(hash, std::exchange(kind.checkpoint, ""));
  add_texts(hash, std::exchange(kind.adapter, ""));
  kind.execute_steps = 0;
  if (!adapts) kind.lora = {};
  hash.add_text(config::print(kind));
  return hash.text();
}

// Null where none is wanted.
std::unique_ptr<ReferenceCache> open_cache(const TrainingOptions& options, models::Policy& policy,
                                           TrainingState& state, bool resumed) {
  if (options.reference.cache.empty()) return nullptr;
  if (!resumed) state.reference_id = identity_of(options, policy);
  if (state.reference_id.empty()) {
    log_warn("reference.cache: the run began without one, and goes on so");
    return nullptr;
  }
  if (policy.adapter_slots() == nullptr)
    log_warn(
        "reference.cache: whether this kind of policy draws at random (dropout) is not known; what is kept "
        "is "
        "what it said once");
  const pictures::AugmentationOptions& augmentation = options.data.augmentation;
  const bool changes = augmentation.random_resized_crop_scale < 1 || augmentation.shift_px > 0 ||
                       augmentation.brightness > 0 || augmentation.contrast > 0 ||
                       augmentation.saturation > 0 || augmentation.hue > 0;
  if (augmentation.enabled && changes && augmentation.draws == 0)
    log_warn(
        "reference.cache: pictures are changed anew in every batch, so that hardly an answer is found again; "
        "expected data.augmentation.draws above 0, or augmentation.enabled false");
  auto cache = std::make_unique<ReferenceCache>(options.reference.cache, state.reference_id);
  log_info("reference.cache: ", cache->directory().string(), ": ", cache->size(), " answers are kept");
  return cache;
}

}  // namespace

std::unique_ptr<ReferenceScorer> make_reference_scorer(
    const TrainingOptions& options, models::Policy& policy, TrainingState& state,
    const std::optional<std::filesystem::path>& resume_from) {
  if (!options.objective.needs_reference()) return nullptr;
  if (!options.reference.keeps_policy()) {
    auto reference = std::make_unique<CachedReference>();
    if (!resume_from) reference->set_cache(open_cache(options, policy, state, false));
    return reference;
  }
  auto reference = std::make_unique<LiveReference>(policy, options.reference);
  if (!resume_from) {
    state.reference_stored = size_bytes(reference->parameters()) <= kLargestStoredReferenceBytes;
    if (!state.reference_stored) state.policy_hash = models::parameter_hash(policy);
  } else if (state.reference_stored) {
    restore_reference(*resume_from, reference->parameters());
  } else {
    APO_CHECK(DataError, models::parameter_hash(policy) == state.policy_hash,
              "policy.checkpoint: ", state.policy_checkpoint, ": cannot resume ", options.run.dir,
              ": these are not the weights that the run began with, and its reference is rebuilt from them");
  }
  reference->set_cache(open_cache(options, policy, state, resume_from.has_value()));
  return reference;
}

}  // namespace apo::training
