// Runs refine.comparison: every method from the same corrections.
#pragma once

#include <string>

#include "apo/loop/refine.h"

namespace apo::loop {

/// What `method` trains with: the top-level sections but for what the method has of its own. Recordings are
/// not in it.
training::TrainingOptions training_of(const MethodOptions& method,
                                      const training::TrainingOptions& top_level);

/// What `refine` does when there are methods to compare. The directory is open already.
RefineResult compare(const RefineSetup& setup, const std::string& config_yaml);

}  // namespace apo::loop
