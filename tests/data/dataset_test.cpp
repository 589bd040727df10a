// Sources, pools and batches: which steps a run learns from, and in which order.
#include "apo/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <map>
#include <set>

#include "apo/config/options.h"
#include "apo/data/sampler.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

DataOptions two_sources(const TempDir& dir) {
  write_recording(dir / "expert.hdf5", {"eeeee", "eee"}, "lift the cube");
  write_recording(dir / "deployed.hdf5", {"ppppphhp", "pppp"}, "push the cube");
  DataOptions options;
  options.expert.push_back({.path = (dir / "expert.hdf5").string()});
  options.interactions.push_back({.path = (dir / "deployed.hdf5").string()});
  options.labels.steps_before_intervention = 2;
  return options;
}

TEST(Dataset, SortsStepsIntoPools) {
  TempDir dir;
  const Dataset dataset(two_sources(dir));
  EXPECT_EQ(dataset.num_files(), 2);
  EXPECT_EQ(dataset.num_episodes(), 4);
  EXPECT_EQ(dataset.action_size(), 3);
  EXPECT_EQ(dataset.pool(Pool::desirable).size(), 8u + 3 + 1 + 4);  // demonstrations, ppp, p after, pppp
  EXPECT_EQ(dataset.pool(Pool::intervention), (std::vector<StepIndex>{{1, 0, 5}, {1, 0, 6}}));
  EXPECT_EQ(dataset.pool(Pool::undesirable), (std::vector<StepIndex>{{1, 0, 3}, {1, 0, 4}}));
  EXPECT_EQ(dataset.counts(), (LabelCounts{{"expert/desirable: demonstration", 8},
                                           {"interactions/desirable: policy", 8},
                                           {"interactions/intervention: human correction", 2},
                                           {"interactions/undesirable: before take-over", 2},
                                           {"interactions/take-over: whole window", 1}}));
  EXPECT_EQ(dataset.instructions(), (std::vector<std::string>{"lift the cube", "push the cube"}));
  EXPECT_EQ(dataset.kept_steps().size(), 20u);
  EXPECT_EQ(dataset.kept_steps(true).size(), 8u);
  EXPECT_TRUE(dataset.is_expert(0));
  EXPECT_FALSE(dataset.is_expert(1));
  EXPECT_EQ(dataset.episode_name(1, 1), "demo_1");
  EXPECT_EQ(dataset.file_path(1), dir / "deployed.hdf5");
}

// The recording of `two_sources` in metres: the same motions at a hundredth.
TEST(Dataset, RefusesASourceOfWhichFiltersLeaveOutNearlyAll) {
  TempDir dir;
  DataOptions options = two_sources(dir);
  Dataset(options).expect_enough_kept();
  {
    TrajectoryWriter writer(dir / "metres.hdf5", test_info());
    writer.begin_episode("lift the cube");
    for (int64_t id = 0; id < 20; ++id) {
      Step step = numbered_step(id, ActionSource::expert);
      step.action = {0.003f, 0.004f, id < 19 ? 1.0f : 0.0f};  // the hand moves once
      writer.append(step);
    }
    writer.end_episode(true, "");
  }
  options.expert.push_back({.path = (dir / "metres.hdf5").string()});
  EXPECT_THAT(data_error([&] { Dataset(options).expect_enough_kept(); }),
              AllOf(HasSubstr("metres.hdf5: filters leave out 19 of 20 steps"),
                    HasSubstr("data.filter.min_motion 0.05")));
  options.filter.max_share = 0.95;
  Dataset(options).expect_enough_kept();
}

TEST(Dataset, CompatibilityDecidesWhereFiltersStand) {
  TempDir dir;
  DataOptions options = two_sources(dir);
  options.filter.min_motion = 0.85;  // step t moves by t / 10 + 0.5: the first four are idle
  EXPECT_EQ(Dataset(options).pool(Pool::undesirable), (std::vector<StepIndex>{{1, 0, 3}, {1, 0, 4}}));
  options.compatibility = DataCompatibility::released_code;
  EXPECT_EQ(Dataset(options).pool(Pool::undesirable), (std::vector<StepIndex>{{1, 0, 4}}));
}

