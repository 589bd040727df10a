// The built-in policy trained on recorded episodes: SFT, then APO from where the SFT ended on the CPU. On a
// CUDA device both runs are compared with the CPU's, column by column.
#include <ATen/Parallel.h>
#include <stdlib.h>
#include <torch/types.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/run_config.h"
#include "apo/training/trainer.h"
#include "gpu/check.h"
#include "support/temp_dir.h"

namespace apo::gpu {
namespace {

namespace fs = std::filesystem;

// What rounding may make of a run. Float32 sums in another order differ in the seventh digit; fifty updates
// spread that, since Adam divides small gradients by their size. The first steps hold tightly (a greedy token
// at a tie changes action_l1 by a bin), the later ones show that nothing drifts away.
constexpr size_t kFirstSteps = 3;
constexpr double kFirstLimit = 5e-3, kGreedyLimit = 5e-2, kLossLimit = 0.1;

using Columns = std::map<std::string, std::vector<double>>;

struct Trained {
  Columns columns;
  fs::path checkpoint;
  const std::vector<double>& operator[](const std::string& name) const { return columns.at(name); }
};

Trained train(const Options& options, const std::string& config, const fs::path& dir,
              const std::string& device, const fs::path& from) {
  std::vector<std::string> overrides{"run.dir=" + dir.string(), "run.device=" + device, "logging.level=warn"};
  if (!from.empty()) overrides.push_back("policy.checkpoint=" + from.string());
  if (options.small) overrides.push_back("train.max_steps=10");
  const auto run = config::load<RunConfig>(config::Document::from_file(options.data / config, overrides));
  Trained trained;
  trained.checkpoint = training::train(run.training).checkpoint / "policy";
  std::ifstream file(dir / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    for (const auto& [name, value] : row.items())
      trained.columns[name].push_back(value.is_number() ? value.get<double>()
                                                        : std::numeric_limits<double>::quiet_NaN());
  }
  return trained;
}

double mean(const std::vector<double>& values, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += values[i];
  return sum / static_cast<double>(end - begin);
}

// Finite, and lower at the end than at the beginning.
void check_loss(const std::string& name, const Trained& run, Item& item) {
  const std::vector<double>& loss = run["loss"];
  const size_t steps = loss.size(), part = std::max<size_t>(1, steps / 5);
  const double first = mean(loss, 0, part), last = mean(loss, steps - part, steps);
  item.put(name + "/steps", steps);
  item.put(name + "/loss_first", first);
  item.put(name + "/loss_last", last);
  item.expect(std::isfinite(first) && std::isfinite(last) && last < first,
              concat(name, ": expected a finite loss that falls, found ", first, " and then ", last));
  // the first steps are slower: libraries are loaded, memory is asked for
  const std::vector<double>& rate = run["samples_per_second"];
  item.put(name + "/samples_per_second",
           median({rate.begin() + static_cast<std::ptrdiff_t>(steps / 5), rate.end()}));
}

// |a - b| relative to the column's size; a number on one side alone is infinitely far.
double deviation(const std::vector<double>& ours, const std::vector<double>& theirs, size_t begin,
                 size_t end) {
  double size = 0, worst = 0;
  for (const double value : theirs)
    if (std::isfinite(value)) size = std::max(size, std::abs(value));
  for (size_t i = begin; i < end; ++i) {
    if (std::isnan(ours[i]) && std::isnan(theirs[i])) continue;
    const double off = ours[i] == theirs[i] ? 0 : std::abs(ours[i] - theirs[i]) / std::max(size, 1e-6);
    worst = std::max(worst, std::isnan(off) ? std::numeric_limits<double>::infinity() : off);
  }
  return worst;
}

void compare(const std::string& name, const Trained& ours, const Trained& theirs, Item& item) {
  const size_t steps = std::min(ours["loss"].size(), theirs["loss"].size());
  item.expect(ours["loss"].size() == theirs["loss"].size(),
              name + ": the runs have different numbers of steps");
  const size_t first = std::min(kFirstSteps, steps);
  for (const auto& [column, values] : theirs.columns) {
    if (column.ends_with("seconds") || column == "samples_per_second" || column == "memory_bytes") continue;
    const std::string path = name + "/relative_difference/" + column;
    item.at_most(path + "/first_steps", deviation(ours[column], values, 0, first),
                 column.starts_with("action_l1") || column.starts_with("num_") ? kGreedyLimit : kFirstLimit);
    item.put(path + "/all_steps", deviation(ours[column], values, 0, steps));
  }
  item.at_most(name + "/loss_difference_of_means",
               std::abs(mean(ours["loss"], 0, steps) / mean(theirs["loss"], 0, steps) - 1), kLossLimit);
}

}  // namespace

void check_tabletop(const Options& options, at::Device device, Item& item) {
  set_log_level(LogLevel::warn);
  const testing::TempDir directory;
  item.put("cpu_threads", at::get_num_threads());
  const Trained sft = train(options, "tabletop_sft.yaml", directory / "sft", "cpu", {});
  check_loss("cpu/sft", sft, item);
  const Trained apo = train(options, "tabletop_apo.yaml", directory / "apo", "cpu", sft.checkpoint);
  check_loss("cpu/apo", apo, item);
  item.progress();
  if (!device.is_cuda()) {  // a second run is the same to the last bit
    const Trained again = train(options, "tabletop_apo.yaml", directory / "again", "cpu", sft.checkpoint);
    compare("cpu_again/apo", again, apo, item);
    for (const char* column : {"loss", "grad_norm", "z0"})
      item.at_most(concat("cpu_again/apo/differs/", column),
                   deviation(again[column], apo[column], 0, apo["loss"].size()), 0);
    return;
  }

  const std::string name = device.str();
  const Trained cuda_sft = train(options, "tabletop_sft.yaml", directory / "cuda_sft", name, {});
  check_loss("cuda/sft", cuda_sft, item);
  const Trained cuda_apo = train(options, "tabletop_apo.yaml", directory / "cuda_apo", name, sft.checkpoint);
  check_loss("cuda/apo", cuda_apo, item);
  item.progress();
  compare("cuda_against_cpu/sft", cuda_sft, sft, item);
  compare("cuda_against_cpu/apo", cuda_apo, apo, item);
  const Trained again = train(options, "tabletop_apo.yaml", directory / "again_apo", name, sft.checkpoint);
  item.put("cuda_again/apo/loss_relative_difference",
           deviation(again["loss"], cuda_apo["loss"], 0, cuda_apo["loss"].size()));
}

}  // namespace apo::gpu
