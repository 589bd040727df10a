// Training on an accelerator: steps are the CPU's, and what a checkpoint holds comes back to where it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "apo/models/safetensors.h"
#include "models/on_both.h"
#include "support/ranks.h"
#include "support/shared_nccl.h"
#include "support/temp_dir.h"
#include "training/cached_reference.h"
#include "training/checkpoint.h"
#include "training/learner.h"
#include "training/objectives.h"
#include "training/optimizer.h"
#include "training/random_state.h"
#include "training/records.h"
#include "training/setup.h"

namespace apo::training {
namespace {

using apo::testing::DeviceUse;
using apo::testing::simulated_device;
using apo::testing::TempDir;
using models::ReferenceMode;
using models::testing::Both;
using models::testing::expect_near;
using models::testing::small_on_both;
using objective::Credit;
using objective::ObjectiveOptions;
using objective::ObjectiveType;
using objective::Reduction;
using objective::WeightType;
using objective::Z0Estimator;
using ::testing::ElementsAre;
using ::testing::Pair;

class LearnerOnDevice : public apo::testing::OnSimulatedDevice {};
class AdamOnDevice : public apo::testing::OnSimulatedDevice {};
class CheckpointOnDevice : public apo::testing::OnSimulatedDevice {};
// Named so that it runs first: processes fork before autograd has threads for the device.
class RanksOnDeviceDeathTest : public apo::testing::OnSimulatedDevice {};
class RecordsOnDevice : public apo::testing::OnSimulatedDevice {};

// Every third sample undesirable, every third a correction with what the policy wanted.
std::vector<data::Sample> batch_of(int size) {
  const auto seen = models::testing::observations(8, size);
  const auto acted = models::testing::actions(8, size), wanted = models::testing::actions(9, size);
  std::vector<data::Sample> samples;
  for (int i = 0; i < size; ++i) {
    const auto at = static_cast<size_t>(i);
    data::Sample s;
    s.index.timestep = i;
    s.observation = seen[at];
    s.actions = {acted[at]};
    s.desirable = i % 3 != 2;
    s.source = i % 3 == 0   ? ActionSource::expert
               : i % 3 == 1 ? ActionSource::intervention
                            : ActionSource::policy;
    if (!s.desirable) s.dimension_credit = {0.25f, 1.0f, 0.5f};
    if (i % 3 == 1) s.policy_actions = {wanted[at]};
    if (i % 3 != 0) s.take_over_number = i / 3;
    samples.push_back(std::move(s));
  }
  return samples;
}

// Away from its reference.
void move(models::Policy& policy) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : models::trainable_parameters(policy))
    at::Tensor(tensor).add_(at::cos(tensor * 9), 0.05);
}

BatchOutcome learn(models::Policy& policy, const ObjectiveOptions& options, ReferenceMode mode,
                   int64_t micro_batch_size, int num_samples = 7, const distributed::Group* group = nullptr) {
  std::unique_ptr<ReferenceScorer> reference;
  if (mode != ReferenceMode::cached) {
    reference = std::make_unique<LiveReference>(policy, models::ReferenceOptions{.mode = mode});
  } else if (options.needs_reference()) {
    std::vector<data::Sample> samples = batch_of(num_samples);
    PolicyItself start(policy);
    auto cached = std::make_unique<CachedReference>();
    cached->add(Learner(policy, nullptr, options, micro_batch_size, false).reference_scores(samples, start));
    reference = std::move(cached);
  }
  move(policy);
  std::vector<data::Sample> samples = batch_of(num_samples);
  return Learner(policy, reference.get(), options, micro_batch_size, false, group)
      .learn(samples, /*position=*/0);
}

void expect_same(const BatchOutcome& device, const BatchOutcome& host) {
  const auto near = [](double a, double b, const char* what) {
    EXPECT_EQ(std::isnan(a), std::isnan(b)) << what;
    if (!std::isnan(b)) {
      EXPECT_NEAR(a, b, 2e-4 * std::max(1.0, std::abs(b))) << what;
    }
  };
  near(device.loss, host.loss, "loss");
  near(device.z0, host.z0, "z0");
  near(device.lambda_desirable, host.lambda_desirable, "lambda_desirable");
  near(device.lambda_undesirable, host.lambda_undesirable, "lambda_undesirable");
  near(device.num_pairs, host.num_pairs, "num_pairs");
  for (const auto member :
       {&BatchOutcome::token_log_probs, &BatchOutcome::log_prob, &BatchOutcome::reference_log_prob,
        &BatchOutcome::reward, &BatchOutcome::action_l1, &BatchOutcome::weight, &BatchOutcome::lambda,
        &BatchOutcome::sample_loss}) {
    EXPECT_TRUE((device.*member).is_cpu());
    EXPECT_TRUE(at::allclose(device.*member, host.*member, 1e-4, 1e-4, /*equal_nan=*/true))
        << device.*member << "\n"
        << host.*member;
  }
  EXPECT_TRUE(device.mask.is_cpu());
}

