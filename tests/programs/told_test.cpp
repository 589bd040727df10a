// What the programs tell: where results come from, help, completion files, and nothing that acts on a
// terminal.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPrograms[] = {"apo-train",  "apo-eval",  "apo-collect",
                                     "apo-refine", "apo-serve", "apo-data"};

class Told : public TinyLoop {
 protected:
  // The command as `run` calls it.
  std::string command(const std::string& program, const std::string& arguments) const {
    return apo::testing::in_build("bin/") + program + " --config " + config() + arguments;
  }
};

TEST_F(Told, ResultsSayWhereTheyComeFrom) {
  const auto result =
      run("apo-refine", {set("run.dir=" + path("my loop")), set("refine.rounds=1"), set("run.threads=2")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string given =
      concat(" '--set=run.dir=", path("my loop"), "' --set=refine.rounds=1 --set=run.threads=2");
  const json summary = json::parse(slurp(path("my loop/summary.json")));
  EXPECT_EQ(summary["command"], command("apo-refine", given));
  const json& provenance = summary["provenance"];
  EXPECT_EQ(provenance["program"], "apo-refine");
  EXPECT_EQ(provenance["version"], "0.1.0");
  EXPECT_EQ(provenance["threads"], 2);
  for (const char* name : {"commit", "date", "host", "cpu", "torch"}) EXPECT_NE(provenance[name], "") << name;
  const json evaluation = json::parse(slurp(path("my loop/base/evaluation/results.json")));
  EXPECT_EQ(evaluation["provenance"], provenance);
  for (const char* file : {"my loop/config.yaml", "my loop/base/training/config.yaml"})
    EXPECT_THAT(slurp(path(file)), AllOf(HasSubstr("# made by apo-refine\n"), HasSubstr("\n#   threads: 2\n"),
                                         HasSubstr("\n#   command: " + command("apo-refine", given) + "\n")))
        << file;
  const std::string host = provenance["host"].get<std::string>();
  for (const char* page : {"my loop/report.html", "my loop/base/training/report.html"})
    EXPECT_THAT(slurp(path(page)), AllOf(HasSubstr("<h2>Where it comes from</h2>"),
                                         HasSubstr("<td>host</td><td>" + host + "</td>")))
        << page;
}

// 4 trials of a base of 4 updates and of a policy of 6: none succeeds, and the refined one is not worse.
TEST_F(Told, TheLastLineOfALoopSaysWhatHappenedAndWhatToOpen) {
  const auto result = run("apo-refine", {set("run.dir=" + path("loop"))});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json rounds = json::parse(slurp(path("loop/summary.json")))["rounds"];
  ASSERT_EQ(rounds[0]["evaluation"]["successes"], 0);
  ASSERT_EQ(rounds[1]["evaluation"]["successes"], 0);
  const std::string last = result.out.substr(result.out.rfind('\n', result.out.size() - 2) + 1);
  EXPECT_EQ(last, concat("success  0% [0, 49] before, 0% [0, 49] after (4 trials, 95% intervals); open ",
                         path("loop"), "/report.html\n"));
}

// Trials that succeed end before those that time out: a rate over those that are over would be too high.
TEST_F(Told, NoSuccessBeforeAllTrialsAreOver) {
  train_base();
  const auto result =
      run("apo-eval", {set("policy.checkpoint=" + path("base")), "--output", path("evaluation")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("evaluate: 4/4 in "), Not(HasSubstr("success"))));
  EXPECT_THAT(result.out, HasSubstr("success   0.00 [0.00, 0.49]  0 of 4"));
}

TEST_F(Told, NothingFromAFileActsOnTheTerminal) {
  record_demonstrations();
  const std::string evil = "lift\x1b[31m it\n  instruction       'forged' \xe2\x80\xae\xff";
  const std::string shown = "lift\\u001b[31m it\\n  instruction       'forged' \\u202e\\xff";
  const auto inspected = run_program("apo-data", {"inspect", path("demos.hdf5"), "--instruction", evil});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, AllOf(HasSubstr("'" + shown + "'"), Not(HasSubstr("\x1b"))));
  const auto refused = run("apo-train", sft("run", {set("policy.type=\"a\\e[2J\\nb\"")}));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("no kind of policy is called \"a\\u001b[2J\\nb\""));
  const auto missing = run_program("apo-data", {"inspect", path("no\x1b[2J\nsuch.hdf5")});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("no\\u001b[2J\\nsuch.hdf5"), Not(HasSubstr("\x1b"))));
}

