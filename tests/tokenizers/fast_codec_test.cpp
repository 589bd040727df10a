// FAST codes as answers of a language model.
#include "apo/tokenizers/fast_codec.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/near.h"
#include "support/places.h"

namespace apo::tokenizers {
namespace {

using apo::testing::distance;
using apo::testing::message_of;
using ::testing::HasSubstr;

const std::filesystem::path kLetters = apo::testing::in_source("tests/tokenizers/goldens/fast/letters");
constexpr int64_t kHorizon = 10, kSize = 3, kFirst = 900, kBar = 7, kEnd = 1;

FastCodec codec(const FastTokenizer& tokenizer = FastTokenizer::read(kLetters)) {
  return {tokenizer, {.prefix = {5, 6}, .first_code = kFirst, .bar = kBar, .end = kEnd}, kSize, kHorizon};
}

// Two smooth chunks, one with more to it than the other.
at::Tensor chunks() {
  const at::Tensor t = at::arange(kHorizon, at::kDouble).view({1, kHorizon, 1});
  return at::cat({at::full({1, kHorizon, kSize}, 0.5, at::kDouble),
                  (t * at::arange(1, kSize + 1, at::kDouble) * 0.3).sin()});
}

TEST(FastCodec, AnswersArePrefixCodesBarAndEnd) {
  const FastCodec fast = codec();
  const CodedActions coded = fast.encode(chunks());
  const at::Tensor lengths = coded.mask.sum(1);
  ASSERT_NE(lengths[0].item<int64_t>(), lengths[1].item<int64_t>());
  for (int64_t row = 0; row < 2; ++row) {
    const int64_t length = lengths[row].item<int64_t>();
    const at::Tensor ids = coded.ids[row];
    EXPECT_EQ(ids[0].item<int64_t>(), 5);
    EXPECT_EQ(ids[1].item<int64_t>(), 6);
    EXPECT_EQ(ids[length - 2].item<int64_t>(), kBar);
    EXPECT_EQ(ids[length - 1].item<int64_t>(), kEnd);
    EXPECT_TRUE(coded.end_token[row][length - 1].item<bool>());
    EXPECT_EQ(coded.end_token[row].sum().item<int64_t>(), 1);
    for (int64_t t = 2; t < length - 2; ++t) EXPECT_TRUE(fast.code_of(ids[t].item<int64_t>()));
    EXPECT_TRUE(coded.mask[row].slice(0, 0, length).all().item<bool>());
  }
  const DecodedActions decoded = fast.decode(coded.ids);
  EXPECT_FALSE(decoded.malformed.any().item<bool>());
  EXPECT_LT(distance(decoded.actions, chunks()), 0.15);
  EXPECT_FALSE(fast.bins());
  EXPECT_TRUE(fast.codes_whole_chunks());
  EXPECT_LE(coded.ids.size(1), fast.max_length());
}

TEST(FastCodec, WhatIsNoWholeCodeIsCountedAndNeverSilentlyNothing) {
  const FastCodec fast = codec();
  const at::Tensor good = fast.encode(chunks()).ids.narrow(0, 1, 1);
  const auto decoded = [&](const at::Tensor& ids) { return fast.decode(ids); };
  const at::Tensor whole = decoded(good).actions;

  at::Tensor ids = good.clone();
  ids[0][0] = 333;  // no prefix
  EXPECT_TRUE(decoded(ids).malformed.item<bool>());
  EXPECT_TRUE(decoded(ids).actions.equal(whole));

  ids = at::cat({good.narrow(1, 0, 4), at::full({1, 1}, 333, at::kLong), good.slice(1, 4)}, 1);
  EXPECT_TRUE(decoded(ids).malformed.item<bool>());  // an id between the codes that is none of them
  EXPECT_TRUE(decoded(ids).actions.equal(whole));

  ids = good.clone();
  ids[0][6] = kBar;  // cut short
  EXPECT_TRUE(decoded(ids).malformed.item<bool>());
  EXPECT_FALSE(decoded(ids).actions.equal(whole));
  EXPECT_GT(decoded(ids).actions.abs().max().item<double>(), 0);
  EXPECT_TRUE(decoded(ids).decoded.all().item<bool>());

  ids = at::cat({good, good.slice(1, 2)}, 1);  // what stands behind the bar is not read
  EXPECT_FALSE(decoded(ids).malformed.item<bool>());
  EXPECT_TRUE(decoded(ids).actions.equal(whole));
}

TEST(FastCodec, CountsWhatItCannotExpress) {
  EXPECT_EQ(codec().encode(chunks()).num_clipped, 0);
  EXPECT_GT(codec().encode(chunks() * -40).num_clipped, 0);
}

TEST(FastCodec, RefusesTokenizersOfOtherSizesAndVocabulariesThatAreTooSmall) {
  const FastTokenizer tokenizer = FastTokenizer::read(kLetters);
  const auto make = [&](int64_t first, int64_t size, int64_t horizon) {
    return message_of<ConfigError>([&] {
      FastCodec(tokenizer, {.prefix = {}, .first_code = first, .bar = 1, .end = 2}, size, horizon);
    });
  };
  EXPECT_THAT(make(kFirst, kSize, 5), HasSubstr("made for chunks of 10 actions, expected 5"));
  EXPECT_THAT(make(kFirst, 7, kHorizon), HasSubstr("made for actions of 3 numbers, expected 7"));
  EXPECT_THAT(make(100, kSize, kHorizon), HasSubstr("expected a vocabulary that holds them all"));
}

}  // namespace
}  // namespace apo::tokenizers
