// What a picture of 224 x 224 x 3 costs on its way from the bytes of a request to the policy, and back.
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include <string>

#include "wire/field.h"
#include "wire/json_numpy.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace apo::wire {
namespace {

const Value& observation() {
  static const Value value = Map{{"image", array(torch::randint(256, {224, 224, 3}, at::kByte))},
                                 {"prompt", "put the block on the plate"}};
  return value;
}

void encode_msgpack(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(to_msgpack(observation()));
}
BENCHMARK(encode_msgpack)->Unit(benchmark::kMicrosecond);

void decode_msgpack(benchmark::State& state) {
  const std::string bytes = to_msgpack(observation());
  for (auto _ : state) benchmark::DoNotOptimize(from_msgpack(bytes, "request"));
}
BENCHMARK(decode_msgpack)->Unit(benchmark::kMicrosecond);

void encode_json(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(to_json(observation()));
}
BENCHMARK(encode_json)->Unit(benchmark::kMicrosecond);

void decode_json(benchmark::State& state) {
  const std::string text = to_json(observation());
  for (auto _ : state) benchmark::DoNotOptimize(from_json(text, "request"));
}
BENCHMARK(decode_json)->Unit(benchmark::kMicrosecond);

// `kind`: 0 uint8 with the channels last, 1 first, 2 float32 with the channels first
void picture(benchmark::State& state) {
  at::Tensor pixels = torch::randint(256, {224, 224, 3}, at::kByte);
  if (state.range(0) > 0) pixels = pixels.permute({2, 0, 1});
  if (state.range(0) > 1) pixels = pixels.to(at::kFloat) / 255;
  const Value value = array(pixels);
  for (auto _ : state) benchmark::DoNotOptimize(Field(&value).picture());
}
BENCHMARK(picture)->DenseRange(0, 2)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace apo::wire

BENCHMARK_MAIN();
