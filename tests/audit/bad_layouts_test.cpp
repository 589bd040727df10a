// Everything wrong that a file of another layout can be: one change to a good file, and the message that it
// must give.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apo/audit/convert.h"
#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "apo/base/files.h"
#include "audit/names.h"
#include "data/recordings.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string layout(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/layouts/") + name;
}

// In demo_0 of each layout: a camera, a vector and the number of steps.
struct Layout {
  const char* file;
  const char* camera;
  const char* state;
  int64_t steps;
};
const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{{"libero.hdf5", "agentview_rgb", "joint_states", 6},
                                       {"mimicgen.hdf5", "agentview_image", "robot0_eef_pos", 7},
                                       {"sirius.hdf5", "agentview_image", "robot0_eef_pos", 6},
                                       {"robomimic.hdf5", "agentview_image", "robot0_eef_pos", 5},
                                       {"apo.hdf5", "front_image", "eef_pos", 9}};
  return all;
}

class BadLayoutTest : public ::testing::TestWithParam<Layout> {
 protected:
  // The message for a copy of the layout's file after `change` of demo_0.
  std::string message(const std::function<void(hdf5::Group& demo, hdf5::Group& obs)>& change) const {
    fs::copy_file(layout(GetParam().file), path_, fs::copy_options::overwrite_existing);
    {
      hdf5::Group demo = hdf5::Group::open_for_writing(path_).group("data").group("demo_0");
      hdf5::Group obs = demo.group("obs");
      change(demo, obs);
    }
    const std::string text =
        data_error([&] { TrajectoryFile::open(path_, TrajectoryFormat::automatic, "do it"); });
    EXPECT_THAT(text, HasSubstr("bad.hdf5: /data/demo_0"));
    // the tools tell the same, and validate goes on behind it
    DataOptions options = options_for_paths({path_.string()}, TrajectoryFormat::automatic, "do it");
    EXPECT_EQ(data_error([&] { inspect_json(options); }), text);
    EXPECT_EQ(data_error([&] { convert(options, TrajectoryFormat::apo, dir_ / "out.hdf5"); }), text);
    EXPECT_THAT(to_text(validate(options, false)), HasSubstr(text));
    return text;
  }
  const Layout& at() const { return GetParam(); }
  // The camera's array replaced through `write`, the other cameras removed.
  void replace_the_only_camera(hdf5::Group& obs, const std::function<void()>& write) const {
    for (const std::string& name : obs.names())
      if (name.ends_with("_image") || name.ends_with("_rgb")) obs.remove(name);
    write();
  }
  std::vector<uint8_t> pixels(int64_t rows) const {
    return std::vector<uint8_t>(static_cast<size_t>(rows * 192));
  }

  TempDir dir_;
  fs::path path_ = dir_ / "bad.hdf5";
};

TEST_P(BadLayoutTest, MissingGroups) {
  EXPECT_THAT(message([](auto& demo, auto&) { demo.remove("actions"); }),
              HasSubstr("/actions: expected a dataset, found nothing"));
  EXPECT_THAT(message([](auto& demo, auto&) { demo.remove("obs"); }),
              HasSubstr("/obs: expected a group, found nothing"));
}

TEST_P(BadLayoutTest, WrongTypes) {
  const std::vector<int64_t> shape{at().steps, 7};
  EXPECT_THAT(message([&](auto& demo, auto&) {
                demo.remove("actions");
                demo.write("actions", std::vector<int8_t>(static_cast<size_t>(at().steps * 7)), shape);
              }),
              HasSubstr("/actions: expected floating-point actions [S, A] with S >= 1, found int8"));
  EXPECT_THAT(message([&](auto&, auto& obs) {
                const std::vector<int8_t> numbers(static_cast<size_t>(at().steps * 192));
                replace_the_only_camera(obs, [&] { obs.write(at().camera, numbers, {at().steps, 8, 8, 3}); });
              }),
              AllOf(HasSubstr(std::string("/obs/") + at().camera),
                    HasSubstr("expected color pictures [S, Y, X, 3] or"), HasSubstr("found int8")));
  // a camera that is one number: no rows to count
  EXPECT_THAT(message([&](auto&, auto& obs) {
                replace_the_only_camera(obs, [&] { obs.write(at().camera, std::vector<uint8_t>(1), {}); });
              }),
              HasSubstr(std::string("/obs/") + at().camera));
  EXPECT_THAT(message([&](auto& demo, auto&) {
                demo.remove("obs");
                demo.write("obs", std::vector<float>(3), {3});
              }),
              HasSubstr("/obs: expected a group, found a dataset"));
}

