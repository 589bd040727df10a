#include "apo/data/sampler.h"

#include <torch/types.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "apo/base/error.h"
#include "apo/base/random.h"

namespace apo::data {
namespace {

constexpr std::array<const char*, 3> kPoolNames{"desirable", "intervention", "undesirable"};

// A random order of 0 .. n-1 that can be asked for any place without being laid out: a Feistel network over
// the next even power of two, walked until it falls below n.
uint64_t place_in_random_order(uint64_t i, uint64_t n, uint64_t key) {
  const auto half = std::max<uint64_t>(1, (static_cast<uint64_t>(std::bit_width(n - 1)) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = i >> half, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      uint64_t x = key + (right + 1) * 0x9e3779b97f4a7c15ULL + round * 0xd1b54a32d192ed03ULL;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
      x ^= x >> 31;
      left = std::exchange(right, (left ^ x) & mask);
    }
    i = (left << half) | right;
  } while (i >= n);
  return i;
}

// Whole numbers of samples that sum to `batch_size` and are nearest to the shares (largest remainder).
std::array<int64_t, 3> split(const std::array<double, 3>& shares, double sum, int64_t batch_size) {
  std::array<int64_t, 3> counts{};
  std::array<double, 3> remainder{};
  for (size_t p = 0; p < 3; ++p) {
    const double exact = shares[p] / sum * static_cast<double>(batch_size);
    counts[p] = static_cast<int64_t>(std::floor(exact + 1e-9));
    remainder[p] = exact - static_cast<double>(counts[p]);
  }
  while (counts[0] + counts[1] + counts[2] < batch_size) {
    const auto largest =
        static_cast<size_t>(std::max_element(remainder.begin(), remainder.end()) - remainder.begin());
    ++counts[largest];
    remainder[largest] = -1;
  }
  return counts;
}

std::array<double, 3> shares_of(const PoolOptions& pools) {
  return {pools.desirable, pools.intervention, pools.undesirable};
}

// "expert/skipped: action out of range 36, ..."
std::string describe(const LabelCounts& counts) {
  std::string text;
  for (const auto& [label, count] : counts) append_item(text, ", ", label, " ", count);
  return text.empty() ? "there are no steps" : text;
}

}  // namespace

std::array<int64_t, 3> batch_counts(const PoolOptions& pools, int64_t batch_size) {
  APO_CHECK(ConfigError, batch_size > 0, "train.batch_size: expected at least 1, found ", batch_size);
  const std::array<double, 3> shares = shares_of(pools);
  for (size_t p = 0; p < 3; ++p)
    APO_CHECK(ConfigError, std::isfinite(shares[p]) && shares[p] >= 0, "data.pools.", kPoolNames[p],
              ": expected a share of at least 0, found ", shares[p]);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  APO_CHECK(ConfigError, sum > 0, "data.pools: expected shares with a positive sum, found 0");
  const std::array<int64_t, 3> counts = split(shares, sum, batch_size);
  for (size_t p = 0; p < 3; ++p)
    APO_CHECK(ConfigError, shares[p] == 0 || counts[p] > 0, "data.pools.", kPoolNames[p], " is ", shares[p],
              " of ", sum, ", which rounds to no sample at train.batch_size ", batch_size);
  return counts;
}

PoolSampler::PoolSampler(const Dataset& dataset, const PoolOptions& pools, int64_t batch_size, uint64_t seed,
                         Draw draw)
    : batch_size_(batch_size), seed_(seed) {
  APO_CHECK(ConfigError, dataset.num_files() > 0,
            "data.expert and data.interactions: expected recorded data, found none");
  counts_ = batch_counts(pools, batch_size);
  const std::array<double, 3> shares = shares_of(pools);
  for (size_t p = 0; p < 3; ++p) {
    pools_[p] = dataset.pool(static_cast<Pool>(p));
    if (shares[p] == 0) continue;
    APO_CHECK(ConfigError, !pools_[p].empty(), "data.pools.", kPoolNames[p], " is ", shares[p], ", but the ",
              kPoolNames[p], " pool is empty: no step of the data has that label (",
              describe(dataset.counts()), "); set it to 0, or give data that has");
  }
  if (draw == Draw::segment_pairs) draw_segment_pairs(dataset);
}

// Turns the intervention and undesirable shares into whole segment pairs.
void PoolSampler::draw_segment_pairs(const Dataset& dataset) {
  const int64_t share = counts_[1] + counts_[2];
  APO_CHECK(ConfigError, share > 0,
            "data.pools.intervention and data.pools.undesirable: the objective compares the ",
            "segments of take-overs; expected a positive share for them, found 0");
  segment_pairs_ = dataset.segment_pairs();
  const auto n = static_cast<double>(segment_pairs_.size());
  APO_CHECK(ConfigError, n > 0,
            "data.interactions: the objective compares the policy's steps before a take-over with the ",
            "human's after it; expected a take-over that has both, found none (", describe(dataset.counts()),
            ")");
  double preferred = 0, rejected = 0;
  for (const SegmentPair& pair : segment_pairs_) {
    preferred += static_cast<double>(pair.preferred.size());
    rejected += static_cast<double>(pair.rejected.size());
  }
  pairs_a_batch_ =
      std::max<int64_t>(1, std::llround(static_cast<double>(share) * n / (preferred + rejected)));
  counts_[1] = std::llround(static_cast<double>(pairs_a_batch_) * preferred / n);
  counts_[2] = std::llround(static_cast<double>(pairs_a_batch_) * rejected / n);
}

// Draw number `draw` of a sequence that goes through all n places in a new random order each pass.
size_t PoolSampler::drawn_place(uint64_t draw, size_t n, const char* name) const {
  const uint64_t key = mix_seed(seed_, name, draw / n);
  return static_cast<size_t>(place_in_random_order(draw % n, n, key));
}

std::vector<StepIndex> PoolSampler::batch(int64_t position) const {
  APO_ASSERT(position >= 0);
  std::vector<StepIndex> drawn;
  drawn.reserve(static_cast<size_t>(batch_size_));
  for (size_t p = 0; p < (pairs_a_batch_ > 0 ? 1 : 3); ++p)
    for (int64_t k = 0; k < counts_[p]; ++k)
      drawn.push_back(pools_[p][drawn_place(static_cast<uint64_t>(position * counts_[p] + k),
                                            pools_[p].size(), kPoolNames[p])]);
  for (int64_t k = 0; k < pairs_a_batch_; ++k) {
    const auto draw = static_cast<uint64_t>(position * pairs_a_batch_ + k);
    const SegmentPair& pair = segment_pairs_[drawn_place(draw, segment_pairs_.size(), "segment pairs")];
    drawn.insert(drawn.end(), pair.preferred.begin(), pair.preferred.end());
    drawn.insert(drawn.end(), pair.rejected.begin(), pair.rejected.end());
  }
  const auto order = Random(seed_, "slots", static_cast<uint64_t>(position))
                         .permutation(static_cast<uint32_t>(drawn.size()));
  std::vector<StepIndex> batch;
  batch.reserve(drawn.size());
  for (const uint32_t slot : order) batch.push_back(drawn[slot]);
  return batch;
}

int64_t PoolSampler::batches_per_epoch() const {
  if (pairs_a_batch_ > 0)
    return (static_cast<int64_t>(segment_pairs_.size()) + pairs_a_batch_ - 1) / pairs_a_batch_;
  for (const size_t p : {size_t{1}, size_t{0}, size_t{2}})  // intervention, else desirable, else undesirable
    if (counts_[p] > 0) return (static_cast<int64_t>(pools_[p].size()) + counts_[p] - 1) / counts_[p];
  return 1;
}

}  // namespace apo::data
