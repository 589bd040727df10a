// From layout to layout, and what is left out on the way.
#include "apo/audit/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/audit/contact_sheet.h"
#include "apo/audit/inspect.h"
#include "audit/names.h"
#include "data/journal.h"
#include "data/recordings.h"
#include "data/seal.h"
#include "pictures/canvas.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;

std::string layout(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/layouts/") + name;
}

Conversion converted(const std::string& path, TrajectoryFormat to, const fs::path& out,
                     const std::string& instruction = "") {
  return convert(options_for_paths({path}, TrajectoryFormat::automatic, instruction), to, out);
}

void expect_same(const TrajectoryFile& a, const TrajectoryFile& b) {
  ASSERT_EQ(a.num_episodes(), b.num_episodes());
  for (int64_t e = 0; e < a.num_episodes(); ++e) {
    const EpisodeRecord x = a.episode(e), y = b.episode(e);
    EXPECT_EQ(x.actions, y.actions);
    EXPECT_EQ(x.sources, y.sources);
    EXPECT_EQ(x.recorded, y.recorded);
    EXPECT_EQ(x.desirable, y.desirable);
    EXPECT_EQ(x.instruction, y.instruction);
    EXPECT_EQ(x.success, y.success);
    for (int64_t t = 0; t < x.num_steps(); ++t) {
      const Observation p = a.observation(e, t), q = b.observation(e, t);
      EXPECT_EQ(p.state, q.state);
      ASSERT_EQ(p.images.size(), q.images.size());
      for (const auto& [name, image] : p.images)
        EXPECT_TRUE(image.equal(q.images.at(name))) << name << " " << t;
    }
  }
}

// The sources' codings differ from each other and from the policy's.
TEST(Convert, KeepsTheGrippersCommands) {
  TempDir dir;
  const auto record = [&dir](const char* name, float command) {
    TrajectoryWriter writer(dir / name, test_info());
    writer.begin_episode("lift");
    for (int64_t i = 0; i < 3; ++i) {
      Step step = numbered_step(i, ActionSource::expert);
      step.action[2] = command;
      writer.append(step);
    }
    writer.end_episode(true, "");
    return (dir / name).string();
  };
  DataOptions options;
  options.expert = {
      {.path = record("a.hdf5", 1), .gripper = {.dimension = {2}, .open = 1.0, .closed = 0.0}},
      {.path = record("b.hdf5", -1), .gripper = {.dimension = {-1}, .open = -1.0, .closed = 1.0}}};
  options.policy_gripper = {.dimension = {2}, .open = 0.25, .closed = 0.75};
  convert(options, TrajectoryFormat::apo, dir / "out.hdf5");
  const auto out = TrajectoryFile::open(dir / "out.hdf5");
  ASSERT_EQ(out->num_episodes(), 2);
  EXPECT_EQ(out->episode(0).actions[1][2], 1.0f);
  EXPECT_EQ(out->episode(1).actions[1][2], -1.0f);
}

TEST(Convert, EveryLayoutToOurs) {
  for (const std::string name :
       {"libero.hdf5", "libero_opencv.hdf5", "mimicgen.hdf5", "sirius.hdf5", "robomimic.hdf5",
        "KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5", "one_row_more.hdf5"}) {
    TempDir dir;
    const Conversion c = converted(layout(name), TrajectoryFormat::apo, dir / "out.hdf5", "do it");
    EXPECT_THAT(c.written, ElementsAre(dir / "out.hdf5"));
    const auto out = TrajectoryFile::open(dir / "out.hdf5");
    EXPECT_EQ(out->format(), TrajectoryFormat::apo);
    expect_same(*out, *TrajectoryFile::open(layout(name), TrajectoryFormat::automatic, "do it"));
  }
}

TEST(Convert, ListsWhatIsLeftOut) {
  TempDir dir;
  const Conversion libero = converted(layout("libero.hdf5"), TrajectoryFormat::apo, dir / "a.hdf5");
  EXPECT_THAT(libero.left_out, IsSupersetOf({std::pair<const std::string, int64_t>{"data/demo_*/states", 2},
                                             {"data/demo_*/robot_states", 2},
                                             {"attribute data/demo_*/model_file", 2},
                                             {"attribute data/demo_*/init_state", 2},
                                             {"attribute data/bddl_file_content", 1}}));
  EXPECT_THAT(libero.left_out, Not(::testing::Contains(Key("data/demo_*/rewards"))));
  const Conversion robomimic =
      converted(layout("robomimic.hdf5"), TrajectoryFormat::apo, dir / "b.hdf5", "lift");
  EXPECT_THAT(robomimic.left_out,
              IsSupersetOf({std::pair<const std::string, int64_t>{"mask", 1}, {"data/demo_*/next_obs", 2}}));
  const Conversion mimicgen =
      converted(layout("mimicgen.hdf5"), TrajectoryFormat::apo, dir / "c.hdf5", "brew");
  EXPECT_THAT(mimicgen.left_out, ::testing::Contains(Key("data/demo_*/datagen_info")));
  EXPECT_THAT(to_text(mimicgen),
              AllOf(HasSubstr("2 episodes, 14 steps"), HasSubstr("left out, for the new layout has no place"),
                    HasSubstr("  data/demo_*/datagen_info (2)")));
}

