#include "training/checkpoint.h"

#include <torch/types.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "base/paths.h"
#include "models/checkpoints/checkpoint_files.h"
#include "results/file_names.h"
#include "training/random_state.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int64_t kOldestStateVersion = 1, kStateVersion = 2;  // 1: without hashes

ordered_json to_json(const HeaviestSamples& heaviest) {
  ordered_json samples = ordered_json::array();
  for (const WeighedSample& s : heaviest.samples())
    samples.push_back({{"file", s.index.file},
                       {"episode", s.index.episode},
                       {"timestep", s.index.timestep},
                       {"source", static_cast<int>(s.source)},
                       {"desirable", s.desirable},
                       {"step", s.step},
                       {"lambda", s.lambda},
                       {"weight", s.weight},
                       {"reward", s.reward},  // NaN becomes null
                       {"action_l1", s.action_l1}});
  return {{"from_step", heaviest.from_step()}, {"samples", samples}};
}

ordered_json to_json(const TrainingState& state, const ScheduleOptions& schedule, double learning_rate) {
  return {{"version", kStateVersion},
          {"step", state.step},
          {"sampler_position", state.step},
          {"schedule", {{"type", schedule.type}, {"step", state.step}, {"learning_rate", learning_rate}}},
          {"metrics_bytes", state.metrics_bytes},
          {"samples_bytes", state.samples_bytes},
          {"data_fingerprint", state.data_fingerprint},
          {"policy_checkpoint", state.policy_checkpoint},
          {"policy_checkpoint_from_run", state.policy_checkpoint_from_run},
          {"policy_hash", state.policy_hash},
          {"frozen_hash", state.frozen_hash},
          {"reference_stored", state.reference_stored},
          {"metrics", state.metrics},
          {"cached_reference_hash", state.cached_reference_hash},
          {"reference_id", state.reference_id},
          {"heaviest", to_json(state.heaviest)}};
}

HeaviestSamples heaviest_of(const JsonField& json) {
  HeaviestSamples heaviest;
  std::vector<WeighedSample> samples;
  json["samples"].expect(json["samples"].present(), "a list");
  for (const JsonField& entry : json["samples"].list()) {
    WeighedSample s;
    s.index = {entry["file"].get<int32_t>(), entry["episode"].get<int32_t>(),
               entry["timestep"].get<int32_t>()};
    s.source =
        static_cast<ActionSource>(entry["source"].integer(0, static_cast<int>(ActionSource::intervention)));
    s.desirable = entry["desirable"].get<bool>();
    s.step = entry["step"].get<int64_t>();
    s.lambda = entry["lambda"].get<double>();
    s.weight = entry["weight"].get<double>();
    s.reward = entry["reward"].get_or(kAbsent);
    s.action_l1 = entry["action_l1"].get<double>();
    samples.push_back(s);
  }
  heaviest.restore(json["from_step"].get<int64_t>(), std::move(samples));
  return heaviest;
}

}  // namespace

int64_t size_bytes(const models::NamedTensors& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

std::vector<fs::path> whole_checkpoints(const fs::path& run_directory) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator entry(run_directory / "checkpoints", error), end; !error && entry != end;
       entry.increment(error))
    if (const auto step = models::step_of(entry->path()); step && is_whole_directory(entry->path()))
      found.emplace_back(*step, entry->path());
  std::ranges::sort(found, std::greater());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

fs::path checkpoint_path(const fs::path& run_directory, int64_t step) {
  return run_directory / "checkpoints" / concat("step-", step);
}

fs::path save_checkpoint(const fs::path& run_directory, const TrainingState& state,
                         const TrainingOptions& options, const models::Policy& policy,
                         const models::NamedTensors& optimizer, const models::NamedTensors& reference) {
  const fs::path path = checkpoint_path(run_directory, state.step), directory = path.parent_path();
  make_directory(directory);
  write_directory_atomic(path, [&](const fs::path& staging) {
    fs::create_directories(staging / "policy");
    policy.save(staging / "policy");
    models::NamedTensors tensors = optimizer;
    for (auto& [name, tensor] : generator_states(policy.device())) tensors.emplace_back(name, tensor);
    models::write_safetensors(staging / "training_state.safetensors", tensors);
    if (state.reference_stored) models::write_safetensors(staging / "reference.safetensors", reference);
    write_file_atomic(staging / results::kConfigFile, config::print(options));
    const auto rate = state.metrics.find("learning_rate");
    ordered_json json = to_json(state, options.schedule, rate == state.metrics.end() ? 0 : rate->second);
    json["files"] = models::file_hashes(staging);
    write_file_atomic(staging / results::kStateFile, models::sealed(json));
  });
  replace_link(directory / "latest", path.filename());
  return path;
}

std::optional<fs::path> newest_checkpoint(const fs::path& run_directory) {
  const std::vector<fs::path> all = whole_checkpoints(run_directory);
  if (all.empty()) return {};
  return all.front();
}

TrainingState read_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / results::kStateFile;
  const JsonFile json(path);
  const int64_t version = json["version"].integer(kOldestStateVersion, kStateVersion);
  models::check_seal(path, read_file(path), /*must=*/version == kStateVersion);
  TrainingState state;
  state.step = json["step"].get<int64_t>();
  state.metrics_bytes = json["metrics_bytes"].get<int64_t>();
  state.samples_bytes = json["samples_bytes"].get<int64_t>();
  state.data_fingerprint = json["data_fingerprint"].get<std::string>();
  state.policy_checkpoint = json["policy_checkpoint"].get<std::string>();
  state.policy_checkpoint_from_run =
      json["policy_checkpoint_from_run"].get_or(state.policy_checkpoint_from_run);
  state.policy_hash = json["policy_hash"].get<std::string>();
  state.frozen_hash = json["frozen_hash"].get_or<std::string>();
  state.cached_reference_hash = json["cached_reference_hash"].get_or<std::string>();
  state.reference_stored = json["reference_stored"].get<bool>();
  state.reference_id = json["reference_id"].get_or<std::string>();
  json["metrics"].expect(json["metrics"].present(), "the numbers of the last step");
  for (const auto& [name, metric] : json["metrics"].entries())
    if (metric.raw().is_number()) state.metrics[name] = metric.get<double>();
  if (json["heaviest"].present()) state.heaviest = heaviest_of(json["heaviest"]);
  return state;
}

void restore_training(const fs::path& checkpoint, Adam& optimizer, at::Device device) {
  const fs::path path = checkpoint / "training_state.safetensors";
  const models::SafetensorsReader file(path);
  optimizer.restore(file);
  models::NamedTensors streams;
  for (const auto& [name, current] : generator_states(device)) {
    if (!file.has(name)) {
      log_warn(path.string(), ": no random stream for this device; dropout starts anew");
      continue;
    }
    APO_CHECK(DataError, file.shape(name) == current.sizes().vec(), path.string(), ": ", name, ": expected ",
              current.sizes(), " bytes, found another shape");
    streams.emplace_back(name, file.tensor(name));
  }
  restore_generators(streams, device);
}

void restore_reference(const fs::path& checkpoint, const models::NamedTensors& reference) {
  const at::NoGradGuard no_grad;
  models::SafetensorsReader(checkpoint / "reference.safetensors").load_into(reference);
}

}  // namespace apo::training
