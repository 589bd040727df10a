// The simulated tabletop as an Environment.
#pragma once

#include <memory>

#include "apo/environments/environment.h"

namespace apo::environments {

/// Of `environment.tabletop` and the disruptions of the scene. RunError without MuJoCo or anything that
/// draws; ConfigError as rendering.h says.
std::unique_ptr<Environment> make_tabletop_environment(const EnvironmentOptions& options);

}  // namespace apo::environments
