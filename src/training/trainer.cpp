#include "apo/training/trainer.h"

#include <torch/types.h>

#include <cmath>
#include <memory>
#include <optional>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/random.h"
#include "apo/config/options.h"
#include "apo/data/loader.h"
#include "apo/distributed/group.h"
#include "apo/models/registry.h"
#include "apo/training/run_files.h"
#include "base/stopwatch.h"
#include "models/checkpoints/checkpoint_files.h"
#include "models/checkpoints/mapped_file.h"
#include "training/checkpoint.h"
#include "training/guard.h"
#include "training/learner.h"
#include "training/optimizer.h"
#include "training/profile.h"
#include "training/random_state.h"
#include "training/ranks.h"
#include "training/records.h"
#include "training/reference_scorer.h"
#include "training/resume.h"
#include "training/run_directory.h"
#include "training/run_output.h"
#include "training/setup.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

// A NaN without its sign.
std::string shown(double value) { return std::isnan(value) ? "nan" : concat(value); }

// A run from its first to its last step, on one of the ranks that run it.
class Run {
 public:
  Run(const TrainingOptions& options, ExistingRun existing, const TrainHooks& hooks);
  TrainResult train();

 private:
  void make_policy();
  void remember_way_to_policy();
  void find_policy_again();
  void check_ranks() const;
  std::unique_ptr<data::Loader> make_loader(int64_t first_position) const;
  void report_start() const;
  void check_profile() const;
  void begin_profile();
  void take_step();
  void check_finite(double loss, double gradient_norm, const std::vector<data::Sample>& samples,
                    const BatchOutcome& outcome) const;
  void evaluate(Metrics& metrics);
  void check_base() const;
  void checkpoint();
  void finish(Progress* progress);
  TrainResult result() const;

  std::optional<Finishing> finishing_;  // first: until all else is gone
  // in the order in which they are made
  const TrainingOptions& options_;
  const TrainHooks& hooks_;
  const distributed::Group& group_;
  Stopwatch stopwatch_;
  at::Device device_;
  LibrarySettings library_;
  std::optional<RunDirectory> directory_;  // of the first rank, as all that writes
  std::optional<fs::path> resume_from_;
  TrainingState state_;  // of the last step
  std::unique_ptr<data::Dataset> dataset_;
  std::unique_ptr<data::PoolSampler> sampler_;
  std::unique_ptr<models::Policy> policy_;
  std::unique_ptr<ReferenceScorer> reference_;  // before the policy on the way out: it may use its slots
  std::unique_ptr<Adam> optimizer_;
  std::unique_ptr<Learner> learner_;
  std::unique_ptr<data::Loader> loader_;
  std::optional<RunOutput> output_;
  std::optional<StepProfiler> profiler_;  // until its steps are recorded
  fs::path profile_;                      // its table
  std::string alarm_;                     // of a guard that stops
  int64_t total_steps_ = 0;
  fs::path last_checkpoint_;
  bool stop_ = false;  // an evaluation was interrupted
};