TEST(Convert, RewardsDonesAndTheEnvironmentComeAlong) {
  TempDir dir;
  converted(layout("robomimic.hdf5"), TrajectoryFormat::apo, dir / "a.hdf5", "lift");
  const auto data = hdf5::Group::open(dir / "a.hdf5").group("data");
  EXPECT_EQ(data.group("demo_0").array("rewards").floats(), (std::vector<float>{0, 0, 0, 0, 1}));
  EXPECT_EQ(data.group("demo_1").array("dones").integers().back(), 1);
  EXPECT_EQ(data.integer_attribute("total"), 11);
  EXPECT_THAT(data.text_attribute("env_args").value_or(""), HasSubstr("\"env_version\": \"1.4.1\""));
  // mimicgen records none: the last step ends the episode
  converted(layout("mimicgen.hdf5"), TrajectoryFormat::apo, dir / "b.hdf5", "brew");
  EXPECT_EQ(hdf5::Group::open(dir / "b.hdf5").group("data").group("demo_0").array("dones").integers(),
            (std::vector<int64_t>{0, 0, 0, 0, 0, 0, 1}));
}

// Rewards of another length are named, and what a leftover journal holds comes along.
TEST(Convert, RewardsOfAnotherLengthAndOfAJournal) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"ppp"});
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data").group("demo_0");
    demo.remove("rewards");
    demo.write("rewards", std::vector<float>{1, 2}, {2});
    demo.set_attribute("policy_hash", "its own hash");
    seal_episode(demo);
    Journal journal(journal_path(dir / "a.hdf5"));
    journal.begin_episode(1, "lift", "another hash");
    journal.append(numbered_step(8));
    journal.end_episode(true, "success");
    journal.flush();
  }
  const Conversion c = converted((dir / "a.hdf5").string(), TrajectoryFormat::apo, dir / "out.hdf5");
  EXPECT_EQ(c.left_out, (std::map<std::string, int64_t>{{"data/demo_*/rewards of another shape", 1}}));
  const auto data = hdf5::Group::open(dir / "out.hdf5").group("data");
  EXPECT_EQ(data.group("demo_0").array("rewards").floats(), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(data.group("demo_0").text_attribute("policy_hash"), "its own hash");
  EXPECT_EQ(data.text_attribute("policy_hash"), "0123456789abcdef");
  EXPECT_EQ(data.group("demo_1").array("rewards").floats(), std::vector<float>{4});
  EXPECT_EQ(data.group("demo_1").text_attribute("policy_hash"), "another hash");
}

TEST(Convert, OursToRobomimicAndBack) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"eee", "pph"}, "lift the cube", true);
  const Conversion c = converted((dir / "a.hdf5").string(), TrajectoryFormat::robomimic, dir / "plain.hdf5");
  EXPECT_EQ(c.left_out, (std::map<std::string, int64_t>{{"data/demo_*/action_source", 1}}));
  const auto plain = TrajectoryFile::open(dir / "plain.hdf5");
  EXPECT_EQ(plain->format(), TrajectoryFormat::robomimic);
  EXPECT_EQ(plain->episode(1).instruction, "lift the cube");
  EXPECT_EQ(plain->episode(1).sources, std::vector(3, ActionSource::expert));
}

TEST(Convert, OursToReleasedInteractionsAndBack) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pphhp", "pph"}, "lift the cube", true);
  const Conversion c =
      converted((dir / "a.hdf5").string(), TrajectoryFormat::released_interaction, dir / "out");
  ASSERT_EQ(c.written.size(), 2u);
  EXPECT_THAT(c.left_out, IsSupersetOf({std::pair<const std::string, int64_t>{"data/demo_*/obs/joints", 2},
                                        {"data/demo_*/rewards", 2},
                                        {"attribute data/demo_*/success", 2},
                                        {"camera name front (now third)", 2}}));
  const auto file = TrajectoryFile::open(c.written[0]);
  EXPECT_EQ(file->format(), TrajectoryFormat::released_interaction);
  EXPECT_EQ(file->episode(0).instruction, "lift the cube");
  const auto first = TrajectoryFile::open(dir / "a.hdf5");
  EXPECT_EQ(file->episode(0).sources, first->episode(0).sources);
  EXPECT_EQ(file->episode(0).actions, first->episode(0).actions);
  EXPECT_TRUE(file->observation(0, 3).images.at("third").equal(first->observation(0, 3).images.at("front")));
}

