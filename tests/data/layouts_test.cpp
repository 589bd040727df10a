// The layouts of others, as their own programs write them (tests/data/goldens/layouts,
// scripts/goldens/make_layouts.py).
#include "data/layouts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "audit/validations.h"
#include "support/places.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Rgb = std::vector<int>;

std::string layout(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/layouts/") + name;
}

Rgb pixel(const at::Tensor& image, int64_t y, int64_t x) {
  return {image[y][x][0].item<int>(), image[y][x][1].item<int>(), image[y][x][2].item<int>()};
}

// Of the one scene that all files show: a red mark at the upper left of a blue upper and a brown lower half.
const Rgb kRed{220, 20, 20}, kBlue{40, 80, 200}, kBrown{120, 80, 40};

void expect_upright(const at::Tensor& image) {
  EXPECT_EQ(pixel(image, 0, 0), kRed);
  EXPECT_EQ(pixel(image, 0, 7), kBlue);
  EXPECT_EQ(pixel(image, 7, 0), kBrown);
  EXPECT_EQ(pixel(image, 7, 7), kBrown);
}

TEST(Layouts, LiberoIsTurnedUpright) {
  const auto file = TrajectoryFile::open(layout("libero.hdf5"));
  EXPECT_EQ(file->format(), TrajectoryFormat::libero);
  ASSERT_EQ(file->num_episodes(), 2);
  const EpisodeRecord record = file->episode(1);
  EXPECT_EQ(record.num_steps(), 7);
  EXPECT_EQ(record.instruction, "open the top drawer of the cabinet");
  EXPECT_EQ(record.sources, std::vector(7, ActionSource::expert));
  EXPECT_EQ(record.cameras,
            (std::map<std::string, pictures::ImageSize>{{"agentview", {8, 8}}, {"eye_in_hand", {8, 8}}}));
  EXPECT_EQ(record.states.at("ee_states"), 6);
  const Observation last = file->observation(1, 6);
  expect_upright(last.images.at("agentview"));
  expect_upright(last.images.at("eye_in_hand"));
  EXPECT_EQ(pixel(last.images.at("agentview"), 4, 4), (Rgb{6, 249, 128}));  // this step's picture
  EXPECT_EQ(last.state.at("joint_states").size(), 7u);
}

TEST(Layouts, LiberoSaysHowItsPicturesLie) {
  expect_upright(
      TrajectoryFile::open(layout("libero_opencv.hdf5"))->observation(0, 0).images.at("agentview"));
}

// OpenVLA's replayed files have no attributes: known by their arrays, told what to do by their name.
TEST(Layouts, LiberoWithoutAnyAttribute) {
  const auto file = TrajectoryFile::open(layout("KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5"));
  EXPECT_EQ(file->format(), TrajectoryFormat::libero);
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(1).name, "demo_3");
  EXPECT_EQ(file->episode(0).instruction, "close the top drawer");
  expect_upright(file->observation(1, 2).images.at("agentview"));
}

TEST(Layouts, LiberoByAnotherNameNeedsAnInstruction) {
  TempDir dir;
  const fs::path copy = dir / "drawer.hdf5";
  fs::copy_file(layout("KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5"), copy);
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(copy); }),
              AllOf(HasSubstr("drawer.hdf5: /data/demo_0: expected an attribute task_description"),
                    HasSubstr("`instruction`")));
  fs::rename(copy, dir / "pick_up_the_soup_demo.hdf5");
  EXPECT_EQ(TrajectoryFile::open(dir / "pick_up_the_soup_demo.hdf5")->episode(0).instruction,
            "pick up the soup");
}

TEST(Layouts, PicturesAreTurnedAsAsked) {
  const auto corner = [](ImageOrientation orientation, int64_t y, int64_t x) {
    const auto file =
        TrajectoryFile::open(layout("libero.hdf5"), TrajectoryFormat::automatic, "", orientation);
    return pixel(file->observation(0, 0).images.at("agentview"), y, x);
  };
  EXPECT_EQ(corner(ImageOrientation::as_stored, 7, 0), kRed);
  EXPECT_EQ(corner(ImageOrientation::flipped, 0, 0), kRed);
  EXPECT_EQ(corner(ImageOrientation::rotated, 0, 7), kRed);  // upright, but mirrored: OpenVLA's
  const auto plain = TrajectoryFile::open(layout("robomimic.hdf5"), TrajectoryFormat::automatic, "lift",
                                          ImageOrientation::flipped);
  EXPECT_EQ(pixel(plain->observation(0, 0).images.at("agentview"), 7, 0), kRed);
}