Run::Run(const TrainingOptions& options, ExistingRun existing, const TrainHooks& hooks)
    : options_(options),
      hooks_(hooks),
      group_(hooks.group != nullptr ? *hooks.group : nobody_else()),
      device_(device_of(options.run.device, group_)),
      library_(options.run) {
  check_same_options(group_, options);
  group_.connect(device_);
  if (group_.is_first()) {
    directory_.emplace(options.run.dir, existing);
    resume_from_ = directory_->resume_from();
  }
  // as far from the run's directory as it is for the first rank
  const std::string checkpoint = group_.from_first(resume_from_ ? resume_from_->filename().string() : "");
  if (!checkpoint.empty()) resume_from_ = fs::path(options.run.dir) / "checkpoints" / checkpoint;
  const auto& resume_from = resume_from_;
  if (resume_from) {
    models::check_files(*resume_from);
    check_same_run(relocated(read_options(*resume_from), options), options);
    state_ = read_state(*resume_from);
    last_checkpoint_ = *resume_from;
  }
  dataset_ = open_data(options, resume_from ? (*resume_from / "policy").string() : "");
  const auto seed = static_cast<uint64_t>(options.run.seed);
  const std::string data_fingerprint = fingerprint(*dataset_);
  APO_CHECK(
      DataError, !resume_from || data_fingerprint == state_.data_fingerprint, options.run.dir,
      ": cannot resume: the recorded steps differ from those that the run began with; restore the files or "
      "begin anew with --overwrite");
  state_.data_fingerprint = data_fingerprint;
  seed_generators(mix_seed(seed, "training"), device_);
  make_policy();  // which says how many actions a sample has, and with that which steps can be one
  sampler_ = std::make_unique<data::PoolSampler>(make_sampler(options, *dataset_));
  total_steps_ = total_steps(options.train, *sampler_);
  learner_ =
      std::make_unique<Learner>(*policy_, reference_.get(), options.objective, options.train.micro_batch_size,
                                options.run.precision == "bfloat16", &group_);
  check_ranks();
  check_profile();
  if (hooks.try_evaluation && group_.is_first() && state_.step < total_steps_) {
    const GeneratorScope same_stream(device_);
    hooks.try_evaluation(*policy_);
  }
  if (directory_)
    output_.emplace(options, hooks.config_yaml, *directory_, *dataset_, *sampler_, *policy_, state_,
                    total_steps_);
  group_.wait_for_first();
  if (reference_)
    reference_->look_ahead({.policy = *policy_,
                            .learner = *learner_,
                            .loader = [this] { return make_loader(0); },
                            .total_steps = total_steps_,
                            .resumed = resume_from_.has_value(),
                            .directory = options.run.dir,
                            .group = group_,
                            .state = state_});
  loader_ = make_loader(state_.step);  // after it: the two would read ahead side by side
}

// That all train one run; what they read may lie on disks of their own.
void Run::check_ranks() const {
  if (group_.is_alone()) return;
  const int64_t batch_size = options_.train.batch_size;
  APO_CHECK(ConfigError, group_.size() <= batch_size,
            "train.batch_size: expected at least a sample for each of the ", group_.size(), " ranks, found ",
            batch_size);
  check_same_data(group_, "data: the recorded steps", state_.data_fingerprint);
  check_same_data(group_, "policy: the weights that training begins with", models::parameter_hash(*policy_));
}

// The policy as it was when the run began, a snapshot of it as reference, then what training has changed
// since.
void Run::make_policy() {
  const auto& resume_from = resume_from_;
  TrainingOptions start = options_;
  if (!resume_from) {
    if (!start.policy.checkpoint.empty())
      state_.policy_checkpoint = fs::canonical(models::resolve_checkpoint(start.policy.checkpoint)).string();
    start.policy.checkpoint = state_.policy_checkpoint;
    remember_way_to_policy();
  } else if (state_.policy_hash.empty()) {
    // the checkpoint has everything
    start.policy.checkpoint = (*resume_from / "policy").string();
    start.policy.adapter.clear();
    start.policy.statistics.clear();
  } else {
    find_policy_again();
    start.policy.checkpoint = state_.policy_checkpoint;
  }
  policy_ = starting_policy(start, *dataset_, device_);
  set_chunks(*dataset_, *policy_);
  policy_->set_training(true);
  reference_ = make_reference_scorer(options_, *policy_, state_, resume_from);
  const std::string frozen_hash = models::frozen_parameter_hash(*policy_);
  APO_CHECK(DataError, !resume_from || state_.frozen_hash.empty() || frozen_hash == state_.frozen_hash,
            "policy.checkpoint: ", start.policy.checkpoint, ": cannot resume ", options_.run.dir,
            ": the frozen weights beneath its adapter are not those that the run began with");
  state_.frozen_hash = frozen_hash;
  optimizer_ = std::make_unique<Adam>(options_.optimizer, models::trainable_parameters(*policy_),
                                      options_.distributed.shard_optimizer ? &group_ : nullptr);
  log_debug("optimizer: ", optimizer_->moment_bytes(), " bytes of moments on this rank");
  if (resume_from) restore_training(*resume_from, *optimizer_, device_);
}