TEST(Convert, LiberoToReleasedDemos) {
  TempDir dir;
  const Conversion c = converted(layout("libero.hdf5"), TrajectoryFormat::released_demo, dir / "out.hdf5");
  EXPECT_THAT(c.left_out, ::testing::Contains(Key("instruction 'open the top drawer of the cabinet'")));
  const auto file = TrajectoryFile::open(dir / "out.hdf5", TrajectoryFormat::automatic, "x");
  EXPECT_EQ(file->format(), TrajectoryFormat::released_demo);
  EXPECT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->observation(0, 0).images.at("agentview")[0][0][0].item<int>(), 220);  // upright
}

TEST(Convert, RefusesWhatCannotBe) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pp"});
  const std::string a = (dir / "a.hdf5").string();
  EXPECT_THAT(config_error([&] { converted(a, TrajectoryFormat::apo, dir / "a.hdf5"); }),
              HasSubstr("exists already"));
  EXPECT_THAT(config_error([&] { converted(a, TrajectoryFormat::apo, dir / "out"); }),
              HasSubstr("ends in .hdf5 or .h5"));
  EXPECT_THAT(config_error([&] { converted(a, TrajectoryFormat::released_interaction, dir / "o.hdf5"); }),
              HasSubstr("expected a directory"));
  EXPECT_THAT(
      config_error([&] { converted(a, TrajectoryFormat::libero, dir / "o.hdf5"); }),
      HasSubstr(
          "cannot write the layout 'libero' (valid: apo, robomimic, released-demo, released-interaction)"));
  EXPECT_THAT(config_error([&] { convert({}, TrajectoryFormat::apo, dir / "o.hdf5"); }),
              HasSubstr("no data to convert"));
  // a bad episode leaves nothing behind
  {
    hdf5::Group data = hdf5::Group::open_for_writing(a).group("data");
    data.create_group("demo_1").create_group("obs");
  }
  EXPECT_THAT(data_error([&] { converted(a, TrajectoryFormat::apo, dir / "o.hdf5"); }),
              HasSubstr("/data/demo_1: expected attribute content_hash"));
  EXPECT_FALSE(fs::exists(dir / "o.hdf5"));
  EXPECT_FALSE(fs::exists(dir / "o.hdf5.partial"));
}

TEST(Convert, WhatIsNoEpisodeIsListed) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pp"});
  {
    hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
    data.create_group("demo_1").set_attribute("task_description", "x");
    data.create_group("trial_2");
  }
  const Conversion c = converted((dir / "a.hdf5").string(), TrajectoryFormat::apo, dir / "o.hdf5");
  EXPECT_EQ(c.num_episodes, 1);
  EXPECT_EQ(c.left_out,
            (std::map<std::string, int64_t>{{"data/demo_1: no step", 1},
                                            {"data/trial_2: a group that is not named demo_N", 1}}));
}

TEST(Convert, EpisodesMustLookAlike) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pp"});
  EXPECT_THAT(data_error([&] {
                convert(options_for_paths({(dir / "a.hdf5").string(), layout("libero.hdf5")}),
                        TrajectoryFormat::apo, dir / "o.hdf5");
              }),
              AllOf(HasSubstr("libero.hdf5: demo_0: expected actions of 3, camera front 6x5"),
                    HasSubstr("found actions of 7")));
}

std::vector<int> pixel(const at::Tensor& image, int64_t y, int64_t x) {
  return {image[y][x][0].item<int>(), image[y][x][1].item<int>(), image[y][x][2].item<int>()};
}