TEST(Layouts, OrientationHoldsForJournalsAndTimesteps) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info(), 1);
    writer.begin_episode("lift");
    writer.append(numbered_step(0));
    const auto plain = TrajectoryFile::open(dir / "a.hdf5")->observation(0, 0).images.at("front");
    const auto flipped =
        TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "", ImageOrientation::flipped);
    EXPECT_TRUE(flipped->observation(0, 0).images.at("front").equal(plain.flip({0})));
  }
  {
    hdf5::Group step = hdf5::Group::create(dir / "b.hdf5").create_group("demo_0").create_group("timestep_0");
    step.write("action", std::vector<float>{0.5f, 1}, {2});
    step.write("third_obs", std::vector<uint8_t>{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4}, {2, 2, 3});
  }
  const auto file =
      TrajectoryFile::open(dir / "b.hdf5", TrajectoryFormat::automatic, "lift", ImageOrientation::rotated);
  EXPECT_EQ(file->observation(0, 0).images.at("third")[0][0][0].item<int>(), 4);
}

TEST(Layouts, UnknownImageConventionIsRefused) {
  TempDir dir;
  fs::copy_file(layout("libero.hdf5"), dir / "a.hdf5");
  {
    hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
    data.set_attribute("macros_image_convention", "sideways");
  }
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
      HasSubstr("/data attribute macros_image_convention: expected opengl or opencv, found sideways"));
  TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "",
                       ImageOrientation::flipped);  // the user knows
}

TEST(Layouts, InstructionFromAListOfLetters) {
  TempDir dir;
  fs::copy_file(layout("libero.hdf5"), dir / "a.hdf5");
  const auto instruction = [&dir](const std::string& json) {
    {
      hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
      data.set_attribute("problem_info", json);
    }
    return TrajectoryFile::open(dir / "a.hdf5")->episode(0).instruction;
  };
  EXPECT_EQ(instruction(R"({"language_instruction": ["o", "p", "e", "n", " ", "i", "t"]})"), "open it");
  EXPECT_EQ(instruction(R"({"language_instruction": ["open", "it"]})"), "open it");
  EXPECT_EQ(instruction(R"({"language_instruction": "\"open it\""})"), "open it");
}

TEST(Layouts, Robomimic) {
  const auto file =
      TrajectoryFile::open(layout("robomimic.hdf5"), TrajectoryFormat::automatic, "lift the cube");
  EXPECT_EQ(file->format(), TrajectoryFormat::robomimic);
  EXPECT_EQ(file->num_episodes(), 2);
  expect_upright(file->observation(0, 4).images.at("robot0_eye_in_hand"));
  EXPECT_THAT(file->episode(0).observation_names,
              ElementsAre("agentview", "robot0_eef_pos", "robot0_eye_in_hand", "robot0_gripper_qpos"));
}

TEST(Layouts, MimicgenWithoutRewardsDonesAndNextObs) {
  const auto file = TrajectoryFile::open(layout("mimicgen.hdf5"), TrajectoryFormat::automatic, "make coffee");
  EXPECT_EQ(file->format(), TrajectoryFormat::mimicgen);
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(1).num_steps(), 7);
  expect_upright(file->observation(1, 3).images.at("agentview"));
  EXPECT_THAT(file->attributes(),
              ::testing::Contains(std::pair<std::string, std::string>("environment_name", "Coffee_D0")));
}

TEST(Layouts, SiriusSaysWhoActed) {
  const auto file = TrajectoryFile::open(layout("sirius.hdf5"), TrajectoryFormat::automatic, "fit the nut");
  EXPECT_EQ(file->format(), TrajectoryFormat::sirius);
  using enum ActionSource;
  EXPECT_EQ(file->episode(0).sources, std::vector(6, expert));
  EXPECT_THAT(file->episode(1).sources, ElementsAre(policy, policy, policy, policy, intervention,
                                                    intervention, policy, policy, intervention));
  EXPECT_EQ(file->episode(1).desirable[3], std::nullopt);
  EXPECT_THAT(file->episode(2).desirable,
              ElementsAre(std::nullopt, false, false, std::nullopt, std::nullopt));
}

