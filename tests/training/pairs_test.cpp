#include "training/pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace apo::training {
namespace {

using data::Sample;
using objective::ObjectiveType;
using ::testing::ElementsAre;

// h: human's step with the policy's action, n: human's step without, u: undesirable step before a take-over,
// d: other
Sample sample(char kind, int32_t timestep, int32_t take_over = 0, int32_t episode = 0) {
  Sample s;
  s.index = {0, episode, timestep};
  s.actions = {{static_cast<float>(timestep)}};
  const bool human = kind == 'h' || kind == 'n';
  s.source = human ? ActionSource::intervention : ActionSource::policy;
  s.desirable = kind != 'u';
  if (kind == 'h') s.policy_actions = {{-1.0f - static_cast<float>(timestep)}};
  if (kind != 'd') s.take_over_number = take_over;
  return s;
}

std::vector<int32_t> timesteps(const std::vector<Sample>& samples) {
  std::vector<int32_t> out;
  for (const Sample& s : samples) out.push_back(s.index.timestep);
  return out;
}

TEST(MakePairs, ActionsAtTheSameObservation) {
  std::vector<Sample> samples = {sample('d', 0), sample('h', 1), sample('n', 2), sample('u', 3),
                                 sample('h', 4)};
  const Pairing pairing = make_pairs(samples, ObjectiveType::dpo);
  EXPECT_THAT(timesteps(samples), ElementsAre(0, 1, 1, 2, 3, 4, 4));
  EXPECT_THAT(pairing.pair, ElementsAre(-1, 0, 0, -1, -1, 1, 1));
  EXPECT_EQ(pairing.num_unpaired, 1);  // the human's step 2
  EXPECT_EQ(samples[2].actions, ActionChunk{{-2.0f}});
  EXPECT_FALSE(samples[2].desirable);
}

TEST(MakePairs, AnActionRecordedBesideThePolicysOwnStepIsNoPair) {
  std::vector<Sample> samples = {sample('d', 0), sample('u', 1)};
  for (Sample& s : samples) s.policy_actions = {{0.5f}};
  EXPECT_THAT(make_pairs(samples, ObjectiveType::dpo).pair, ElementsAre(-1, -1));
}

TEST(MakePairs, SegmentsOfATakeOver) {
  // two take-overs of episode 0, one of episode 1 without undesirable steps
  std::vector<Sample> samples = {sample('u', 3), sample('h', 5), sample('d', 0),    sample('h', 9, 1),
                                 sample('u', 4), sample('n', 6), sample('u', 8, 1), sample('h', 2, 0, 1)};
  const Pairing pairing = make_pairs(samples, ObjectiveType::tpo);
  EXPECT_THAT(timesteps(samples), ElementsAre(0, 5, 6, 3, 4, 9, 8, 2));
  EXPECT_THAT(pairing.pair, ElementsAre(-1, 0, 0, 0, 0, 1, 1, -1));
  EXPECT_EQ(pairing.num_unpaired, 1);
}

TEST(MakePairs, ASegmentDrawnTwiceIsTwoPairs) {
  std::vector<Sample> samples = {sample('u', 3), sample('h', 5), sample('h', 5), sample('u', 3)};
  const Pairing pairing = make_pairs(samples, ObjectiveType::tpo);
  EXPECT_THAT(timesteps(samples), ElementsAre(5, 3, 5, 3));
  EXPECT_THAT(pairing.pair, ElementsAre(0, 0, 1, 1));
}

TEST(MakePairs, NothingComesOfNothing) {
  std::vector<Sample> none;
  for (const auto type : {ObjectiveType::dpo, ObjectiveType::tpo}) {
    EXPECT_TRUE(make_pairs(none, type).pair.empty());
    EXPECT_TRUE(none.empty());
  }
}

TEST(MicroBatches, EndBetweenPairs) {
  const std::vector<int64_t> pair = {-1, 0, 0, 1, 1, 1, -1, -1};
  const auto ends = [&](int64_t micro) {
    std::vector<int64_t> out;
    for (int64_t begin = 0; begin < 8; begin = out.back())
      out.push_back(micro_batch_end(pair, begin, 8, micro));
    return out;
  };
  EXPECT_THAT(ends(0), ElementsAre(8));
  EXPECT_THAT(ends(1), ElementsAre(1, 3, 6, 7, 8));  // a pair alone is larger than one sample
  EXPECT_THAT(ends(2), ElementsAre(1, 3, 6, 8));
  EXPECT_THAT(ends(4), ElementsAre(3, 7, 8));
  EXPECT_THAT(ends(100), ElementsAre(8));
  EXPECT_EQ(micro_batch_end({}, 3, 8, 2), 5);  // no pairs at all
}

TEST(MicroBatches, NumberTheirPairsFromZero) {
  const at::Tensor numbers = pair_tensor({-1, 3, 3, -1, 4, 4}, 1, 6);
  EXPECT_TRUE(at::equal(numbers, at::tensor(std::vector<int64_t>{0, 0, -1, 1, 1}, at::kLong))) << numbers;
}

// A sum over more tokens would win by that alone.
TEST(Pairs, SidesOfAChunkAreOfOneLength) {
  std::vector<Sample> samples;
  Sample s;
  s.source = ActionSource::intervention;
  s.actions = {{1}, {2}, {3}};
  s.policy_actions = {{-1}, {-2}};
  samples.push_back(s);
  make_pairs(samples, objective::ObjectiveType::dpo);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].actions, (ActionChunk{{1}, {2}}));
  EXPECT_EQ(samples[1].actions, (ActionChunk{{-1}, {-2}}));
}

}  // namespace
}  // namespace apo::training
