#include "apo/tokenizers/action_bins.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/near.h"

namespace apo::tokenizers {
namespace {

using apo::testing::message_of;
using ::testing::HasSubstr;

// With 5 bins the values are -1, -0.5, 0, 0.5, 1 and the borders lie half-way between them.
TEST(ActionBins, EncodesToTheNearestBinByHand) {
  const ActionBins bins(5);
  const at::Tensor actions = at::tensor({-1.0, -0.76, -0.74, -0.26, 0.0, 0.24, 0.26, 0.74, 0.76, 1.0});
  EXPECT_TRUE(bins.encode(actions).equal(at::tensor({0, 0, 1, 1, 2, 2, 3, 3, 4, 4}, at::kLong)));
}

TEST(ActionBins, DecodesByHand) {
  const ActionBins bins(5);
  const at::Tensor values = bins.decode(at::tensor({0, 1, 2, 3, 4}, at::kLong));
  EXPECT_EQ(values.scalar_type(), at::kFloat);
  EXPECT_TRUE(values.equal(at::tensor({-1.0f, -0.5f, 0.0f, 0.5f, 1.0f})));
}

// 256 bins: 0 lies between bins 127 and 128 (0 -> 127.5, to even 128); 0.25 -> 0.625 * 255 = 159.375 -> 159.
TEST(ActionBins, EncodesWithTheDefaultBinsByHand) {
  const ActionBins bins;
  EXPECT_EQ(bins.num_bins(), 256);
  EXPECT_TRUE(bins.encode(torch::tensor({{-1.0f, 0.0f}, {0.25f, 1.0f}}))
                  .equal(torch::tensor({{0, 128}, {159, 255}}, at::kLong)));
}

TEST(ActionBins, EveryBinComesBackFromItsValue) {
  for (const int64_t n : {2, 3, 7, 255, 256, 1024}) {
    const ActionBins bins(n);
    const at::Tensor all = at::arange(n, at::kLong);
    EXPECT_TRUE(bins.encode(bins.decode(all)).equal(all)) << n;
  }
}

TEST(ActionBins, RoundTripErrorIsAtMostHalfABin) {
  for (const int64_t n : {2, 16, 256}) {
    const ActionBins bins(n);
    const at::Tensor actions = at::linspace(-1, 1, 10001);
    const double error = apo::testing::distance(bins.decode(bins.encode(actions)), actions);
    EXPECT_LE(error, 1.0 / static_cast<double>(n - 1) + 1e-6) << n;
    EXPECT_GE(error, 0.9 / static_cast<double>(n - 1)) << n;
  }
}

TEST(ActionBins, ClampsWhatLiesOutside) {
  const ActionBins bins;
  EXPECT_TRUE(bins.encode(at::tensor({-7.0f, 1.5f, -INFINITY, INFINITY}))
                  .equal(at::tensor({0, 255, 0, 255}, at::kLong)));
}

TEST(ActionBins, KeepsTheShape) {
  const ActionBins bins;
  EXPECT_EQ(bins.encode(at::zeros({2, 3, 7})).sizes(), at::IntArrayRef({2, 3, 7}));
  EXPECT_EQ(bins.decode(at::zeros({0, 7}, at::kLong)).sizes(), at::IntArrayRef({0, 7}));
}

TEST(ActionBins, RefusesBadInput) {
  const ActionBins bins;
  EXPECT_THAT(message_of<DataError>([&] { bins.encode(at::tensor({0.5f, NAN})); }), HasSubstr("NaN"));
  EXPECT_THAT(message_of<DataError>([&] { bins.encode(at::ones({2}, at::kLong)); }),
              HasSubstr("floating-point"));
  EXPECT_THAT(message_of<DataError>([&] {
                bins.decode(at::tensor({3, 256}, at::kLong));
              }),
              HasSubstr("found 256"));
  EXPECT_THAT(message_of<DataError>([&] {
                bins.decode(at::tensor({-1, 3}, at::kLong));
              }),
              HasSubstr("found -1"));
  EXPECT_THAT(message_of<DataError>([&] { bins.decode(at::zeros({2})); }), HasSubstr("int64"));
  EXPECT_THAT(message_of<ConfigError>([] { ActionBins(1); }), HasSubstr("at least 2"));
}

}  // namespace
}  // namespace apo::tokenizers
