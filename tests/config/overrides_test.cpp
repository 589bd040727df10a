// Overrides ("--set key.path=value"): who wins, how lists are addressed, and how errors name them.
#include "config/robot_options.h"

namespace apo::config {
namespace {

using ::testing::HasSubstr;

TEST(Overrides, WinOverTheFileAndLaterOnesWin) {
  const RobotOptions options = read("seed: 1\nobjective: {beta: 0.2, type: kto}\n",
                                    {"seed=2", "objective.beta=0.3", "objective.beta=0.4"});
  EXPECT_EQ(options.seed, 2);
  EXPECT_EQ(options.objective.beta, 0.4);
  EXPECT_EQ(options.objective.type, "kto");  // what is not named stays
}

TEST(Overrides, MakeMissingSections) {
  EXPECT_EQ(read("", {"objective.weights.desirable=5"}).objective.weights.desirable, 5);
  EXPECT_EQ(read("objective:\n", {"objective.weights.desirable=5"}).objective.weights.desirable, 5);
}

TEST(Overrides, ReplaceWholeValues) {
  const RobotOptions options = read("objective: {beta: 5, type: kto}\npools: [1, 1, 1]",
                                    {"objective={type: dpo}", "pools=[0.5]", "max_steps=null"});
  EXPECT_EQ(options.objective.type, "dpo");
  EXPECT_EQ(options.objective.beta, 0.1);  // the default: the section was replaced
  EXPECT_EQ(options.pools, std::vector<double>{0.5});
  EXPECT_FALSE(options.max_steps.has_value());
}

TEST(Overrides, AddressListElements) {
  const std::string text = "expert:\n- {path: a, limit: 1}\n- {path: b}\n";
  const RobotOptions options = read(text, {"expert.1.limit=7", "expert.2.path=/c", "cameras.0=wrist"});
  ASSERT_EQ(options.expert.size(), 3u);
  EXPECT_EQ(options.expert[0].limit, 1);
  EXPECT_EQ(options.expert[1], (SourceOptions{.path = "/configs/b", .limit = 7, .share = {}}));
  EXPECT_EQ(options.expert[2].path, "/c");
  EXPECT_EQ(options.cameras, std::vector<std::string>{"wrist"});
  EXPECT_EQ(read("", {"expert=[{path: /demos}, {path: /more}]", "expert.1.limit=3"}).expert[1].limit, 3);
  EXPECT_EQ(error_of(text, {"expert.3.limit=7"}),
            "--set expert.3.limit=7: expert is a list: expected an index from 0 to 2, found '3'");
  EXPECT_EQ(error_of(text, {"expert.last.limit=7"}),
            "--set expert.last.limit=7: expert is a list: expected an index from 0 to 2, found 'last'");
  EXPECT_THAT(error_of(text, {"expert.99999999999999999999.limit=7"}),
              HasSubstr("expected an index from 0 to 2"));
}

TEST(Overrides, ErrorsNameTheOverrideInsteadOfALine) {
  EXPECT_EQ(error_of("objective: {beta: 1}", {"objective.beta=abc"}),
            "--set objective.beta=abc: objective.beta: expected a number > 0, found 'abc'");
  EXPECT_EQ(error_of("", {"objective.beta=-1"}),
            "--set objective.beta=-1: objective.beta: expected a number > 0, found '-1'");
  EXPECT_EQ(error_of("", {"objectve.beta=1"}),
            "--set objectve.beta=1: unknown key 'objectve.beta' (did you mean 'objective.beta'?)");
  EXPECT_EQ(error_of("", {"objective.bta=1"}),
            "--set objective.bta=1: unknown key 'objective.bta' (did you mean 'objective.beta'?)");
  EXPECT_EQ(error_of("seed: 5", {"seed.x=1"}), "--set seed.x=1: seed is not a section but '5' (x.yaml:1)");
  EXPECT_EQ(error_of("", {"seed=5", "seed.x=1"}),
            "--set seed.x=1: seed is not a section but '5' (--set seed=5)");
  EXPECT_EQ(error_of("seed: x", {"objective.beta=0"}),
            "x.yaml:1: seed: expected an integer >= 0, found 'x'; "
            "--set objective.beta=0: objective.beta: expected a number > 0, found '0'");
}

TEST(Overrides, MalformedOnesAreRefused) {
  EXPECT_EQ(error_of("", {"seed"}), "--set seed: expected KEY.PATH=VALUE");
  EXPECT_EQ(error_of("", {"=5"}), "--set =5: expected KEY.PATH=VALUE");
  EXPECT_EQ(error_of("", {""}), "--set : expected KEY.PATH=VALUE");
  EXPECT_EQ(error_of("", {"a..b=5"}), "--set a..b=5: expected a dotted key, found '.b'");
  EXPECT_THAT(error_of("", {".a=5"}), HasSubstr("expected a dotted key"));
  EXPECT_THAT(error_of("", {"a.=5"}), HasSubstr("expected a dotted key"));
  EXPECT_THAT(error_of("", {"seed=[1"}), HasSubstr("--set seed=[1: "));
  EXPECT_THAT(error_of("", {"seed=[1"}), HasSubstr("a bracket that is never closed"));
  EXPECT_THAT(error_of("", {"seed={a: 1"}), HasSubstr("--set seed={a: 1: "));
  EXPECT_THAT(error_of("", {"seed='1"}), HasSubstr("--set seed='1: not valid YAML: "));
  EXPECT_EQ(error_of("", {"seed=\xff"}), "--set: expected UTF-8 text, found other bytes");
}

TEST(Overrides, ValuesMayHoldEqualSignsAndBeEmpty) {
  EXPECT_EQ(read("", {"instruction=a=b"}).instruction, "a=b");
  EXPECT_EQ(read("", {"instruction="}).instruction, "");
  EXPECT_EQ(read("checkpoint: x", {"checkpoint="}).checkpoint, "");
  EXPECT_FALSE(read("", {"max_steps="}).max_steps.has_value());
  EXPECT_THAT(error_of("", {"seed="}),
              HasSubstr("--set seed=: seed: expected an integer >= 0, found nothing"));
}

TEST(Overrides, PathsAreRelativeToTheWorkingDirectory) {
  const std::filesystem::path here = std::filesystem::current_path();
  const RobotOptions options =
      read("checkpoint: a\nexpert: [{path: b}]", {"checkpoint=models/p", "expert.0.limit=1"});
  EXPECT_EQ(options.checkpoint, (here / "models/p").lexically_normal().string());
  EXPECT_EQ(options.expert[0].path,
            "/configs/b");  // written in the file, though its neighbour was overridden
}

TEST(Overrides, ChangeOnlyTheAliasThatTheyName) {
  const RobotOptions options = read("expert: [&e {path: a, limit: 1}, *e]", {"expert.1.limit=2"});
  EXPECT_EQ(options.expert[0].limit, 1);
  EXPECT_EQ(options.expert[1].limit, 2);
}

}  // namespace
}  // namespace apo::config
