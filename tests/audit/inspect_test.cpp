// What apo-data tells, and the labels it stores.
#include "apo/audit/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/files.h"
#include "audit/names.h"
#include "data/journal.h"
#include "data/recordings.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

DataOptions recorded(const TempDir& dir) {
  write_recording(dir / "expert.hdf5", {"eeee"}, "lift the cube", true);
  write_recording(dir / "deployed.hdf5", {"pppphhp", "pph"}, "lift the cube", false);
  DataOptions options;
  options.expert.push_back({.path = (dir / "expert.hdf5").string()});
  options.interactions.push_back({.path = (dir / "deployed.hdf5").string()});
  options.labels.steps_before_intervention = 3;
  return options;
}

TEST(Inspect, CountsEverything) {
  TempDir dir;
  const Json json = Json::parse(inspect_json(recorded(dir)));
  const Json& s = json["sources"][1];
  EXPECT_EQ(s["kind"], "interactions");
  EXPECT_EQ(s["format"], (Json{{"apo", 1}}));
  EXPECT_EQ(s["files"], 1);
  EXPECT_EQ(s["episodes"], 2);
  EXPECT_EQ(s["steps"], 10);
  EXPECT_EQ(s["steps_by_source"], (Json{{"policy", 7}, {"intervention", 3}}));
  EXPECT_EQ(s["labels"], (Json{{"desirable: policy", 1},
                               {"undesirable: before take-over", 5},
                               {"intervention: human correction", 3},
                               {"skipped: failed episode", 1}}));
  EXPECT_EQ(s["take_overs"], 2);
  EXPECT_EQ(s["windows_cut_short"], 1);
  EXPECT_EQ(s["pools"], (Json{{"desirable", 1}, {"intervention", 3}, {"undesirable", 5}}));
  EXPECT_EQ(s["success"], (Json{{"success", 0}, {"failure", 2}, {"unknown", 0}}));
  EXPECT_EQ(s["outcomes"], (Json{{"timeout", 2}}));
  EXPECT_EQ(s["cameras"], (Json{{"front", {"6x5"}}}));
  EXPECT_EQ(s["states"], (Json{{"joints", 2}}));
  EXPECT_EQ(s["instructions"], (Json{{"lift the cube", 2}}));
  EXPECT_EQ(s["action"]["size"], 3);
  EXPECT_NEAR(s["action"]["max"][0].get<double>(), 0.9, 1e-6);
  EXPECT_EQ(s["attributes"]["policy"], "policies/base");
  EXPECT_EQ(json["total"]["steps"], 14);
  EXPECT_EQ(json["total"]["pools"], (Json{{"desirable", 5}, {"intervention", 3}, {"undesirable", 5}}));
}

TEST(Inspect, TextSaysTheSame) {
  TempDir dir;
  EXPECT_THAT(
      inspect_text(recorded(dir)),
      AllOf(HasSubstr("deployed.hdf5 (interactions)"), HasSubstr("1 files, 2 episodes, 10 steps"),
            HasSubstr("policy 7"), HasSubstr("2 (window cut short: 1, nothing to imitate: 0)"),
            HasSubstr("undesirable: before take-over"), HasSubstr("front 6x5"),
            HasSubstr("'lift the cube' in 2 episodes"),
            HasSubstr(
                "total: 2 files, 3 episodes, 14 steps; pools: desirable 5, intervention 3, undesirable 5")));
}

TEST(Inspect, FilesWithoutAConfig) {
  TempDir dir;
  recorded(dir);
  const Json json = Json::parse(inspect_json(options_for_paths({dir.path().string()})));
  EXPECT_EQ(json["sources"][0]["files"], 2);
  EXPECT_EQ(json["sources"][0]["labels"]["desirable: demonstration"], 4);
  EXPECT_THAT(config_error([] { inspect_json({}); }), HasSubstr("no data to inspect"));
}

TEST(Inspect, APathThatIsNotUtf8) {
  TempDir dir;
  const fs::path path = dir / ("k\xfc" + std::string("bel.hdf5"));
  write_recording(path, {"pph"});
  const Json json = Json::parse(inspect_json(options_for_paths({path.string()})));
  EXPECT_THAT(json["sources"][0]["path"].get<std::string>(), HasSubstr("k\xef\xbf\xbd"
                                                                       "bel.hdf5"));
}

TEST(Inspect, OptionsOfPathsHoldForAllOfThem) {
  const DataOptions options =
      options_for_paths({"a.hdf5", "b"}, TrajectoryFormat::libero, "lift", ImageOrientation::flipped);
  ASSERT_EQ(options.interactions.size(), 2u);
  EXPECT_EQ(options.interactions[1].path, "b");
  for (const SourceOptions& source : options.interactions) {
    EXPECT_EQ(source.format, TrajectoryFormat::libero);
    EXPECT_EQ(source.instruction, "lift");
    EXPECT_EQ(source.image_orientation, ImageOrientation::flipped);
  }
}

