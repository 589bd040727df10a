// apo-data's tools as a user runs them: what they print, what they write, and how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/places.h"
#include "support/program.h"
#include "support/temp_dir.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

std::string layout(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/layouts/") + name;
}

class DataTools : public ::testing::Test {
 protected:
  static ProgramResult run(const std::vector<std::string>& arguments) {
    return run_program("apo-data", arguments);
  }
  std::string path(const std::string& name) const { return dir_ / name; }
  // The one message of an error.
  static void expect_error(const ProgramResult& result, int code, const std::string& message) {
    EXPECT_EQ(result.exit_code, code);
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  TempDir dir_;
};

// A slip of the file name must not cost a recording.
TEST_F(DataTools, NeverReplaceARecording) {
  fs::copy_file(layout("robomimic.hdf5"), path("mine.hdf5"));
  const std::string before = slurp(path("mine.hdf5"));
  for (const std::string command : {"stats", "label"})
    expect_error(run({command, path("mine.hdf5"), "--instruction", "lift", "--output", path("mine.hdf5")}), 2,
                 "mine.hdf5: found a recording, which would be replaced");
  expect_error(run({"convert", path("mine.hdf5"), "--instruction", "lift", "--output", path("mine.hdf5")}), 2,
               "mine.hdf5");
  EXPECT_EQ(slurp(path("mine.hdf5")), before);
}

// What a data set in each layout goes through before training.
TEST_F(DataTools, EveryLayoutGoesThroughAllOfThem) {
  for (const std::string name : {"libero.hdf5", "mimicgen.hdf5", "sirius.hdf5", "robomimic.hdf5"}) {
    SCOPED_TRACE(name);
    const std::vector<std::string> data{layout(name), "--instruction", "do it"};
    const auto with = [&](const std::string& command, std::vector<std::string> more = {}) {
      std::vector<std::string> all{command};
      all.insert(all.end(), data.begin(), data.end());
      all.insert(all.end(), more.begin(), more.end());
      return run(all);
    };
    const auto inspect = with("inspect");
    EXPECT_EQ(inspect.exit_code, 0) << inspect.err;
    EXPECT_THAT(inspect.out, HasSubstr("layout            " + name.substr(0, name.find('.'))));
    const auto validate = with("validate");
    EXPECT_EQ(validate.exit_code, 0) << validate.out << validate.err;
    EXPECT_THAT(validate.out, HasSubstr("verdict: "));
    const auto sheet = with("contact-sheet", {"--output", path(name + ".webp"), "--frames", "4"});
    EXPECT_EQ(sheet.exit_code, 0) << sheet.err;
    EXPECT_THAT(slurp(path(name + ".webp")), StartsWith("RIFF"));
    const auto label = with("label", {"--output", path(name + ".jsonl")});
    EXPECT_EQ(label.exit_code, 0) << label.err;
    const auto stats = with("stats", {"--name", "mine", "--output", path(name + ".json")});
    EXPECT_EQ(stats.exit_code, 0) << stats.err;
    EXPECT_EQ(Json::parse(slurp(path(name + ".json")))["mine"]["action"]["q99"].size(), 7u);
    const auto convert = with("convert", {"--output", path(name)});
    EXPECT_EQ(convert.exit_code, 0) << convert.err;
    EXPECT_THAT(convert.out,
                AllOf(HasSubstr("wrote " + path(name)), HasSubstr("left out, for the new layout")));
    EXPECT_EQ(run({"inspect", path(name)}).exit_code, 0);
  }
}

// From somebody's files to two steps of training.
TEST_F(DataTools, EveryLayoutGoesThroughToTraining) {
  struct Layout {
    std::string name, camera, states;
    bool corrected;  // holds take-overs
  };
  const std::string arm = "robot0_eef_pos, robot0_gripper_qpos";
  for (const auto& [name, camera, states, corrected] :
       std::vector<Layout>{{"apo", "front", "eef_pos", true},
                           {"released_demo", "third", "", false},
                           {"released_interaction", "third", "", true},
                           {"robomimic", "agentview", arm, false},
                           {"libero", "agentview", "ee_states, gripper_states", false},
                           {"mimicgen", "agentview", arm, false},
                           {"sirius", "agentview", arm, true}}) {
    SCOPED_TRACE(name);
    const std::string config = path(name + ".yaml");
    const std::string source = "[{path: " + layout(name + ".hdf5") + ", instruction: fit the nut}]";
    spit(config,
         "run: {dir: " + path(name) +
             ", device: cpu, threads: 1}\n"
             "policy: {cameras: [" +
             camera + "], state_keys: [" + states +
             "], small: {image_size: 16, width: 16, layers: 1, heads: 2, channels: 4}}\n"
             "data: {labels: {steps_before_intervention: 2}, " +
             (corrected ? "interactions: " + source
                        : "expert: " + source + ", pools: {desirable: 1, intervention: 0, undesirable: 0}") +
             "}\n" + (corrected ? "" : "objective: {type: sft}\n") +
             "train: {batch_size: 8, max_steps: 2}\n");
    const auto with = [&](const std::string& command, std::vector<std::string> more = {}) {
      more.insert(more.begin(), {command, "--config", config});
      return run(more);
    };
    const auto validate = with("validate");
    EXPECT_EQ(validate.exit_code, 0) << validate.out << validate.err;
    const auto sheet = with("contact-sheet", {"--output", path(name + ".webp"), "--frames", "4"});
    EXPECT_EQ(sheet.exit_code, 0) << sheet.err;
    const auto label = with("label", {"--output", path(name + ".jsonl")});
    EXPECT_EQ(label.exit_code, 0) << label.err;
    EXPECT_EQ(label.out.find("before take-over") != std::string::npos, corrected) << label.out;
    const auto train = run_program("apo-train", {"--config", config});
    ASSERT_EQ(train.exit_code, 0) << train.err;
    const std::string metrics = slurp(path(name + "/metrics.jsonl"));
    EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 2);
    EXPECT_TRUE(fs::exists(path(name + "/checkpoints/step-2/DONE")));
  }
}

