// Runs refine.comparison: every method from the same corrections.
#pragma once

#include <string>

#include "apo/deploy/refine.h"

namespace apo::deploy {

/// What `refine` does when there are methods to compare. The directory is open already.
RefineResult compare(const RefineSetup& setup, const std::string& config_yaml);

}  // namespace apo::deploy
