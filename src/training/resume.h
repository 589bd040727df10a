// May a run go on with today's options: what it began with, and what of it may differ.
#pragma once

#include <filesystem>
#include <string_view>

#include "apo/training/options.h"

namespace apo::training {

/// What an objective meant, `section` of a config, that was written before `reference_kl_weight` existed:
/// nothing was held.
void as_before_the_hold(std::string_view config_yaml, std::string_view section,
                        objective::ObjectiveOptions& options);
/// Those of a run from before objective.weights.group_size or reference_kl_weight say in today's keys what
/// they meant then.
TrainingOptions read_options(const std::filesystem::path& checkpoint);

/// ConfigError listing the keys whose values would make a resumed run another run. Free to differ: where and
/// how often things are written, train.guard, objective.preset (not the values that it gives), loading
/// threads, and (with a warning: equal up to rounding only) device, threads and micro-batches; the duration
/// (train.max_steps, train.epochs) only where the learning rate does not depend on it.
void check_same_run(const TrainingOptions& before, const TrainingOptions& now);

}  // namespace apo::training
