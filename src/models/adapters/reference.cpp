#include "apo/models/reference.h"

#include <torch/types.h>

#include <array>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/models/linear.h"

namespace apo::models {
namespace {

constexpr const char* kReferenceSlot = "reference";

bool trains_adapter(Policy& policy) {
  const AdapterSlots* slots = policy.adapter_slots();
  return slots != nullptr && !slots->active().empty();
}

}  // namespace

std::span<const std::pair<ReferenceMode, std::string_view>> enum_names(ReferenceMode) {
  static constexpr std::array<std::pair<ReferenceMode, std::string_view>, 4> kNames{
      {{ReferenceMode::automatic, "auto"},
       {ReferenceMode::adapter, "adapter"},
       {ReferenceMode::copy, "copy"},
       {ReferenceMode::cached, "cached"}}};
  return kNames;
}

void ReferenceOptions::visit(config::Visitor& v) {
  v("mode", mode,
    "how the policy as it was at the start is kept: adapter (a second slot on the shared base), copy (all "
    "weights twice), cached (no second policy: its log-probabilities of every batch are computed before the "
    "first update; not with objective.z0 exact or objective.reference_kl_weight), auto (adapter where the "
    "policy trains one, else copy)");
  v.path(
      "cache", cache,
      "directory in which what the reference says of each sample is kept, so that it is asked once, by all "
      "runs from the same policy (of pictures that are augmented: once for each of data.augmentation.draws); "
      "it only grows, and may be removed; equal up to rounding; not with objective.z0 mismatched or "
      "policy.lora.dropout; empty = none");
}

Reference::Reference(Policy& policy, const ReferenceOptions& options)
    : mode_(options.mode), policy_(&policy) {
  APO_ASSERT(options.keeps_policy());
  if (mode_ == ReferenceMode::automatic)
    mode_ = trains_adapter(policy) ? ReferenceMode::adapter : ReferenceMode::copy;
  if (mode_ == ReferenceMode::copy) {
    copy_ = policy.clone();
    for (auto& [name, tensor] : copy_->named_parameters()) tensor.set_requires_grad(false);
    return;
  }
  APO_CHECK(ConfigError, trains_adapter(policy),
            "reference.mode: adapter needs a policy that trains an adapter (policy.lora.rank > 0); use copy");
  AdapterSlots& slots = *policy.adapter_slots();
  APO_CHECK(ConfigError, !slots.has(kReferenceSlot), "reference: the policy already carries one in a slot");
  for (const auto& [name, tensor] : policy.named_parameters())
    APO_CHECK(ConfigError, !tensor.requires_grad() || name.find(".lora_") != std::string::npos,
              "reference.mode: adapter needs a frozen base, but ", name, " trains; use copy");
  copy_adapter(slots, slots.active(), kReferenceSlot);
}

Reference::~Reference() {
  if (policy_ != nullptr && mode_ == ReferenceMode::adapter) policy_->adapter_slots()->remove(kReferenceSlot);
}

Reference::Reference(Reference&& other) noexcept
    : mode_(other.mode_), policy_(std::exchange(other.policy_, nullptr)), copy_(std::move(other.copy_)) {}

Score Reference::score(const PolicyInput& input, const ActionTokens& tokens, const ActionTokens* mismatched) {
  Score score;
  in_place([&] {
    if (copy_) copy_->set_training(policy_->training());
    score = (copy_ ? *copy_ : *policy_).score(input, tokens, mismatched);
  });
  return score;
}

void Reference::in_place(const std::function<void()>& work) {
  const at::NoGradGuard no_grad;
  // that of a policy whose adapter was fresh is its base alone
  if (AdapterSlots* slots = (copy_ ? *copy_ : *policy_).adapter_slots(); slots != nullptr)
    note_zeros(*slots, copy_ ? slots->active() : kReferenceSlot);
  if (mode_ == ReferenceMode::copy) return work();
  const AdapterScope scope(*policy_->adapter_slots(), kReferenceSlot);
  work();
}

NamedTensors Reference::named_parameters() const {
  if (mode_ == ReferenceMode::copy) return copy_->named_parameters();
  NamedTensors snapshot;
  for (const auto& [name, linear] : policy_->adapter_slots()->layers()) {
    const LinearAdapter* adapter = linear->find(kReferenceSlot);
    if (adapter == nullptr) continue;
    snapshot.emplace_back(name + ".lora_A." + kReferenceSlot + ".weight", adapter->a);
    snapshot.emplace_back(name + ".lora_B." + kReferenceSlot + ".weight", adapter->b);
  }
  return snapshot;
}

}  // namespace apo::models