TEST(Dataset, GivesWholeSamples) {
  TempDir dir;
  const Dataset dataset(two_sources(dir));
  const Sample sample = dataset.sample({1, 0, 4});
  const Step recorded = numbered_step(4);
  EXPECT_EQ(sample.actions.front(), recorded.action);
  EXPECT_EQ(sample.source, ActionSource::policy);
  EXPECT_FALSE(sample.desirable);
  EXPECT_EQ(sample.dimension_credit.size(), 3u);
  EXPECT_EQ(sample.observation.instruction, "push the cube");
  EXPECT_TRUE(at::equal(sample.observation.images.at("front"), recorded.observation.images.at("front")));
  EXPECT_EQ(sample.observation.state, recorded.observation.state);
  EXPECT_TRUE(dataset.sample_without_observation({1, 0, 4}).observation.images.empty());
  EXPECT_EQ(dataset.state({1, 0, 4}).state, recorded.observation.state);
  EXPECT_TRUE(dataset.sample({1, 0, 5}).desirable);
  EXPECT_EQ(dataset.sample({1, 0, 5}).source, ActionSource::intervention);
}

TEST(Dataset, GivesThePicturesThatThePolicySees) {
  TempDir dir;
  write_damaged_wrist(dir / "a.hdf5");
  DataOptions options;
  options.expert.push_back({.path = (dir / "a.hdf5").string()});
  const auto cameras = [&](std::vector<std::string> seen) {
    options.policy_cameras = std::move(seen);
    std::vector<std::string> names;
    for (const auto& [camera, image] : Dataset(options).sample({0, 0, 1}).observation.images)
      names.push_back(camera);
    return names;
  };
  const std::vector<std::string> both{"front", "wrist"};
  EXPECT_EQ(cameras({"front"}), std::vector<std::string>{"front"});
  EXPECT_EQ(cameras({}), both);
  EXPECT_EQ(cameras({"front", "top"}), both);  // for the message of who needs top
}

TEST(Dataset, LimitAndInstructionOfASource) {
  TempDir dir;
  DataOptions options = two_sources(dir);
  options.interactions[0].limit = 1;
  options.interactions[0].instruction = "do it";
  const Dataset dataset(options);
  EXPECT_EQ(dataset.num_episodes(), 3);
  EXPECT_EQ(dataset.sample({1, 0, 0}).observation.instruction, "do it");
}

TEST(Dataset, RefusesNanThatTheFiltersKeep) {
  TempDir dir;
  const auto write = [&dir](const std::vector<float>& actions) {
    hdf5::Group data = hdf5::Group::create(dir / "nan.hdf5").create_group("data");
    data.set_attribute("task_description", "lift");
    hdf5::Group demo = data.create_group("demo_0");
    demo.write("actions", actions, {2, 3});
    demo.create_group("obs");
  };
  DataOptions options;
  options.expert.push_back({.path = (dir / "nan.hdf5").string()});
  write({0.1f, 0.2f, 1, 0.1f, std::nanf(""), 1});
  EXPECT_THAT(data_error([&] { Dataset{options}; }),
              HasSubstr("nan.hdf5: action of demo_0 timestep 1: expected finite numbers, found NaN"));
  write({0.1f, 0.2f, 1, 7.0f, std::nanf(""), INFINITY});  // out of range: skipped and counted
  EXPECT_EQ(Dataset(options).counts().at("expert/skipped: action out of range"), 1);
  options.filter.max_abs_action = INFINITY;  // nothing is out of range
  write({0.1f, 0.2f, 1, 7.0f, INFINITY, 1});
  EXPECT_THAT(data_error([&] { Dataset{options}; }),
              HasSubstr("nan.hdf5: action of demo_0 timestep 1: expected finite numbers, found infinity"));
}

