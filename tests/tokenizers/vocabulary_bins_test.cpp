// OpenVLA's action tokens at the end of the vocabulary.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/tokenizers/action_bins.h"
#include "support/message_of.h"
#include "support/near.h"
#include "support/places.h"

namespace apo::tokenizers {
namespace {

using apo::testing::message_of;
using ::testing::HasSubstr;

// 5 edges -1, -0.5, 0, 0.5, 1 before the end 100 of the vocabulary; an action on an edge belongs above it.
TEST(VocabularyActionBins, EncodesAndDecodesByHand) {
  const VocabularyActionBins bins(100, 5);
  EXPECT_EQ(bins.first_id(), 95);
  EXPECT_EQ(bins.last_id(), 99);
  const at::Tensor actions = at::tensor({-1.0, -0.6, -0.5, -0.1, 0.0, 0.4, 0.5, 0.9, 1.0});
  EXPECT_TRUE(bins.encode(actions).equal(at::tensor({99, 99, 98, 98, 97, 97, 96, 96, 95}, at::kLong)));
  EXPECT_TRUE(bins.decode(at::tensor({99, 98, 97, 96, 95}, at::kLong))
                  .equal(at::tensor({-0.75f, -0.25f, 0.25f, 0.75f, 0.75f})));
}

// Vectors of OpenVLA's own tokenizer with 32000 text tokens.
TEST(VocabularyActionBins, EqualsOpenVla) {
  const VocabularyActionBins bins(32000);
  const at::Tensor ids = bins.encode(at::tensor({-1.0, -0.5, 0.0, 0.25, 0.5, 0.999, 1.0}));
  EXPECT_TRUE(ids.equal(at::tensor({31999, 31936, 31872, 31840, 31808, 31745, 31744}, at::kLong)));
  const at::Tensor values = at::tensor({-0.996078, -0.501961, 0.0, 0.25098, 0.501961, 0.996078, 0.996078});
  EXPECT_LT(apo::testing::distance(bins.decode(ids), values), 1e-6);
}

TEST(VocabularyActionBins, EqualsNumpyBitByBit) {
  const auto golden =
      nlohmann::json::parse(std::ifstream(apo::testing::in_source("tests/tokenizers/goldens/bins.json")));
  const VocabularyActionBins bins(32000);
  const at::Tensor centers = at::tensor(golden.at("centers").get<std::vector<double>>(), at::kDouble);
  EXPECT_TRUE(bins.decode(31999 - at::arange(255, at::kLong)).equal(centers.to(at::kFloat)));
  for (const char* type : {"float64", "float32"}) {
    const at::Tensor actions =
        at::tensor(golden.at(type).at("actions").get<std::vector<double>>(), at::kDouble);
    const at::Tensor ids = bins.encode(type == std::string("float32") ? actions.to(at::kFloat) : actions);
    EXPECT_TRUE(ids.equal(at::tensor(golden.at(type).at("ids").get<std::vector<int64_t>>()))) << type;
  }
}

TEST(VocabularyActionBins, EveryCentreComesBack) {
  for (const int64_t n : {2, 3, 7, 256, 1024}) {
    const VocabularyActionBins bins(5000, n);
    const at::Tensor ids =
        at::arange(bins.first_id() + 1, bins.last_id() + 1, at::kLong);  // all but that of exactly 1
    EXPECT_TRUE(bins.encode(bins.decode(ids)).equal(ids)) << n;
  }
}

TEST(VocabularyActionBins, RoundTripErrorIsAtMostHalfAnInterval) {
  const VocabularyActionBins bins(32000);
  const at::Tensor actions = at::linspace(-1, 1, 20001, at::kDouble);
  const double error = apo::testing::distance(bins.decode(bins.encode(actions)), actions);
  EXPECT_LE(error, 1.0 / 255 + 1e-6);
  EXPECT_GE(error, 0.99 / 255);
}

// float32 actions are compared with double edges: the float nearest to an edge may lie on either side of it,
// as in numpy.
TEST(VocabularyActionBins, ComparesInDouble) {
  const VocabularyActionBins bins(32000);
  const double edge = 1 * (2.0 / 255) - 1;
  const auto nearest = static_cast<float>(edge);
  const int64_t expected = 32000 - (edge <= static_cast<double>(nearest) ? 2 : 1);
  EXPECT_EQ(bins.encode(at::tensor({nearest})).item<int64_t>(), expected);
  EXPECT_EQ(bins.encode(at::tensor({edge}, at::kDouble)).item<int64_t>(), 31998);
  EXPECT_EQ(bins.encode(at::tensor({std::nextafter(edge, -1.0)}, at::kDouble)).item<int64_t>(), 31999);
}

TEST(VocabularyActionBins, ClampsWhatLiesOutside) {
  const VocabularyActionBins bins(32000);
  EXPECT_TRUE(bins.encode(at::tensor({-7.0f, INFINITY, -INFINITY}))
                  .equal(at::tensor({31999, 31744, 31999}, at::kLong)));
  const at::Tensor ids =
      at::tensor({0L, 31743L, 31744L, 31999L, 32000L, 32063L, std::numeric_limits<int64_t>::min(),
                  std::numeric_limits<int64_t>::max()},
                 at::kLong);
  const float end = 0.99607843f;
  EXPECT_TRUE(bins.decode(ids).equal(torch::tensor({end, end, end, -end, -end, -end, end, -end})));
}

TEST(VocabularyActionBins, KeepsTheShape) {
  const VocabularyActionBins bins(300);
  EXPECT_EQ(bins.encode(at::zeros({2, 3, 7})).sizes(), at::IntArrayRef({2, 3, 7}));
  EXPECT_EQ(bins.decode(at::zeros({0, 7}, at::kLong)).sizes(), at::IntArrayRef({0, 7}));
  const at::Tensor actions = at::linspace(-1, 1, 12).view({3, 4}).t();  // not contiguous
  EXPECT_TRUE(bins.encode(actions).equal(bins.encode(actions.contiguous())));
  EXPECT_EQ(bins.decode(bins.encode(actions)).scalar_type(), at::kFloat);
}

TEST(VocabularyActionBins, RefusesBadInput) {
  const VocabularyActionBins bins(32000);
  EXPECT_THAT(message_of<DataError>([&] { bins.encode(at::tensor({0.5f, NAN})); }), HasSubstr("NaN"));
  EXPECT_THAT(message_of<DataError>([&] { bins.encode(at::ones({2}, at::kLong)); }),
              HasSubstr("floating-point"));
  EXPECT_THAT(message_of<DataError>([&] { bins.decode(at::zeros({2})); }), HasSubstr("int64"));
  EXPECT_THAT(message_of<ConfigError>([] { VocabularyActionBins(100, 1); }), HasSubstr("found 1"));
  EXPECT_THAT(message_of<ConfigError>([] { VocabularyActionBins(100, 101); }), HasSubstr("100, found 101"));
}

}  // namespace
}  // namespace apo::tokenizers
