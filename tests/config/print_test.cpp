// Printing: what is printed reads back to the same values, bit by bit.
#include <cstring>

#include "apo/base/random.h"
#include "config/robot_options.h"

namespace apo::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

uint64_t bits(double x) {
  uint64_t out;
  std::memcpy(&out, &x, sizeof(out));
  return out;
}

TEST(Print, LooksLikeThis) {
  RobotOptions options;
  options.expert = {{.path = "/data/a.hdf5", .limit = 5, .share = 0.5}, {}};
  options.max_steps = {};
  EXPECT_EQ(print(options), R"(instruction: "pick up the cube"
checkpoint: ""
seed: 0
max_steps: null
pools: [0.5, 0.25, 0.25]
sizes: []
cameras: [front]
expert:
  - path: /data/a.hdf5
    limit: 5
    share: 0.5
  - path: ""
    limit: 0
    share: null
objective:
  beta: 0.1
  kl_max: .inf
  reduction: mean
  type: apo
  weights:
    desirable: 1
    normalize: true
)");
}

TEST(Print, CommentsCarryDocAndLimitsAndReadBack) {
  RobotOptions options;
  options.expert = {{.path = "/a", .limit = 1, .share = {}}};
  const std::string text = print(options, true);
  EXPECT_THAT(text, HasSubstr("  beta: 0.1  # temperature; higher stays nearer to the reference (> 0)\n"));
  EXPECT_THAT(text, HasSubstr("  reduction: mean  # how the batch is reduced (mean | sum)\n"));
  EXPECT_THAT(text, HasSubstr("objective:  # what is minimised\n"));
  EXPECT_EQ(read(text), options);
}

TEST(Print, LongCommentsStandAboveTheirField) {
  double value = 1;
  const std::string doc(100, 'x');
  const std::string text =
      print(VisitFunction([&](Visitor& v) { v("value", value, doc + "\nsecond"); }), true);
  EXPECT_EQ(text, "# " + doc + " second\nvalue: 1\n");
}

TEST(Print, DefaultsRoundTrip) { EXPECT_EQ(read(print(RobotOptions())), RobotOptions()); }