TEST(Dataset, RefusesFilesThatDisagree) {
  TempDir dir;
  DataOptions options = two_sources(dir);
  {
    TrajectoryWriter writer(dir / "six.hdf5", test_info());
    Step step = numbered_step(0);
    step.action.resize(6, 0.5f);
    writer.begin_episode("lift");
    writer.append(step);
    writer.end_episode(true, "");
  }
  options.interactions.push_back({.path = (dir / "six.hdf5").string()});
  EXPECT_THAT(
      data_error([&] { Dataset{options}; }),
      AllOf(HasSubstr("six.hdf5"), HasSubstr("expected 3 numbers as in"), HasSubstr("expert.hdf5, found 6")));
}

TEST(Dataset, ExpandsFilesDirectoriesAndGlobs) {
  TempDir dir;
  for (const char* name : {"b10.hdf5", "b2.hdf5", "a.h5", "notes.txt", "b2.hdf5.journal"})
    std::ofstream(dir / name) << "x";
  const auto names = [](const SourceOptions& source) {
    std::vector<std::string> names;
    for (const auto& path : expand_source(source)) names.push_back(path.filename());
    return names;
  };
  EXPECT_EQ(names({.path = dir.path().string()}), (std::vector<std::string>{"a.h5", "b2.hdf5", "b10.hdf5"}));
  EXPECT_EQ(names({.path = (dir / "b*").string()}), (std::vector<std::string>{"b2.hdf5", "b10.hdf5"}));
  EXPECT_EQ(names({.path = (dir / "a.h5").string()}), (std::vector<std::string>{"a.h5"}));
  EXPECT_THAT(data_error([&] { names({.path = (dir / "c*.hdf5").string()}); }),
              HasSubstr("c*.hdf5: no file matches"));
  EXPECT_THAT(data_error([&] { names({.path = (dir / "c.hdf5").string()}); }),
              HasSubstr("c.hdf5: no such file"));
  std::filesystem::create_directory(dir / "none");
  EXPECT_THAT(data_error([&] { names({.path = (dir / "none").string()}); }),
              HasSubstr("none: expected a directory with *.hdf5 or *.h5 files, found none"));
  EXPECT_THAT(config_error([&] { names({}); }), HasSubstr("no `path`"));
}

TEST(DataOptions, ReadFromYaml) {
  TempDir dir;
  const auto options = config::load<DataOptions>(config::Document::from_text(
      "expert:\n  - {path: demos/*.hdf5, format: released-demo, instruction: make coffee, limit: 5}\n"
      "labels: {steps_before_intervention: 6, failed_episodes: undesirable-tail}\n"
      "filter: {max_abs_action: 2}\n"
      "compatibility: released-code\n"
      "augmentation: {random_resized_crop_scale: 0.9, hue: 0.05}\n",
      {"pools.undesirable=0"}, dir.path()));
  EXPECT_EQ(options.expert.at(0).path, (dir / "demos/*.hdf5").string());
  EXPECT_EQ(options.expert[0].format, TrajectoryFormat::released_demo);
  EXPECT_EQ(options.labels.steps_before_intervention, 6);
  EXPECT_EQ(options.labels.failed_episodes, FailedEpisodes::undesirable_tail);
  EXPECT_EQ(options.filter.max_abs_action, 2);
  EXPECT_EQ(options.filter.min_motion, 0.05);
  EXPECT_EQ(options.filter.max_share, 0.9);
  EXPECT_EQ(options.compatibility, DataCompatibility::released_code);
  EXPECT_EQ(options.pools.undesirable, 0);
  EXPECT_EQ(options.augmentation.hue, 0.05);
  EXPECT_EQ(config::print(options),
            config::print(config::load<DataOptions>(config::Document::from_text(config::print(options)))));
  for (const char* bad :
       {"labels: {steps_before_intervention: -1}", "augmentation: {random_resized_crop_scale: 0}",
        "pools: {desirable: -0.1}", "filter: {max_share: 0}", "compatibility: relaesed",
        "expert: [{path: x, format: zarr}]"})
    config_error([bad] { config::load<DataOptions>(config::Document::from_text(bad)); });
}

std::map<int, int> shares_of(const Dataset& dataset, const std::vector<StepIndex>& batch) {
  std::map<int, int> shares;
  for (const StepIndex& index : batch) {
    const StepLabel label = dataset.label(index).label;
    ++shares[label == StepLabel::desirable ? 0 : label == StepLabel::intervention ? 1 : 2];
  }
  return shares;
}

