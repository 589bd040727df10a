// Whatever bytes come: a ConfigError or a value, never a crash, never a long wait.
#include "apo/base/random.h"
#include "config/robot_options.h"

namespace apo::config {
namespace {

using ::testing::HasSubstr;

const std::string& valid_text() {
  static const std::string text = R"(# a run
instruction: "put the cup: \u00fc here"
checkpoint: models/policy
seed: 0x1F
max_steps: null
pools: [1, 5e-1, 0]
cameras:
  - front
  - 'wri''st'
expert:
  - &first
    path: a.hdf5
    limit: 5
  - {<<: *first, path: /data/b.hdf5, share: 0.5}
objective:
  beta: !!float 0.25
  ? kl_max
  : .inf
  type: >-
    kto
  weights: {desirable: 3, normalize: false}
)";
  return text;
}

// Reads the text; true if it was taken, false if it was refused with a message. Anything else fails the test.
bool is_taken(std::string_view text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
    return true;
  } catch (const ConfigError& error) {
    EXPECT_STRNE(error.what(), "");
    return false;
  }
}

TEST(Robustness, TheTextThatIsMutatedIsValid) { ASSERT_TRUE(is_taken(valid_text())); }

TEST(Robustness, EveryPrefix) {
  int taken = 0;
  for (size_t n = 0; n < valid_text().size(); ++n) taken += is_taken(valid_text().substr(0, n));
  EXPECT_GT(taken, 0);
}

TEST(Robustness, MutatedTexts) {
  Random random(3, "mutations");
  const std::string marks = "\n\t :-?[]{},&*!|>'\"%@#\\<=~.0a\xff\x00\xc3";
  int taken = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = valid_text();
    for (uint64_t edits = 1 + random.below(4); edits > 0; --edits) {
      const size_t at = random.below(text.size());
      const char mark = marks[random.below(marks.size())];
      switch (random.below(4)) {
        case 0:
          text[at] = mark;
          break;
        case 1:
          text.insert(at, 1 + random.below(3), mark);
          break;
        case 2:
          text.erase(at, 1 + random.below(8));
          break;
        default:
          text.insert(at, text.substr(random.below(text.size()), random.below(40)));
          break;
      }
    }
    taken += is_taken(text);
  }
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, 2000);
}

TEST(Robustness, RandomBytes) {
  Random random(4, "bytes");
  const std::string marks = "\n\n   :-?[]{},&*!|>'\"%@#\\<=~.0ab\t";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const bool only_marks = round % 2 == 0;
    for (uint64_t length = random.below(60); length > 0; --length)
      text += only_marks ? marks[random.below(marks.size())] : static_cast<char>(random.below(256));
    is_taken(text);
    is_taken("", {text});
    is_taken(valid_text(), {"objective." + text, "expert.1." + text, "instruction=" + text});
  }
}

TEST(Robustness, DeepNestingIsRefused) {
  const std::string message = "nesting deeper than 64 levels is not supported here";
  EXPECT_THAT(error_of("expert: " + std::string(100000, '[') + std::string(100000, ']')), HasSubstr(message));
  EXPECT_THAT(error_of("expert: " + std::string(100000, '[')), HasSubstr("a bracket that is never closed"));
  std::string maps, blocks;
  for (int i = 0; i < 20000; ++i) maps += "{a: ";
  maps += std::string(20000, '}');
  for (int i = 0; i < 1000; ++i) blocks += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(error_of(maps), HasSubstr(message));
  EXPECT_THAT(error_of(blocks), HasSubstr(message));
  std::string dashes, questions;
  for (int i = 0; i < 20000; ++i) dashes += "- ";
  for (int i = 0; i < 20000; ++i) questions += "? ";
  EXPECT_THAT(error_of(dashes), HasSubstr(message));
  EXPECT_THAT(error_of(questions), HasSubstr("a list or map as a key"));
  std::string key = "a";
  for (int i = 0; i < 100000; ++i) key += ".a";
  EXPECT_THAT(error_of("", {key + "=1"}), HasSubstr("=1: expected a key of at most 32 parts"));
}

TEST(Robustness, AliasBombsAreRefused) {
  std::string wide = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    wide += concat("a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) wide += concat(j == 0 ? "" : ", ", "*a", i - 1);
    wide += "]\n";
  }
  EXPECT_THAT(error_of(wide), HasSubstr("aliases that unfold to an enormous text is not supported here"));
  std::string flat = "a: &a [x";  // 1000 values, a thousand times, in a list without an anchor of its own
  for (int i = 1; i < 1000; ++i) flat += ", x";
  flat += "]\nb: [*a";
  for (int i = 1; i < 1000; ++i) flat += ", *a";
  EXPECT_THAT(error_of(flat + "]\n"), HasSubstr("x.yaml:2: aliases that unfold to an enormous text"));
  std::string deep = "a0: &a0 [x]\n";
  for (int i = 1; i < 1000; ++i) deep += concat("a", i, ": &a", i, " [[[[[[[[*a", i - 1, "]]]]]]]]\n");
  EXPECT_THAT(error_of(deep), HasSubstr("nesting deeper than 64 levels"));
  std::string merged = "a0: &a0 {k0: 1}\n";
  for (int i = 1; i < 100; ++i) merged += concat("a", i, ": &a", i, " {<<: *a", i - 1, ", k", i, ": 1}\n");
  EXPECT_THAT(error_of(merged), HasSubstr("unknown key 'a0"));
}

TEST(Robustness, EnormousTextsAreRefused) {
  EXPECT_THAT(error_of(std::string(5 << 20, '#')), HasSubstr("x.yaml: expected a config of at most 4 MiB"));
  std::string keys;
  for (int i = 0; i < 2000; ++i) keys += concat("k", i, ": 1\n");
  EXPECT_THAT(error_of(keys), HasSubstr("x.yaml:1001: a map of more than 1000 keys"));
}

}  // namespace
}  // namespace apo::config