void expect_same_gradients(const Both& both) {
  const models::NamedTensors host = trainable_parameters(*both.host),
                             device = trainable_parameters(*both.device);
  double largest = 0;
  for (size_t i = 0; i < host.size(); ++i) {
    expect_near(device[i].second.grad(), host[i].second.grad(), 1e-4, host[i].first);
    largest = std::max(largest, host[i].second.grad().abs().max().item<double>());
  }
  EXPECT_GT(largest, 1e-3);
}

TEST_F(LearnerOnDevice, EveryObjectiveLearnsTheSameFromACopy) {
  for (const auto& [name, options] : objectives())
    for (const int64_t micro_batch : {0, 3}) {
      if (micro_batch > 0 && name != "paper" && name != "mismatched" && !options.needs_pairs()) continue;
      SCOPED_TRACE(concat(name, ", micro-batches of ", micro_batch));
      const Both both = small_on_both();
      const BatchOutcome host = learn(*both.host, options, ReferenceMode::copy, micro_batch);
      expect_same(learn(*both.device, options, ReferenceMode::copy, micro_batch), host);
      expect_same_gradients(both);
    }
}

TEST_F(LearnerOnDevice, AnAdapterLearnsTheSameFromItsSnapshotAndFromKeptLogProbabilities) {
  for (const ReferenceMode mode : {ReferenceMode::adapter, ReferenceMode::cached})
    for (const auto& [name, options] : objectives()) {
      if (options.uses_z0() && options.z0 == Z0Estimator::exact) continue;
      ObjectiveOptions used = options;
      if (mode == ReferenceMode::cached) used.reference_kl_weight = 0;
      SCOPED_TRACE(name);
      const Both both = small_on_both({.rank = 2, .alpha = 1});
      const BatchOutcome host = learn(*both.host, used, mode, 3);
      expect_same(learn(*both.device, used, mode, 3), host);
      expect_same_gradients(both);
    }
}

TEST_F(LearnerOnDevice, Bfloat16IsNearTheCpusAndLeavesTheWeightsAlone) {
  const Both both = small_on_both();
  const ObjectiveOptions options{.type = ObjectiveType::sft};
  std::vector<data::Sample> first = batch_of(7), second = batch_of(7), third = batch_of(7);
  const BatchOutcome coarse = Learner(*both.device, nullptr, options, 0, true).learn(first);
  for (const auto& [name, tensor] : trainable_parameters(*both.device)) {
    EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
    EXPECT_EQ(tensor.grad().scalar_type(), at::kFloat) << name;
  }
  const BatchOutcome host = Learner(*both.host, nullptr, options, 0, true).learn(second),
                     exact = Learner(*both.device, nullptr, options, 0, false).learn(third);
  EXPECT_FALSE(
      at::equal(coarse.log_prob, exact.log_prob));  // autocast is on for this device, not for the CPU's
  EXPECT_NEAR(coarse.loss, exact.loss, 0.05 * exact.loss);
  EXPECT_NEAR(coarse.loss, host.loss, 0.05 * host.loss);
}

TEST_F(LearnerOnDevice, BothPassesDropTheSameUnits) {
  const Both both = small_on_both({.rank = 2, .alpha = 1, .dropout = 0.5});
  both.device->set_training(true);
  seed_generators(5, simulated_device());
  std::vector<data::Sample> samples = batch_of(6);
  LiveReference reference(*both.device, {.mode = ReferenceMode::adapter});
  const BatchOutcome out =
      Learner(*both.device, &reference, {.weights = {.type = WeightType::adaptive}}, 2, false).learn(samples);
  // w = l / Σ l of the group for six of a group of eight samples, Σ from the first pass and l from the second
  double desirable = 0, undesirable = 0;
  for (int i = 0; i < 6; ++i) (i % 3 != 2 ? desirable : undesirable) += out.weight[i].item<double>();
  EXPECT_NEAR(desirable, 0.75, 1e-5);
  EXPECT_NEAR(undesirable, 0.75, 1e-5);
}

// What goes to the device goes without waiting. What comes back: one copy of all that the batch came to, and
// the gradient's norm.
TEST_F(LearnerOnDevice, AStepMakesTheHostWaitTwice) {
  const Both both = small_on_both();
  LiveReference reference(*both.device, {.mode = ReferenceMode::copy});
  Adam optimizer({}, trainable_parameters(*both.device));
  std::vector<data::Sample> samples = batch_of(6);
  Learner learner(*both.device, &reference, {}, 0, false);
  const DeviceUse use;
  learner.learn(samples);
  optimizer.clip_gradients(optimizer.gradient_norm(), 1e-3);
  optimizer.update(1e-3);
  EXPECT_THAT(use.waits(), ElementsAre(Pair("aten::_local_scalar_dense", 1), Pair("copy to the host", 1)));
}

