// Arrays, attributes and pictures as recorders and h5py users write them
// (scripts/goldens/make_recordings.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/audit/convert.h"
#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "audit/names.h"
#include "audit/validations.h"
#include "data/layouts.h"
#include "data/recordings.h"
#include "pictures/encoded_picture.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Numbers = std::vector<float>;

std::string recording(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/recordings/") + name;
}
std::shared_ptr<TrajectoryFile> lazily(const std::string& name) {
  return open_trajectories(recording(name), {.lazily = true});
}
DataOptions source(const std::string& name) {
  return options_for_paths({recording(name)}, TrajectoryFormat::automatic, "");
}

// Step t of the scene that all pictures show: gray 100 + 10 t, a red mark at the upper left, a blue edge.
at::Tensor scene(int64_t t) {
  at::Tensor image = at::full({8, 8, 3}, 100 + 10 * t, at::kByte);
  image.narrow(0, 0, 2).narrow(1, 0, 2).copy_(at::tensor({220, 20, 20}, at::kByte));
  image.select(1, 7).copy_(at::tensor({20, 40, 200}, at::kByte));
  return image;
}

TEST(RecordedArrays, AreReadOrNamed) {
  const auto file = TrajectoryFile::open(recording("arrays.hdf5"));
  const EpisodeRecord record = file->episode(0);
  EXPECT_EQ(record.states, (std::map<std::string, int64_t>{{"big_endian", 3},
                                                           {"half", 3},
                                                           {"height", 1},
                                                           {"is_grasped", 1},
                                                           {"is_grasped_column", 1},
                                                           {"phase", 1},
                                                           {"pose", 3},
                                                           {"stamp", 1},
                                                           {"unwritten", 6}}));
  EXPECT_EQ(record.cameras,
            (std::map<std::string, pictures::ImageSize>{{"front", {8, 8}}, {"wrist", {8, 8}}}));
  const Observation third = file->observation(0, 2);
  EXPECT_EQ(third.state.at("is_grasped"), Numbers{1});
  EXPECT_EQ(third.state.at("is_grasped_column"), Numbers{1});
  EXPECT_EQ(third.state.at("unwritten"), Numbers(6, 0));
  EXPECT_EQ(third.state.at("phase"), Numbers{1});
  EXPECT_EQ(third.state.at("stamp"), Numbers{1002});
  EXPECT_EQ(third.state.at("half"), Numbers(3, 0.5f));
  EXPECT_EQ(third.state.at("big_endian"), Numbers(3, 0.25f));
  EXPECT_EQ(third.state.at("pose"), (Numbers{6, 7, 8}));
  EXPECT_EQ(third.state.at("height"), Numbers{2});
  EXPECT_TRUE(third.images.at("front").equal(scene(2)));
  EXPECT_TRUE(third.images.at("wrist").equal(scene(2)));                 // without its alpha
  EXPECT_THAT(record.desirable, ElementsAre(false, false, true, true));  // a bool
  EXPECT_EQ(record.sources[1], ActionSource::policy);
  EXPECT_EQ(record.sources[2], ActionSource::intervention);
}

TEST(RecordedArrays, WhatIsNotUsedSaysWhy) {
  const EpisodeRecord record = TrajectoryFile::open(recording("arrays.hdf5"))->episode(0);
  const std::map<std::string, std::string> expected{
      {"obs/spectrum", "complex64 [4]"},
      {"obs/contact", "a compound type [4]"},
      {"obs/nothing", "an empty dataspace []"},
      {"obs/words", "text [4]"},
      {"obs/force", "float64 [4], row 2: expected finite numbers, found nan"},
      {"obs/front_depth", "float32 [4, 8, 8, 1]"},
      {"obs/depth_image", "uint16 [4, 8, 8]"},
      {"obs/front_segmentation_image", "uint8 [4, 8, 8]"},
      {"obs/front_mask_image", "uint8 [4, 8, 8, 4]"},
      {"obs/normals", "float32 [4, 8, 8, 3]"},
      {"obs/start_image", "uint8 [1, 8, 8, 3], one picture for all steps"},
      {"obs/more", "a group"},
      {"force_plate", "float64 [9, 2]"},
      {"is_teleoperated", "bool [4]"},
      {"next_obs", "a group"}};
  for (const auto& [array, what] : expected) EXPECT_EQ(record.unused.at(array), what) << array;
  EXPECT_THAT(record.unused.at("obs/goal_image"),
              AllOf(HasSubstr("expected color pictures"), HasSubstr("found uint8 [10, 10, 3]")));
  EXPECT_THAT(record.unused.at("obs/top_image"), HasSubstr("never written"));
  EXPECT_EQ(record.unused.size(), expected.size() + 2);
  EXPECT_EQ(record.remarks,
            (std::map<std::string, std::string>{{"obs/unwritten", "never written, read as its fill value"},
                                                {"obs/wrist_image", "RGBA, alpha is left out"}}));
}