DataOptions many_steps(const TempDir& dir) {
  write_recording(dir / "expert.hdf5", {"eeeeeeeeeeeeeeeeeeeee"});
  write_recording(dir / "deployed.hdf5", {"ppppppphhhhhpppphhpppph"});
  DataOptions options;
  options.expert.push_back({.path = (dir / "expert.hdf5").string()});
  options.interactions.push_back({.path = (dir / "deployed.hdf5").string()});
  options.labels.steps_before_intervention = 3;
  return options;
}

TEST(PoolSampler, SharesOfEveryBatch) {
  TempDir dir;
  const Dataset dataset(many_steps(dir));
  const PoolSampler sampler(dataset, {}, 16, 1);
  EXPECT_EQ(sampler.counts(), (std::array<int64_t, 3>{8, 4, 4}));
  for (int64_t n = 0; n < 20; ++n)
    EXPECT_EQ(shares_of(dataset, sampler.batch(n)), (std::map<int, int>{{0, 8}, {1, 4}, {2, 4}}));
  EXPECT_EQ(sampler.batches_per_epoch(), 2);  // 8 human steps, 4 a batch
  // shares are normalised, and rounding gives the whole batch away: 10 * (1/2, 1/3, 1/6) = 5, 3.33, 1.67
  EXPECT_EQ(PoolSampler(dataset, {.desirable = 3, .intervention = 2, .undesirable = 1}, 10, 1).counts(),
            (std::array<int64_t, 3>{5, 3, 2}));
  EXPECT_EQ(
      PoolSampler(dataset, {.desirable = 1, .intervention = 0, .undesirable = 0}, 10, 1).batches_per_epoch(),
      (static_cast<int64_t>(dataset.pool(Pool::desirable).size()) + 9) / 10);
}

TEST(PoolSampler, IsAPureFunctionOfSeedAndPosition) {
  TempDir dir;
  const Dataset dataset(many_steps(dir));
  const PoolSampler sampler(dataset, {}, 8, 7), twin(dataset, {}, 8, 7), other(dataset, {}, 8, 8);
  const auto late = sampler.batch(100);
  for (int64_t n = 0; n < 5; ++n) EXPECT_EQ(sampler.batch(n), twin.batch(n));
  EXPECT_EQ(twin.batch(100), late);
  EXPECT_NE(other.batch(100), late);
  EXPECT_NE(sampler.batch(0), sampler.batch(1));
}

TEST(PoolSampler, EveryPassTakesEachStepOnce) {
  TempDir dir;
  const Dataset dataset(many_steps(dir));
  const PoolSampler sampler(dataset, {.desirable = 0, .intervention = 1, .undesirable = 0}, 4, 3);
  const size_t n = dataset.pool(Pool::intervention).size();
  ASSERT_EQ(n % 4, 0u);
  std::set<std::set<int32_t>> first_batches;
  for (int64_t pass = 0; pass < 6; ++pass) {
    std::set<int32_t> seen;
    for (int64_t b = 0; b < static_cast<int64_t>(n) / 4; ++b) {
      for (const StepIndex& index : sampler.batch(pass * static_cast<int64_t>(n) / 4 + b))
        seen.insert(index.timestep);
      if (b == 0) first_batches.insert(seen);
    }
    EXPECT_EQ(seen.size(), n);
  }
  EXPECT_GE(first_batches.size(), 4u);  // in a new order each time: 70 ways to choose 4 of 8
}

TEST(PoolSampler, PoolsMixWithinABatch) {
  TempDir dir;
  const Dataset dataset(many_steps(dir));
  const PoolSampler sampler(dataset, {}, 8, 5);
  std::set<int> first;  // which pool the first slot comes from
  for (int64_t n = 0; n < 40; ++n) first.insert(shares_of(dataset, {sampler.batch(n)[0]}).begin()->first);
  EXPECT_EQ(first, (std::set<int>{0, 1, 2}));
}

