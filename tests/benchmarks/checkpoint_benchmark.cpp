// How much memory it takes to open, load and export a checkpoint, against the size of its files.
//
//   build/release/bin/checkpoint_benchmark
//
// Counters: file_MB; peak_MB, the resident memory's highest point above where it was before; peak_over_file,
// their ratio.
// Writes 512 MB of bfloat16 weights to the temporary directory, and for the exports as much again.
#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "apo/base/files.h"
#include "apo/models/export.h"
#include "apo/models/safetensors.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTensors = 16, kSide = 4096, kRank = 32;

// A Hugging Face directory and an adapter for all of its layers, made once.
class Checkpoint {
 public:
  Checkpoint() {
    const at::NoGradGuard no_grad;
    std::vector<TensorDeclaration> declared;
    NamedTensors parts;
    for (int64_t i = 0; i < kTensors; ++i) {
      const std::string layer = "layers." + std::to_string(i);
      declared.push_back({.name = layer + ".weight", .type = at::kBFloat16, .shape = {kSide, kSide}});
      parts.emplace_back("base_model.model." + layer + ".lora_A.weight", at::randn({kRank, kSide}));
      parts.emplace_back("base_model.model." + layer + ".lora_B.weight", at::randn({kSide, kRank}));
    }
    fs::create_directories(base);
    fs::create_directories(adapter);
    ShardedSafetensorsWriter writer(base, declared, 128 << 20);
    for (int64_t i = 0; i < kTensors; ++i) writer.write(at::randn({kSide, kSide}).to(at::kBFloat16));
    writer.finish();
    write_file_atomic(base / "config.json", "{}");
    write_safetensors(adapter / "adapter_model.safetensors", parts);
    write_file_atomic(adapter / "adapter_config.json",
                      R"({"peft_type": "LORA", "r": 32, "lora_alpha": 16, "bias": "none"})");
  }
  ~Checkpoint() {
    std::error_code ignored;
    fs::remove_all(root, ignored);
  }

  const fs::path root =
      fs::temp_directory_path() / ("apo-checkpoint-benchmark-" + std::to_string(::getpid()));
  const fs::path base = root / "base", adapter = root / "adapter", output = root / "output";
  static constexpr double kMegabytes = static_cast<double>(kTensors * kSide * kSide * 2) / 1e6;
};

const Checkpoint& checkpoint() {
  static const Checkpoint instance;
  return instance;
}

// A field of /proc/self/status in megabytes.
double status_megabytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) * 1024 / 1e6;
  return 0;
}

// Runs `work` and reports how far the resident memory rose meanwhile.
template <class Work>
void measure(benchmark::State& state, Work work) {
  checkpoint();
  double peak = 0;
  for (auto _ : state) {
    std::ofstream("/proc/self/clear_refs") << "5";  // forget the highest point
    const double before = status_megabytes("VmRSS");
    work();
    peak = std::max(peak, status_megabytes("VmHWM") - before);
  }
  state.counters["file_MB"] = Checkpoint::kMegabytes;
  state.counters["peak_MB"] = peak;
  state.counters["peak_over_file"] = peak / Checkpoint::kMegabytes;
}

void open_without_reading(benchmark::State& state) {
  measure(state, [] { benchmark::DoNotOptimize(SafetensorsReader(checkpoint().base).names()); });
}

// What a policy does that computes in the file's type: the weights are the mapped file.
void map_and_read_everything(benchmark::State& state) {
  measure(state, [] {
    const SafetensorsReader reader(checkpoint().base);
    std::vector<at::Tensor> weights;
    for (const std::string& name : reader.names()) weights.push_back(reader.tensor(name));
    for (const at::Tensor& weight : weights)
      benchmark::DoNotOptimize(weight.view(at::kShort).max().item<int64_t>());
  });
}

void export_streaming(benchmark::State& state, bool with_adapter) {
  measure(state, [&] {
    export_checkpoint(checkpoint().base, with_adapter ? checkpoint().adapter : fs::path(),
                      checkpoint().output, {.overwrite = true});
  });
}

BENCHMARK(open_without_reading)->Unit(benchmark::kMillisecond);
BENCHMARK(map_and_read_everything)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK_CAPTURE(export_streaming, plain, false)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK_CAPTURE(export_streaming, merged, true)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
}  // namespace apo::models

BENCHMARK_MAIN();