void Run::remember_way_to_policy() {
  if (state_.policy_checkpoint.empty()) return;
  state_.policy_checkpoint_from_run =
      fs::path(state_.policy_checkpoint).lexically_relative(fs::canonical(options_.run.dir)).string();
}

// Where it was; or, the run having been moved with it, as far from the run as it was; or where the config
// says.
void Run::find_policy_again() {
  std::error_code ignored;
  if (state_.policy_checkpoint.empty() || fs::exists(state_.policy_checkpoint, ignored)) return;
  const fs::path moved = fs::canonical(options_.run.dir) / state_.policy_checkpoint_from_run;
  const bool together = !state_.policy_checkpoint_from_run.empty() && fs::exists(moved, ignored);
  if (!together && options_.policy.checkpoint.empty()) return;
  state_.policy_checkpoint =
      fs::canonical(together ? moved : models::resolve_checkpoint(options_.policy.checkpoint)).string();
  remember_way_to_policy();
}

std::unique_ptr<data::Loader> Run::make_loader(int64_t first_position) const {
  data::Loader::Wanted wanted;
  if (!group_.is_alone())
    wanted = [learner = learner_.get()](const std::vector<data::Sample>& s) { return learner->wanted(s); };
  return std::make_unique<data::Loader>(
      *dataset_, *sampler_, options_.data, static_cast<uint64_t>(options_.run.seed), first_position,
      [policy = policy_.get()](Observation& o) { policy->prepare(o); }, wanted);
}

void Run::report_start() const {
  const auto counts = sampler_->counts();
  const ParameterCounts parameters = count_parameters(*policy_);
  log_info("data: ", dataset_->num_episodes(), " episodes in ", dataset_->num_files(),
           " files; steps: ", dataset_->pool(data::Pool::desirable).size(), " desirable, ",
           dataset_->pool(data::Pool::intervention).size(), " intervention, ",
           dataset_->pool(data::Pool::undesirable).size(), " undesirable; a batch takes ", counts[0], " + ",
           counts[1], " + ", counts[2]);
  log_info("policy: ", parameters.all, " parameters, ", parameters.trained, " trained, on ", device_.str());
  if (const std::string text = balance_text(options_.objective, counts); !text.empty())
    log_info("objective: ", text);
  warn_of_balance(options_.objective, counts);
  if (state_.step > 0)
    log_info(options_.run.dir, ": going on after step ", state_.step, " of ", total_steps_);
  else
    log_info(options_.run.dir, ": ", total_steps_, " steps, ", sampler_->batches_per_epoch(), " an epoch");
}

void Run::check_finite(double loss, double gradient_norm, const std::vector<data::Sample>& samples,
                       const BatchOutcome& outcome) const {
  if (std::isfinite(loss) && std::isfinite(gradient_norm)) return;
  throw RunError(concat("step ", state_.step + 1, ": expected a finite loss and gradient, found loss ",
                        shown(loss), " and gradient norm ", shown(gradient_norm), "; nothing was updated. ",
                        last_checkpoint_.empty() ? std::string("There is no checkpoint yet")
                                                 : "The last good checkpoint is " + last_checkpoint_.string(),
                        ". ", samples_not_finite(*dataset_, samples, outcome)));
}

void Run::check_profile() const {
  const int64_t left = total_steps_ - state_.step,
                most = std::max<int64_t>(left - StepProfiler::kNotRecorded, 0);
  APO_CHECK(ConfigError, hooks_.profile_steps <= most, "--profile: expected at most ", most, " of the ", left,
            " steps that are left (the first ", StepProfiler::kNotRecorded, " are not recorded), found ",
            hooks_.profile_steps);
}