TEST(PoolSampler, RefusesSharesThatCannotBeHad) {
  TempDir dir;
  write_recording(dir / "expert.hdf5", {"eeee"});
  DataOptions options;
  options.expert.push_back({.path = (dir / "expert.hdf5").string()});
  const Dataset dataset(options);
  EXPECT_THAT(config_error([&] { PoolSampler(dataset, {}, 16, 1); }),
              AllOf(HasSubstr("data.pools.intervention is 0.25, but the intervention pool is empty")));
  EXPECT_THAT(config_error([&] {
                PoolSampler(dataset, {.desirable = 1, .intervention = 0, .undesirable = 0.5}, 16, 1);
              }),
              HasSubstr("data.pools.undesirable is 0.5"));
  EXPECT_THAT(config_error([&] {
                PoolSampler(dataset, {.desirable = 0, .intervention = 0, .undesirable = 0}, 16, 1);
              }),
              HasSubstr("data.pools: expected shares with a positive sum"));
  EXPECT_THAT(config_error(
                  [&] { PoolSampler(dataset, {.desirable = 1, .intervention = 0, .undesirable = 0}, 0, 1); }),
              HasSubstr("train.batch_size: expected at least 1, found 0"));
  EXPECT_EQ(
      PoolSampler(dataset, {.desirable = 1, .intervention = 0, .undesirable = 0}, 16, 1).batch(0).size(),
      16u);
  const Dataset full(many_steps(dir));
  EXPECT_THAT(
      config_error(
          [&] { PoolSampler(full, {.desirable = 1, .intervention = 1, .undesirable = 0.01}, 4, 1); }),
      HasSubstr("data.pools.undesirable is 0.01 of 2.01, which rounds to no sample at train.batch_size 4"));
}

TEST(Dataset, GivesChunksOfThePolicysHorizon) {
  TempDir dir;
  Dataset dataset(two_sources(dir));
  EXPECT_EQ(dataset.sample({0, 0, 0}).actions.size(), 1u);
  dataset.set_horizon(3);
  const Sample sample = dataset.sample({0, 0, 0});
  ASSERT_EQ(sample.actions.size(), 3u);
  for (int64_t t = 0; t < 3; ++t) EXPECT_EQ(sample.actions[static_cast<size_t>(t)], numbered_step(t).action);
}

// Whole chunks are filled up, and those that reach into a window are left out of training.
TEST(Dataset, LeavesOutWholeChunksThatReachIntoAWindow) {
  TempDir dir;
  for (const ChunkOverlap overlap : {ChunkOverlap::leave_out, ChunkOverlap::keep}) {
    DataOptions options = two_sources(dir);
    options.labels.chunk_overlap = overlap;
    Dataset dataset(options);
    const auto all = dataset.pool(Pool::desirable);
    const LabelCounts before = dataset.counts();
    std::vector<StepIndex> reaching;
    for (const StepIndex& index : all)
      if (reaches_undesirable(
              dataset.record(index.file, index.episode),
              [&] {
                std::vector<LabelledStep> steps;
                for (size_t t = 0; t < dataset.record(index.file, index.episode).actions.size(); ++t)
                  steps.push_back(dataset.label({index.file, index.episode, static_cast<int32_t>(t)}));
                return steps;
              }(),
              index.timestep, 4))
        reaching.push_back(index);
    ASSERT_FALSE(reaching.empty());
    dataset.set_horizon(4, ChunkRule::whole);
    EXPECT_EQ(dataset.sample(all.back()).actions.size(), 4u);
    const std::string key = "interactions/skipped: chunk reaches into an undesirable window";
    if (overlap == ChunkOverlap::keep) {
      EXPECT_EQ(dataset.pool(Pool::desirable), all);
      EXPECT_EQ(dataset.counts(), before);
      continue;
    }
    EXPECT_EQ(dataset.pool(Pool::desirable).size(), all.size() - reaching.size());
    EXPECT_EQ(dataset.counts().at(key), std::ssize(reaching));
    EXPECT_EQ(dataset.label(reaching.front()).label, StepLabel::skipped);
  }
}

}  // namespace
}  // namespace apo::data