TEST(RecordedArrays, WhatAPolicyAsksForIsAnError) {
  const auto shapes = [](const PolicyInputs& inputs) {
    return found(validate(source("arrays.hdf5"), false, inputs), "shapes");
  };
  EXPECT_THAT(shapes({}),
              AllOf(Not(HasSubstr("error")),
                    HasSubstr("note: obs/force is not used: float64 [4], row 2: expected "
                              "finite numbers, found nan; first: arrays.hdf5 demo_0"),
                    HasSubstr("note: obs/wrist_image: RGBA, alpha is left out"),
                    HasSubstr("warning: is_teleoperated is not read, and may say who acted: bool [4]")));
  EXPECT_THAT(shapes({.cameras = {"front"}, .state_keys = {"pose"}}), Not(HasSubstr("error")));
  EXPECT_THAT(shapes({.cameras = {"front"}, .state_keys = {"force"}}),
              HasSubstr("error: no episode has the state force (policy.state_keys); obs/force is not used: "
                        "float64 [4], row 2"));
  EXPECT_THAT(shapes({.cameras = {"top"}, .state_keys = {}}),
              HasSubstr("obs/top_image is not used: expected color pictures"));
}

TEST(RecordedArrays, GoThroughEveryTool) {
  TempDir dir;
  const Conversion c = convert(source("arrays.hdf5"), TrajectoryFormat::apo, dir / "ours.hdf5");
  EXPECT_EQ(c.left_out.at("data/demo_*/obs/front_depth"), 1);
  const auto ours = TrajectoryFile::open(dir / "ours.hdf5");
  EXPECT_EQ(ours->episode(0).states.at("pose"), 3);
  EXPECT_EQ(ours->episode(0).sources, TrajectoryFile::open(recording("arrays.hdf5"))->episode(0).sources);
  EXPECT_TRUE(ours->observation(0, 3).images.at("wrist").equal(scene(3)));
  EXPECT_THAT(inspect_text(source("arrays.hdf5")), HasSubstr("obs/depth_image: uint16 [4, 8, 8]"));
}

TEST(RecordedAttributes, OfAnyType) {
  const auto file = TrajectoryFile::open(recording("attributes.hdf5"));
  ASSERT_EQ(file->num_episodes(), 10);
  EXPECT_THAT(file->left_out(), ElementsAre("data/demo_10: no step", "data/demo_11: no step",
                                            "data/episode_3: a group that is not named demo_N"));
  const std::vector<std::optional<bool>> success{true, false, true, false, true};
  for (int64_t e = 0; e < 10; ++e) {
    EXPECT_EQ(file->episode(e).success, e < 5 ? success[static_cast<size_t>(e)] : std::nullopt) << e;
    EXPECT_EQ(file->episode(e).instruction, e == 8 ? "lift the cafetière" : "lift the cube") << e;
    EXPECT_EQ(file->episode(e).outcome, "");
  }
  const Validation v = validate(source("attributes.hdf5"), false);
  EXPECT_THAT(found(v, "readable"),
              AllOf(HasSubstr("warning: "), HasSubstr("left out: data/demo_10: no step"),
                    HasSubstr("left out: data/episode_3: a group that is not named demo_N"),
                    Not(HasSubstr("error"))));
  EXPECT_THAT(inspect_text(source("attributes.hdf5")),
              HasSubstr("left out          attributes.hdf5: data/demo_10: no step"));
}

TEST(RecordedAttributes, ThatCannotBeMeantAreNamed) {
  const auto file = lazily("bad_attributes.hdf5");
  const std::vector<std::string> messages{
      "/data/demo_0: attribute success: expected 0 or 1, found 2",
      "/data/demo_1: attribute success: expected 0 or 1, found perhaps",
      "/data/demo_2: attribute success: expected 0 or 1, found nan",
      "/data/demo_3: attribute success: expected 0 or 1, found another type",
      "/data/demo_4 attribute num_samples: expected a number, found another type",
      "/data/demo_5/actions: expected 3.5 rows (attribute num_samples), found 4",
      "/data/demo_6 attribute task_description: expected one text",
      "/data/demo_7 attribute task_description: expected one text",
      "/data/demo_8 attribute task_description: expected UTF-8 text, found other bytes"};
  for (size_t e = 0; e < messages.size(); ++e)
    EXPECT_THAT(data_error([&] { file->episode(static_cast<int64_t>(e)); }), HasSubstr(messages[e]));
}