TEST_F(DataTools, ValidateEndsWithThreeForWhatIsUnfit) {
  spit(path("bad.hdf5"), "no HDF5");
  const auto bad = run({"validate", path("bad.hdf5"), layout("libero.hdf5")});
  expect_error(bad, 3, "the data are not fit for training: 1 error\n");
  EXPECT_THAT(bad.out, AllOf(HasSubstr("bad.hdf5: expected an HDF5 file, found other content"),
                             HasSubstr("1 file, 2 episodes, 13 steps"),
                             HasSubstr("verdict: not fit for training (1 error")));
  const auto json = run({"validate", "--json", path("bad.hdf5")});
  EXPECT_EQ(json.exit_code, 3);
  EXPECT_EQ(Json::parse(json.out)["verdict"], "error");
}

TEST_F(DataTools, ValidateWithAConfigNeedsItsPools) {
  const std::string sources = "data: {expert: [{path: " + layout("libero.hdf5") + "}]}\n";
  spit(path("apo.yaml"), sources);
  const auto empty = run({"validate", "--config", path("apo.yaml")});
  EXPECT_EQ(empty.exit_code, 3);
  EXPECT_THAT(empty.out, HasSubstr("the undesirable pool is empty, but its share of a batch is 0.25"));
  const auto sft = run({"validate", "--config", path("apo.yaml"),
                        "--set=data.pools={desirable: 1, intervention: 0, undesirable: 0}"});
  EXPECT_EQ(sft.exit_code, 0) << sft.out;
  const auto strict = run({"validate", "--strict", layout("KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5")});
  expect_error(strict, 3, "(--strict)");
}

TEST_F(DataTools, ConvertTurnsPicturesAndSaysWhere) {
  const auto released = run({"convert", layout("sirius.hdf5"), "--format", "sirius", "--instruction",
                             "fit the nut", "--to", "released-interaction", "--output", path("out")});
  EXPECT_EQ(released.exit_code, 0) << released.err;
  EXPECT_TRUE(fs::exists(path("out/episode_2.hdf5")));
  EXPECT_THAT(run({"inspect", path("out")}).out,
              AllOf(HasSubstr("released-interaction"), HasSubstr("3 files, 3 episodes, 20 steps"),
                    HasSubstr("take-overs        3")));
}

TEST_F(DataTools, WrongUsageIsTwo) {
  expect_error(run({"convert", layout("libero.hdf5")}), 2, "--output is required");
  expect_error(run({"convert", layout("libero.hdf5"), "--output", path("a.txt")}), 2,
               "expected a name that ends in .hdf5 or .h5");
  for (const std::string to : {"parquet", "sirius", "auto"})
    expect_error(run({"convert", layout("libero.hdf5"), "--to", to, "--output", path("a.hdf5")}), 2,
                 "not in {apo,released-demo,released-interaction,robomimic}");
  expect_error(run({"contact-sheet", layout("libero.hdf5"), "--output", path("a.png")}), 2, "ends in .webp");
  expect_error(run({"contact-sheet", layout("libero.hdf5"), "--frames", "0", "--output", path("a.webp")}), 2,
               "at least one episode");
  expect_error(run({"validate"}), 2,
               "no data to validate: give files, or a config with data.expert or data.interactions");
  expect_error(run({"validate", layout("libero.hdf5"), "--format", "libra"}), 2, "--format");
}

TEST_F(DataTools, WrongDataIsThree) {
  expect_error(run({"inspect", layout("robomimic.hdf5")}), 3, "expected an attribute task_description");
  expect_error(run({"contact-sheet", layout("libero.hdf5"), "--camera", "top", "--output", path("a.webp")}),
               3, "no camera 'top' (valid: agentview, eye_in_hand)");
  expect_error(run({"stats", path("none.hdf5")}), 3, "none.hdf5: no such file");
  expect_error(run({"inspect", layout("libero.hdf5"), "--format", "sirius"}), 3,
               "/data/demo_0/action_modes: expected a dataset, found nothing");
  EXPECT_FALSE(fs::exists(path("a.webp")));
}

// A fuzzer's find: HDF5 loses track of what it opened of this file, and would say so at the program's end.
TEST_F(DataTools, ADamagedFileGetsOneMessage) {
  const auto damaged =
      run({"inspect", apo::testing::in_source("tests/data/goldens/damaged.hdf5"), "--instruction", "x"});
  expect_error(damaged, 3, "damaged.hdf5: /demo_0/timestep_0: cannot open: ");
  EXPECT_EQ(std::count(damaged.err.begin(), damaged.err.end(), '\n'), 1) << damaged.err;
}

TEST_F(DataTools, StatsPrintATable) {
  const auto stats = run({"stats", layout("libero.hdf5")});
  EXPECT_EQ(stats.exit_code, 0) << stats.err;
  EXPECT_THAT(stats.out,
              AllOf(HasSubstr("13 steps of 2 episodes"), HasSubstr("state ee_pos"), HasSubstr("normalised")));
  const auto json = run({"stats", "--json", "--name", "libero", layout("libero.hdf5")});
  EXPECT_EQ(Json::parse(json.out)["libero"]["num_trajectories"], 2);
}

}  // namespace
}  // namespace apo::testing
