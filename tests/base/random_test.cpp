// Random streams: the same numbers on every machine, independent of each other, and uniform.
//
// The golden numbers come from an independent implementation of FNV-1a, SplitMix64 and MT19937-64 in another
// language.
#include "apo/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "apo/base/error.h"

namespace apo {
namespace {

using ::testing::ElementsAre;

TEST(Random, SeedsArePinned) {
  EXPECT_EQ(mix_seed(0, ""), 0xa6bbc8dcbe30928cu);
  EXPECT_EQ(mix_seed(0, "", 1), 0x3e86581b07bcb757u);
  EXPECT_EQ(mix_seed(42, "sampler"), 0x8ee604a7bf41099fu);
  EXPECT_EQ(mix_seed(42, "sampler", 7), 0xc578721031b2632fu);
  EXPECT_EQ(mix_seed(UINT64_MAX, "augmentation", UINT64_MAX), 0x5e956ed6a47b36eeu);
}

TEST(Random, NumbersArePinned) {
  Random bits(42, "sampler");
  EXPECT_EQ(bits.bits(), 0x6294645bbe9d7475u);
  EXPECT_EQ(bits.bits(), 0x4c3baf54edcc148fu);
  EXPECT_EQ(bits.bits(), 0x421a32c2538fad06u);
  Random uniform(42, "sampler");
  EXPECT_EQ(uniform.uniform(), 0.38507678260667944);
  EXPECT_EQ(uniform.uniform(), 0.2977857191415725);
  EXPECT_EQ(uniform.uniform(2, 4), 2 + 2 * 0.25821225399300707);
  Random below(42, "sampler");
  std::vector<uint64_t> digits(10);
  for (uint64_t& digit : digits) digit = below.below(10);
  EXPECT_THAT(digits, ElementsAre(7, 3, 6, 4, 0, 4, 6, 7, 7, 9));
  EXPECT_THAT(Random(42, "sampler").permutation(10), ElementsAre(9, 1, 8, 0, 4, 2, 3, 6, 5, 7));
  Random normal(42, "sampler");
  EXPECT_NEAR(normal.normal(), -0.2916630847430659, 1e-15);  // the last bit of log and cos is the library's
  EXPECT_NEAR(normal.normal(), 0.29272675430636186, 1e-15);
  EXPECT_NEAR(normal.normal(), -0.47956520161029487, 1e-15);
}

TEST(Random, SeedStreamAndPositionAllMatter) {
  std::set<uint64_t> firsts;
  for (const uint64_t seed : {0u, 1u, 2u, 1000u})
    for (const std::string stream : {"", "a", "b", "ab", "ba", "sampler"})
      for (uint64_t position = 0; position < 50; ++position)
        firsts.insert(Random(seed, stream, position).bits());
  EXPECT_EQ(firsts.size(), 4u * 6 * 50);
}

TEST(Random, StreamsAreUncorrelated) {
  constexpr int kSamples = 20000;
  const std::array<std::array<Random, 2>, 3> pairs = {{{Random(1, "a"), Random(1, "b")},
                                                       {Random(1, "a", 0), Random(1, "a", 1)},
                                                       {Random(1, "a"), Random(2, "a")}}};
  for (auto [first, second] : pairs) {
    double sum = 0;
    for (int i = 0; i < kSamples; ++i) sum += (first.uniform() - 0.5) * (second.uniform() - 0.5);
    // standard error of the mean product: 1/12 / sqrt(n) = 5.9e-4
    EXPECT_LT(std::abs(sum / kSamples), 4 * 5.9e-4);
  }
}

TEST(Random, UniformHasItsMeanAndVariance) {
  constexpr int kSamples = 100000;
  Random random(5);
  double sum = 0, sum_of_squares = 0, low = 1, high = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = random.uniform();
    sum += x;
    sum_of_squares += x * x;
    low = std::min(low, x);
    high = std::max(high, x);
  }
  const double mean = sum / kSamples;
  EXPECT_NEAR(mean, 0.5, 0.004);  // 4 standard errors of 0.2887 / sqrt(n)
  EXPECT_NEAR(sum_of_squares / kSamples - mean * mean, 1.0 / 12, 0.001);
  EXPECT_GE(low, 0);
  EXPECT_LT(low, 1e-3);
  EXPECT_LT(high, 1);
  EXPECT_GT(high, 1 - 1e-3);
}

TEST(Random, NormalHasItsMoments) {
  constexpr int kSamples = 100000;
  Random random(6);
  double sum = 0, squares = 0, cubes = 0, within = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    within += std::abs(x) < 1;
  }
  EXPECT_NEAR(sum / kSamples, 0, 0.013);      // 4 / sqrt(n)
  EXPECT_NEAR(squares / kSamples, 1, 0.018);  // 4 sqrt(2 / n)
  EXPECT_NEAR(cubes / kSamples, 0, 0.049);    // 4 sqrt(15 / n)
  EXPECT_NEAR(within / kSamples, 0.6827, 0.006);
}