TEST(RecordedAttributes, InstructionsByTheirManyNames) {
  const auto file = TrajectoryFile::open(recording("instructions.hdf5"));
  const std::vector<std::string> numbers{"zero", "one", "two", "three", "four", "five", "six"};
  for (size_t e = 0; e < numbers.size(); ++e)
    EXPECT_EQ(file->episode(static_cast<int64_t>(e)).instruction, "lift " + numbers[e]);
  EXPECT_EQ(file->episode(0).unused.count("language_instruction"), 0u);
  EXPECT_EQ(file->episode(6).unused.at("language_instruction"), "float64 [5]");
  EXPECT_EQ(TrajectoryFile::open(recording("instructions.hdf5"), TrajectoryFormat::automatic, "mine")
                ->episode(2)
                .instruction,
            "mine");
}

TEST(RecordedPictures, OfEveryForm) {
  const auto file = TrajectoryFile::open(recording("pictures.hdf5"));
  const auto root = hdf5::Group::open(recording("pictures.hdf5"));
  ASSERT_EQ(file->num_episodes(), 13);
  for (int64_t e = 0; e < file->num_episodes(); ++e) {
    EXPECT_EQ(file->episode(e).cameras, (std::map<std::string, pictures::ImageSize>{{"front", {8, 8}}})) << e;
    const hdf5::Group demo = root.group("data").group("demo_" + std::to_string(e));
    for (int64_t t = 0; t < 4; ++t) {
      at::Tensor expected = scene(t);
      if (demo.has("decoded")) demo.array("decoded").read_row(t, {expected.data_ptr<uint8_t>(), 192});
      EXPECT_TRUE(file->observation(e, t).images.at("front").equal(expected))
          << "demo_" << e << " step " << t;
    }
  }
  const auto remark = [&file](int64_t e) { return file->episode(e).remarks.begin()->second; };
  EXPECT_EQ(remark(0), "numbers 0..1");
  EXPECT_EQ(remark(3), "numbers 0..1, channels first");
  EXPECT_EQ(remark(5), "encoded as JPEG or PNG");
  EXPECT_EQ(remark(8), "channels first, RGBA, alpha is left out");
  EXPECT_TRUE(file->episode(6).remarks.empty());
  EXPECT_EQ(validate(source("pictures.hdf5"), false, {.cameras = {"front"}}).count(Severity::error), 0);
}

// A JPEG is near what it was made of: the decoder is not only equal to another one.
TEST(RecordedPictures, JpegIsNearItsScene) {
  const auto file = TrajectoryFile::open(recording("pictures.hdf5"));
  for (int64_t t = 0; t < 4; ++t)  // away from the mark and the edge
    for (int64_t c = 0; c < 3; ++c)
      EXPECT_NEAR(file->observation(4, t).images.at("front")[6][3][c].item<int>(), 100 + 10 * t, 8);
}

TEST(RecordedPictures, ThatCannotBeReadAreNamed) {
  const auto file = lazily("bad_pictures.hdf5");
  // when the episode is read
  const std::map<int64_t, std::string> at_once{
      {0,
       "expected color pictures [S, Y, X, 3] or [S, 3, Y, X] of uint8 or of numbers 0..1, or JPEG or PNG, "
       "found float32 [4, 8, 8, 3] with a value of 220"},
      {1, "found int32 [4, 8, 8, 3]"},
      {2, "found uint8 [4, 3, 8, 3]: either dimension could be the colors"},
      {3, "found uint8 [4, 8, 8]"},
      {4, "found uint8 [4, 8, 8, 2]"},
      {5, "found variable-length uint8 [4]"},
      {6, "row 0: expected a picture of three colors, found a gray JPEG of 8x8"},
      {7, "row 0: expected a picture of at most 16777216 pixels, found a JPEG of 65000x65000"},
      {11, "row 0: expected a picture of three colors of 8 bits, found a PNG of 16 bits a channel and 8x8"},
      {13, "never written"}};
  for (const auto& [e, message] : at_once)
    EXPECT_THAT(data_error([&] { file->episode(e); }),
                AllOf(HasSubstr(concat("/data/demo_", e, "/obs/front_image: ")), HasSubstr(message)));
  // when the picture is read
  const std::map<std::pair<int64_t, int64_t>, std::string> later{
      {{8, 1}, " row 1: damaged JPEG: "},
      {{9, 2}, " row 2: expected 8x8 as the first picture, found 16x16"},
      {{10, 3}, " row 3: expected a JPEG or PNG, found 0 other bytes"},
      {{12, 3}, " row 3: expected numbers 0..1, found a value of nan"}};
  for (const auto& [where, message] : later)
    EXPECT_THAT(data_error([&] { file->observation(where.first, where.second); }),
                AllOf(HasSubstr(concat("/data/demo_", where.first, "/obs/front_image")), HasSubstr(message)));
  EXPECT_NO_THROW(file->observation(9, 1));
}