// The lines below "Examples:" that begin with the program's name, split at spaces.
std::vector<std::vector<std::string>> examples(const std::string& help, const std::string& program) {
  std::vector<std::vector<std::string>> all;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("  " + program + " ")) continue;
    std::istringstream words(line.substr(program.size() + 3));
    all.emplace_back();
    for (std::string word; words >> word;) all.back().push_back(word);
  }
  return all;
}

TEST(Help, HasExamplesThatTheProgramTakesAndItsExitCodes) {
  for (const char* program : kPrograms) {
    const auto help = run_program(program, {"--help"});
    EXPECT_THAT(help.out, AllOf(HasSubstr("\n\nExamples:\n"), HasSubstr("Exit codes:\n  0 done"),
                                HasSubstr("  130 stopped")));
    const auto all = examples(help.out, program);
    EXPECT_GE(all.size(), 3u) << program;
    for (std::vector<std::string> words : all) {
      // files that exist on the user's machine alone: the command line is parsed, and that is it
      if (words[0] == "COMMAND") continue;
      if (words[0] != "check-remote")
        words.push_back("--print-config");  // that one reads none, and nobody listens
      const auto result = run_program(program, words);
      EXPECT_THAT(result.err,
                  AllOf(Not(HasSubstr("--help lists the options")), Not(HasSubstr("unknown key"))))
          << program << " " << ::testing::PrintToString(words);
    }
  }
  EXPECT_THAT(run_program("apo-data", {"inspect", "--help"}).out, HasSubstr("Exit codes:"));
}

TEST(Completion, FilesAreThoseOfThePrograms) {
  const std::string root = apo::testing::in_source("completions/");
  for (const std::string program : kPrograms) {
    EXPECT_EQ(run_program(program, {"--print-completion", "bash"}).out, slurp(root + "bash/" + program))
        << "run scripts/completions.sh";
    EXPECT_EQ(run_program(program, {"--print-completion", "zsh"}).out, slurp(root + "zsh/_" + program))
        << "run scripts/completions.sh";
  }
  EXPECT_EQ(run_program("apo-train", {"--print-completion", "fish"}).exit_code, 2);
}

// What bash offers for the last of these words.
std::vector<std::string> offered(const std::string& program, const std::vector<std::string>& words) {
  std::string script =
      concat("source ", apo::testing::in_source("completions/bash/"), program, "; COMP_WORDS=(", program);
  for (const std::string& word : words) script += " '" + word + "'";
  script += concat("); COMP_CWORD=", words.size(), "; _", program, "; printf '%s\\n' \"${COMPREPLY[@]}\"");
  script.replace(script.find("; _" + program), program.size() + 3, "; _apo_" + program.substr(4));
  std::FILE* pipe = ::popen(concat("bash -c \"$(cat <<'END'\n", script, "\nEND\n)\"").c_str(), "r");
  std::vector<std::string> lines;
  char line[256] = {};
  while (std::fgets(line, sizeof(line), pipe) != nullptr)
    lines.push_back(std::string(line, std::strlen(line) - 1));
  EXPECT_EQ(::pclose(pipe), 0);
  return lines;
}

TEST(Completion, BashOffersOptionsCommandsNamesAndFiles) {
  using ::testing::Contains;
  using ::testing::ElementsAre;
  using ::testing::UnorderedElementsAre;
  EXPECT_THAT(offered("apo-train", {"--over"}), ElementsAre("--overwrite"));
  EXPECT_THAT(offered("apo-data", {"con"}), UnorderedElementsAre("contact-sheet", "convert"));
  EXPECT_THAT(offered("apo-data", {"convert", "--form"}), ElementsAre("--format"));
  EXPECT_THAT(offered("apo-data", {"inspect", "--format", "robo"}), ElementsAre("robomimic"));
  EXPECT_THAT(offered("apo-refine", {"--config", "tabletop_pu"}), ElementsAre("tabletop_push"));
  EXPECT_THAT(offered("apo-refine", {"--config", "=", "tabletop_pu"}), ElementsAre("tabletop_push"));
  EXPECT_THAT(offered("apo-data", {"inspect", apo::testing::in_source("READ")}),
              ElementsAre(apo::testing::in_source("README.md")));
  EXPECT_THAT(offered("apo-train", {"--set", "run"}), ElementsAre(""));
}

TEST(Completion, ZshReadsItsFiles) {
  if (std::system("command -v zsh >/dev/null 2>&1") != 0) GTEST_SKIP() << "no zsh here";
  for (const std::string program : kPrograms)
    EXPECT_EQ(std::system(concat("zsh -n ", apo::testing::in_source("completions/zsh/_"), program).c_str()),
              0)
        << program;
}

}  // namespace
}  // namespace apo::testing