TEST(Random, BelowReachesEveryNumberEquallyOften) {
  Random random(7);
  std::array<int, 6> counts = {};
  for (int i = 0; i < 60000; ++i) ++counts.at(random.below(6));
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 10000.0) * (count - 10000.0) / 10000;
  EXPECT_LT(chi_square, 20.5);  // 5 degrees of freedom, p = 0.001
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0u);
  constexpr uint64_t kHuge = uint64_t{3} << 62;  // modulo alone would take the lowest third half of the time
  int lowest = 0;
  for (int i = 0; i < 10000; ++i) {
    const uint64_t x = random.below(kHuge);
    ASSERT_LT(x, kHuge);
    lowest += x < kHuge / 3;
  }
  EXPECT_NEAR(lowest, 3333, 190);  // 4 standard errors of sqrt(n 2/9)
  EXPECT_THROW(random.below(0), Bug);
}

TEST(Random, PermutationsArePermutations) {
  Random random(8);
  EXPECT_TRUE(random.permutation(0).empty());
  EXPECT_THAT(random.permutation(1), ElementsAre(0));
  for (const uint32_t n : {2u, 3u, 17u, 1000u}) {
    std::vector<uint32_t> order = random.permutation(n);
    std::sort(order.begin(), order.end());
    std::vector<uint32_t> expected(n);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected);
  }
}

TEST(Random, AllPermutationsAreEquallyLikely) {
  Random random(9);
  std::map<std::vector<uint32_t>, int> counts;
  for (int i = 0; i < 24000; ++i) ++counts[random.permutation(4)];
  ASSERT_EQ(counts.size(), 24u);
  double chi_square = 0;
  for (const auto& [order, count] : counts) chi_square += (count - 1000.0) * (count - 1000.0) / 1000;
  EXPECT_LT(chi_square, 49.7);  // 23 degrees of freedom, p = 0.001
}

TEST(Random, ARestoredStateContinuesExactly) {
  Random random(10, "loader", 3);
  for (int i = 0; i < 1000; ++i) random.normal();
  const std::string state = random.state();
  std::vector<double> expected(700);
  for (double& x : expected) x = random.normal();
  Random other(999);
  other.restore(state);
  std::vector<double> found(700);
  for (double& x : found) x = other.normal();
  EXPECT_EQ(found, expected);
}

TEST(Random, AWrongStateIsADataErrorAndChangesNothing) {
  Random random(11);
  const std::string whole = random.state();
  const std::vector<std::string> wrong = {"", "hello", whole.substr(0, whole.size() / 2), whole + " 5"};
  for (const std::string& state : wrong) {
    try {
      random.restore(state);
      FAIL() << "expected an error for " << state.size() << " bytes";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("random stream: expected a saved state, found"));
    }
    EXPECT_EQ(random.state(), whole);
  }
}

}  // namespace
}  // namespace apo
