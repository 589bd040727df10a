// Policies on an accelerator: every tensor is there, nothing is computed across, the numbers are the CPU's.
#include <gmock/gmock.h>
#include <torch/types.h>

#include <filesystem>

#include "apo/base/files.h"
#include "apo/models/reference.h"
#include "base/device_graph.h"
#include "models/on_both.h"
#include "models/openvla_fixture.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::DeviceUse;
using apo::testing::simulated_device;
using apo::testing::TempDir;
using testing::actions;
using testing::Both;
using testing::expect_near;
using ::testing::IsEmpty;
using testing::observations;
using testing::OpenVlaGolden;
using testing::small_on_both;
using testing::with;

class SmallPolicyOnDevice : public apo::testing::OnSimulatedDevice {};
class OpenVlaOnDevice : public apo::testing::OnSimulatedDevice {};

const OpenVlaGolden& golden(const std::string& variant = "b") {
  static const OpenVlaGolden a("a"), b("b");
  return variant == "a" ? a : b;
}

Both openvla_on_both(const std::string& adapter, const PolicyOptions& options = {},
                     const std::string& variant = "b") {
  Both both{golden(variant).policy(adapter, options),
            golden(variant).policy(adapter, options, simulated_device())};
  if (!adapter.empty()) return both;
  for (Policy* policy : {both.host.get(), both.device.get()})
    for (auto& [name, tensor] : policy->named_parameters()) tensor.set_requires_grad(true);
  return both;
}

void expect_all_there(const Policy& policy) {
  EXPECT_EQ(policy.device(), simulated_device());
  for (const auto& [name, tensor] : policy.named_parameters())
    EXPECT_EQ(tensor.device(), simulated_device()) << name;
}
void expect_all_there(const PolicyInput& input, const ActionTokens& tokens) {
  for (const at::Tensor& tensor : {input.images, input.prompt, input.prompt_mask, input.state, input.features,
                                   tokens.ids, tokens.mask, tokens.end_token, tokens.dimension})
    if (tensor.defined()) {
      EXPECT_EQ(tensor.device(), simulated_device());
    }
}

// Scores two answers, then their gradients by every parameter that trains.
void expect_same_scores(const Both& both, const std::vector<Observation>& seen,
                        const std::vector<Action>& acted, double tolerance) {
  std::vector<Action> others(acted.rbegin(), acted.rend());
  const auto score = [&](Policy& policy) {
    const ActionTokens own = policy.tokenize(acted), other = policy.tokenize(others);
    const PolicyInput input = policy.encode(seen);
    if (policy.device() == simulated_device()) expect_all_there(input, own);
    const Score found = policy.score(input, own, &other);
    for (auto& [name, tensor] : policy.named_parameters()) tensor.mutable_grad() = at::Tensor();
    (found.logits.whole().square().mean() + found.mismatched_logits.whole().cos().mean()).backward();
    return found;
  };
  const Score host = score(*both.host), device = score(*both.device);
  expect_near(device.logits.whole(), host.logits.whole(), tolerance, "logits");
  expect_near(device.mismatched_logits.whole(), host.mismatched_logits.whole(), tolerance,
              "mismatched logits");
  const NamedTensors expected = both.host->named_parameters(), found = both.device->named_parameters();
  int64_t gradients = 0;
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    expect_near(found[i].second.grad(), expected[i].second.grad(), tolerance, expected[i].first);
    gradients += expected[i].second.grad().defined();
    if (expected[i].second.grad().defined())
      largest = std::max(largest, expected[i].second.grad().abs().max().item<double>());
  }
  EXPECT_GT(gradients, 3);
  EXPECT_GT(largest, 3 * tolerance);
}

