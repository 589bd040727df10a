// What a policy and recorded data must know of each other.
#pragma once

#include "apo/audit/validate.h"
#include "apo/data/dataset.h"
#include "apo/models/registry.h"

namespace apo::training {

/// What a fresh policy is made for: cameras and states of the first kept step, instructions, and statistics
/// of the kept demonstrations (of all kept steps where there are none).
/// DataError if no step is kept.
models::DataFacts data_facts(const data::Dataset& dataset);

/// What data are to be read and compared for: cameras, states, action statistics and gripper of the policy.
audit::PolicyInputs policy_inputs(const models::PolicyOptions& options);

}  // namespace apo::training
