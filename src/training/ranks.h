// What the ranks of a run tell each other of a batch.
#pragma once

#include <string>

#include "apo/distributed/group.h"
#include "apo/models/policy.h"
#include "apo/training/options.h"
#include "training/pairs.h"
#include "training/records.h"

namespace apo::training {

/// A group of one.
const distributed::Group& nobody_else();

/// `own`: tokens of the rows of this rank's share -> those of all `size` rows, padded to the longest answer
/// of all ranks, on the policy's device. num_clipped and num_cut are sums.
models::ActionTokens gather_tokens(const distributed::Group& group, const models::ActionTokens& own,
                                   const Share& share, int64_t size, const models::Policy& policy);

/// The gradients of the trained parameters become sums over the ranks. A parameter has none where it has none
/// on any rank.
void sum_gradients(const distributed::Group& group, const models::Policy& policy);

/// What each rank measured of itself becomes one number for all, as the list of metrics says.
void reduce(const distributed::Group& group, Metrics& metrics);

/// The device that run.device means for a rank; `auto` and `cuda` give each of a machine its own. ConfigError
/// as select_device, and for one device named for several ranks.
at::Device device_of(const std::string& device, const distributed::Group& group);

/// Refuses ranks that would not train the same run. ConfigError naming the keys in which this rank's options
/// differ from the first one's; free to differ: run.device, run.threads, train.micro_batch_size, data.loader,
/// logging.level.
void check_same_options(const distributed::Group& group, const TrainingOptions& options);
/// DataError if `value`, a hash of `what`, is not the first rank's.
void check_same_data(const distributed::Group& group, const std::string& what, const std::string& value);

}  // namespace apo::training
