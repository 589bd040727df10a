// An adapter read from disk, put into a slot of a policy.
#pragma once

#include <string>

#include "apo/models/policy.h"
#include "models/adapters/peft_file.h"

namespace apo::models {

/// Puts the adapter into the new slot `name`. Errors as load_adapter.
void apply_adapter(Policy& policy, const std::string& name, PeftAdapter adapter, double dropout);

}  // namespace apo::models