TEST(Inspect, AFileWithoutEpisodes) {
  TempDir dir;
  { TrajectoryWriter writer(dir / "a.hdf5", test_info()); }
  const Json json = Json::parse(inspect_json(options_for_paths({(dir / "a.hdf5").string()})));
  EXPECT_EQ(json["total"]["episodes"], 0);
  EXPECT_THAT(inspect_text(options_for_paths({(dir / "a.hdf5").string()})), HasSubstr("0 episodes"));
}

TEST(Label, OneLineAStep) {
  TempDir dir;
  std::ostringstream out;
  const LabelCounts counts = write_label_lines(recorded(dir), out);
  EXPECT_EQ(counts.at("undesirable: before take-over"), 5);
  std::istringstream in(out.str());
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  ASSERT_EQ(lines.size(), 14u);
  EXPECT_EQ(lines[5], (Json{{"file", (dir / "deployed.hdf5").string()},
                            {"episode", "demo_0"},
                            {"timestep", 1},
                            {"source", "policy"},
                            {"label", "undesirable"},
                            {"reason", "before take-over"}}));
  EXPECT_EQ(lines[0]["source"], "expert");
  EXPECT_EQ(lines[8]["label"], "intervention");
}

// (timestep, label) of every step, in order.
std::vector<std::string> labels_of(const DataOptions& options) {
  std::ostringstream out;
  write_label_lines(options, out);
  std::istringstream in(out.str());
  std::vector<std::string> labels;
  for (std::string line; std::getline(in, line);) {
    const Json json = Json::parse(line);
    labels.push_back(json["episode"].get<std::string>() + " " + json["source"].get<std::string>() + " " +
                     json["label"].get<std::string>());
  }
  return labels;
}

TEST(Label, CopiesKeepTheirLabels) {
  TempDir dir;
  const DataOptions options = recorded(dir);
  const std::string before = read_file(dir / "deployed.hdf5");
  const auto paths = write_labels(options, dir / "labelled");
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_EQ(read_file(dir / "deployed.hdf5"), before);
  DataOptions copy = options;
  copy.expert[0].path = paths[0].string();
  copy.interactions[0].path = paths[1].string();
  EXPECT_EQ(labels_of(copy), labels_of(options));
  copy.labels.steps_before_intervention = 0;  // the stored labels win over another K
  EXPECT_EQ(labels_of(copy), labels_of(options));
  // everything else is there, too
  const auto demo = hdf5::Group::open(paths[1]).group("data").group("demo_0");
  EXPECT_EQ(demo.array("rewards").floats()[2], 1.0f);
  EXPECT_THAT(config_error([&] { write_labels(options, dir / "labelled"); }), HasSubstr("exists already"));
}

TEST(Label, CopiesOfOtherLayoutsAreOurs) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "i.hdf5").create_group("data");
    data.write_text("task_description", "lift_it");
    const std::string who = "22201122";
    for (size_t t = 0; t < who.size(); ++t) {
      hdf5::Group step = data.create_group("timestep_" + std::to_string(t));
      step.write("action", std::vector<float>{0.1f * static_cast<float>(t), 0.5f, 1}, {3});
      step.write("third_obs", std::vector<uint8_t>(27, static_cast<uint8_t>(t)), {3, 3, 3});
      step.write("is_human", std::vector<int8_t>{static_cast<int8_t>(who[t] - '0')}, {});
    }
  }
  DataOptions options = options_for_paths({(dir / "i.hdf5").string()});
  options.labels.steps_before_intervention = 2;
  EXPECT_EQ(write_labels(options, dir / "out.hdf5"), std::vector<fs::path>{dir / "out.hdf5"});
  DataOptions copy = options_for_paths({(dir / "out.hdf5").string()});
  auto expected = labels_of(options);
  for (std::string& line : expected) line.replace(0, 4, "demo_0");
  EXPECT_EQ(labels_of(copy), expected);
  const auto file = TrajectoryFile::open(dir / "out.hdf5");
  EXPECT_EQ(file->format(), TrajectoryFormat::apo);
  EXPECT_EQ(file->episode(0).instruction, "lift it");
  EXPECT_FALSE(file->episode(0).recorded[3]);
  EXPECT_EQ(file->observation(0, 5).images.at("third")[1][1][2].item<int>(), 5);
}

hdf5::Group labelled(const TempDir& dir, const std::string& path, const std::string& instruction = "") {
  write_labels(options_for_paths({path}, TrajectoryFormat::automatic, instruction), dir / "out.hdf5");
  return hdf5::Group::open(dir / "out.hdf5").group("data");
}

TEST(Label, CopiesOfOtherLayoutsKeepRewardsAndTheEnvironment) {
  TempDir dir;
  const auto data =
      labelled(dir, apo::testing::in_source("tests/data/goldens/layouts/robomimic.hdf5"), "lift");
  EXPECT_EQ(data.group("demo_0").array("rewards").floats(), (std::vector<float>{0, 0, 0, 0, 1}));
  EXPECT_EQ(data.group("demo_1").array("dones").integers().back(), 1);
  EXPECT_THAT(data.text_attribute("env_args").value_or(""), HasSubstr("\"env_version\": \"1.4.1\""));
  EXPECT_EQ(data.group("demo_0").array("desirable").integers(), std::vector<int64_t>(5, 1));
}

