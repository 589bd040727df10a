#include "apo/models/reference.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>
#include <string_view>

#include "apo/models/linear.h"
#include "models/small_world.h"

namespace apo::models {
namespace {

using testing::actions;
using ::testing::HasSubstr;
using testing::message_of;
using testing::observations;
using testing::small_policy;

std::unique_ptr<SmallPolicy> adapted_policy(double dropout = 0) {
  auto policy = small_policy();
  add_adapter(*policy->adapter_slots(), kTrainedSlot, {.rank = 2, .alpha = 3, .dropout = dropout}, 5);
  policy->adapter_slots()->activate(kTrainedSlot);
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : policy->named_parameters()) {
    if (name.find(".lora_B.") != std::string::npos)
      tensor.copy_(at::linspace(-0.5, 0.4, tensor.numel()).view_as(tensor));
    tensor.set_requires_grad(name.find(".lora_") != std::string::npos);
  }
  return policy;
}

struct Scored {
  explicit Scored(Policy& policy)
      : input(policy.encode(observations(1, 4))),
        tokens(policy.tokenize(actions(1, 4))),
        other(policy.tokenize(actions(2, 4))) {}
  PolicyInput input;
  ActionTokens tokens, other;
};

TEST(Reference, AdapterAndCopyGiveTheNumbersOfTheStart) {
  const auto policy = adapted_policy();
  const Scored scored(*policy);
  const Score start = policy->score(scored.input, scored.tokens, &scored.other);
  Reference copy(*policy, {ReferenceMode::copy});
  Reference adapter(*policy, {ReferenceMode::adapter});
  for (int step = 0; step < 3; ++step) {
    for (Reference* reference : {&copy, &adapter}) {
      const Score score = reference->score(scored.input, scored.tokens, &scored.other);
      EXPECT_TRUE(score.logits.whole().equal(start.logits.whole())) << step;
      EXPECT_TRUE(score.mismatched_logits.whole().equal(start.mismatched_logits.whole())) << step;
      EXPECT_FALSE(score.logits.whole().requires_grad());
      EXPECT_TRUE(reference->score(scored.input, scored.tokens)
                      .logits.whole()
                      .allclose(start.logits.whole(), 1e-4, 1e-5));
    }
    testing::descend(*policy, scored.input, scored.tokens, 0.1);
    EXPECT_GT(testing::distance(policy->score(scored.input, scored.tokens, nullptr).logits.whole(),
                                start.logits.whole()),
              1e-3);
  }
}

// Also where the policy computes in another type than the adapter's. (Autocast's cache would not see that the
// numbers change.)
TEST(Reference, OfAFreshAdapterIsTheBaseAloneUntilItsNumbersChange) {
  at::autocast::set_autocast_cache_enabled(false);
  for (const ReferenceMode mode : {ReferenceMode::copy, ReferenceMode::adapter}) {
    for (const bool autocast : {false, true}) {
      SCOPED_TRACE(mode == ReferenceMode::copy ? "copy" : "adapter");
      SCOPED_TRACE(autocast ? "with autocast" : "");
      at::autocast::set_autocast_enabled(at::kCPU, autocast);
      const auto policy = adapted_policy();
      const Scored scored(*policy);
      const auto logits = [&](Reference& reference) {
        return reference.score(scored.input, scored.tokens).logits.whole();
      };
      const auto fill = [](const NamedTensors& parameters, std::string_view part, const auto& fill) {
        const at::NoGradGuard no_grad;
        for (const auto& [name, tensor] : parameters)
          if (name.find(part) != std::string::npos) fill(at::Tensor(tensor));
      };
      const auto of_policy = [&] {
        const at::NoGradGuard no_grad;
        return policy->score(scored.input, scored.tokens, nullptr).logits.whole();
      };
      const at::Tensor adapted = of_policy();
      fill(policy->named_parameters(), ".lora_B.", [](at::Tensor b) { b.zero_(); });
      const at::Tensor start = of_policy();
      Reference reference(*policy, {mode});
      EXPECT_TRUE(logits(reference).equal(start));
      NamedTensors before;
      for (const auto& [name, tensor] : reference.named_parameters())
        before.emplace_back(name, tensor.clone());
      fill(reference.named_parameters(), ".lora_A.", [](at::Tensor a) { a.fill_(NAN); });
      EXPECT_TRUE(logits(reference).equal(start)) << "A is not looked at";
      testing::descend(*policy, scored.input, scored.tokens, 0.1);
      EXPECT_TRUE(logits(reference).equal(start));
      // as a run that is resumed writes them
      const NamedTensors now = reference.named_parameters();
      for (size_t i = 0; i < now.size(); ++i) at::Tensor(now[i].second).copy_(before[i].second);
      fill(now, ".lora_B.", [](at::Tensor b) { b.copy_(at::linspace(-0.5, 0.4, b.numel()).view_as(b)); });
      EXPECT_TRUE(logits(reference).equal(adapted));
      at::autocast::set_autocast_enabled(at::kCPU, false);
    }
  }
  at::autocast::set_autocast_cache_enabled(true);
}

TEST(Reference, OfAFullPolicyDoesNotFollowIt) {
  const auto policy = small_policy();
  const Scored scored(*policy);
  const at::Tensor start = policy->score(scored.input, scored.tokens, nullptr).logits.whole().detach();
  Reference reference(*policy, {});
  EXPECT_EQ(reference.mode(), ReferenceMode::copy);
  testing::descend(*policy, scored.input, scored.tokens, 0.1);
  EXPECT_TRUE(reference.score(scored.input, scored.tokens).logits.whole().equal(start));
}

TEST(Reference, AutomaticSharesTheBaseOfAnAdapter) {
  const auto policy = adapted_policy();
  EXPECT_EQ(Reference(*policy, {}).mode(), ReferenceMode::adapter);
}

TEST(Reference, NeverTrains) {
  const auto policy = adapted_policy();
  const size_t trained = trainable_parameters(*policy).size();
  const std::string hash = parameter_hash(*policy);
  Reference copy(*policy, {ReferenceMode::copy}), adapter(*policy, {ReferenceMode::adapter});
  EXPECT_EQ(trainable_parameters(*policy).size(), trained);
  EXPECT_EQ(parameter_hash(*policy), hash);  // the snapshot is not the policy
  for (Reference* reference : {&copy, &adapter}) {
    EXPECT_GE(reference->named_parameters().size(), 28u);
    for (const auto& [name, tensor] : reference->named_parameters())
      EXPECT_FALSE(tensor.requires_grad()) << name;
  }
}

// Equal policies that draw from equal streams drop the same units, so that nothing lies between them.
TEST(Reference, DropsWhatThePolicyDrops) {
  const auto policy = adapted_policy(/*dropout=*/0.5);
  const Scored scored(*policy);
  const at::Tensor calm = policy->score(scored.input, scored.tokens, nullptr).logits.whole();
  for (const ReferenceMode mode : {ReferenceMode::copy, ReferenceMode::adapter}) {
    policy->set_training(false);
    Reference reference(*policy, {mode});
    EXPECT_TRUE(reference.score(scored.input, scored.tokens).logits.whole().equal(calm));
    policy->set_training(true);
    at::manual_seed(3);
    const at::Tensor dropped = reference.score(scored.input, scored.tokens).logits.whole();
    EXPECT_FALSE(dropped.equal(calm));
    EXPECT_TRUE(policy->training());
    EXPECT_EQ(policy->adapter_slots()->active(), kTrainedSlot);
    at::manual_seed(3);
    EXPECT_TRUE(policy->score(scored.input, scored.tokens, nullptr).logits.whole().equal(dropped));
  }
}

TEST(Reference, LeavesThePolicyAsItWasWhenScoringFails) {
  const auto policy = adapted_policy();
  const Scored scored(*policy);
  policy->set_training(true);
  Reference reference(*policy, {});
  EXPECT_THROW(reference.score(scored.input, scored.tokens.slice(0, 2)), DataError);
  EXPECT_TRUE(policy->training());
  EXPECT_EQ(policy->adapter_slots()->active(), kTrainedSlot);
}

TEST(Reference, FreesItsSlot) {
  const auto policy = adapted_policy();
  const size_t before = policy->named_parameters().size();
  {
    Reference first(*policy, {});
    EXPECT_TRUE(policy->adapter_slots()->has("reference"));
    EXPECT_THAT(message_of<ConfigError>([&] { Reference(*policy, {}); }), HasSubstr("already carries one"));
    EXPECT_TRUE(policy->adapter_slots()->has("reference"));
    Reference moved(std::move(first));
    EXPECT_TRUE(policy->adapter_slots()->has("reference"));
  }
  EXPECT_FALSE(policy->adapter_slots()->has("reference"));
  EXPECT_EQ(policy->named_parameters().size(), before);
}

TEST(Reference, ComesBackFromItsParameters) {
  for (const ReferenceMode mode : {ReferenceMode::copy, ReferenceMode::adapter}) {
    const auto policy = adapted_policy();
    const Scored scored(*policy);
    const at::Tensor start = policy->score(scored.input, scored.tokens, nullptr).logits.whole().detach();
    NamedTensors stored;
    {
      const Reference reference(*policy, {mode});
      for (const auto& [name, tensor] : reference.named_parameters())
        stored.emplace_back(name, tensor.clone());
    }
    testing::descend(*policy, scored.input, scored.tokens, 0.1);
    Reference resumed(*policy, {mode});
    const NamedTensors target = resumed.named_parameters();
    ASSERT_EQ(target.size(), stored.size());
    for (size_t i = 0; i < target.size(); ++i) {
      ASSERT_EQ(target[i].first, stored[i].first);
      at::Tensor(target[i].second).copy_(stored[i].second);
    }
    EXPECT_TRUE(resumed.score(scored.input, scored.tokens).logits.whole().equal(start));
  }
}

TEST(Reference, ModeAdapterNeedsAnAdapterOnAFrozenBase) {
  const auto full = small_policy();
  EXPECT_THAT(message_of<ConfigError>([&] { Reference(*full, {ReferenceMode::adapter}); }),
              HasSubstr("reference.mode: adapter needs a policy that trains an adapter"));
  const auto mixed = adapted_policy();
  mixed->named_parameters()[0].second.set_requires_grad(true);
  EXPECT_THAT(message_of<ConfigError>([&] { Reference(*mixed, {ReferenceMode::adapter}); }),
              HasSubstr("conv1.weight trains"));
  EXPECT_FALSE(mixed->adapter_slots()->has("reference"));
}

}  // namespace
}  // namespace apo::models
