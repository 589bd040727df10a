// Threads change when a batch is made, never what is in it.
#include "apo/data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <atomic>
#include <map>
#include <set>

#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::TempDir;
using ::testing::HasSubstr;

struct Recorded {
  explicit Recorded(const TempDir& dir) {
    write_recording(dir / "a.hdf5", {"ppppphhppp", "pppphhhp"});
    options.interactions.emplace_back().path = (dir / "a.hdf5").string();
    options.labels.steps_before_intervention = 3;
    options.augmentation = {.enabled = true,
                            .random_resized_crop_scale = 0.6,
                            .shift_px = 2,
                            .brightness = 0.2,
                            .contrast = 0.2,
                            .saturation = 0.2,
                            .hue = 0.1};
  }
  DataOptions options;
};

std::vector<Batch> batches(const DataOptions& options, int64_t workers, bool cache, int64_t first,
                           int64_t n) {
  DataOptions copy = options;
  copy.loader.workers = workers;
  copy.loader.cache = cache;
  const Dataset dataset(copy);
  const PoolSampler sampler(dataset, copy.pools, 8, 11);
  Loader loader(dataset, sampler, copy, 11, first,
                [](Observation& o) { o.images["front"] = pictures::resize(o.images.at("front"), 8, 8); });
  std::vector<Batch> result;
  for (int64_t i = 0; i < n; ++i) result.push_back(loader.next());
  return result;
}

void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].position, b[i].position);
    ASSERT_EQ(a[i].samples.size(), b[i].samples.size());
    for (size_t k = 0; k < a[i].samples.size(); ++k) {
      const Sample &x = a[i].samples[k], &y = b[i].samples[k];
      EXPECT_EQ(x.index, y.index);
      EXPECT_EQ(x.actions, y.actions);
      EXPECT_EQ(x.desirable, y.desirable);
      EXPECT_EQ(x.dimension_credit, y.dimension_credit);
      EXPECT_EQ(x.observation.state, y.observation.state);
      EXPECT_EQ(x.observation.instruction, y.observation.instruction);
      EXPECT_TRUE(at::equal(x.observation.images.at("front"), y.observation.images.at("front")));
    }
  }
}

// Whatever batch, run and thread it comes in; and no two samples share theirs.
TEST(Loader, WithDrawsASampleIsChangedInSoManyWays) {
  TempDir dir;
  Recorded recorded(dir);
  recorded.options.augmentation.draws = 3;
  std::map<std::array<int32_t, 3>, std::set<std::string>> ways;  // by file, episode, timestep
  const auto look = [&](const std::vector<Batch>& all) {
    for (const Batch& batch : all)
      for (const Sample& sample : batch.samples) {
        const at::Tensor picture = sample.observation.images.at("front").contiguous();
        const StepIndex& at = sample.index;
        ways[{at.file, at.episode, at.timestep}].emplace(static_cast<const char*>(picture.const_data_ptr()),
                                                         picture.nbytes());
      }
  };
  look(batches(recorded.options, 0, false, 0, 40));
  look(batches(recorded.options, 3, true, 1000, 40));
  std::set<std::string> all;
  size_t count = 0;
  for (const auto& [index, of_sample] : ways) {
    EXPECT_EQ(of_sample.size(), 3u) << index[2];
    all.insert(of_sample.begin(), of_sample.end());
    count += of_sample.size();
  }
  EXPECT_EQ(all.size(), count);
}

TEST(Loader, GivesTheSameForAnyNumberOfWorkers) {
  TempDir dir;
  const Recorded recorded(dir);
  const auto alone = batches(recorded.options, 0, false, 0, 12);
  EXPECT_EQ(alone[0].samples[0].observation.images.at("front").sizes(), (std::vector<int64_t>{8, 8, 3}));
  expect_equal(alone, batches(recorded.options, 1, false, 0, 12));
  expect_equal(alone, batches(recorded.options, 4, false, 0, 12));
  // the cache must not keep augmented pictures
  expect_equal(alone, batches(recorded.options, 4, true, 0, 12));
  expect_equal(alone, batches(recorded.options, 0, true, 0, 12));
}

