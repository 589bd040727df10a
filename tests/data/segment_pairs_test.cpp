// What pairs need from the data: take-over numbers, segments, and the policy's actions beside the human's.
#include <gmock/gmock.h>

#include <set>

#include "apo/data/dataset.h"
#include "apo/data/sampler.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> numbers(const EpisodeRecord& record, int64_t k) {
  std::vector<int32_t> out;
  for (const LabelledStep& step : label_episode(record, {false, {.steps_before_intervention = k}, {}}))
    out.push_back(step.take_over_number);
  return out;
}

TEST(TakeOverNumbers, NameTheStepsOnBothSides) {
  // two steps before each take-over; the first policy steps and the end belong to none
  EXPECT_THAT(numbers(episode_record("ppphhpph-hpp"), 2), ElementsAre(-1, 0, 0, 0, 0, 1, 1, 1, 2, 2, -1, -1));
  EXPECT_THAT(numbers(episode_record("hhp"), 2), ElementsAre(0, 0, -1));  // taken over at once
  EXPECT_THAT(numbers(episode_record("ppp"), 2), ElementsAre(-1, -1, -1));
}

TEST(TakeOverNumbers, AnExplicitLabelAgainstTheSideTakesAStepOut) {
  EpisodeRecord record = episode_record("ppphh");
  record.desirable = {std::nullopt, true, false, false, true};
  EXPECT_THAT(numbers(record, 3), ElementsAre(0, -1, 0, -1, 0));
}

class SegmentPairs : public ::testing::Test {
 protected:
  // Segments (human | policy): 2|2, 3|1, none (taken over at once), 1|2
  SegmentPairs() {
    write_recording(dir_ / "demos.hdf5", {"eeee", "eeee"});
    write_recording(dir_ / "a.hdf5", {"ppphhphhh", "hhpp", "pph"});
    options_.expert = {{.path = dir_ / "demos.hdf5"}};
    options_.interactions = {{.path = dir_ / "a.hdf5"}};
    options_.labels.steps_before_intervention = 2;
    options_.filter = {.max_abs_action = 10, .min_motion = 0};
  }
  apo::testing::TempDir dir_;
  DataOptions options_;
};

TEST_F(SegmentPairs, OneForEachTakeOverWithBothSides) {
  const Dataset dataset(options_);
  const auto pairs = dataset.segment_pairs();
  ASSERT_EQ(pairs.size(), 3u);
  const auto steps = [](const std::vector<StepIndex>& indices) {
    std::vector<int32_t> out;
    for (const StepIndex& index : indices) out.push_back(10 * index.episode + index.timestep);
    return out;
  };
  EXPECT_THAT(steps(pairs[0].preferred), ElementsAre(3, 4));
  EXPECT_THAT(steps(pairs[0].rejected), ElementsAre(1, 2));
  EXPECT_THAT(steps(pairs[1].preferred), ElementsAre(6, 7, 8));
  EXPECT_THAT(steps(pairs[1].rejected), ElementsAre(5));
  EXPECT_THAT(steps(pairs[2].preferred), ElementsAre(22));
  EXPECT_THAT(steps(pairs[2].rejected), ElementsAre(20, 21));
}

TEST_F(SegmentPairs, BatchesHoldWholeOnes) {
  const Dataset dataset(options_);
  // 11 steps in 3 pairs; half of 16 samples are 8: 8 * 3 / 11 = 2.2 pairs
  const PoolSampler sampler(dataset, {}, 16, 4, Draw::segment_pairs);
  EXPECT_THAT(sampler.counts(), ElementsAre(8, 4, 3));  // on average 2 * 6 / 3 and 2 * 5 / 3
  EXPECT_EQ(sampler.batches_per_epoch(), 2);
  const auto pairs = dataset.segment_pairs();
  std::map<size_t, int> drawn;  // by pair
  for (int64_t position = 0; position < 6; ++position) {
    const auto batch = sampler.batch(position);
    EXPECT_EQ(batch, sampler.batch(position));
    std::multiset<std::tuple<int32_t, int32_t, int32_t>> in_batch;
    int64_t demonstrations = 0;
    for (const StepIndex& index : batch) {
      demonstrations += dataset.label(index).take_over_number < 0;
      in_batch.insert({index.file, index.episode, index.timestep});
    }
    EXPECT_EQ(demonstrations, 8);
    for (size_t p = 0; p < pairs.size(); ++p) {
      std::set<size_t> times;
      for (const auto* side : {&pairs[p].preferred, &pairs[p].rejected})
        for (const StepIndex& index : *side)
          times.insert(in_batch.count({index.file, index.episode, index.timestep}));
      ASSERT_EQ(times.size(), 1u) << "pair " << p << " is torn in batch " << position;
      drawn[p] += static_cast<int>(*times.begin());
    }
  }
  EXPECT_THAT(drawn,
              ElementsAre(std::pair(0u, 4), std::pair(1u, 4), std::pair(2u, 4)));  // 12 draws, 4 passes
}

TEST_F(SegmentPairs, AtLeastOneABatch) {
  const Dataset dataset(options_);
  const PoolSampler sampler(dataset, {.desirable = 0, .intervention = 0.5, .undesirable = 0.5}, 2, 4,
                            Draw::segment_pairs);
  for (int64_t position = 0; position < 3; ++position) EXPECT_GE(sampler.batch(position).size(), 3u);
}

TEST_F(SegmentPairs, RefusedWhereThereAreNone) {
  const Dataset dataset(options_);
  const auto message = [](const std::function<void()>& act) { return message_of<ConfigError>(act); };
  EXPECT_THAT(message([&] {
                PoolSampler(dataset, {.desirable = 1, .intervention = 0, .undesirable = 0}, 8, 1,
                            Draw::segment_pairs);
              }),
              HasSubstr("data.pools.intervention"));
  write_recording(dir_ / "b.hdf5", {"hhh"});
  options_.interactions = {{.path = dir_ / "b.hdf5"}};
  const Dataset none(options_);
  EXPECT_THAT(message([&] {
                PoolSampler(none, {.desirable = 0.5, .intervention = 0.5, .undesirable = 0}, 8, 1,
                            Draw::segment_pairs);
              }),
              HasSubstr("expected a take-over that has both"));
}

TEST_F(SegmentPairs, SamplesCarryWhatThePolicyWanted) {
  {
    TrajectoryWriter writer(dir_ / "c.hdf5", test_info());
    writer.begin_episode("lift the cube");
    writer.append(numbered_step(0, ActionSource::policy));
    Step corrected = numbered_step(1, ActionSource::intervention);
    corrected.policy_action = Action{-0.5f, 0.25f, -1.0f};
    writer.append(corrected);
    writer.append(numbered_step(2, ActionSource::intervention));
    writer.end_episode(true, "success");
  }
  options_.interactions = {{.path = dir_ / "c.hdf5"}};
  const Dataset dataset(options_);
  EXPECT_EQ(dataset.sample_without_observation({1, 0, 1}).policy_actions,
            (ActionChunk{{-0.5f, 0.25f, -1.0f}}));
  EXPECT_TRUE(dataset.sample_without_observation({1, 0, 0}).policy_actions.empty());
  EXPECT_TRUE(dataset.sample_without_observation({1, 0, 2}).policy_actions.empty());
  EXPECT_EQ(dataset.sample({1, 0, 1}).take_over_number, 0);
}

}  // namespace
}  // namespace apo::data