// Operators of LibTorch that have no deterministic kernel on CUDA.
TEST_F(LearnerOnDevice, NoStepNeedsAnOperatorThatIsNotDeterministicOnCuda) {
  std::set<std::string> used;
  for (const auto& [name, options] : objectives()) {
    if (name != "paper" && name != "weighted-bc" && name != "tpo, anchored and held") continue;
    const Both both = small_on_both();
    const DeviceUse use;
    learn(*both.device, options, ReferenceMode::copy, 3);
    used.merge(use.operators());
  }
  EXPECT_TRUE(used.contains("aten::linear"));
  for (const std::string& name : used)
    for (const char* other : {"upsample",
                              "grid_sampler",
                              "histc",
                              "bincount",
                              "kthvalue",
                              "median",
                              "put_",
                              "scatter_reduce",
                              "ctc_loss",
                              "nll_loss2d",
                              "reflection_pad",
                              "replication_pad",
                              "max_pool3d",
                              "avg_pool3d",
                              "adaptive_avg_pool",
                              "adaptive_max_pool",
                              "fractional_max_pool",
                              "max_unpool",
                              "embedding_bag",
                              "index_reduce",
                              "cumsum",
                              "cumprod"})
      EXPECT_EQ(name.find(other), std::string::npos) << name;
}

// As on a machine with several GPUs; of the pairs of three samples not every rank has one.
TEST_F(RanksOnDeviceDeathTest, LearnTheSameAndKeepTheSameMoments) {
  const apo::testing::SharedNccl nccl;
  const std::vector<int> codes = apo::testing::run_ranks(3, [](distributed::Group& group) {
    apo::testing::use_shared_nccl(simulated_device().type());
    group.connect(simulated_device());
    for (const auto& [name, options] : objectives())
      for (const int num_samples : {7, 3}) {
        SCOPED_TRACE(concat(name, ", ", num_samples, " samples, rank ", group.rank()));
        const Both both = small_on_both();
        const BatchOutcome host = learn(*both.host, options, ReferenceMode::copy, 2, num_samples);
        expect_same(learn(*both.device, options, ReferenceMode::copy, 2, num_samples, &group), host);
        expect_same_gradients(both);
        if (name != "paper") continue;
        Adam alone({}, trainable_parameters(*both.host)),
            shared({}, trainable_parameters(*both.device), &group);
        alone.update(1e-3);
        shared.update(1e-3);
        const models::NamedTensors expected = alone.state(), found = shared.state();
        EXPECT_EQ(found.size(), group.is_first() ? expected.size() : 0);
        for (size_t i = 0; i < found.size(); ++i)
          EXPECT_LE(apo::testing::distance(found[i].second.detach().cpu().to(at::kDouble),
                                           expected[i].second.detach().to(at::kDouble)),
                    2e-3)
              << found[i].first;
      }
    return 0;
  });
  EXPECT_THAT(codes, ::testing::Each(0));
  EXPECT_GT(nccl.said(2).calls, 4) << "more than were tried as they joined";
}

TEST_F(AdamOnDevice, StepsAreTheSame) {
  for (const char* type : {"adamw", "adam"}) {
    const Both both = small_on_both();
    const OptimizerOptions options{.type = type, .weight_decay = 0.1};
    Adam host(options, trainable_parameters(*both.host)), device(options, trainable_parameters(*both.device));
    for (int step = 0; step < 3; ++step) {
      for (auto [policy, optimizer] : {std::pair(both.host.get(), &host), {both.device.get(), &device}}) {
        optimizer->zero_gradients();
        std::vector<data::Sample> samples = batch_of(5);
        Learner(*policy, nullptr, {.type = ObjectiveType::sft}, 0, false).learn(samples);
      }
      const double norm = host.gradient_norm();
      EXPECT_NEAR(device.gradient_norm(), norm, 1e-4 * norm);
      host.clip_gradients(norm, norm / 2);
      device.clip_gradients(norm, norm / 2);
      host.update(1e-2);
      device.update(1e-2);
    }
    const models::NamedTensors expected = host.state(), found = device.state();
    for (size_t i = 0; i < expected.size(); ++i)
      if (!expected[i].first.starts_with(
              "parameter.word"))  // rows that no prompt reads have no gradient to tell them apart
        expect_near(found[i].second, expected[i].second, 2e-3, expected[i].first);
  }
}

