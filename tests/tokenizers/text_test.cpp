// Text as token ids, against the Python package, and OpenVLA's prompt.
#include "apo/tokenizers/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::tokenizers {
namespace {

namespace fs = std::filesystem;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int64_t>;

const fs::path kGoldens = apo::testing::in_source("tests/tokenizers/goldens");

// Llama-2's vocabulary may not be redistributed; where it is there, ids are held against the real one.
fs::path llama2() { return apo::testing::test_data("llama2/tokenizer.model"); }
#define APO_NEEDS_LLAMA2()                                                                      \
  if (!fs::exists(llama2()))                                                                    \
  GTEST_SKIP() << llama2().string()                                                             \
               << " is not there (Llama-2's tokenizer; the CMake variable APO_TEST_DATA names " \
                  "the folder)"

const TextTokenizer& small() {
  static const TextTokenizer tokenizer(kGoldens / "small.model");
  return tokenizer;
}

Ids concatenated(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(TextTokenizer, EqualsThePythonPackage) {
  const auto golden = nlohmann::json::parse(std::ifstream(kGoldens / "text.json"));
  EXPECT_EQ(small().size(), golden.at("size").get<int64_t>());
  EXPECT_EQ(small().bos(), golden.at("bos").get<int64_t>());
  EXPECT_EQ(small().eos(), golden.at("eos").get<int64_t>());
  EXPECT_EQ(small().unknown(), golden.at("unknown").get<int64_t>());
  EXPECT_EQ(small().id("▁"), golden.at("space").get<int64_t>());
  EXPECT_GE(golden.at("texts").size(), 10u);
  for (const auto& entry : golden.at("texts")) {
    const auto text = entry.at("text").get<std::string>();
    const auto ids = entry.at("ids").get<Ids>();
    EXPECT_EQ(small().encode(text), ids) << text;
    EXPECT_EQ(small().decode(ids), entry.at("decoded").get<std::string>()) << text;
  }
}

// Its numbers are those of `tokenizers`, and of the SentencePiece model that it was made of.
TEST(TextTokenizer, ATokenizerJsonSplitsAsItsLibraryDoes) {
  const auto golden = nlohmann::json::parse(std::ifstream(kGoldens / "merged/text.json"));
  for (const char* form : {"merged/tokenizer.json", "merged/tokenizer.model"}) {
    const TextTokenizer tokenizer(kGoldens / form);
    EXPECT_EQ(tokenizer.size(), golden.at("size").get<int64_t>()) << form;
    EXPECT_EQ(tokenizer.bos(), golden.at("bos").get<int64_t>()) << form;
    EXPECT_EQ(tokenizer.eos(), golden.at("eos").get<int64_t>()) << form;
    EXPECT_EQ(tokenizer.unknown(), 3) << form;
    EXPECT_GE(golden.at("texts").size(), 200u);
    for (const auto& entry : golden.at("texts")) {
      const auto text = entry.at("text").get<std::string>();
      EXPECT_EQ(tokenizer.encode(text), entry.at("ids").get<Ids>()) << form << " " << text;
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("pick \u6771 up")), "pick \u6771 up") << form;
  }
}

TEST(TextTokenizer, RefusesTokenizersOfAnotherKind) {
  const auto good = nlohmann::json::parse(std::ifstream(kGoldens / "merged/tokenizer.json"));
  const TempDir directory;
  const auto complaint = [&](const char* pointer, const nlohmann::json& value) {
    auto changed = good;
    changed[nlohmann::json::json_pointer(pointer)] = value;
    write_file_atomic(directory / "tokenizer.json", changed.dump());
    return message_of<DataError>([&] { TextTokenizer tokenizer(directory / "tokenizer.json"); });
  };
  EXPECT_THAT(complaint("/model/type", "WordPiece"),
              HasSubstr("tokenizer.json: model.type: expected \"BPE\""));
  EXPECT_THAT(complaint("/model/byte_fallback", false), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(complaint("/model/ignore_merges", true), HasSubstr("model.ignore_merges"));
  EXPECT_THAT(complaint("/normalizer/type", "Lowercase"), HasSubstr("normalizer.type"));
  EXPECT_THAT(complaint("/normalizer/content", "_"), HasSubstr("normalizer.content"));
  EXPECT_THAT(complaint("/pre_tokenizer", {{"type", "ByteLevel"}}), HasSubstr("pre_tokenizer.type"));
  EXPECT_THAT(complaint("/model/vocab/extra", 601), HasSubstr("model.vocab.extra"));
  EXPECT_THAT(complaint("/model/vocab/extra", 5), HasSubstr("an id that no other piece has"));
  EXPECT_THAT(complaint("/model/merges/0", {"no", "such"}), HasSubstr("model.merges[0]"));
  EXPECT_THAT(complaint("/model/merges/0", "together"), HasSubstr("model.merges[0]: expected two pieces"));
  EXPECT_THAT(complaint("/added_tokens/1/content", "else"), HasSubstr("added_tokens[1].content"));
  EXPECT_THAT(complaint("/model/vocab", nlohmann::json::object()), HasSubstr("model.vocab"));
  EXPECT_THAT(complaint("/model", 7), HasSubstr("tokenizer.json: model"));
}

TEST(TextTokenizer, KnowsItsPieces) {
  EXPECT_EQ(small().id("</s>"), 2);
  EXPECT_EQ(small().id("no such piece"), std::nullopt);
  EXPECT_EQ(small().id("<unk>"), small().unknown());
  for (int64_t id = 0; id < small().size(); ++id) EXPECT_EQ(small().id(small().piece(id)), id);
}

TEST(TextTokenizer, IsSafeFromManyThreads) {
  const Ids expected = small().encode("pick up the red cube in the box");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) wrong[t] += small().encode("pick up the red cube in the box") != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
}

TEST(TextTokenizer, RefusesFilesThatAreNoModel) {
  const TempDir directory;
  const fs::path path = directory / "tokenizer.model";
  EXPECT_THAT(message_of<DataError>([&] { TextTokenizer tokenizer(path); }),
              AllOf(HasSubstr("tokenizer.model"), HasSubstr("open")));
  EXPECT_THAT(message_of<DataError>([&] { TextTokenizer tokenizer(fs::path(directory / ".")); }),
              HasSubstr("found a directory"));
  write_file_atomic(path, "");
  EXPECT_THAT(message_of<DataError>([&] { TextTokenizer tokenizer(path); }),
              AllOf(HasSubstr("tokenizer.model"), HasSubstr("empty file")));
  write_file_atomic(path, "{\"version\": \"1.0\"}");
  EXPECT_THAT(message_of<DataError>([&] { TextTokenizer tokenizer(path); }),
              AllOf(HasSubstr("tokenizer.model"), HasSubstr("18 bytes")));
}

// Whatever the length of a cut file: an error or, never, a tokenizer that splits otherwise.
TEST(TextTokenizer, RefusesATruncatedModel) {
  const TempDir directory;
  const std::string whole = read_file(kGoldens / "small.model");
  const fs::path path = directory / "tokenizer.model";
  for (size_t bytes = 1; bytes < whole.size(); bytes += bytes < 64 ? 1 : 97) {
    write_file_atomic(path, whole.substr(0, bytes));
    EXPECT_THAT(message_of<DataError>([&] { TextTokenizer tokenizer(path); }),
                AllOf(HasSubstr("tokenizer.model"), HasSubstr("SentencePiece")))
        << bytes;
  }
}

TEST(TextTokenizer, RefusesWhatIsNotUtf8) {
  for (const std::string bad :
       {"\xff", "\xc3", "\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80"})
    EXPECT_THAT(message_of<DataError>([&] { small().encode("ab" + bad); }),
                AllOf(HasSubstr("UTF-8"), HasSubstr("position 2")))
        << bad;
  EXPECT_NO_THROW(small().encode("\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe0\xa0\x80"));
  EXPECT_NO_THROW(small().encode(std::string_view("a\0b", 3)));
}

TEST(TextTokenizer, RefusesIdsBeyondTheVocabulary) {
  EXPECT_THAT(message_of<DataError>([] {
                small().decode({5, 420});
              }),
              AllOf(HasSubstr("[0, 419]"), HasSubstr("found 420")));
  EXPECT_THAT(message_of<DataError>([] { small().decode({-1}); }), HasSubstr("found -1"));
  EXPECT_THAT(message_of<DataError>([] { (void)small().piece(int64_t{1} << 40); }),
              HasSubstr("found 1099511627776"));
}

TEST(OpenVlaPrompt, IsBosTextAndALoneSpace) {
  const Ids text = small().encode("In: What action should the robot take to pick up the Red_cube?\nOut:");
  EXPECT_EQ(openvla_prompt(small(), "pick up the Red_cube"),
            concatenated(concatenated({small().bos()}, text), {*small().id("▁")}));
}

TEST(OpenVlaPrompt, LowersAndReplacesOnRequest) {
  EXPECT_EQ(openvla_prompt(small(), "Pick_up the CUBE", {.lower_case = true}),
            openvla_prompt(small(), "pick_up the cube"));
  EXPECT_EQ(openvla_prompt(small(), "Pick_up", {.underscores_to_spaces = true}),
            openvla_prompt(small(), "Pick up"));
  EXPECT_NE(openvla_prompt(small(), "Pick_up"), openvla_prompt(small(), "pick up"));
  EXPECT_EQ(openvla_prompt(small(), "Ä", {.lower_case = true}), openvla_prompt(small(), "Ä"));
}

TEST(OpenVlaPrompt, RefusesBadInstructions) {
  for (const char* empty : {"", " ", "\n\t "})
    EXPECT_THAT(message_of<DataError>([&] { openvla_prompt(small(), empty); }),
                AllOf(HasSubstr("instruction"), HasSubstr("empty")));
  EXPECT_THAT(message_of<DataError>([] { openvla_prompt(small(), "pick \xff"); }),
              AllOf(HasSubstr("instruction"), HasSubstr("255 at position 5")));
  const std::string longer(5000, 'q');
  EXPECT_THAT(message_of<DataError>([&] { openvla_prompt(small(), longer); }),
              AllOf(HasSubstr("qqq..."), HasSubstr("at most 2048 tokens, found")));
  EXPECT_NO_THROW(openvla_prompt(small(), longer, {.max_tokens = 6000}));
}

// 17 tokens for "make coffee", the lone space included.
TEST(OpenVlaPrompt, EqualsLlama2) {
  APO_NEEDS_LLAMA2();
  const TextTokenizer tokenizer(llama2());
  EXPECT_EQ(tokenizer.size(), 32000);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.unknown(), 0);
  EXPECT_EQ(tokenizer.id("▁"), 29871);
  EXPECT_THAT(openvla_prompt(tokenizer, "make coffee"),
              ElementsAre(1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304, 1207, 26935, 29973, 13, 3744,
                          29901, 29871));
}

TEST(OpenVlaPrompt, DoesNotDoubleTheSpace) {
  APO_NEEDS_LLAMA2();
  const TextTokenizer tokenizer(llama2());
  // what the released evaluation tokenizes: the text ends with a space
  const Ids text = tokenizer.encode("In: What action should the robot take to make coffee?\nOut: ");
  EXPECT_EQ(openvla_prompt(tokenizer, "make coffee"), concatenated({1}, text));
}

}  // namespace
}  // namespace apo::tokenizers