TEST_P(BadLayoutTest, WrongLengths) {
  const int64_t rows = at().steps + 1;
  EXPECT_THAT(message([&](auto&, auto& obs) {
                replace_the_only_camera(obs, [&] { obs.write(at().camera, pixels(rows), {rows, 8, 8, 3}); });
              }),
              AllOf(HasSubstr(std::string("/obs/") + at().camera),
                    HasSubstr(concat("expected ", at().steps, " rows, one for each action, found uint8"))));
  EXPECT_THAT(message([](auto& demo, auto&) { demo.set_attribute("num_samples", int64_t{3}); }),
              HasSubstr("/actions: expected 3 rows (attribute num_samples), found"));
}

TEST_P(BadLayoutTest, EpisodesWithoutStepsAreLeftOut) {
  fs::copy_file(layout(at().file), path_);
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(path_).group("data").group("demo_0");
    demo.remove("actions");
    demo.write("actions", std::vector<float>{}, {0, 7});
  }
  const auto whole = TrajectoryFile::open(layout(at().file), TrajectoryFormat::automatic, "do it");
  const auto file = TrajectoryFile::open(path_, TrajectoryFormat::automatic, "do it");
  EXPECT_EQ(file->num_episodes(), whole->num_episodes() - 1);
  EXPECT_EQ(file->episode(0).name, "demo_1");
  EXPECT_THAT(file->left_out(), ::testing::ElementsAre("data/demo_0: no step"));
}

// A camera that is filmed at half the rate, and a state that was cut short.
TEST_P(BadLayoutTest, OtherLengthsAreNotUsed) {
  fs::copy_file(layout(at().file), path_);
  const int64_t rows = at().steps / 2;
  {
    hdf5::Group obs = hdf5::Group::open_for_writing(path_).group("data").group("demo_0").group("obs");
    obs.write("top_image", pixels(rows), {rows, 8, 8, 3});
    obs.remove(at().state);
    obs.write(at().state, std::vector<float>(2), {2, 1});
  }
  const EpisodeRecord whole =
      TrajectoryFile::open(layout(at().file), TrajectoryFormat::automatic, "do it")->episode(0);
  const EpisodeRecord record = TrajectoryFile::open(path_, TrajectoryFormat::automatic, "do it")->episode(0);
  EXPECT_EQ(record.cameras, whole.cameras);
  EXPECT_EQ(record.states.size() + 1, whole.states.size());
  const std::string expected = concat("expected ", at().steps, " rows, one for each action, found ");
  EXPECT_EQ(record.unused.at("obs/top_image"), concat(expected, "uint8 [", rows, ", 8, 8, 3]"));
  EXPECT_EQ(record.unused.at(std::string("obs/") + at().state), expected + "float32 [2, 1]");
  // an error for who asks for it
  const DataOptions options = options_for_paths({path_.string()}, TrajectoryFormat::automatic, "do it");
  EXPECT_THAT(to_text(validate(options, false, {.cameras = {"top"}, .state_keys = {at().state}})),
              AllOf(HasSubstr("the policy needs top; obs/top_image is not used: " + expected),
                    HasSubstr(concat("state ", at().state, " is only in "))));
}

// A state that nobody asks for makes no file unusable.
TEST_P(BadLayoutTest, NumbersThatAreNoneAreNotUsed) {
  fs::copy_file(layout(at().file), path_);
  {
    hdf5::Group obs = hdf5::Group::open_for_writing(path_).group("data").group("demo_0").group("obs");
    obs.remove(at().state);
    std::vector<float> values(static_cast<size_t>(at().steps), 0.5f);
    values[2] = NAN;
    obs.write(at().state, values, {at().steps});
  }
  const EpisodeRecord record = TrajectoryFile::open(path_, TrajectoryFormat::automatic, "do it")->episode(0);
  EXPECT_FALSE(record.states.contains(at().state));
  EXPECT_THAT(record.unused.at(std::string("obs/") + at().state),
              HasSubstr("row 2: expected finite numbers, found nan"));
}