TEST(Loader, ResumesAtAnyPosition) {
  TempDir dir;
  const Recorded recorded(dir);
  const auto all = batches(recorded.options, 2, true, 0, 9);
  expect_equal({all.begin() + 5, all.end()}, batches(recorded.options, 3, true, 5, 4));
}

TEST(Loader, AugmentsEverySlotAnew) {
  TempDir dir;
  Recorded recorded(dir);
  const auto augmented = batches(recorded.options, 0, true, 0, 6);
  recorded.options.augmentation.enabled = false;
  const auto plain = batches(recorded.options, 0, true, 0, 6);
  int64_t changed = 0, total = 0;
  for (size_t b = 0; b < plain.size(); ++b)
    for (size_t k = 0; k < plain[b].samples.size(); ++k, ++total)
      changed += !at::equal(plain[b].samples[k].observation.images.at("front"),
                            augmented[b].samples[k].observation.images.at("front"));
  EXPECT_GT(changed, total * 9 / 10);
}

TEST(Loader, AugmentsAStepAnewInEveryBatch) {
  TempDir dir;
  const Recorded recorded(dir);
  std::map<std::pair<int32_t, size_t>, std::vector<at::Tensor>> seen;  // by step and slot
  for (const Batch& batch : batches(recorded.options, 0, true, 0, 40))
    for (size_t k = 0; k < batch.samples.size(); ++k)
      if (batch.samples[k].index.episode == 0)
        seen[{batch.samples[k].index.timestep, k}].push_back(batch.samples[k].observation.images.at("front"));
  int64_t repeats = 0;
  for (const auto& [key, images] : seen) {
    for (size_t i = 1; i < images.size(); ++i, ++repeats) EXPECT_FALSE(at::equal(images[0], images[i]));
  }
  EXPECT_GT(repeats, 20);
}

TEST(Loader, ThrowsInTheCallerWhatAWorkerThrew) {
  TempDir dir;
  const Recorded recorded(dir);
  for (const int64_t workers : {0, 1, 3}) {
    DataOptions options = recorded.options;
    options.loader.workers = workers;
    options.loader.cache = false;
    const Dataset dataset(options);
    const PoolSampler sampler(dataset, options.pools, 4, 1);
    Loader loader(dataset, sampler, options, 1, 0, [](Observation&) { throw DataError("no such camera"); });
    EXPECT_THAT(data_error([&] { loader.next(); }), HasSubstr("no such camera"));
  }
}

TEST(Loader, ReadsNoPicturesButThoseThatThePolicySees) {
  TempDir dir;
  write_damaged_wrist(dir / "a.hdf5");
  DataOptions options;
  options.expert.push_back({.path = (dir / "a.hdf5").string()});
  options.pools = {.desirable = 1, .intervention = 0, .undesirable = 0};
  options.augmentation.enabled = false;
  const auto cameras_of_a_pass = [&] {
    const Dataset dataset(options);
    const PoolSampler sampler(dataset, options.pools, 6, 1);
    Loader loader(dataset, sampler, options, 1, 0, nullptr);
    std::set<std::string> cameras;
    for (const Sample& sample : loader.next().samples)
      for (const auto& [camera, image] : sample.observation.images) cameras.insert(camera);
    return cameras;
  };
  EXPECT_THAT(data_error([&] { cameras_of_a_pass(); }),
              HasSubstr("wrist_image row 3: expected numbers 0..1, found a value of 1.5"));
  options.policy_cameras = {"front"};
  EXPECT_EQ(cameras_of_a_pass(), std::set<std::string>{"front"});
}

TEST(Loader, StopsWhileWorkersAreBusy) {
  TempDir dir;
  const Recorded recorded(dir);
  DataOptions options = recorded.options;
  options.loader.workers = 3;
  options.loader.prefetch = 50;
  const Dataset dataset(options);
  const PoolSampler sampler(dataset, options.pools, 8, 1);
  std::atomic<int64_t> prepared = 0;
  {
    Loader loader(dataset, sampler, options, 1, 0, [&](Observation&) { ++prepared; });
    loader.next();
  }  // joins, although 50 batches were asked for
  EXPECT_GT(prepared, 0);
}

}  // namespace
}  // namespace apo::data
