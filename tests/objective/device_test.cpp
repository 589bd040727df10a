// The objective on an accelerator: nothing of it stays on the host, nothing of it waits, and the numbers are
// the CPU's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/config/options.h"
#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"
#include "objective/batch.h"
#include "support/simulated_device.h"

namespace apo::objective {
namespace {

using apo::testing::DeviceUse;
using apo::testing::simulated_device;
using Device = apo::testing::OnSimulatedDevice;
using SimulatedDevice = apo::testing::OnSimulatedDevice;
using SimulatedDeviceDeathTest = apo::testing::OnSimulatedDevice;
using testing::all_estimators;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::leaf;
using testing::message_of;
using ::testing::Pair;
using testing::random_batch;

ObjectiveInput on_device(const ObjectiveInput& input) {
  ObjectiveInput moved = testing::transformed(
      input, [](const at::Tensor& tensor) { return tensor.detach().to(simulated_device()); });
  if (moved.pair.defined()) moved.pair = moved.pair.to(simulated_device());
  return moved;
}

// Every type with every estimator, every refinement of it and both compatibilities.
std::vector<ObjectiveOptions> all_objectives() {
  std::vector<ObjectiveOptions> all;
  for (const auto type : {ObjectiveType::apo, ObjectiveType::kto, ObjectiveType::sft,
                          ObjectiveType::weighted_bc, ObjectiveType::dpo, ObjectiveType::tpo})
    for (const auto z0 : all_estimators()) {
      const ObjectiveOptions plain{.type = type, .beta = 0.7, .z0 = z0, .preset = Preset::paper};
      if (!plain.uses_z0() && z0 != Z0Estimator::none) continue;
      std::vector<ObjectiveOptions> variants(plain.uses_z0() ? 10 : 5, plain);
      variants[1].label_smoothing_bins = 1.2;
      variants[2].reduction = Reduction::mean;
      if (!plain.imitates()) variants[3].sft_weight = 0.3;
      variants[4].reference_kl_weight = 0.6;
      if (plain.uses_z0()) {
        variants[9].credit = Credit::dimension;
        variants[5].weights.type = WeightType::uniform;
        variants[6].weights.normalization = WeightNormalization::mean;
        variants[7].preset = Preset::robust;
        variants[8].weights.group_size = 0;
      }
      all.insert(all.end(), variants.begin(), variants.end());
      if (type == ObjectiveType::apo)
        all.push_back({.beta = 0.7, .z0 = z0, .compatibility = Compatibility::released_code});
    }
  return all;
}

ObjectiveInput batch_for(const ObjectiveOptions& options, at::ScalarType type = at::kFloat) {
  ObjectiveInput input = random_batch({.type = type});
  if (options.needs_pairs()) input.pair = at::tensor({0, 1, 0, -1, 1, 1}, at::kLong);
  return input;
}

void expect_same(const at::Tensor& device, const at::Tensor& host, const std::string& what) {
  ASSERT_EQ(device.defined(), host.defined()) << what;
  if (!host.defined()) return;
  EXPECT_EQ(device.device(), simulated_device()) << what;
  EXPECT_EQ(device.scalar_type(), host.scalar_type()) << what;
  EXPECT_TRUE(at::allclose(device.detach().cpu(), host.detach(), 2e-5, 2e-6, /*equal_nan=*/true))
      << what << "\n"
      << device.detach().cpu() << "\n"
      << host;
}

void expect_same_objective(const ObjectiveInput& host, const ObjectiveOptions& options) {
  SCOPED_TRACE(config::print(options));
  ObjectiveInput a = host, b = on_device(host);
  a.policy_logits = leaf(a.policy_logits), b.policy_logits = leaf(b.policy_logits);
  const ObjectiveOutput expected = apo_loss(a, options), found = apo_loss(b, options);
  expected.loss.backward();
  found.loss.backward();
  expect_same(b.policy_logits.grad(), a.policy_logits.grad(), "gradient");
  for (const auto& [name, member] : std::vector<std::pair<std::string, at::Tensor ObjectiveOutput::*>>{
           {"loss", &ObjectiveOutput::loss},
           {"token_log_probs", &ObjectiveOutput::token_log_probs},
           {"reference_token_log_probs", &ObjectiveOutput::reference_token_log_probs},
           {"log_prob", &ObjectiveOutput::log_prob},
           {"reference_log_prob", &ObjectiveOutput::reference_log_prob},
           {"reward", &ObjectiveOutput::reward},
           {"weight", &ObjectiveOutput::weight},
           {"lambda", &ObjectiveOutput::lambda},
           {"sample_loss", &ObjectiveOutput::sample_loss},
           {"z0", &ObjectiveOutput::z0},
           {"z0_unclamped", &ObjectiveOutput::z0_unclamped},
           {"z0_standard_error", &ObjectiveOutput::z0_standard_error},
           {"z0_clamped", &ObjectiveOutput::z0_clamped},
           {"lambda_desirable", &ObjectiveOutput::lambda_desirable},
           {"lambda_undesirable", &ObjectiveOutput::lambda_undesirable},
           {"sft_loss", &ObjectiveOutput::sft_loss},
           {"reference_kl", &ObjectiveOutput::reference_kl},
           {"num_pairs", &ObjectiveOutput::num_pairs},
           {"preferred_pairs", &ObjectiveOutput::preferred_pairs}})
    expect_same(found.*member, expected.*member, name);
}

TEST_F(Device, EveryObjectiveIsTheSameThereAndItsGradientToo) {
  for (const ObjectiveOptions& options : all_objectives()) expect_same_objective(batch_for(options), options);
}

TEST_F(Device, InputsThatMayBeLeftOutAreFilledInThere) {
  for (ObjectiveOptions options : {ObjectiveOptions{}, ObjectiveOptions{.type = ObjectiveType::sft}}) {
    ObjectiveInput input = batch_for(options);
    input.mask = input.end_token = input.dimension_credit = at::Tensor();
    input.mismatched_tokens = input.mismatched_mask = input.mismatched_end_token = at::Tensor();
    if (options.imitates()) input.desirable = at::Tensor();
    expect_same_objective(input, options);
  }
}

TEST_F(Device, KeptLogProbabilitiesStandForTheReferenceThere) {
  for (const auto z0 : {Z0Estimator::shifted_labels, Z0Estimator::mismatched, Z0Estimator::none}) {
    const ObjectiveOptions options{.z0 = z0, .reference_kl_weight = 0};
    ObjectiveInput input = batch_for(options);
    const ReferenceScores kept = testing::kept_of(input, options),
                          there = testing::kept_of(on_device(input), options);
    expect_same(there.tokens, kept.tokens, "tokens");
    expect_same(there.mismatched, kept.mismatched, "mismatched");
    expect_same(testing::loss_with(there, on_device(input), options).loss,
                testing::loss_with(kept, input, options).loss, "loss");
  }
}

TEST_F(Device, Bfloat16LogitsAreTheSameThere) {
  for (const auto z0 : all_estimators()) {
    const ObjectiveInput host = batch_for({}, at::kBFloat16);
    const ObjectiveOutput expected = apo_loss(host, {.z0 = z0}),
                          found = apo_loss(on_device(host), {.z0 = z0});
    expect_same(found.loss, expected.loss, "loss");
    expect_same(found.z0, expected.z0, "z0");
  }
}

TEST_F(Device, MicroBatchesShareStatisticsThere) {
  const ObjectiveOptions options{.z0 = Z0Estimator::exact, .sft_weight = 0.3};
  const ObjectiveInput host = batch_for(options), device = on_device(host);
  BatchStatistics sum, expected;
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 4}, {4, 6}}) {
    sum += measure(testing::samples(device, begin, end), options);
    expected += measure(testing::samples(host, begin, end), options);
  }
  expect_same(sum.sums, expected.sums, "statistics");
  expect_same(evaluate(testing::samples(device, 0, 4), options, sum).loss,
              evaluate(testing::samples(host, 0, 4), options, expected).loss, "loss");
  // statistics that came over the host, from other ranks
  expect_same(evaluate(testing::samples(device, 0, 4), options, expected).loss,
              evaluate(testing::samples(host, 0, 4), options, expected).loss, "loss");
}