TEST_P(BadLayoutTest, LinksToOtherFilesAreNotFollowed) {
  fs::copy_file(layout(at().file), dir_ / "other.hdf5");
  EXPECT_THAT(message([](auto& demo, auto&) {
                demo.remove("actions");
                demo.link_external("actions", "other.hdf5", "/data/demo_0/actions");
              }),
              HasSubstr("/actions: a link to another file, which is not followed"));
  EXPECT_THAT(message([&](auto&, auto& obs) {
                obs.remove(at().camera);
                obs.link_external(at().camera, "other.hdf5", std::string("/data/demo_0/obs/") + at().camera);
              }),
              HasSubstr("a link to another file, which is not followed"));
}

TEST_P(BadLayoutTest, LinksThatGoRoundInCirclesAreNotFollowed) {
  EXPECT_THAT(message([](auto& demo, auto&) {
                demo.remove("obs");
                demo.link_soft("obs", "/data/demo_0/again");
                demo.link_soft("again", "/data/demo_0/obs");
              }),
              AllOf(HasSubstr("/obs: cannot open: "), HasSubstr("too many")));
  EXPECT_THAT(message([](auto& demo, auto&) {
                demo.remove("actions");
                demo.link_soft("actions", "/data/nowhere");
              }),
              HasSubstr("/actions: cannot open: "));
}

TEST_P(BadLayoutTest, TwoArraysForOneCamera) {
  const std::string stored = at().camera, camera = stored.substr(0, stored.rfind('_'));
  const std::string other = camera + (stored.ends_with("_rgb") ? "_image" : "_rgb");
  EXPECT_THAT(message([&](auto&, auto& obs) {
                obs.write(other, pixels(at().steps), {at().steps, 8, 8, 3});
              }),
              HasSubstr("a second array for camera " + camera));
}

TEST_P(BadLayoutTest, MixedCamerasAreTold) {
  fs::copy_file(layout(at().file), path_);
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(path_).group("data").group("demo_1");
    const int64_t steps = demo.array("actions").shape()[0];
    hdf5::Group obs = demo.group("obs");
    obs.write("top_image", pixels(steps), {steps, 8, 8, 3});
  }
  const DataOptions options = options_for_paths({path_.string()}, TrajectoryFormat::automatic, "do it");
  EXPECT_THAT(to_text(validate(options, false)),
              AllOf(HasSubstr("mixed cameras: "), HasSubstr("top (first: bad.hdf5 demo_1)")));
  EXPECT_THAT(data_error([&] { convert(options, TrajectoryFormat::apo, dir_ / "out.hdf5"); }),
              HasSubstr("bad.hdf5: demo_1: expected actions of 7"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, BadLayoutTest, ::testing::ValuesIn(layouts()), [](const auto& info) {
  const std::string name = info.param.file;
  return name.substr(0, name.find('.'));
});

// One byte of a text becomes one that no text of UTF-8 or Latin-1 has. (released-demo stores no text.)
TEST(BadLayouts, TextThatIsNotUtf8) {
  const std::vector<std::pair<std::string, std::string>> texts{
      {"libero.hdf5", "open the top"}, {"sirius.hdf5", "NutAssemblySquare"},
      {"robomimic.hdf5", "\"Lift"},    {"mimicgen.hdf5", "Coffee_D0"},
      {"apo.hdf5", "fit the nut"},     {"released_interaction.hdf5", "fit_the_nut"}};
  TempDir dir;
  for (const auto& [name, text] : texts) {
    std::string bytes = read_file(layout(name));
    const size_t at = bytes.find(text);
    ASSERT_NE(at, std::string::npos) << name;
    bytes[at + 1] = '\x81';
    std::ofstream(dir / "bad.hdf5", std::ios::binary | std::ios::trunc) << bytes;
    const bool instruction =
        name == "libero.hdf5" || name == "apo.hdf5" || name == "released_interaction.hdf5";
    EXPECT_THAT(data_error([&] {
                  const auto file = TrajectoryFile::open(dir / "bad.hdf5", TrajectoryFormat::automatic,
                                                         instruction ? "" : "x");
                  file->attributes();
                }),
                AllOf(HasSubstr("bad.hdf5: /data"), HasSubstr("expected UTF-8 text, found other bytes")))
        << name;
  }
}

TEST(BadLayouts, MixedCamerasAreTold) {
  TempDir dir;
  fs::copy_file(layout("mimicgen.hdf5"), dir / "a.hdf5");
  hdf5::Group::open_for_writing(dir / "a.hdf5")
      .group("data")
      .group("demo_1")
      .group("obs")
      .remove("agentview_image");
  const DataOptions options =
      options_for_paths({(dir / "a.hdf5").string()}, TrajectoryFormat::automatic, "brew");
  EXPECT_THAT(
      to_text(validate(options, false)),
      HasSubstr(
          "mixed cameras: agentview+robot0_eye_in_hand (first: a.hdf5 demo_0), robot0_eye_in_hand (first: "
          "a.hdf5 demo_1); only robot0_eye_in_hand in all"));
  EXPECT_THAT(data_error([&] { convert(options, TrajectoryFormat::apo, dir / "o.hdf5"); }),
              HasSubstr("demo_1: expected actions of 7, camera agentview 8x8"));
}

// Of a recording of ours nothing is left out for its length: it was not written so.
TEST(BadLayouts, ACameraOfOursOfAnotherLengthIsDamage) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    writer.begin_episode("lift");
    for (int64_t i = 0; i < 4; ++i) {
      Step step = numbered_step(i);
      step.observation.images["wrist"] = step.observation.images["front"];
      writer.append(step);
    }
    writer.end_episode(true, "");
  }
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data").group("demo_0");
    hdf5::Group obs = demo.group("obs");
    obs.remove("wrist_image");
    obs.write("wrist_image", std::vector<uint8_t>(180), {2, 6, 5, 3});
  }
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
      HasSubstr("/data/demo_0/wrist_image_hash: the pictures that it is of cannot be read as they were "
                "recorded: damaged (expected 4 rows, one for each action, found uint8 [2, 6, 5, 3])"));
}