void expect_same_decisions(const Both& both, const std::vector<Observation>& seen,
                           const std::vector<Action>& acted) {
  const std::vector<uint64_t> seeds(seen.size(), 11);
  for (const DecodeOptions& options : {DecodeOptions{}, DecodeOptions{.temperature = 1.5, .seeds = seeds}}) {
    const at::Tensor host = both.host->decode(both.host->encode(seen), options),
                     device = both.device->decode(both.device->encode(seen), options);
    expect_near(device, host, 0, "ids");
    EXPECT_EQ(both.device->to_actions(device).actions, both.host->to_actions(host).actions);
    EXPECT_EQ(both.device->to_actions(device).num_clamped, both.host->to_actions(host).num_clamped);
  }
  for (const bool whole_vocabulary : {false, true}) {
    const auto most_likely = [](const Policy& policy, const at::Tensor& logits, bool whole) {
      const auto [first, last] = policy.codec().bins().value();
      return whole ? logits.argmax(-1) : logits.narrow(-1, first, last - first + 1).argmax(-1) + first;
    };
    const auto greedy = [&](Policy& policy, int64_t* clamped) {
      const at::NoGradGuard no_grad;
      const ActionTokens tokens = policy.tokenize(acted);
      const Score score = policy.score(policy.encode(seen), tokens);
      const at::Tensor ids = greedy_action_tokens(
          policy, most_likely(policy, score.logits.whole(), whole_vocabulary), tokens, clamped);
      return std::pair(ids, action_l1(policy, ids, tokens));
    };
    int64_t clamped = 0, clamped_there = 0;
    const auto [ids, l1] = greedy(*both.host, &clamped);
    const auto [ids_there, l1_there] = greedy(*both.device, &clamped_there);
    expect_near(ids_there, ids, 0, "greedy tokens");
    expect_near(l1_there, l1, 1e-6, "action error");
    EXPECT_EQ(clamped_there, clamped);
  }
}

std::map<std::string, std::string> files_in(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory))
    files[entry.path().filename()] = read_file(entry.path());
  return files;
}

// ---- the small policy ----

TEST_F(SmallPolicyOnDevice, IsThereWithAllOfItsTensors) {
  const Both both = small_on_both({.rank = 2, .alpha = 1});
  expect_all_there(*both.device);
  expect_all_there(*both.device->clone());
}

TEST_F(SmallPolicyOnDevice, ScoresAndGradientsAreTheCpus) {
  for (const bool padded : {false, true})
    expect_same_scores(small_on_both(), observations(1, 5, padded), actions(1, 5), 1e-5);
}

TEST_F(SmallPolicyOnDevice, AnAdaptersGradientsAreTheCpus) {
  expect_same_scores(small_on_both({.rank = 2, .alpha = 1, .init = "gaussian"}), observations(1, 5),
                     actions(1, 5), 1e-5);
}

TEST_F(SmallPolicyOnDevice, DecidesTheSame) {
  for (const bool padded : {false, true})
    expect_same_decisions(small_on_both(), observations(2, 4, padded), actions(2, 4));
}

TEST_F(SmallPolicyOnDevice, NeitherEncodingNorScoringWaits) {
  const Both both = small_on_both();
  const auto seen = observations(3, 4);
  const auto acted = actions(3, 4);
  const DeviceUse use;
  const PolicyInput input = both.device->encode(seen);
  const ActionTokens tokens = both.device->tokenize(acted);
  both.device->score(input, tokens).logits.whole().sum().backward();
  EXPECT_THAT(use.waits(), IsEmpty());
}

TEST_F(SmallPolicyOnDevice, WritesTheFilesOfTheCpuAndLoadsThem) {
  const Both both = small_on_both({.rank = 2, .alpha = 1});
  const TempDir host, device;
  both.host->save(host.path());
  both.device->save(device.path());
  EXPECT_EQ(files_in(device.path()), files_in(host.path()));
  EXPECT_EQ(parameter_hash(*both.device), parameter_hash(*both.host));
  const auto loaded = load_policy(device.path(), simulated_device());
  expect_all_there(*loaded);
  EXPECT_EQ(parameter_hash(*loaded), parameter_hash(*both.host));
}

