// pi0-FAST against transformers' PaliGemma in the formulas of openpi and LeRobot: the numbers of
// scripts/goldens/make_pi0_fast.py.
#include <gmock/gmock.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "models/pi0_fast_fixture.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::distance;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::HasSubstr;
using testing::Pi0FastGolden;
using testing::row_of;
using Ids = std::vector<int64_t>;

class Pi0FastGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  Pi0FastGolden golden{GetParam()};

  // 0 behind an answer.
  static at::Tensor log_probs(Policy& policy, const PolicyInput& input, const ActionTokens& tokens) {
    const at::Tensor logits = policy.score(input, tokens).logits.whole();
    return logits.log_softmax(-1).gather(-1, tokens.ids.unsqueeze(-1)).squeeze(-1) * tokens.mask;
  }
};

INSTANTIATE_TEST_SUITE_P(All, Pi0FastGoldens, ::testing::Values("openpi", "lerobot"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Pi0FastGoldens, AsksAndAnswersWithTheSameIds) {
  const auto policy = golden.policy();
  const auto seen = golden.observations();
  const PolicyInput input = policy->encode(seen);
  const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
  const auto answers = golden.json["answers"].get<std::vector<Ids>>();
  for (int64_t i = 0; i < std::ssize(seen); ++i) {
    const PolicyInput one = policy->encode({&seen[static_cast<size_t>(i)], 1});
    EXPECT_FALSE(one.prompt_mask.defined());
    EXPECT_EQ(row_of(one.prompt, 0), golden.json["prompts"][static_cast<size_t>(i)].get<Ids>());
    Ids answer = row_of(tokens.ids, i);
    answer.resize(static_cast<size_t>(tokens.mask[i].sum().item<int64_t>()));
    EXPECT_EQ(answer, answers[static_cast<size_t>(i)]);
    EXPECT_EQ(tokens.end_token[i].to(at::kLong).argmax().item<int64_t>(), std::ssize(answer) - 1);
  }
  EXPECT_FALSE(tokens.valid.defined());
}

TEST_P(Pi0FastGoldens, ScoresLikeTransformers) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
  const at::Tensor expected = golden.results.tensor("token_log_probs");
  const at::Tensor found = log_probs(*policy, input, tokens).detach();
  EXPECT_LT(distance(found, expected), 5e-4);
  EXPECT_GT(expected.masked_select(tokens.mask).std().item<double>(), 0.5);
}

TEST_P(Pi0FastGoldens, PredictsTheSameActions) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
  const at::Tensor greedy = policy->score(input, tokens).logits.whole().argmax(-1);
  const at::Tensor predicted = greedy_action_tokens(*policy, greedy, tokens);
  EXPECT_TRUE(predicted.eq(golden.results.tensor("predicted"))
                  .logical_or(tokens.mask.logical_not())
                  .all()
                  .item<bool>());
  const Decision decision = policy->to_actions(golden.results.tensor("predicted"), &input);
  const at::Tensor expected = golden.results.tensor("predicted_actions");
  for (int64_t i = 0; i < expected.size(0); ++i)
    for (int64_t h = 0; h < expected.size(1); ++h)
      for (int64_t j = 0; j < expected.size(2); ++j)
        EXPECT_NEAR(decision.actions[static_cast<size_t>(i)][static_cast<size_t>(h)][static_cast<size_t>(j)],
                    expected[i][h][j].item<double>(),
                    2e-4 * (1 + std::abs(expected[i][h][j].item<double>())));
}

TEST_P(Pi0FastGoldens, DecodesLikeTheProgramsWithoutACache) {
  for (const char* as : {"trained", "released"}) {
    const auto policy = golden.policy({.decode_as = as});
    const PolicyInput input = policy->encode(golden.observations());
    const at::Tensor ids = policy->decode(input);
    const auto expected =
        golden.json[std::string(as) == "trained" ? "greedy" : "released"].get<std::vector<Ids>>();
    for (int64_t i = 0; i < ids.size(0); ++i) {
      Ids found = row_of(ids, i);
      found.resize(std::min(found.size(), expected[static_cast<size_t>(i)].size()));
      EXPECT_EQ(found, expected[static_cast<size_t>(i)]) << as << " " << i;
    }
  }
  EXPECT_NE(golden.json["greedy"], golden.json["released"]);
}

