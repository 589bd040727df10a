#include "training/run_output.h"

#include <chrono>
#include <cmath>

#include "apo/base/log.h"
#include "apo/config/options.h"
#include "results/file_names.h"
#include "training/heaviest.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

double wall_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

RunOutput::RunOutput(const TrainingOptions& options, const std::string& config_yaml, RunDirectory& directory,
                     const data::Dataset& dataset, const data::PoolSampler& sampler,
                     const models::Policy& policy, TrainingState& state, int64_t total_steps)
    : options_(options), directory_(directory), dataset_(dataset), state_(state), total_steps_(total_steps) {
  directory_.begin(config_yaml.empty() ? config::print(options_, /*comments=*/true) : config_yaml);
  write_label_counts(directory_.path(), dataset_, sampler.counts());
  const bool resumed = directory_.resume_from().has_value();
  metrics_file_ =
      std::make_unique<LineWriter>(directory_ / results::kMetricsFile, resumed ? state_.metrics_bytes : 0);
  if (options_.logging.per_sample)
    samples_file_ =
        std::make_unique<LineWriter>(directory_ / results::kSamplesFile, resumed ? state_.samples_bytes : 0);
  else if (resumed && fs::exists(directory_ / results::kSamplesFile))
    LineWriter(directory_ / results::kSamplesFile,
               state_.samples_bytes);  // cuts what the checkpoint does not know
  guard_ = make_guard(options_, policy);
  if (guard_ && resumed) guard_->replay(directory_ / results::kMetricsFile);
  if (options_.logging.tensorboard && state_.step < total_steps_)
    events_ =
        std::make_unique<EventFile>(directory_ / "tensorboard", resumed ? state_.step + 1 : 0, wall_time_s(),
                                    [this](const fs::path& file) { directory_.claim(file); });
}

std::string RunOutput::add(const Metrics& metrics, const std::vector<data::Sample>& samples,
                           const BatchOutcome& outcome) {
  tally_.add(outcome);
  state_.heaviest.add(state_.step, total_steps_, samples, outcome);
  metrics_file_->append(metrics_line(metrics));
  if (samples_file_)
    for (const std::string& line : sample_lines(state_.step, dataset_, samples, outcome))
      samples_file_->append(line);
  Metrics scalars;
  for (const auto& [name, value] : metrics)
    if (!std::isnan(value) && name != "step") scalars.emplace_back(name, value);
  if (events_) events_->add_scalars(state_.step, wall_time_s(), scalars);
  if (state_.step % options_.logging.every == 0 || state_.step == total_steps_)
    log_info("step ", state_.step, "/", total_steps_, "  ",
             summary(metrics, {"loss", "z0", "reward_desirable", "reward_undesirable", "action_l1_desirable",
                               "grad_norm", "learning_rate", "samples_per_second"}));
  return watch(guard_, metrics, options_);
}

void RunOutput::note_sizes() {
  state_.metrics_bytes = metrics_file_->size();
  if (samples_file_) state_.samples_bytes = samples_file_->size();
}

void RunOutput::show_heaviest_samples() {
  try {
    directory_.fill("heaviest", [&] {
      write_heaviest_samples(directory_.path(), state_.heaviest, state_.step, dataset_);
    });
  } catch (const std::exception& error) {
    log_warn("no pictures of the heaviest samples: ", error.what());
  }
}

}  // namespace apo::training