TEST(Print, EveryDoubleRoundTripsBitByBit) {
  Random random(1, "doubles");
  std::vector<double> values = {0.0,
                                -0.0,
                                0.1,
                                1e-4,
                                1.0,
                                100000,
                                1e22,
                                1.0 / 3,
                                5e-324,
                                1.7976931348623157e308,
                                2.2250738585072014e-308,
                                HUGE_VAL,
                                -HUGE_VAL,
                                123456789.123456789,
                                -1e-7};
  while (values.size() < 5000) {
    const uint64_t pattern = random.bits();
    double x;
    std::memcpy(&x, &pattern, sizeof(x));
    if (std::isfinite(x)) values.push_back(x);
  }
  const auto visit = [](std::vector<double>& list) {
    return VisitFunction([&list](Visitor& v) { v("values", list, "", or_infinite(any())); });
  };
  std::vector<double> back;
  Document::from_text(print(visit(values))).read(visit(back));
  ASSERT_EQ(back.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(bits(back[i]), bits(values[i])) << values[i];
}

TEST(Print, EveryIntegerRoundTrips) {
  std::vector<int64_t> values = {0,
                                 1,
                                 -1,
                                 std::numeric_limits<int64_t>::min(),
                                 std::numeric_limits<int64_t>::max(),
                                 (int64_t{1} << 53) + 1};
  const auto visit = [](std::vector<int64_t>& list) {
    return VisitFunction([&list](Visitor& v) { v("values", list, ""); });
  };
  std::vector<int64_t> back;
  Document::from_text(print(visit(values))).read(visit(back));
  EXPECT_EQ(back, values);
}

std::vector<std::string> round_trip(std::vector<std::string> texts) {
  const auto visit = [](std::vector<std::string>& list) {
    return VisitFunction([&list](Visitor& v) { v("texts", list, ""); });
  };
  std::vector<std::string> back;
  Document::from_text(print(visit(texts))).read(visit(back));
  return back;
}

TEST(Print, AwkwardTextsRoundTrip) {
  const std::vector<std::string> texts = {"",
                                          " ",
                                          "yes",
                                          "No",
                                          "on",
                                          "OFF",
                                          "y",
                                          "null",
                                          "~",
                                          "Null",
                                          "true",
                                          "1",
                                          "1e3",
                                          "0x10",
                                          "-5",
                                          ".5",
                                          ".inf",
                                          "nan",
                                          "inf",
                                          "- a",
                                          "a: b",
                                          "a:",
                                          "# c",
                                          "a #c",
                                          "[a",
                                          "]",
                                          "{",
                                          "}",
                                          ",",
                                          "a, b",
                                          "&a",
                                          "*a",
                                          "!a",
                                          "|",
                                          ">",
                                          "'",
                                          "\"",
                                          "\\",
                                          "\\n",
                                          "%x",
                                          "@x",
                                          "`x",
                                          "?",
                                          "? a",
                                          "-",
                                          "--",
                                          "---",
                                          "...",
                                          "a\nb",
                                          "\n",
                                          "a\tb",
                                          "\ta",
                                          "a\r\nb",
                                          " a ",
                                          "<<",
                                          "=",
                                          "gr\u00fc\u00df",
                                          "\U0001F916",
                                          "\u0085",
                                          "a\u2028b\u2029c",
                                          "\ufeffx",
                                          "\x01\x1f\x7f",
                                          "/a/b.c",
                                          "C:\\x",
                                          std::string(3000, 'x'),
                                          std::string(300, ' '),
                                          std::string("a\0b", 3)};
  const std::vector<std::string> back = round_trip(texts);
  ASSERT_EQ(back.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(back[i], texts[i]) << "text " << i;
}

TEST(Print, RandomTextsRoundTrip) {
  Random random(2, "texts");
  const std::string alphabet = "ab01 \n\t:#-?[]{},&*!|>'\"%@`\\./~<=_+e\u00fc";
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    const uint64_t length = random.below(12);
    for (uint64_t j = 0; j < length; ++j) text += alphabet[random.below(alphabet.size() - 2)];
    texts.push_back(text + (i % 7 == 0 ? "\u00fc" : ""));
  }
  EXPECT_EQ(round_trip(texts), texts);
}

TEST(Print, YamlsOwnWordsAreQuoted) {
  for (const std::string word : {"yes", "NO", "on", "null", "true", "1e3", "12", "", ".nan", "~"}) {
    std::string text = word;
    EXPECT_EQ(print(VisitFunction([&](Visitor& v) { v("text", text, ""); })), "text: \"" + word + "\"\n");
  }
}

TEST(Print, TextThatIsNotUtf8IsAnErrorNotAWrongFile) {
  std::string text = "\xff";
  EXPECT_THROW(print(VisitFunction([&](Visitor& v) { v("text", text, ""); })), ConfigError);
}

TEST(Print, EmptySectionsAndListsInsideLists) {
  struct Inner {
    std::vector<SourceOptions> sources;
    ObjectiveOptions objective;
    void visit(Visitor& v) {
      v("objective", objective, "");
      v("sources", sources, "");
    }
  };
  struct Nothing {
    void visit(Visitor&) {}
  };
  std::vector<Inner> list(2);
  list[1].sources = {{.path = "/a", .limit = 1, .share = {}}, {.path = "/b", .limit = 2, .share = {}}};
  list[1].objective.beta = 7;
  std::vector<Nothing> nothings(2);
  Nothing nothing;
  const auto visit = [&](std::vector<Inner>& inner, std::vector<Nothing>& empty) {
    return VisitFunction([&](Visitor& v) {
      v("list", inner, "");
      v("nothing", nothing, "");
      v("nothings", empty, "");
    });
  };
  std::vector<Inner> back;
  std::vector<Nothing> nothings_back;
  const std::string text = print(visit(list, nothings));
  Document::from_text(text).read(visit(back, nothings_back));
  EXPECT_EQ(print(visit(back, nothings_back)), text);
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[1].sources, list[1].sources);
  EXPECT_EQ(back[1].objective.beta, 7);
  EXPECT_EQ(nothings_back.size(), 2u);
}

TEST(Differences, NameTheKeysThatDiffer) {
  RobotOptions a, b;
  EXPECT_THAT(differences(a, b), IsEmpty());
  b.objective.beta = 0.2;
  b.pools = {1};
  b.instruction = "yes";
  b.expert = {{.path = "/a", .limit = 1, .share = {}}};
  EXPECT_THAT(
      differences(a, b),
      ElementsAre("instruction: \"pick up the cube\" -> \"yes\"", "pools: [0.5, 0.25, 0.25] -> [1]",
                  "expert: [] -> (absent)", "objective.beta: 0.1 -> 0.2", "expert.0.path: (absent) -> /a",
                  "expert.0.limit: (absent) -> 1", "expert.0.share: (absent) -> null"));
}

}  // namespace
}  // namespace apo::config