TEST_F(Device, GreedyTokensAreTheSameThere) {
  const ObjectiveInput host = batch_for({});
  const at::Tensor logits = host.policy_logits.to(simulated_device());
  expect_same(greedy_tokens(logits), greedy_tokens(host.policy_logits), "all");
  expect_same(greedy_tokens(logits, 2, 9), greedy_tokens(host.policy_logits, 2, 9), "action tokens");
}

// objective.h: no device synchronisation.
TEST_F(Device, TheHostNeverWaitsForALossOrItsGradient) {
  for (const ObjectiveOptions& options : all_objectives()) {
    SCOPED_TRACE(config::print(options));
    ObjectiveInput input = on_device(batch_for(options));
    input.policy_logits = leaf(input.policy_logits);
    const DeviceUse use;
    apo_loss(input, options).loss.backward();
    EXPECT_THAT(use.waits(), IsEmpty());
    EXPECT_FALSE(use.operators().empty());
  }
}

TEST_F(Device, ATensorLeftOnTheHostIsNamed) {
  for (const auto& [name, member] : std::vector<std::pair<std::string, at::Tensor ObjectiveInput::*>>{
           {"tokens", &ObjectiveInput::tokens},
           {"mask", &ObjectiveInput::mask},
           {"desirable", &ObjectiveInput::desirable},
           {"reference_logits", &ObjectiveInput::reference_logits},
           {"action_l1", &ObjectiveInput::action_l1}}) {
    const ObjectiveInput host = batch_for({});
    ObjectiveInput input = on_device(host);
    input.*member = host.*member;
    EXPECT_THAT(message_of<RunError>([&] { apo_loss(input); }),
                HasSubstr("objective: " + name + ": expected"));
  }
}

