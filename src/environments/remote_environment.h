// A remote environment as an Environment.
#pragma once

#include <memory>

#include "apo/environments/environment.h"

namespace apo::environments {

/// Of `environment.remote` and the disruptions. ConfigError for a wrong URL or token, RunError where nobody
/// answers, another client drives, or what answers is no apo-environment.
std::unique_ptr<Environment> make_remote_environment(const EnvironmentOptions& options);

}  // namespace apo::environments