TEST_F(SmallPolicyOnDevice, ItsReferenceIsThereAndScoresTheSame) {
  for (const ReferenceMode mode : {ReferenceMode::copy, ReferenceMode::adapter}) {
    const Both both = small_on_both({.rank = 2, .alpha = 1});
    Reference host(*both.host, {.mode = mode}), device(*both.device, {.mode = mode});
    for (const auto& [name, tensor] : device.named_parameters())
      EXPECT_EQ(tensor.device(), simulated_device()) << name;
    const auto seen = observations(4, 3);
    const auto acted = actions(4, 3);
    expect_near(device.score(both.device->encode(seen), both.device->tokenize(acted)).logits.whole(),
                host.score(both.host->encode(seen), both.host->tokenize(acted)).logits.whole(), 1e-5,
                "logits");
  }
}

TEST_F(SmallPolicyOnDevice, AnAdapterIsMergedThere) {
  const Both both = small_on_both({.rank = 2, .alpha = 1});
  merge_adapter(*both.host);
  merge_adapter(*both.device);
  expect_same_scores(both, observations(5, 3), actions(5, 3), 1e-5);
}

TEST_F(SmallPolicyOnDevice, DropoutDrawsFromTheDevicesStream) {
  const Both both = small_on_both({.rank = 2, .dropout = 0.5});
  both.device->set_training(true);
  const auto seen = observations(6, 3);
  const auto acted = actions(6, 3);
  const PolicyInput input = both.device->encode(seen);
  const ActionTokens tokens = both.device->tokenize(acted);
  at::Generator stream = at::globalContext().defaultGenerator(simulated_device());
  const at::Tensor host_state = at::detail::getDefaultCPUGenerator().get_state(), state = stream.get_state();
  const at::Tensor first = both.device->score(input, tokens).logits.whole(),
                   second = both.device->score(input, tokens).logits.whole();
  EXPECT_FALSE(at::equal(first, second));
  stream.set_state(state);
  EXPECT_TRUE(at::equal(both.device->score(input, tokens).logits.whole(), first));
  EXPECT_TRUE(at::equal(at::detail::getDefaultCPUGenerator().get_state(), host_state));
}

// ---- OpenVLA ----

TEST_F(OpenVlaOnDevice, IsThereWithAllOfItsTensors) {
  for (const char* dtype : {"float32", "bfloat16"}) {
    const auto policy = golden().policy("adapter_new", with({.dtype = dtype}), simulated_device());
    expect_all_there(*policy);
    expect_all_there(*policy->clone());
  }
}

TEST_F(OpenVlaOnDevice, ScoresAndGradientsAreTheCpus) {
  for (const char* variant : {"a", "b"})
    expect_same_scores(openvla_on_both("", {}, variant), golden(variant).observations(),
                       golden(variant).actions(), 2e-5);
}

TEST_F(OpenVlaOnDevice, AnAdaptersGradientsAreTheCpus) {
  for (const bool checkpointing : {false, true})
    expect_same_scores(openvla_on_both("adapter_old", with({.activation_checkpointing = checkpointing})),
                       golden().observations(), golden().actions(), 2e-5);
}

TEST_F(OpenVlaOnDevice, HalfPrecisionIsNearTheCpus) {
  expect_same_scores(openvla_on_both("adapter_old", with({.dtype = "bfloat16"})), golden().observations(),
                     golden().actions(), 0.05);
}

TEST_F(OpenVlaOnDevice, DecidesTheSame) {
  for (const char* variant : {"a", "b"})
    expect_same_decisions(openvla_on_both("", {}, variant), golden(variant).observations(),
                          golden(variant).actions());
}

