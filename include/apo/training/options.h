// What one training run is made of: the sections that `apo-train` reads.
#pragma once

#include <cstdint>
#include <string>

#include "apo/data/dataset.h"
#include "apo/distributed/options.h"
#include "apo/models/options.h"
#include "apo/models/reference.h"
#include "apo/objective/options.h"

namespace apo::config {
class Visitor;
}

namespace apo::training {

/// Config section `run`.
struct RunOptions {
  std::string dir;              ///< where everything is written; required
  int64_t seed = 0;             ///< of every random stream
  std::string device = "auto";  ///< auto | cpu | cuda | cuda:N
  /// float32 | bfloat16 (autocast of the network; the objective stays float32)
  std::string precision = "float32";
  int64_t threads = 0;  ///< of the tensor library; 0: as OMP_NUM_THREADS says, else all cores
  void visit(config::Visitor& v);
};

/// Config section `optimizer`.
struct OptimizerOptions {
  std::string type = "adamw";  ///< adamw | adam
  double learning_rate = 5e-5;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< adamw: decoupled; adam: added to the gradient
  void visit(config::Visitor& v);
};

/// Config section `schedule`: the learning rate as a pure function of the step.
struct ScheduleOptions {
  std::string type = "cosine";  ///< cosine | constant | linear
  int64_t warmup_steps = 10;    ///< linear from learning_rate * warmup_start
  double warmup_start = 0.1;
  double final_ratio = 0;  ///< learning rate at the end, as a share of the peak
  void visit(config::Visitor& v);
};

/// Config section `train`.
struct TrainOptions {
  int64_t batch_size = 8;
  int64_t micro_batch_size = 0;  ///< 0: the whole batch at once; smaller needs less memory, same result
  int64_t max_steps = 0;         ///< 0: `epochs` decide
  /// passes over the intervention pool (the desirable pool if it is empty)
  double epochs = 1;
  double grad_clip = 1.0;          ///< largest gradient norm; 0: no clipping
  int64_t checkpoint_every = 500;  ///< steps; a checkpoint is always written at the end; 0: only there
  int64_t keep = 3;                ///< newest checkpoints kept; 0: all
  int64_t eval_every = 0;          ///< steps between evaluations, and one at the end; 0: none
  std::string guard = "warn";      ///< warn | stop | off: what to do when a run seems to forget
  void visit(config::Visitor& v);
};

/// Config section `logging`.
struct LoggingOptions {
  int64_t every = 20;       ///< steps between log lines (metrics.jsonl has every step)
  bool per_sample = false;  ///< write samples.jsonl
  bool tensorboard = true;
  std::string level = "info";  ///< debug | info | warn | error
  void visit(config::Visitor& v);
};

/// Everything that one run needs.
struct TrainingOptions {
  RunOptions run;
  models::PolicyOptions policy;
  models::ReferenceOptions reference;
  data::DataOptions data;
  objective::ObjectiveOptions objective;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  TrainOptions train;
  LoggingOptions logging;
  distributed::DistributedOptions distributed;
  void visit(config::Visitor& v);
};

/// ConfigError for options that contradict each other, as far as it shows without the data.
void check(const TrainingOptions& options);

/// Sets the tensor library up: `options.threads` threads from now on, if they are not 0, and float32 that is
/// float32 on every device (by itself CUDA's convolutions round what they read to TF32, 10 bits, and a policy
/// would be another one than on the CPU). Every program does this as soon as it has read its config; `train`
/// and `loop::refine` do it for those who link the library.
void set_up_arithmetic(const RunOptions& options);

}  // namespace apo::training
