#include "apo/training/options.h"

#include <ATen/Parallel.h>

#include <array>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/data/sampler.h"
#include "training/reference_scorer.h"

namespace apo::training {

using config::at_least;
using config::between;
using config::positive;

void RunOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 2> kPrecisions = {"float32", "bfloat16"};
  v.path("dir", dir, "where everything is written; required for training");
  v("seed", seed, "seed of every random stream", at_least(0));
  v("device", device, "auto | cpu | cuda | cuda:N; auto: cuda if there is one");
  v.choice("precision", precision, kPrecisions,
           "of the network's arithmetic (autocast; weights and objective stay float32); bfloat16 is faster "
           "and coarser");
  v("threads", threads,
    "of the tensor library, in every program; 0: as OMP_NUM_THREADS says, else all cores; more than one pays "
    "on cores that nobody else uses. Environments have eval.threads, loading data.loader.workers",
    between(0, 1024));
}

void OptimizerOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 2> kTypes = {"adamw", "adam"};
  v.choice("type", type, kTypes,
           "adamw: decoupled weight decay; adam: weight decay is added to the gradient");
  v("learning_rate", learning_rate, "peak learning rate; larger learns faster and forgets more", positive());
  v("beta1", beta1, "decay of the gradient's mean, [0, 1)", between(0, 0.9999999));
  v("beta2", beta2, "decay of the squared gradient's mean, [0, 1)", between(0, 0.9999999));
  v("epsilon", epsilon, "added to the root of the squared gradient's mean", positive());
  v("weight_decay", weight_decay, "pulls every trained weight to zero; larger regularises more", at_least(0));
}

void ScheduleOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 3> kTypes = {"cosine", "constant", "linear"};
  v.choice("type", type, kTypes, "of the learning rate after the warm-up");
  v("warmup_steps", warmup_steps, "steps of linear growth to the peak; 0: none", at_least(0));
  v("warmup_start", warmup_start, "first learning rate, as a share of the peak", between(0, 1));
  v("final_ratio", final_ratio, "learning rate at the end, as a share of the peak (cosine and linear)",
    between(0, 1));
}

void TrainOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 3> kGuards = {"warn", "stop", "off"};
  v("batch_size", batch_size, "samples an update", at_least(1));
  v("micro_batch_size", micro_batch_size,
    "samples in memory at once; 0: the whole batch; smaller needs less memory and more time, same result",
    at_least(0));
  v("max_steps", max_steps, "updates; 0: `epochs` decide", at_least(0));
  v("epochs", epochs, "passes over the intervention pool (the desirable pool if that is empty)", positive());
  v("grad_clip", grad_clip, "largest gradient norm over all trained weights; 0: no clipping", at_least(0));
  v("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: only at the end", at_least(0));
  v("keep", keep, "newest checkpoints kept; 0: all", at_least(0));
  v("eval_every", eval_every,
    "steps between evaluations in the environment (and one at the end); before the first step it is reset "
    "and looked at; 0: none",
    at_least(0));
  v.choice("guard", guard, kGuards,
           "when a run that learns preferences shows signs of forgetting what the policy could do (desirable "
           "actions become unlikely, undesirable ones fall without end, z0 stays at its lower clamp). warn: "
           "say so once; stop: save a checkpoint and end with exit code 4; off: do not look. Hints only: an "
           "evaluation sees more");
}

void LoggingOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn", "error"};
  v("every", every, "steps between log lines (metrics.jsonl has every step)", at_least(1));
  v("per_sample", per_sample, "write samples.jsonl: one line a sample and step");
  v("tensorboard", tensorboard, "write event files for TensorBoard");
  v.choice("level", level, kLevels, "least important lines that are shown");
}

void TrainingOptions::visit(config::Visitor& v) {
  v("run", run, "where and on what the run happens");
  v("policy", policy, "which policy is trained");
  v("reference", reference, "how the starting policy is kept for comparison");
  v("data", data, "recorded trajectories and how batches are drawn from them");
  v("objective", objective, "the loss");
  v("optimizer", optimizer, "how gradients change weights");
  v("schedule", schedule, "the learning rate over time");
  v("train", train, "batches, duration, checkpoints");
  v("logging", logging, "what is written down");
  v("distributed", distributed, "training on several processes (torchrun, srun, mpirun)");
}

void check(const TrainingOptions& options) {
  objective::check(options.objective);
  check_reference(options);
  const int64_t micro = options.train.micro_batch_size;
  APO_CHECK(ConfigError, micro <= options.train.batch_size,
            "train.micro_batch_size: expected at most train.batch_size (", options.train.batch_size,
            "), found ", micro);
  const data::PoolOptions& pools = options.data.pools;
  data::batch_counts(pools, options.train.batch_size);
  APO_CHECK(
      ConfigError, options.objective.type != objective::ObjectiveType::dpo || pools.intervention > 0,
      "data.pools.intervention: objective.type dpo compares the human's steps with what the policy wanted; "
      "expected a positive share, found 0");
  APO_CHECK(
      ConfigError,
      options.objective.type != objective::ObjectiveType::tpo || pools.intervention + pools.undesirable > 0,
      "data.pools.intervention and data.pools.undesirable: objective.type tpo compares the segments of "
      "take-overs; expected a positive share for them, found 0");
}

void set_up_arithmetic(const RunOptions& options) {
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
}

}  // namespace apo::training
