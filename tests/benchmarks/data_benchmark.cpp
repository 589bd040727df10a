// How fast pictures are augmented and resized, on one core, and batches loaded that no model learns from.
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include <filesystem>

#include "apo/base/random.h"
#include "apo/data/loader.h"
#include "apo/data/trajectory.h"
#include "apo/pictures/transforms.h"

namespace {

using apo::pictures::AugmentationOptions;

at::Tensor picture(int64_t size) { return at::randint(0, 256, {size, size, 3}, at::kLong).to(at::kByte); }

void augment(benchmark::State& state, const AugmentationOptions& options) {
  const at::Tensor image = picture(state.range(0));
  uint64_t slot = 0;
  for (auto _ : state) {
    apo::Random random(1, "slot", slot++);
    benchmark::DoNotOptimize(apo::pictures::augment(image, options, random));
  }
  state.SetItemsProcessed(state.iterations());
}

void augment_light(benchmark::State& state) {
  augment(state, {.shift_px = 2, .brightness = 0.1, .contrast = 0.1});
}
BENCHMARK(augment_light)->Arg(64)->Arg(224);

void augment_all(benchmark::State& state) {
  augment(state, {.random_resized_crop_scale = 0.9,
                  .shift_px = 2,
                  .brightness = 0.2,
                  .contrast = 0.2,
                  .saturation = 0.2,
                  .hue = 0.05});
}
BENCHMARK(augment_all)->Arg(64)->Arg(224);

void resize(benchmark::State& state) {
  const at::Tensor image = picture(256);
  for (auto _ : state) benchmark::DoNotOptimize(apo::pictures::resize(image, state.range(0), state.range(0)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(resize)->Arg(64)->Arg(224);

// Recorded pictures of 256 x 256 as OpenVLA's configs prepare and augment them, in batches of 8, by one
// worker; read from the file each time, or found in memory.
void load(benchmark::State& state) {
  constexpr int64_t kSteps = 64, kBatch = 8;
  const auto file = std::filesystem::temp_directory_path() / "apo_data_benchmark.hdf5";
  std::filesystem::remove(file);
  {
    apo::data::TrajectoryWriter writer(
        file, {.environment_name = "benchmark", .environment_config = "", .policy = "", .policy_hash = ""});
    writer.begin_episode("lift the block");
    for (int64_t i = 0; i < kSteps; ++i) {
      apo::Step step;
      step.observation.images["front"] = picture(256);
      step.action = std::vector<float>(7, 0.5f);
      step.source = apo::ActionSource::expert;
      writer.append(step);
    }
    writer.end_episode(true, "success");
  }
  apo::data::DataOptions options;
  options.expert = {{.path = file.string()}};
  options.pools = {.desirable = 1, .intervention = 0, .undesirable = 0};
  options.augmentation = {.enabled = true,
                          .random_resized_crop_scale = 0.9,
                          .brightness = 0.2,
                          .contrast = 0.2,
                          .saturation = 0.2,
                          .hue = 0.05};
  options.loader = {.workers = 1, .prefetch = 4, .cache = state.range(0) != 0};
  const apo::data::Dataset dataset(options);
  const apo::data::PoolSampler sampler(dataset, options.pools, kBatch, 1);
  apo::data::Loader loader(dataset, sampler, options, 1, 0, [](apo::Observation& observation) {
    for (auto& [camera, image] : observation.images) image = apo::pictures::resize(image, 224, 224);
  });
  for (int64_t i = 0; i < 2 * kSteps / kBatch; ++i) loader.next();
  for (auto _ : state) benchmark::DoNotOptimize(loader.next().samples.size());
  state.SetItemsProcessed(state.iterations() * kBatch);
  std::filesystem::remove(file);
}
BENCHMARK(load)->ArgName("cache")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
BENCHMARK_MAIN();