TEST(BadLayouts, AGroupThatContainsItself) {
  TempDir dir;
  fs::copy_file(layout("robomimic.hdf5"), dir / "a.hdf5");
  hdf5::Group::open_for_writing(dir / "a.hdf5")
      .group("data")
      .group("demo_0")
      .group("obs")
      .link_soft("loop", "/data");
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "x")->num_episodes(), 2);
}

TEST(BadLayouts, EveryTruncationIsAnError) {
  TempDir dir;
  for (const std::string name : {"libero.hdf5", "mimicgen.hdf5", "sirius.hdf5", "robomimic.hdf5", "apo.hdf5",
                                 "released_demo.hdf5", "released_interaction.hdf5"}) {
    const std::string bytes = read_file(layout(name));
    for (size_t n = 0; n < bytes.size(); n += bytes.size() / 25 + 1) {
      std::ofstream(dir / "cut.hdf5", std::ios::binary | std::ios::trunc) << bytes.substr(0, n);
      const DataOptions options =
          options_for_paths({(dir / "cut.hdf5").string()}, TrajectoryFormat::automatic, "x");
      EXPECT_GT(validate(options, false).count(Severity::error), 0) << name << " cut to " << n;
    }
  }
}

TEST(BadLayouts, ACutOffFileSaysSo) {
  TempDir dir;
  const std::string bytes = read_file(layout("robomimic.hdf5"));
  std::ofstream(dir / "cut.hdf5", std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  EXPECT_EQ(data_error([&] { TrajectoryFile::open(dir / "cut.hdf5"); }),
            concat((dir / "cut.hdf5").string(), ": the file is cut off: ", bytes.size() / 2, " of ",
                   bytes.size(), " bytes"));
}

// 2 * 10^4 episodes: read one at a time, each once.
TEST(ManyEpisodes, AreInspectedOneByOne) {
  TempDir dir;
  constexpr int64_t kEpisodes = 20000;
  {
    hdf5::Group data = hdf5::Group::create(dir / "many.hdf5").create_group("data");
    const std::vector<float> actions{0.5f, 1, 0.25f, 1};
    for (int64_t i = 0; i < kEpisodes; ++i) {
      hdf5::Group demo = data.create_group("demo_" + std::to_string(i));
      demo.write("actions", actions, {2, 2});
      demo.create_group("obs");
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto json = nlohmann::json::parse(
      inspect_json(options_for_paths({(dir / "many.hdf5").string()}, TrajectoryFormat::automatic, "lift")));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(json["total"]["episodes"], kEpisodes);
  EXPECT_EQ(json["total"]["steps"], 2 * kEpisodes);
  RecordProperty("seconds", std::to_string(seconds.count()));
}

}  // namespace
}  // namespace apo::audit
