// FAST against scipy's DCT and the BPE of `tokenizers`: the numbers of scripts/goldens/make_fast.py.
#include "apo/tokenizers/fast.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "support/places.h"
#include "support/temp_dir.h"
#include "tokenizers/byte_bpe.h"
#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Numbers = std::vector<double>;
using Ids = std::vector<int64_t>;

const std::filesystem::path kGoldens = apo::testing::in_source("tests/tokenizers/goldens/fast");

json read_json(const char* name) { return json::parse(read_file(kGoldens / name)); }

class Fast : public ::testing::TestWithParam<const char*> {
 protected:
  json golden = read_json("fast.json")[GetParam()];
  FastTokenizer tokenizer = FastTokenizer::read(kGoldens / GetParam());
  int64_t horizon = golden["horizon"], size = golden["action_size"];
};

INSTANTIATE_TEST_SUITE_P(All, Fast, ::testing::Values("letters", "mixed"),
                         [](const auto& info) { return std::string(info.param); });

double distance(const Numbers& a, const Numbers& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST_P(Fast, EncodesChunksLikeThePythonProcessor) {
  bool clipped = false;
  for (size_t i = 0; i < golden["chunks"].size(); ++i) {
    const FastTokenizer::Encoded encoded = tokenizer.encode(golden["chunks"][i].get<Numbers>(), horizon);
    EXPECT_EQ(encoded.codes, golden["ids"][i].get<Ids>()) << i;
    clipped = clipped || encoded.num_clipped > 0;
  }
  EXPECT_EQ(clipped, GetParam() == std::string("mixed"));  // there, a chunk lies beyond what it was fitted on
}

TEST_P(Fast, DecodesWhatItEncoded) {
  for (size_t i = 0; i < golden["chunks"].size(); ++i) {
    const auto decoded = tokenizer.decode(golden["ids"][i].get<Ids>(), horizon, size);
    EXPECT_LT(distance(decoded.actions, golden["decoded"][i].get<Numbers>()), 1e-8) << i;
    if (tokenizer.encode(golden["chunks"][i].get<Numbers>(), horizon).num_clipped > 0) continue;
    EXPECT_FALSE(decoded.malformed) << i;
    EXPECT_LT(distance(decoded.actions, golden["chunks"][i].get<Numbers>()), 0.05 * std::sqrt(horizon)) << i;
  }
}

TEST_P(Fast, ReadsEveryAnswerByOneRule) {
  size_t malformed = 0;
  for (size_t i = 0; i < golden["answers"].size(); ++i) {
    const auto decoded = tokenizer.decode(golden["answers"][i].get<Ids>(), horizon, size);
    auto expected = golden["coefficients"][i].get<Numbers>();
    for (double& coefficient : expected) coefficient /= 10;
    const Numbers found = dct(decoded.actions, horizon);
    EXPECT_LT(distance(found, expected), 1e-6 * (1 + std::abs(*std::ranges::max_element(expected)))) << i;
    EXPECT_EQ(decoded.malformed, golden["malformed"][i].get<bool>()) << i;
    malformed += decoded.malformed;
  }
  EXPECT_GT(malformed, 10u);
}

TEST_P(Fast, SplitsAndJoinsTextsLikeTokenizers) {
  const ByteBpe bpe = ByteBpe::read(kGoldens / GetParam() / "tokenizer.json");
  for (const json& text : golden["texts"]) {
    std::u32string characters;
    for (const json& c : text["characters"]) characters += static_cast<char32_t>(c.get<uint32_t>());
    json words = json::array();
    for (const auto& [begin, end] : split_words_as_gpt2(characters)) words.push_back({begin, end});
    EXPECT_EQ(words, text["words"]) << text["characters"];
    EXPECT_EQ(bpe.encode(characters).ids, text["ids"].get<Ids>()) << text["characters"];
  }
}

TEST_P(Fast, FitsTheSamePiecesAndMerges) {
  const auto chunks = golden["fitted_on"].get<std::vector<Numbers>>();
  const FastTokenizer fitted = FastTokenizer::fit(chunks, horizon, size, golden["vocabulary"]);
  EXPECT_EQ(fitted.config().min_token, tokenizer.config().min_token);
  const apo::testing::TempDir directory;
  fitted.write(directory.path());
  const json found = json::parse(read_file(directory.path() / "tokenizer.json"))["model"];
  const json expected = json::parse(read_file(kGoldens / GetParam() / "tokenizer.json"))["model"];
  EXPECT_EQ(found["vocab"], expected["vocab"]);
  EXPECT_EQ(found["merges"], expected["merges"]);
  const FastTokenizer again = FastTokenizer::read(directory.path());
  EXPECT_EQ(again.config().horizon, horizon);
  EXPECT_EQ(again.config().action_size, size);
  EXPECT_EQ(again.encode(chunks[0], horizon).codes, tokenizer.encode(chunks[0], horizon).codes);
}

TEST_P(Fast, GrammarAllowsExactlyWhatDecodesToAWholeChunk) {
  const FastGrammar grammar(tokenizer, horizon * size);
  std::mt19937 random(7);
  for (int i = 0; i < 30; ++i) {
    Ids codes;
    FastGrammar::Place place = grammar.start();
    while (!grammar.is_complete(place)) {
      const Ids allowed = grammar.allowed(place);
      ASSERT_FALSE(allowed.empty());
      codes.push_back(allowed[random() % allowed.size()]);
      place = grammar.after(place, codes.back());
    }
    EXPECT_TRUE(grammar.allowed(place).empty());
    EXPECT_FALSE(tokenizer.decode(codes, horizon, size).malformed);
  }
  // and whatever a chunk is coded as is allowed
  for (const json& ids : golden["ids"]) {
    if (tokenizer.decode(ids.get<Ids>(), horizon, size).malformed) continue;
    FastGrammar::Place place = grammar.start();
    for (const int64_t code : ids.get<Ids>()) {
      const Ids allowed = grammar.allowed(place);
      ASSERT_TRUE(std::ranges::binary_search(allowed, code));
      place = grammar.after(place, code);
    }
    EXPECT_TRUE(grammar.is_complete(place));
  }
}

TEST(FastDct, IsScipysOrthonormalOne) {
  for (const json& golden : read_json("dct.json")) {
    Numbers numbers, expected;
    for (const json& row : golden["numbers"]) numbers.insert(numbers.end(), row.begin(), row.end());
    for (const json& row : golden["dct"]) expected.insert(expected.end(), row.begin(), row.end());
    const auto horizon = static_cast<int64_t>(golden["numbers"].size());
    EXPECT_LT(distance(dct(numbers, horizon), expected), 1e-12);
    EXPECT_LT(distance(inverse_dct(expected, horizon), numbers), 1e-12);
  }
}

TEST(FastUtf8, ReplacesMaximalSubparts) {
  // the examples of Unicode's chapter 3, table 3-8 and 3-11
  EXPECT_EQ(from_utf8_lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            U"\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\u0041");
  EXPECT_EQ(from_utf8_lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), U"\uFFFD\uFFFD\uFFFD\uFFFD\u0041");
  EXPECT_EQ(from_utf8_lossy("\xED\xA0\x80\xF4\x90\xC3"), U"\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(from_utf8_lossy("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), U"a\u00E9\u20AC\U0001F600");
}

