// Code of one's own in the shipped programs.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string plugin(const std::string& name) { return apo::testing::in_build("plugins/lib") + name + ".so"; }

constexpr const char* kReach = R"(
run: {dir: loop, seed: 1, device: cpu, threads: 1}
policy: {small: {image_size: 32, width: 16, layers: 1, heads: 2, channels: 4}}
environment: {type: reach}
deploy:
  demonstrations: {episodes: 4}
  collect: {take_overs: 0, episodes: 3}
  intervention: {type: impatient}
eval: {trials: 3, parallel: 2}
data: {filter: {min_motion: 0}, augmentation: {enabled: false}}
train: {batch_size: 4, max_steps: 2}
refine: {animations: 1, base: {train: {batch_size: 4, max_steps: 2}}}
)";

class Plugin : public ::testing::Test {
 protected:
  void SetUp() override { spit(dir_ / "reach.yaml", kReach); }
  ProgramResult refine(std::vector<std::string> more) const {
    more.insert(more.begin(), {"--config", dir_ / "reach.yaml"});
    return run_program("apo-refine", more);
  }
  TempDir dir_;
};

// The expert takes at most 9 steps; a policy of two updates is slow after 15 in every episode that it does
// not solve.
TEST_F(Plugin, TheExampleRunsThroughTheWholeLoop) {
  const auto result = refine({"--plugin", plugin("reach"), "--plugin", plugin("impatient")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json summary = json::parse(slurp(dir_ / "loop/summary.json"));
  EXPECT_EQ(summary["environment"], "reach");
  const json& deployment = summary["rounds"][1]["deployment"];
  EXPECT_EQ(deployment["episodes"], 3);
  EXPECT_GT(deployment["take_overs"], 0);
  EXPECT_EQ(deployment["take_overs_by_reason"]["slow"], deployment["take_overs"]);
  EXPECT_THAT(summary["command"].get<std::string>(), HasSubstr(concat(" --plugin ", plugin("reach"))));
}

TEST_F(Plugin, WithoutItItsNamesAreUnknown) {
  const auto source = refine({});
  EXPECT_EQ(source.exit_code, 2);
  EXPECT_THAT(source.err, AllOf(HasSubstr("deploy.intervention.type"), HasSubstr("none"),
                                HasSubstr("scripted"), HasSubstr("impatient")));
  const auto world = refine({"--set", "deploy.intervention.type=none"});
  EXPECT_EQ(world.exit_code, 2);
  EXPECT_THAT(
      world.err,
      HasSubstr("environment.type: expected a registered environment (remote, tabletop), found reach"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "loop/config.yaml"));
}

TEST_F(Plugin, AnEnvironmentHasOptionsOfItsOwn) {
  const auto steps_to = [&](const std::string& near) {
    const std::string output = dir_ / ("near-" + near + ".hdf5");
    const auto result =
        run_program("apo-collect", {"--plugin", plugin("reach"), "--plugin", plugin("impatient"), "--config",
                                    dir_ / "reach.yaml", "--set", "environment.reach.near=" + near,
                                    "--demonstrations", "--output", output});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(slurp(output + ".json"))["steps"]["expert"].get<int64_t>();
  };
  EXPECT_LT(steps_to("0.15"), steps_to("0.06"));
  const std::vector<std::string> both = {"--plugin", plugin("reach"), "--plugin", plugin("impatient")};
  const auto print = [&](std::vector<std::string> more) {
    more.insert(more.end(), both.begin(), both.end());
    more.emplace_back("--print-config");
    return refine(more);
  };
  EXPECT_THAT(print({"--set", "environment.reach.near=0.25"}).out,
              HasSubstr("  reach:  # of this environment\n    near: 0.25  # this"));
  const auto foreign = print({"--set", "environment.tabletop.image_size=32"});
  EXPECT_EQ(foreign.exit_code, 2);
  EXPECT_EQ(
      foreign.err,
      "apo-refine: --set environment.tabletop.image_size=32: environment.tabletop: expected no such section "
      "where environment.type is reach, found a section\n");
}

TEST_F(Plugin, ACommandLineTakesSeveral) {
  const auto result = run_program("apo-train", {"--plugin", plugin("reach"), "--plugin", plugin("impatient"),
                                                "--print-config", "--config", dir_ / "reach.yaml"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("type: impatient"));
}

class PluginOfATraining : public TinyLoop {};

TEST_F(PluginOfATraining, RegistersPolicies) {
  record_demonstrations();
  const auto result =
      run("apo-train",
          sft("run", {"--plugin", plugin("policy"), set("policy.type=stubborn"), set("policy.small={}")}));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("apo-train: stubborn was asked to be made\n"));
}

// The example of docs and README goes through training, evaluation, a loaded checkpoint and a preference with
// a copy as reference.
TEST_F(PluginOfATraining, APolicyOfOnesOwnIsTrainedEvaluatedAndRefined) {
  record_demonstrations();
  const std::vector<std::string> mine = {"--plugin", plugin("glance"), set("policy.type=glance"),
                                         set("policy.small={}"), set("policy.glance.bins=16")};
  const auto first = run("apo-train", sft("run", mine));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const json config = json::parse(slurp(dir_ / "run/checkpoints/latest/policy/config.json"));
  EXPECT_EQ(config["model_type"], "glance");
  EXPECT_EQ(config["bins"], "16");
  const auto evaluated = run(
      "apo-eval", {"--plugin", plugin("glance"), set(concat("policy.checkpoint=", (dir_ / "run").string())),
                   set("policy.small={}"), set("eval.trials=2"), "--output", (dir_ / "eval").string()});
  EXPECT_EQ(evaluated.exit_code, 0) << evaluated.err;
  const auto foreign =
      run("apo-eval", {"--plugin", plugin("glance"),
                       set(concat("policy.checkpoint=", (dir_ / "run").string())), set("policy.small={}"),
                       set("policy.openvla.center_crop=true"), "--output", (dir_ / "other").string()});
  EXPECT_EQ(foreign.exit_code, 2);
  EXPECT_THAT(foreign.err,
              HasSubstr("policy.openvla.center_crop: expected none of policy.openvla for a policy "
                        "of the kind glance ("));
}

TEST_F(Plugin, BadOnesGetOneMessage) {
  const auto message = [&](const std::string& file, int exit_code) {
    const auto result = refine({"--plugin", file});
    EXPECT_EQ(result.exit_code, exit_code) << file << ": " << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return result.err;
  };
  const std::string missing = dir_ / "none.so";
  EXPECT_EQ(message(missing, 2),
            concat("apo-refine: --plugin ", missing, ": expected a shared library, found nothing\n"));
  EXPECT_THAT(message(dir_.path(), 2), HasSubstr("expected a shared library, found something else"));
  EXPECT_THAT(message(dir_ / "reach.yaml", 2), HasSubstr("reach.yaml: cannot be loaded: "));
  EXPECT_THAT(message(apo::testing::in_build("fake_driver/libcuda.so.1"), 2),
              HasSubstr("libcuda.so.1: expected a plug-in of apo"));
  EXPECT_THAT(message(plugin("other_version"), 2),
              HasSubstr("compiled against apo 0.1.0, found one for 0.0.9"));
  EXPECT_THAT(message(plugin("throwing"), 4),
              HasSubstr("its registration failed: no gamepad \\u001b[31m here\n"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "loop"));
}

}  // namespace
}  // namespace apo::testing