TEST_P(Pi0FastGoldens, AdapterScoresAndItsGradientsAreThoseOfPython) {
  const auto policy = golden.policy({}, /*adapted=*/true);
  const PolicyInput input = policy->encode(golden.observations());
  EXPECT_TRUE(input.images.defined());  // the vision tower carries an adapter
  const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
  const at::Tensor found = log_probs(*policy, input, tokens);
  EXPECT_LT(distance(found.detach(), golden.results.tensor("adapted_token_log_probs")), 5e-4);
  (-found.sum()).backward();
  int64_t compared = 0;
  for (const auto& [name, tensor] : trainable_parameters(*policy)) {
    std::string in_file = "gradient.base_model.model." + name;
    in_file.erase(in_file.find(".default"), 8);
    ASSERT_TRUE(golden.results.has(in_file)) << in_file;
    const at::Tensor expected = golden.results.tensor(in_file);
    EXPECT_LT(distance(tensor.grad(), expected), 1e-3 * (1 + expected.abs().max().item<double>())) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 2 * (2 * 7 + 2 * 6 + 1));  // layers of Gemma and SigLIP, and the projector
}

TEST_P(Pi0FastGoldens, SecondAnswersKnowNothingOfTheFirst) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  auto actions = golden.actions();
  const ActionTokens own = policy->tokenize(actions, &input);
  std::rotate(actions.begin(), actions.begin() + 1, actions.end());
  const ActionTokens other = policy->tokenize(actions, &input);
  const Score both = policy->score(input, own, &other);
  EXPECT_LT(distance(both.logits.whole(), policy->score(input, own).logits.whole()), 1e-4);
  EXPECT_LT(distance(both.mismatched_logits.whole(), policy->score(input, other).logits.whole()), 1e-4);
}

TEST_P(Pi0FastGoldens, BatchesScoreAsSamplesAlone) {
  const auto policy = golden.policy();
  const auto seen = golden.observations();
  const auto actions = golden.actions();
  const PolicyInput input = policy->encode(seen);
  const at::Tensor together = log_probs(*policy, input, policy->tokenize(actions, &input)).sum(1).detach();
  for (size_t i = 0; i < seen.size(); ++i) {
    const PolicyInput one = policy->encode({&seen[i], 1});
    const ActionTokens tokens = policy->tokenize(std::span(&actions[i], 1), &one);
    EXPECT_NEAR(log_probs(*policy, one, tokens).sum().item<double>(),
                together[static_cast<int64_t>(i)].item<double>(), 1e-3);
  }
}

TEST_P(Pi0FastGoldens, ValidDecodingMalformsNothing) {
  const PolicyInput input = golden.policy()->encode(golden.observations());
  const auto free = golden.policy();
  const Decision wild = free->act(input);
  EXPECT_TRUE(wild.malformed.all().item<bool>());  // a random network's answers are none
  const auto only = golden.policy({.action_tokens_only = true});
  const auto valid = golden.policy({.decode_valid = true});
  for (const double temperature : {0.0, 1.0}) {
    const DecodeOptions options{.temperature = temperature, .seeds = {1, 2, 3, 4}};
    const Decision some = only->act(input, options);
    EXPECT_EQ(row_of(some.ids, 0)[0], golden.json["answers"][0][0].get<int64_t>());
    const Decision decision = valid->act(input, options);
    EXPECT_FALSE(decision.malformed.any().item<bool>()) << decision.ids;
    EXPECT_EQ(std::ssize(decision.actions[0]), valid->horizon());
  }
}

TEST_P(Pi0FastGoldens, SavedPoliciesAndTheirClonesSayTheSame) {
  for (const bool adapted : {false, true}) {
    const auto policy = golden.policy({}, adapted);
    const PolicyInput input = policy->encode(golden.observations());
    const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
    const at::Tensor before = log_probs(*policy, input, tokens).detach();
    EXPECT_TRUE(log_probs(*policy->clone(), input, tokens).detach().equal(before));
    const TempDir directory;
    policy->save(directory.path());
    PolicyOptions options = golden.options();
    options.checkpoint = directory.path().string();
    const auto again = make_policy(options, nullptr, 0, at::kCPU);
    const PolicyInput theirs = again->encode(golden.observations());
    EXPECT_LT(
        distance(log_probs(*again, theirs, again->tokenize(golden.actions(), &theirs)).detach(), before),
        1e-5);
    EXPECT_EQ(again->adapter_slots()->active(), adapted ? kTrainedSlot : "");
  }
}

}  // namespace
}  // namespace apo::models
