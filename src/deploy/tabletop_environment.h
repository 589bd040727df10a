// The simulated tabletop as an Environment.
#pragma once

#include <memory>

#include "apo/deploy/environment.h"

namespace apo::deploy {

std::unique_ptr<Environment> make_tabletop_environment(const simulation::TabletopOptions& options);

}  // namespace apo::deploy