TEST_F(AdamOnDevice, HalfPrecisionParametersStepTheSame) {
  const at::Tensor start = at::linspace(-1, 1, 12).view({3, 4}).to(at::kBFloat16);
  at::Tensor host = start.clone().set_requires_grad(true),
             device = start.to(simulated_device()).set_requires_grad(true);
  Adam one({}, {{"w", host}}), other({}, {{"w", device}});
  host.mutable_grad() = at::cos(start);
  device.mutable_grad() = host.grad().to(simulated_device());
  one.update(0.1);
  other.update(0.1);
  expect_near(device, host, 0, "parameter");
}

TEST_F(AdamOnDevice, GradientsThatAreNotFiniteAreSeen) {
  at::Tensor weight = at::ones({3}).to(simulated_device()).set_requires_grad(true);
  Adam optimizer({}, {{"w", weight}});
  weight.mutable_grad() = at::full({3}, std::numeric_limits<float>::quiet_NaN()).to(simulated_device());
  EXPECT_TRUE(std::isnan(optimizer.gradient_norm()));
}

TEST_F(CheckpointOnDevice, BringsWeightsMomentsAndStreamsBack) {
  const TempDir run;
  const Both both = small_on_both({.rank = 2, .alpha = 1, .dropout = 0.4});
  both.device->set_training(true);
  LiveReference reference(*both.device, {.mode = ReferenceMode::adapter});
  Adam optimizer({}, trainable_parameters(*both.device));
  const auto step = [](models::Policy& policy, ReferenceScorer& frozen, Adam& adam) {
    adam.zero_gradients();
    std::vector<data::Sample> samples = batch_of(6);
    const double loss = Learner(policy, &frozen, {}, 0, false).learn(samples).loss;
    adam.update(1e-2);
    return loss;
  };
  seed_generators(3, simulated_device());
  step(*both.device, reference, optimizer);
  TrainingState state;
  state.step = 1;
  state.reference_stored = true;
  const auto checkpoint =
      save_checkpoint(run.path(), state, {}, *both.device, optimizer.state(), reference.parameters());
  const double expected = step(*both.device, reference, optimizer);

  // another process
  seed_generators(99, simulated_device());
  const auto again = models::make_policy(
      {.checkpoint = (checkpoint / "policy").string(), .lora = {.rank = 2, .alpha = 1, .dropout = 0.4}},
      nullptr, 0, simulated_device());
  again->set_training(true);
  LiveReference frozen(*again, {.mode = ReferenceMode::adapter});
  restore_reference(checkpoint, frozen.parameters());
  Adam restored({}, trainable_parameters(*again));
  restore_training(checkpoint, restored, simulated_device());
  EXPECT_EQ(step(*again, frozen, restored), expected);
  const models::NamedTensors a = optimizer.state(), b = restored.state();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(b[i].second.device(), simulated_device()) << b[i].first;
    EXPECT_TRUE(at::equal(a[i].second.detach().cpu(), b[i].second.detach().cpu())) << a[i].first;
  }
}

TEST_F(CheckpointOnDevice, TheDevicesStreamHasItsOwnName) {
  seed_generators(4, simulated_device());
  const models::NamedTensors states = generator_states(simulated_device());
  ASSERT_EQ(states.size(), 2u);
  EXPECT_EQ(states[0].first, "random.cpu");
  EXPECT_EQ(states[1].first, "random.privateuseone");
  const auto draw = [] { return at::rand({4}, at::TensorOptions().device(simulated_device())).cpu(); };
  const at::Tensor first = draw(), second = draw();
  EXPECT_FALSE(at::equal(first, second));
  restore_generators(states, simulated_device());
  EXPECT_TRUE(at::equal(draw(), first));
  {
    const GeneratorScope scope(simulated_device());
    draw();
  }
  EXPECT_TRUE(at::equal(draw(), second));
}

TEST_F(RecordsOnDevice, MemoryIsTheDevicesOwn) {
  const int64_t before = memory_bytes(simulated_device());
  const at::Tensor held = at::zeros({1000}, at::TensorOptions(at::kFloat).device(simulated_device()));
  EXPECT_EQ(memory_bytes(simulated_device()) - before, 4000);
}

TEST(LibrarySettings, Float32IsNotRoundedToTf32OnCuda) {
  const auto rounds = [](at::Float32Op op) {
    return at::globalContext().float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32;
  };
  at::globalContext().setAllowTF32CuDNN(true);
  EXPECT_TRUE(rounds(at::Float32Op::CONV));
  {
    const LibrarySettings settings((RunOptions()));
    EXPECT_FALSE(rounds(at::Float32Op::CONV));
    EXPECT_FALSE(rounds(at::Float32Op::MATMUL));
  }
  EXPECT_TRUE(rounds(at::Float32Op::CONV));
  set_up_arithmetic({});
  EXPECT_FALSE(rounds(at::Float32Op::CONV));
  at::globalContext().setAllowTF32CuDNN(true);
}

}  // namespace
}  // namespace apo::training