void Run::begin_profile() {
  if (hooks_.profile_steps <= 0 || !group_.is_first()) return;
  const at::ScalarType own = policy_->named_parameters().front().second.scalar_type();
  const bool bfloat16 = options_.run.precision == "bfloat16";
  profiler_.emplace(hooks_.profile_steps, device_,
                    bfloat16                  ? at::kBFloat16
                    : at::isFloatingType(own) ? own
                                              : at::kFloat);
}

void Run::take_step() {
  APO_PART_OF_STEP("step");
  const Stopwatch stopwatch;
  data::Batch batch = [this] {
    APO_PART_OF_STEP("waiting for data");
    return loader_->next();
  }();
  APO_ASSERT(batch.position == state_.step);
  // each rank drops units of its own, and the same ones after resuming
  if (!group_.is_alone())
    seed_generators(mix_seed(static_cast<uint64_t>(options_.run.seed), "rank",
                             static_cast<uint64_t>(state_.step * group_.size() + group_.rank())),
                    device_);
  optimizer_->zero_gradients();
  const BatchOutcome outcome = learner_->learn(batch.samples, batch.position);
  const double rate = learning_rate(options_.optimizer, options_.schedule, state_.step, total_steps_);
  double gradient_norm = 0;
  {
    APO_PART_OF_STEP("optimizer");
    gradient_norm = optimizer_->gradient_norm();
    check_finite(outcome.loss, gradient_norm, batch.samples, outcome);
    if (options_.train.grad_clip > 0) optimizer_->clip_gradients(gradient_norm, options_.train.grad_clip);
    optimizer_->update(rate);
  }

  ++state_.step;
  Metrics metrics = step_metrics(
      {.step = state_.step,
       .epoch = static_cast<double>(state_.step) / static_cast<double>(sampler_->batches_per_epoch()),
       .grad_norm = gradient_norm,
       .learning_rate = rate,
       .step_seconds = stopwatch.seconds(),
       .data_seconds = batch.data_seconds,
       .memory_bytes = memory_bytes(device_)},
      batch.samples, outcome);
  reduce(group_, metrics);
  const int64_t every = options_.train.eval_every;
  if (hooks_.evaluate && every > 0 && (state_.step % every == 0 || state_.step == total_steps_)) {
    if (group_.is_first()) evaluate(metrics);
    group_.wait_for_first();
  }
  state_.metrics.clear();
  for (const auto& [name, value] : metrics)
    if (!std::isnan(value)) state_.metrics[name] = value;
  if (output_) alarm_ = output_->add(metrics, batch.samples, outcome);
}

void Run::evaluate(Metrics& metrics) {
  // neither dropout's stream nor the training mode depends on what an evaluation does
  const GeneratorScope same_stream(device_);
  const at::NoGradGuard no_grad;
  policy_->set_training(false);
  std::map<std::string, double> found;
  try {
    found = hooks_.evaluate(*policy_, state_.step);
  } catch (const Interrupted&) {
    // the update is done: it is saved like any other before the run stops
    stop_ = true;
    log_warn("step ", state_.step, ": the evaluation was interrupted; its results are not recorded");
  }
  policy_->set_training(true);
  if (stop_) return;
  append_evaluation(metrics, found);
  std::string text;
  for (const auto& [name, value] : found) text += concat("  ", name, " ", value);
  log_info("step ", state_.step, " evaluation:", text);
}

// The adapter that is saved means nothing on another base than the one that it is trained on.
void Run::check_base() const {
  const std::vector<models::ChangedFile> changes = models::changed_mapped_files();
  if (changes.empty()) return;
  const auto refuse = [this](const models::ChangedFile& file, const char* what) {
    throw DataError(concat(file.path.string(), ": ", what,
                           " while the run reads it; nothing was saved after ",
                           last_checkpoint_.empty() ? std::string("the start") : last_checkpoint_.string(),
                           "; restore the file and go on with --resume"));
  };
  for (const models::ChangedFile& file : changes) {
    if (file.change == models::FileChange::truncated) refuse(file, "was cut short");
    if (file.change == models::FileChange::replaced) refuse(file, "was replaced by another file");
  }
  if (models::frozen_parameter_hash(*policy_) != state_.frozen_hash)
    refuse(changes.front(), "was written to");
  models::accept_mapped_files();
}

