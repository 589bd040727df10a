// What dpo and tpo compare in a batch: built from take-overs, where the human showed what was better.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/objective/options.h"

namespace apo::training {

/// Which pair each sample of a batch belongs to.
struct Pairing {
  std::vector<int64_t> pair;  ///< one a sample: 0, 1, .. in the samples' order, -1: none
  std::vector<size_t> slot;   ///< which of the samples given each of them was
  int64_t num_unpaired = 0;   ///< human steps (tpo: and steps before a take-over) that are in no pair
};

/// Builds the pairs of a batch and puts `samples` in their order: the samples of a pair lie side by side.
///
/// dpo  the human's action is preferred to what the policy wanted at the very same observation
///      (`Sample::policy_actions`). The policy's action is added as an undesirable sample of source policy.
///      A human's step without a recorded policy action is in no pair.
/// tpo  the human's steps of a take-over that are in the batch are preferred to the undesirable steps that
///      led to it; a segment without its counterpart is in no pair. A segment that is drawn twice makes two
///      pairs.
Pairing make_pairs(std::vector<data::Sample>& samples, objective::ObjectiveType type);

/// Where the micro-batch that starts at `begin` ends: at most `micro_batch_size` samples on (0: all), but
/// never between the samples of a pair, and at least one pair or sample on. `pair` may be empty: no pairs.
int64_t micro_batch_end(const std::vector<int64_t>& pair, int64_t begin, int64_t size,
                        int64_t micro_batch_size);

/// Which samples of a batch of `size` one of several ranks learns from: as equal a number each as pairs,
/// which are never split, let it be; of the first at least one, of others there may be none.
struct Share {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
Share share_of(const std::vector<int64_t>& pair, int64_t size, int64_t rank, int64_t num_ranks);

/// [end − begin] int64 on the CPU, the pairs of these samples numbered from 0.
at::Tensor pair_tensor(const std::vector<int64_t>& pair, int64_t begin, int64_t end);

}  // namespace apo::training