// The labels are those of the policy's coding; the copy goes on to be read with the source's.
TEST(Label, CopiesOfOtherLayoutsKeepTheGrippersCommands) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "r.hdf5").create_group("data");
    data.set_attribute("task_description", "lift");
    hdf5::Group demo = data.create_group("demo_0");
    demo.write("actions", std::vector<float>{0.5f, -1, 0.5f, 1, 0.5f, 1}, {3, 2});
    demo.write("policy_action", std::vector<float>{0.1f, 1, 0.1f, 1, 0.1f, -1}, {3, 2});
    demo.write("policy_action_valid", std::vector<int8_t>{1, 1, 1}, {3});
    demo.create_group("obs").write("front_image", std::vector<uint8_t>(36), {3, 2, 2, 3});
  }
  DataOptions options;
  options.expert.push_back(
      {.path = (dir / "r.hdf5").string(), .gripper = {.dimension = {}, .open = -1.0, .closed = 1.0}});
  options.policy_gripper = {.dimension = {}, .open = 1.0, .closed = 0.0};
  ASSERT_EQ(Dataset(options).record(0, 0).actions[0], (Action{0.5f, 1}));
  write_labels(options, dir / "out.hdf5");
  const EpisodeRecord copy = TrajectoryFile::open(dir / "out.hdf5")->episode(0);
  EXPECT_EQ(copy.actions, (std::vector<Action>{{0.5f, -1}, {0.5f, 1}, {0.5f, 1}}));
  EXPECT_EQ(copy.policy_actions[2], (Action{0.1f, -1}));
  EXPECT_EQ(copy.desirable[1], true);
}

TEST(Label, CopiesWithALeftoverJournalKeepRewards) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"ppp"});
  {
    Journal journal(journal_path(dir / "a.hdf5"));
    journal.begin_episode(1, "lift", "another hash");
    for (int64_t t = 5; t < 9; ++t) {
      Step step = numbered_step(t);
      step.done = t == 7;
      journal.append(step);
    }
    journal.end_episode(true, "success");
    journal.flush();
  }
  const auto data = labelled(dir, (dir / "a.hdf5").string());
  EXPECT_EQ(data.group("demo_0").array("rewards").floats(), (std::vector<float>{0, 0.5f, 1}));
  EXPECT_EQ(data.group("demo_0").text_attribute("policy_hash"), "0123456789abcdef");
  EXPECT_EQ(data.group("demo_1").array("rewards").floats(), (std::vector<float>{2.5f, 3, 3.5f, 4}));
  EXPECT_EQ(data.group("demo_1").array("dones").integers(), (std::vector<int64_t>{0, 0, 1, 0}));
  EXPECT_EQ(data.group("demo_1").text_attribute("policy_hash"), "another hash");
  EXPECT_EQ(data.group("demo_1").array("desirable").integers(), std::vector<int64_t>(4, 1));
}

// demo_N keeps its N; where a name has none, or two have the same, episodes are counted.
TEST(Label, NumbersOfTheCopies) {
  const auto names = [](const std::vector<std::string>& demos) {
    TempDir dir;
    {
      hdf5::Group root = hdf5::Group::create(dir / "r.hdf5");
      for (const std::string& demo : demos) {
        hdf5::Group step = root.create_group(demo).create_group("timestep_0");
        step.write("action", std::vector<float>{0.5f, 1}, {2});
        step.write("third_obs", std::vector<uint8_t>(12), {2, 2, 3});
      }
    }
    return labelled(dir, (dir / "r.hdf5").string(), "lift").names();
  };
  EXPECT_EQ(names({"demo_3", "demo_17"}), (std::vector<std::string>{"demo_3", "demo_17"}));
  EXPECT_EQ(names({"demo_3", "demo_final"}), (std::vector<std::string>{"demo_0", "demo_1"}));
  EXPECT_EQ(names({"demo_3", "demo_03"}), (std::vector<std::string>{"demo_0", "demo_1"}));
  EXPECT_EQ(names({"demo_3", "demo_99999999999999999999999"}),
            (std::vector<std::string>{"demo_0", "demo_1"}));
}

TEST(Label, RefusesAmbiguousTargets) {
  TempDir dir;
  const DataOptions options = recorded(dir);
  EXPECT_THAT(config_error([&] { write_labels(options, dir / "one.hdf5"); }),
              HasSubstr("expected a directory for the copies of 2 files, found the name of a file"));
  fs::create_directory(dir / "more");
  write_recording(fs::path(dir / "more") / "expert.hdf5", {"ee"});
  DataOptions twice = options;
  twice.expert.push_back({.path = (fs::path(dir / "more") / "expert.hdf5").string()});
  EXPECT_THAT(config_error([&] { write_labels(twice, dir / "out"); }),
              HasSubstr("would have the same name there"));
  EXPECT_THAT(config_error([&] { write_labels({}, dir / "out"); }), HasSubstr("no data to label"));
}

}  // namespace
}  // namespace apo::audit