// What the tests on this device rest on.
TEST_F(SimulatedDevice, AnOperatorThatMixesDevicesIsNamed) {
  const at::Tensor host = at::ones({2, 3}), device = at::ones({2, 3}).to(simulated_device());
  const auto refuses = [](auto&& call, const char* name) {
    try {
      call();
      ADD_FAILURE() << name << ": expected an error";
    } catch (const c10::Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string(name) + ": given a tensor on cpu of shape [2, 3]"));
    }
  };
  refuses([&] { return device + host; }, "aten::add.Tensor");
  refuses([&] { return at::cat({device, host}); }, "aten::cat");
  refuses([&] { return at::where(device.gt(0), device, host); }, "aten::where.self");
  refuses([&] { return at::mm(device.t(), host); }, "aten::mm");
  refuses([&] { return device.clone().index_put_({at::tensor({0})}, host); }, "aten::index_put_");
  EXPECT_THROW(at::stack({device.sum(), host.sum()}),
               c10::Error);  // no pointwise operator: numbers do not mix either
  EXPECT_THROW(device.clone().uniform_(0, 1, at::detail::getDefaultCPUGenerator()), c10::Error);
}

TEST_F(SimulatedDevice, TakesWhatCudaTakes) {
  const at::Tensor device = at::ones({2, 3}).to(simulated_device());
  EXPECT_EQ((device + 1).sum().item<double>(), 12);
  EXPECT_EQ((device * at::scalar_tensor(3)).sum().item<double>(), 18);
  EXPECT_EQ(device.index({at::tensor({0, 0, 1}, at::kLong)}).size(0), 3);
  EXPECT_EQ(at::zeros({2, 3}).copy_(device).sum().item<double>(), 6);
}

TEST_F(SimulatedDevice, CountsWhereTheHostWaits) {
  const at::Tensor device = at::ones({2, 3}).to(simulated_device());
  const DeviceUse use;
  device.sum().item<double>();
  device.cpu();
  at::ones({2}).to(simulated_device());
  device.masked_select(device.gt(0));
  device.index({device.gt(0)});
  EXPECT_THAT(use.waits(), ElementsAre(Pair("aten::_local_scalar_dense", 1), Pair("aten::masked_select", 1),
                                       Pair("aten::nonzero", 1), Pair("copy to the device", 1),
                                       Pair("copy to the host", 1)));
}

TEST_F(SimulatedDevice, LeavesTheRandomStreamOfTheHostAlone) {
  at::manual_seed(7);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(7);
  const at::Tensor drawn = at::rand({4}, at::TensorOptions().device(simulated_device()));
  EXPECT_TRUE(at::equal(at::rand({4}), expected));
  EXPECT_EQ(drawn.device(), simulated_device());
}

TEST_F(SimulatedDeviceDeathTest, AHostThatReadsItsMemoryCrashes) {
  const at::Tensor device = at::ones({3}).to(simulated_device());
  const volatile float* data = device.const_data_ptr<float>();
  EXPECT_DEATH(static_cast<void>(data[1] + 1), "");
}

}  // namespace
}  // namespace apo::objective