// A recording that runs its body again: what must be right is which numbers it reads, and when it is thrown
// away.
TEST_F(OpenVlaOnDevice, ReplayedDecisionsAreTheSame) {
  struct Again final : DeviceGraph {
    void replay() override { ++replays, body(); }
    std::function<void()> body;
    int replays = 0;
  };
  int recorded = 0;
  Again* latest = nullptr;
  const GraphRecorder recorder = [&](const std::function<void()>& body) {
    auto graph = std::make_unique<Again>();
    graph->body = body;
    latest = graph.get();
    ++recorded;
    return graph;
  };
  // the same policy twice, where half precision rounds alike
  const std::unique_ptr<Policy> replaying =
                                    openvla_on_both("adapter_old", with({.dtype = "bfloat16"})).device,
                                plain = openvla_on_both("adapter_old", with({.dtype = "bfloat16"})).device;
  const std::vector<Observation> seen = golden().observations();
  const auto decide = [&](Policy& policy, size_t first) {
    set_graph_recorder(&policy == replaying.get() ? recorder : nullptr);
    const std::vector<Observation> some{seen[first], seen[(first + 1) % seen.size()]};
    return policy.decode(policy.encode(some)).cpu();
  };
  EXPECT_FALSE(decide(*plain, 0).equal(decide(*plain, 1)));
  for (const size_t first : {0u, 0u, 0u, 1u, 0u})
    EXPECT_TRUE(decide(*replaying, first).equal(decide(*plain, first)));
  ASSERT_NE(latest, nullptr);
  EXPECT_GE(latest->replays, 1);
  const int before = recorded;
  const at::Tensor unchanged = decide(*plain, 0);
  for (Policy* policy : {replaying.get(), plain.get()}) {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : trainable_parameters(*policy)) tensor.mul_(-3);
  }
  EXPECT_FALSE(decide(*plain, 0).equal(unchanged));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(decide(*replaying, 0).equal(decide(*plain, 0)));
  EXPECT_EQ(recorded, before + 1);
  replaying->set_training(true);
  const int replays = latest->replays;
  decide(*replaying, 0);
  EXPECT_EQ(latest->replays, replays);
  set_graph_recorder(nullptr);
}

TEST_F(OpenVlaOnDevice, RecomputedBlocksDropTheSameUnits) {
  const auto gradients = [](bool checkpointing) {
    const auto policy = golden().policy(
        "adapter_old", with({.activation_checkpointing = checkpointing}, {.lora = {.dropout = 0.3}}),
        simulated_device());
    policy->set_training(true);
    at::Generator stream = at::globalContext().defaultGenerator(simulated_device());
    stream.set_current_seed(3);
    policy->score(policy->encode(golden().observations()), policy->tokenize(golden().actions()))
        .logits.whole()
        .square()
        .mean()
        .backward();
    std::vector<at::Tensor> found;
    for (const auto& [name, tensor] : trainable_parameters(*policy))
      if (tensor.grad().defined()) found.push_back(tensor.grad().cpu());
    EXPECT_GT(found.size(), 20u);
    return found;
  };
  const auto kept = gradients(false), recomputed = gradients(true);
  ASSERT_EQ(kept.size(), recomputed.size());
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(at::allclose(kept[i], recomputed[i], 1e-4, 1e-6)) << i;
}

TEST_F(OpenVlaOnDevice, ScoringNeverWaits) {
  const Both both = openvla_on_both("adapter_old");
  const PolicyInput input = both.device->encode(golden().observations());
  const ActionTokens tokens = both.device->tokenize(golden().actions());
  const DeviceUse use;
  both.device->score(input, tokens).logits.whole().sum().backward();
  EXPECT_THAT(use.waits(), IsEmpty());
}

TEST_F(OpenVlaOnDevice, WritesTheFilesOfTheCpuAndLoadsThem) {
  for (const char* adapter : {"", "adapter_old"}) {
    const Both both = openvla_on_both(adapter);
    const TempDir host, device;
    both.host->save(host.path());
    both.device->save(device.path());
    EXPECT_EQ(files_in(device.path()), files_in(host.path()));
    EXPECT_EQ(parameter_hash(*both.device), parameter_hash(*both.host));
    EXPECT_EQ(frozen_parameter_hash(*both.device), frozen_parameter_hash(*both.host));
  }
}

TEST_F(OpenVlaOnDevice, AnAdapterIsMergedThere) {
  const Both both = openvla_on_both("adapter_old");
  merge_adapter(*both.host);
  merge_adapter(*both.device);
  expect_same_scores(both, golden().observations(), golden().actions(), 2e-5);
}

}  // namespace
}  // namespace apo::models