TEST(Layouts, SiriusNamesWhatIsWrong) {
  TempDir dir;
  const auto message = [&dir](const std::function<void(hdf5::Group&)>& change) {
    fs::copy_file(layout("sirius.hdf5"), dir / "bad.hdf5", fs::copy_options::overwrite_existing);
    {
      hdf5::Group demo = hdf5::Group::open_for_writing(dir / "bad.hdf5").group("data").group("demo_1");
      demo.remove("action_modes");
      change(demo);
    }
    return data_error(
        [&] { TrajectoryFile::open(dir / "bad.hdf5", TrajectoryFormat::sirius, "fit the nut"); });
  };
  EXPECT_THAT(message([](auto&) {}),
              HasSubstr("/data/demo_1/action_modes: expected a dataset, found nothing"));
  EXPECT_THAT(message([](auto& d) { d.write("action_modes", std::vector<float>(9, 0.5f), {9}); }),
              HasSubstr("/data/demo_1/action_modes row 0: expected one of -1, 0, 1, found 0.5"));
  EXPECT_THAT(message([](auto& d) { d.write("action_modes", std::vector<float>(9, NAN), {9}); }),
              HasSubstr("action_modes row 0: expected one of -1, 0, 1, found nan"));
  EXPECT_THAT(message([](auto& d) { d.write("action_modes", std::vector<float>(8), {8}); }),
              HasSubstr("action_modes: expected 9 rows, one for each action, found float32 [8]"));
  EXPECT_THAT(message([](auto& d) {
                d.write("action_modes", std::vector<float>(18), {9, 2});
              }),
              HasSubstr("action_modes: expected numbers [S], found float32 [9, 2]"));
  EXPECT_THAT(message([](auto& d) { d.write_text("action_modes", "policy"); }),
              HasSubstr("action_modes: expected numbers [S], found text []"));
}

TEST(Layouts, OneObservationMoreThanActions) {
  const auto file = TrajectoryFile::open(layout("one_row_more.hdf5"), TrajectoryFormat::automatic, "lift");
  EXPECT_EQ(file->episode(0).num_steps(), 5);
  expect_upright(file->observation(0, 4).images.at("front"));
  EXPECT_EQ(pixel(file->observation(0, 4).images.at("front"), 4, 4)[0], 4);  // not the sixth picture
  EXPECT_EQ(file->state(0, 4).state.at("qpos").size(), 3u);
  // ours are never written so
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(layout("one_row_more.hdf5"), TrajectoryFormat::apo, "lift"); }),
      HasSubstr("action_source: expected a dataset"));
}

TEST(Layouts, OneObservationMoreInOursIsRefused) {
  TempDir dir;
  fs::copy_file(layout("one_row_more.hdf5"), dir / "a.hdf5");
  {
    hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
    for (const std::string& name : data.names()) {
      hdf5::Group demo = data.group(name);
      const int64_t steps = demo.array("actions").shape()[0];
      demo.write("action_source", std::vector<int8_t>(static_cast<size_t>(steps)), {steps});
    }
  }
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift"); }),
      AllOf(HasSubstr(
          "/data/demo_0/obs/front_image: expected 5 rows, one for each action, found uint8 [6, 8, 8, 3]")));
}

// The calibration of a camera and the like belong to no step.
TEST(Layouts, ObservationsOfNoStepAreNotUsed) {
  for (const std::string name : {"one_row_more.hdf5", "robomimic.hdf5", "apo.hdf5"}) {
    TempDir dir;
    fs::copy_file(layout(name), dir / "a.hdf5");
    const auto plain = TrajectoryFile::open(layout(name), TrajectoryFormat::automatic, "lift");
    {
      hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
      for (const std::string& demo : data.names()) {
        hdf5::Group obs = data.group(demo).group("obs");
        obs.write("intrinsics", std::vector<float>(9, NAN), {3, 3});
        obs.write("field_of_view", std::vector<float>{45}, {1});
      }
    }
    const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift");
    EXPECT_EQ(file->episode(0).states, plain->episode(0).states) << name;
    EXPECT_EQ(file->state(0, 4).state, plain->state(0, 4).state);
    const audit::Validation v = audit::validate(
        audit::options_for_paths({(dir / "a.hdf5").string()}, TrajectoryFormat::automatic, "lift"), false);
    EXPECT_EQ(audit::found(v, "readable"), "");
    EXPECT_THAT(
        audit::found(v, "shapes"),
        AllOf(
            HasSubstr("note: obs/intrinsics is not used: float32 [3, 3], not one row for each action; first: "
                      "a.hdf5 demo_0"),
            HasSubstr("note: obs/field_of_view is not used")));
    EXPECT_EQ(v.count(audit::Severity::error), 0);
  }
}

