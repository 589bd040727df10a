#include "apo/base/provenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include "apo/base/version.h"
#include "base/provenance_json.h"

namespace apo {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(ShellLine, IsTakenAsItWasWritten) {
  EXPECT_EQ(shell_line({"apo-train", "--set", "run.dir=a_b/c-1"}), "apo-train --set run.dir=a_b/c-1");
  EXPECT_EQ(shell_line({"a b", "", "it's", "x;rm"}), "'a b' '' 'it'\\''s' 'x;rm'");
  EXPECT_EQ(shell_line({"Würfel $HOME"}), "'Würfel $HOME'");
  EXPECT_EQ(shell_line({"a\nb'\\\x1b[31m\xff"}), "$'a\\012b\\'\\\\\\033[31m\\377'");
}

// What bash makes of the line are the words again.
TEST(ShellLine, GoesThroughAShell) {
  const std::vector<std::string> words = {"printf",    "%s|",     "a b", "it's", "$HOME",
                                          "tab\there", "\x1b[1m", "*",   "ä"};
  std::FILE* pipe = ::popen(shell_line({"bash", "-c", shell_line(words)}).c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string out;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
  ::pclose(pipe);
  EXPECT_EQ(out, "a b|it's|$HOME|tab\there|\x1b[1m|*|ä|");
}

TEST(Provenance, KnowsProgramVersionAndMachine) {
  const char* const words[] = {"bin/apo-train", "--set", "run.dir=my run"};
  set_command("apo-train", 3, words);
  const Provenance made = provenance();
  EXPECT_EQ(made.program, "apo-train");
  EXPECT_EQ(made.command, "bin/apo-train --set 'run.dir=my run'");
  EXPECT_EQ(made.version, version());
  EXPECT_THAT(made.commit, MatchesRegex("unknown|[0-9a-f]{12,40}(-dirty)?"));
  EXPECT_THAT(made.date, MatchesRegex("20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z"));
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  EXPECT_EQ(made.host, host);
  EXPECT_THAT(made.cpu, HasSubstr(" core"));
  EXPECT_EQ(made.torch, TORCH_VERSION);
  EXPECT_GE(made.threads, 1);
}

TEST(Provenance, StandsAboveAConfigAndIsReadAgain) {
  const char* const words[] = {"apo-train", "first"};
  set_command("apo-train", 2, words);
  const std::string text = with_provenance("run:\n  seed: 3\n");
  EXPECT_TRUE(
      text.starts_with("# made by apo-train\n#   program: apo-train\n#   command: apo-train first\n"));
  EXPECT_TRUE(text.ends_with("\nrun:\n  seed: 3\n"));
  const std::vector<Provenance> all = read_provenance(text);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(provenance_json(all[0]), provenance_json());
  EXPECT_EQ(with_provenance("run:\n  seed: 4\n", text),
            text.substr(0, text.find("run:")) + "run:\n  seed: 4\n")
      << "the same command of the same commit on the same host is told once";

  const char* const again[] = {"apo-train", "--resume"};
  set_command("apo-train", 2, again);
  const std::vector<Provenance> both = read_provenance(with_provenance("run: {}\n", text));
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].command, "apo-train first");
  EXPECT_EQ(both[1].command, "apo-train --resume");
}

TEST(Provenance, OtherCommentsAreNone) {
  EXPECT_TRUE(read_provenance("# my own config\n#   command: rm\nrun: {}\n").empty());
  EXPECT_TRUE(read_provenance("").empty());
  EXPECT_TRUE(read_provenance("run: {}\n# made by apo-train\n").empty());
  const std::vector<Provenance> cut =
      read_provenance("# made by apo-eval\n#   threads: many\n#   color: red\n#   host: h");
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0].host, "h");
  EXPECT_EQ(cut[0].threads, 0);
}

}  // namespace
}  // namespace apo