// Any byte of a JPEG or PNG may be another one: an error that says so, or a picture.
TEST(RecordedPictures, AChangedByteNeverCrashes) {
  const hdf5::Group data = hdf5::Group::open(recording("pictures.hdf5")).group("data");
  int64_t errors = 0;
  for (const auto& [demo, array] :
       {std::pair{"demo_4", "front_image"}, std::pair{"demo_11", "front_image"}}) {
    const std::vector<uint8_t> whole = data.group(demo).group("obs").array(array).row_bytes(0);
    ASSERT_EQ(pictures::decode_picture(whole, "x").sizes(), (at::IntArrayRef{8, 8, 3}));
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int change : {0x01, 0x80, 0xff}) {
        std::vector<uint8_t> bytes = whole;
        bytes[at] = static_cast<uint8_t>(bytes[at] ^ change);
        try {
          EXPECT_LE(pictures::decode_picture(bytes, "x").numel(), int64_t{3} << 24);
        } catch (const DataError& error) {
          EXPECT_THAT(error.what(), ::testing::StartsWith("x: "));
          ++errors;
        }
      }
    }
    for (size_t size = 0; size + 16 < whole.size(); ++size)  // behind that, the pixels are all there
      EXPECT_THAT(data_error([&] { pictures::decode_picture(std::span(whole).first(size), "x"); }),
                  ::testing::StartsWith("x: "));
  }
  EXPECT_GT(errors, 300);
}

// robosuite's collector writes the simulator's states alone.
TEST(RecordedArrays, StatesWithoutObservations) {
  TempDir dir;
  {
    hdf5::Group demo = hdf5::Group::create(dir / "a.hdf5").create_group("data").create_group("demo_1");
    demo.write("actions", Numbers(14, 0.5f), {2, 7});
    demo.write("states", Numbers(64), {2, 32});
  }
  for (const std::string instruction : {"", "lift"})
    EXPECT_THAT(
        data_error([&] { TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, instruction); }),
        AllOf(HasSubstr("/data/demo_1/obs: expected a group, found nothing"),
              HasSubstr("states and no observations; render them first")));
}

// The released layouts take the same pictures.
TEST(RecordedPictures, OfOneGroupATimestep) {
  TempDir dir;
  {
    hdf5::Group root = hdf5::Group::create(dir / "a.hdf5");
    hdf5::Group demo = root.create_group("demo_0");
    for (int64_t t = 0; t < 2; ++t) {
      hdf5::Group step = demo.create_group("timestep_" + std::to_string(t));
      step.write("action", Numbers{0.5f, 1}, {2});
      const at::Tensor chw = scene(t).permute({2, 0, 1}).contiguous(),
                       unit = scene(t).to(at::kFloat).div(255);
      step.write("third_obs", std::span<const uint8_t>(chw.data_ptr<uint8_t>(), 192), {3, 8, 8});
      step.write("wrist_obs", std::span<const float>(unit.data_ptr<float>(), 192), {8, 8, 3});
      step.write("depth_obs", Numbers(64, 0.5f), {8, 8});
    }
    root.create_group("demo_1");
    root.create_group("notes");
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift");
  EXPECT_THAT(file->left_out(), ElementsAre("demo_1: no step", "notes: a group that is not named demo_N"));
  EXPECT_TRUE(file->observation(0, 1).images.at("third").equal(scene(1)));
  EXPECT_TRUE(file->observation(0, 1).images.at("wrist").equal(scene(1)));
  EXPECT_EQ(file->observation(0, 1, {"wrist"}).images.size(), 1u);
  EXPECT_EQ(file->episode(0).unused,
            (std::map<std::string, std::string>{{"timestep_*/depth_obs", "float32 [8, 8]"}}));
}

}  // namespace
}  // namespace apo::audit