// In the episodes whose steps they do not fit; "0" and "1": there they are used.
TEST(Layouts, ObservationsThatAreCutShortAreNotUsed) {
  const auto message = [](int64_t rows_of_first, int64_t rows_of_second) {
    TempDir dir;
    fs::copy_file(layout("robomimic.hdf5"), dir / "a.hdf5");
    const std::vector<std::string> demos{"demo_0", "demo_1"};
    {
      hdf5::Group data = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data");
      for (size_t i = 0; i < 2; ++i) {
        const int64_t rows = i == 0 ? rows_of_first : rows_of_second;
        hdf5::Group obs = data.group(demos[i]).group("obs");
        obs.write("force", std::vector<float>(static_cast<size_t>(rows)), {rows});
      }
    }
    const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift");
    std::string text;
    for (int64_t e = 0; e < 2; ++e) {
      const EpisodeRecord record = file->episode(e);
      EXPECT_NE(record.states.contains("force"), record.unused.contains("obs/force"));
      EXPECT_EQ(record.cameras.size(), 2u);
      const bool used = record.states.contains("force");
      text += concat(e > 0 ? "; " : "", used ? concat(e) : record.unused.at("obs/force"));
    }
    return text;
  };
  // 5 and 6 steps
  const std::string one_for_each = " rows, one for each action, found float32 ";
  EXPECT_EQ(message(5, 6), "0; 1");
  EXPECT_EQ(message(2, 6), "expected 5" + one_for_each + "[2]; 1");
  EXPECT_EQ(message(5, 60), "0; expected 6" + one_for_each + "[60]");
  EXPECT_EQ(message(4, 5), "expected 5" + one_for_each + "[4]; expected 6" + one_for_each + "[5]");
  EXPECT_EQ(message(6, 7), "expected 5" + one_for_each + "[6]; expected 6" + one_for_each + "[7]");
  EXPECT_EQ(message(3, 3),
            "float32 [3], not one row for each action; float32 [3], not one row for each action");
}

TEST(Layouts, OneObservationMoreThanActionsBesideWhatIsCutShort) {
  TempDir dir;
  fs::copy_file(layout("one_row_more.hdf5"), dir / "a.hdf5");
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data").group("demo_0");
    demo.group("obs").write("top_image", std::vector<uint8_t>(3 * 192), {3, 8, 8, 3});
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift");
  EXPECT_EQ(file->episode(0).cameras.size(), 1u);
  EXPECT_TRUE(file->episode(0).unused.contains("obs/top_image"));
  expect_upright(file->observation(0, 4).images.at("front"));
}

// Without policy_action_valid the policy's wishes are those at the human's steps; the others may hold
// anything.
TEST(Layouts, PolicyActionsWithoutValidity) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"php"});
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data").group("demo_0");
    demo.write("policy_action", std::vector<float>{NAN, 0, 0, 0.25f, 0.5f, 1, 7, 7, INFINITY}, {3, 3});
  }
  EXPECT_THAT(TrajectoryFile::open(dir / "a.hdf5")->episode(0).policy_actions,
              ElementsAre(std::nullopt, Action{0.25f, 0.5f, 1}, std::nullopt));
}

TEST(Layouts, CompressionOfAPlugInIsNamed) {
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(layout("lzf.hdf5"), TrajectoryFormat::automatic, "lift"); }),
      AllOf(HasSubstr("/data/demo_0/obs/front_image: is compressed with 'lzf' (HDF5 filter 32000)"),
            HasSubstr("h5repack")));
}

TEST(Layouts, LazyReadingFindsTheSame) {
  for (const std::string name : {"libero.hdf5", "sirius.hdf5", "mimicgen.hdf5", "robomimic.hdf5"}) {
    const auto eager = TrajectoryFile::open(layout(name), TrajectoryFormat::automatic, "x");
    const auto lazy = open_trajectories(layout(name), {.instruction = "x", .lazily = true});
    ASSERT_EQ(lazy->num_episodes(), eager->num_episodes());
    for (int64_t e = lazy->num_episodes() - 1; e >= 0; --e) {
      EXPECT_EQ(lazy->episode(e).actions, eager->episode(e).actions);
      EXPECT_EQ(lazy->episode(e).name, eager->episode(e).name);
      EXPECT_TRUE(lazy->observation(e, 1).images.begin()->second.equal(
          eager->observation(e, 1).images.begin()->second));
    }
  }
}

}  // namespace
}  // namespace apo::data
