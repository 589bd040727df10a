#include "training/pairs.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "apo/base/error.h"

namespace apo::training {
namespace {

using data::Sample;

bool is_correction(const Sample& sample) {
  return sample.source == ActionSource::intervention && sample.desirable;
}

Pairing pair_actions(std::vector<Sample>& samples) {
  Pairing pairing;
  std::vector<Sample> paired;
  int64_t next = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    Sample& sample = samples[i];
    const bool has_pair = is_correction(sample) && !sample.policy_actions.empty();
    if (is_correction(sample) && !has_pair) ++pairing.num_unpaired;
    paired.push_back(std::move(sample));
    pairing.pair.push_back(has_pair ? next : -1);
    pairing.slot.push_back(i);
    if (!has_pair) continue;
    Sample rejected = paired.back();  // pictures are shared
    // sides of one length: a sum of log-ratios over more tokens would win by that
    rejected.actions = rejected.policy_actions;
    const size_t steps = std::min(rejected.actions.size(), paired.back().actions.size());
    rejected.actions.resize(steps);
    paired.back().actions.resize(steps);
    rejected.source = ActionSource::policy;
    rejected.desirable = false;
    paired.push_back(std::move(rejected));
    pairing.pair.push_back(next++);
    pairing.slot.push_back(i);
  }
  samples = std::move(paired);
  return pairing;
}

Pairing pair_segments(std::vector<Sample>& samples) {
  // file, episode, take-over, and how often the step was drawn before: each drawing is a segment of its own
  using Key = std::array<int64_t, 4>;
  struct Segments {
    std::vector<size_t> preferred, rejected;
  };
  std::map<Key, Segments> take_overs;
  std::map<std::array<int64_t, 3>, int64_t> drawn;
  std::vector<size_t> order;
  Pairing pairing;
  for (size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = samples[i];
    const data::StepIndex& at = sample.index;
    if (sample.take_over_number < 0) {
      order.push_back(i);
      continue;
    }
    const int64_t times = drawn[{at.file, at.episode, at.timestep}]++;
    Segments& segments = take_overs[{at.file, at.episode, sample.take_over_number, times}];
    (sample.desirable ? segments.preferred : segments.rejected).push_back(i);
  }
  pairing.pair.assign(order.size(), -1);
  int64_t next = 0;
  for (const auto& [key, segments] : take_overs) {
    const bool whole = !segments.preferred.empty() && !segments.rejected.empty();
    const size_t size = segments.preferred.size() + segments.rejected.size();
    order.insert(order.end(), segments.preferred.begin(), segments.preferred.end());
    order.insert(order.end(), segments.rejected.begin(), segments.rejected.end());
    pairing.pair.insert(pairing.pair.end(), size, whole ? next++ : -1);
    if (!whole) pairing.num_unpaired += static_cast<int64_t>(size);
  }
  std::vector<Sample> sorted;
  for (const size_t i : order) sorted.push_back(std::move(samples[i]));
  samples = std::move(sorted);
  pairing.slot = std::move(order);
  return pairing;
}

bool splits_pair(const std::vector<int64_t>& pair, int64_t place, int64_t size) {
  if (pair.empty() || place == 0 || place == size) return false;
  const auto p = static_cast<size_t>(place);
  return pair[p] >= 0 && pair[p] == pair[p - 1];
}

}  // namespace

Pairing make_pairs(std::vector<Sample>& samples, objective::ObjectiveType type) {
  APO_ASSERT(type == objective::ObjectiveType::dpo || type == objective::ObjectiveType::tpo);
  return type == objective::ObjectiveType::dpo ? pair_actions(samples) : pair_segments(samples);
}

int64_t micro_batch_end(const std::vector<int64_t>& pair, int64_t begin, int64_t size,
                        int64_t micro_batch_size) {
  if (micro_batch_size <= 0) return size;
  int64_t end = std::min(begin + micro_batch_size, size);
  const auto splits = [&](int64_t place) { return splits_pair(pair, place, size); };
  const int64_t wanted = end;
  while (end > begin && splits(end)) --end;
  if (end > begin) return end;
  for (end = wanted; splits(end);) ++end;  // one pair alone is larger
  return end;
}

Share share_of(const std::vector<int64_t>& pair, int64_t size, int64_t rank, int64_t num_ranks) {
  APO_ASSERT(0 <= rank && rank < num_ranks);
  const auto begin_of = [&](int64_t r) {
    int64_t begin = (r * size + num_ranks - 1) / num_ranks;
    while (splits_pair(pair, begin, size)) ++begin;
    return begin;
  };
  return {begin_of(rank), begin_of(rank + 1)};
}

at::Tensor pair_tensor(const std::vector<int64_t>& pair, int64_t begin, int64_t end) {
  std::vector<int64_t> part(pair.begin() + begin, pair.begin() + end);
  int64_t first = -1;
  for (int64_t& number : part) {
    if (number < 0) continue;
    if (first < 0) first = number;
    number -= first;
  }
  return at::tensor(part, at::kLong);
}

}  // namespace apo::training
