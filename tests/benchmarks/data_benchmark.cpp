// How fast pictures are augmented and resized, on one core.
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include "apo/base/random.h"
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

}  // namespace
BENCHMARK_MAIN();