TEST(FastRefuses, NumbersThatNoCharacterCanBe) {
  const FastTokenizer tokenizer = FastTokenizer::read(kGoldens / "letters");
  Numbers chunk(30, 0.0);
  chunk[0] = std::nan("");
  EXPECT_THAT(apo::testing::message_of<DataError>([&] { tokenizer.encode(chunk, 10); }), HasSubstr("finite"));
  chunk[0] = 1e5;
  EXPECT_THAT(apo::testing::message_of<DataError>([&] { tokenizer.encode(chunk, 10); }),
              HasSubstr("statistics those of this robot"));
  chunk[0] = 1e300;
  EXPECT_THAT(apo::testing::message_of<DataError>([&] { tokenizer.encode(chunk, 10); }),
              HasSubstr("statistics those of this robot"));
}

TEST(FastRefuses, FilesThatAreNoFastTokenizer) {
  const apo::testing::TempDir directory;
  const auto message = [&](const json& tokenizer, const json& processor) {
    write_file_atomic(directory.path() / "tokenizer.json", tokenizer.dump());
    write_file_atomic(directory.path() / "processor_config.json", processor.dump());
    return apo::testing::message_of<DataError>([&] { FastTokenizer::read(directory.path()); });
  };
  const json good = read_json("letters/tokenizer.json"), config = read_json("letters/processor_config.json");
  json bad = config;
  bad.erase("min_token");
  EXPECT_THAT(message(good, bad), HasSubstr("processor_config.json: min_token: expected an integer"));
  bad = config, bad["scale"] = 0;
  EXPECT_THAT(message(good, bad), HasSubstr("scale: expected a number > 0"));
  bad = good, bad["model"]["type"] = "WordPiece";
  EXPECT_THAT(message(bad, config), HasSubstr("model.type: expected \"BPE\""));
  bad = good, bad["pre_tokenizer"] = {{"type", "Whitespace"}};
  EXPECT_THAT(message(bad, config), HasSubstr("pre_tokenizer.type: expected \"ByteLevel\""));
  bad = good, bad["added_tokens"] = {{{"id", 3}, {"content", "<s>"}}};
  EXPECT_THAT(message(bad, config), HasSubstr("added_tokens: expected no added tokens"));
  bad = good, bad["model"]["merges"].push_back({"no", "such"});
  EXPECT_THAT(message(bad, config), HasSubstr("expected two pieces of model.vocab that make a third of it"));
  bad = good, bad["model"]["vocab"]["!"] = 99999;
  EXPECT_THAT(message(bad, config), HasSubstr("expected an id below 512"));
}

TEST(FastRefuses, FitsOfNothingAndOfOutliers) {
  const auto fit = [](const std::vector<Numbers>& chunks, int64_t vocabulary) {
    return FastTokenizer::fit(chunks, 2, 1, vocabulary);
  };
  EXPECT_THAT(apo::testing::message_of<DataError>([&] { fit({}, 100); }), HasSubstr("found none"));
  EXPECT_THAT(apo::testing::message_of<DataError>([&] { fit({{1, 2, 3}}, 100); }), HasSubstr("2 x 1"));
  EXPECT_THAT(apo::testing::message_of<ConfigError>([&] {
                fit({{0, 0}, {9, 9}}, 100);
              }),
              HasSubstr("coefficients reach from 0 to 127, which takes 128 pieces; expected at most 100"));
}

}  // namespace
}  // namespace apo::tokenizers