// One policy step and one human step of 6x5 pictures, 60 high: 50 wide and a border of 4.
TEST(ContactSheet, BordersSayWhoActedAndStripsTheLabel) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"ph"});
  DataOptions options = options_for_paths({(dir / "a.hdf5").string()});
  const at::Tensor sheet = contact_sheet(options, {.size = 60});
  ASSERT_EQ(sheet.dtype(), at::kByte);
  const int64_t top = 10 + 26 + 10 + 28;                               // margin, legend, margin, title
  EXPECT_EQ(pixel(sheet, top, 10), (std::vector<int>{56, 132, 255}));  // policy
  EXPECT_EQ(pixel(sheet, top, 10 + 58 + 6), (std::vector<int>{255, 140, 0}));  // human
  EXPECT_EQ(pixel(sheet, top + 68 + 1, 10), (std::vector<int>{235, 85, 85}));  // undesirable
  EXPECT_EQ(pixel(sheet, top + 68 + 1, 10 + 58 + 6), (std::vector<int>{255, 196, 90}));
  EXPECT_EQ(pixel(sheet, top + 4, 14), pixel(numbered_step(0).observation.images["front"], 0, 0));
}

// Whether the sheet shows this drawing with its upper left corner at (y, x).
bool shows(const at::Tensor& sheet, int64_t y, int64_t x, const pictures::Canvas& drawing) {
  const at::Tensor& image = drawing.image();
  return sheet.narrow(0, y, image.size(0)).narrow(1, x, image.size(1)).equal(image);
}

TEST(ContactSheet, ASkippedFrameSaysWhy) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    writer.begin_episode("lift");
    for (int64_t i = 0; i < 2; ++i) {
      Step step = numbered_step(i);
      if (i == 0) step.action = {0.01f, 0.0f, 1.0f};
      if (i == 1) step.action = {1.5f, 0.0f, 1.0f};
      writer.append(step);
    }
    writer.end_episode(true, "");
  }
  const at::Tensor sheet = contact_sheet(options_for_paths({(dir / "a.hdf5").string()}), {.size = 60});
  const int64_t strip = 10 + 26 + 10 + 28 + 68 + 1;
  const auto text = [](const char* reason) {
    pictures::Canvas drawing(11, 58, {120, 120, 128});
    drawing.write(2, 3, reason, {12, 12, 14});
    return drawing;
  };
  EXPECT_TRUE(shows(sheet, strip, 10, text("0 idle")));
  EXPECT_TRUE(shows(sheet, strip, 10 + 58 + 6, text("1 action")));  // out of range, as far as there is room
}

TEST(ContactSheet, TheHeadSaysKAndWhoseItIs) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"ph"});
  DataOptions options = options_for_paths({(dir / "a.hdf5").string()});
  const auto head = [](const std::string& text) {
    pictures::Canvas drawing(7, pictures::Canvas::text_width(text), {24, 24, 27});
    drawing.write(0, 0, text, {160, 160, 170});
    return drawing;
  };
  EXPECT_TRUE(shows(contact_sheet(options, {}), 26, 10, head("K = 10  (the defaults)")));
  options.labels.steps_before_intervention = 7;
  options.compatibility = DataCompatibility::released_code;
  EXPECT_TRUE(
      shows(contact_sheet(options, {.config = "my.yaml"}), 26, 10, head("K = 7, released code  (my.yaml)")));
}

TEST(ContactSheet, LongEpisodesAreThinnedOutButNoTakeOverIsLost) {
  TempDir dir;
  std::string steps(200, 'p');
  steps[37] = 'h';
  write_recording(dir / "a.hdf5", {steps, steps, steps});
  const DataOptions options = options_for_paths({(dir / "a.hdf5").string()});
  const at::Tensor sheet = contact_sheet(options, {.episodes = 1, .frames = 5, .columns = 5, .size = 60});
  const int64_t top = 10 + 26 + 10 + 28;
  int humans = 0;
  for (int64_t i = 0; i < 5; ++i) humans += pixel(sheet, top, 10 + i * 64) == std::vector<int>{255, 140, 0};
  EXPECT_EQ(humans, 1);
  EXPECT_LT(sheet.size(0), 200);
}

TEST(ContactSheet, NamesWhatIsThere) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"ph", "pp"});
  const DataOptions options = options_for_paths({(dir / "a.hdf5").string()});
  EXPECT_THAT(data_error([&] { contact_sheet(options, {.camera = "wrist"}); }),
              HasSubstr("no camera 'wrist' (valid: front)"));
  EXPECT_THAT(data_error([&] { contact_sheet(options, {.episode = "demo_9"}); }),
              HasSubstr("no episode 'demo_9' (valid: demo_0, demo_1)"));
  EXPECT_THAT(config_error([&] { contact_sheet(options, {.frames = 0}); }),
              HasSubstr("at least one episode, frame and column"));
  EXPECT_THAT(config_error([&] { contact_sheet(options, {.size = 5000}); }), HasSubstr("16 to 1024"));
  EXPECT_THAT(config_error([&] { contact_sheet({}, {}); }), HasSubstr("no data to show"));
}

}  // namespace
}  // namespace apo::audit