void Run::checkpoint() {
  check_base();
  last_checkpoint_ = checkpoint_path(options_.run.dir, state_.step);
  const models::NamedTensors optimizer = optimizer_->state();  // of all ranks, where they share it
  if (directory_) {
    output_->note_sizes();
    // the one that an alarm names stays
    last_checkpoint_ = directory_->checkpoint(state_.step, alarm_.empty() ? options_.train.keep : 0, [&] {
      return save_checkpoint(directory_->path(), state_, options_, *policy_, optimizer,
                             reference_ ? reference_->parameters() : models::NamedTensors());
    });
    log_debug("saved ", last_checkpoint_.string());
  }
  group_.wait_for_first();
}

TrainResult Run::result() const {
  return {.steps = state_.step,
          .checkpoint = last_checkpoint_,
          .metrics = state_.metrics,
          .seconds = stopwatch_.seconds(),
          .profile = profile_};
}

void Run::finish(Progress* progress) {
  if (!output_) return;
  progress->finish();
  output_->show_heaviest_samples();
}

TrainResult Run::train() {
  finishing_.emplace("a step, and saving a checkpoint");
  begin_profile();
  if (group_.is_first()) report_start();
  const int64_t first = state_.step;
  std::optional<Progress> progress;
  if (group_.is_first()) progress.emplace("training", std::max<int64_t>(total_steps_ - first, 0));
  Progress* const shown = progress ? &*progress : nullptr;
  int64_t saved = resume_from_ ? first : -1;
  while (state_.step < total_steps_) {
    if (profiler_) profiler_->step_begins();
    take_step();
    if (profiler_ && profiler_->step_ended()) {
      profiler_->write(options_.run.dir);
      profile_ = fs::path(options_.run.dir) / StepProfiler::kTable;
      profiler_.reset();
    }
    if (shown)
      shown->update(state_.step - first,
                    summary(Metrics(state_.metrics.begin(), state_.metrics.end()), {"loss"}));
    const int64_t every = options_.train.checkpoint_every;
    const auto [stop, alarm] = group_.any(std::array{stop_ || interrupted(), !alarm_.empty()});
    if (stop || alarm || state_.step == total_steps_ || (every > 0 && state_.step % every == 0)) {
      checkpoint();
      saved = state_.step;
    }
    if (alarm) {
      finish(shown);
      throw Stopped(concat(alarm_.empty() ? "rank 0 saw a sign of forgetting" : alarm_,
                           "; train.guard: stop: saved ", last_checkpoint_.string(),
                           "; --resume goes on from there"));
    }
    if (stop && state_.step < total_steps_) {
      finish(shown);
      throw Interrupted(concat("stopped by a signal after step ", state_.step, " of ", total_steps_,
                               "; saved ", last_checkpoint_.string(), "; --resume goes on from there"));
    }
  }
  APO_ASSERT(saved == state_.step);
  finish(shown);
  if (output_) output_->tell_tally(options_.train.batch_size * policy_->action_size() * policy_->horizon());
  if (output_ && reference_) reference_->tell_found();
  if (output_) log_info("trained ", state_.step, " steps; checkpoint ", last_checkpoint_.string());
  return result();
}

}  // namespace

TrainResult train(const TrainingOptions& options, ExistingRun existing, const TrainHooks& hooks) {
  try {
    check(options);
    Run run(options, existing, hooks);
    return run.train();
  } catch (const std::exception& error) {
    if (hooks.group != nullptr) hooks.group->fail(error);
    throw;
  }
}

}  // namespace apo::training
