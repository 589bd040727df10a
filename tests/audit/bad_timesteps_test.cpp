// Everything wrong that a file of the released layouts can be (one group a timestep), and files packed as
// nobody expects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "apo/audit/convert.h"
#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "audit/names.h"
#include "data/recordings.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using hdf5::Group;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string layout(const std::string& name) {
  return apo::testing::in_source("tests/data/goldens/layouts/") + name;
}

// One change to a timestep of a good file, or to its whole episode, and the message that it must give.
struct Wrong {
  const char* name;
  std::function<void(Group& episode, Group& first, Group& second)> change;
  const char* message;
};

template <class T>
void replace(Group& step, const std::string& name, const std::vector<T>& values,
             const std::vector<int64_t>& shape) {
  step.remove(name);
  step.write(name, values, shape);
}

const std::vector<float> kAction(7, 0.25f);
const std::vector<uint8_t> kPixels(192, 100);

const std::vector<Wrong>& wrongs() {
  static const std::vector<Wrong> all{
      {"NoAction", [](auto&, auto&, auto& t) { t.remove("action"); },
       "/timestep_1/action: expected a dataset, found nothing"},
      {"NoPicture", [](auto&, auto& t, auto&) { t.remove("third_obs"); },
       "/timestep_0/third_obs: expected a dataset, found nothing"},
      {"NoPictureLater", [](auto&, auto&, auto& t) { t.remove("third_obs"); },
       "/timestep_1/third_obs: expected a dataset, found nothing"},
      {"ActionOfIntegers", [](auto&, auto&, auto& t) { replace(t, "action", std::vector<int8_t>(7), {7}); },
       "/timestep_1/action: expected a floating-point action [A], found int8 [7]"},
      {"ActionOfRankTwo",
       [](auto&, auto&, auto& t) {
         replace(t, "action", kAction, {1, 7});
       },
       "/timestep_1/action: expected a floating-point action [A], found float32 [1, 7]"},
      {"ActionIsText",
       [](auto&, auto&, auto& t) {
         t.remove("action");
         t.write_text("action", "up");
       },
       "/timestep_1/action: expected a floating-point action [A], found text []"},
      {"ActionIsAGroup",
       [](auto&, auto&, auto& t) {
         t.remove("action");
         t.create_group("action");
       },
       "/timestep_1/action: expected a dataset, found a group"},
      {"ShortAction", [](auto&, auto&, auto& t) { replace(t, "action", std::vector<float>(6), {6}); },
       "/timestep_1/action: expected 7 numbers as in the first timestep, found float32 [6]"},
      {"EmptyAction", [](auto&, auto& t, auto&) { replace(t, "action", std::vector<float>(), {0}); },
       "/timestep_0/action: expected an action [A], found float32 [0]"},
      {"PictureOfFloats",
       [](auto&, auto&, auto& t) {
         replace(t, "third_obs", std::vector<float>(192), {8, 8, 3});
       },
       "/timestep_1/third_obs: expected pictures stored as in the first timestep, found float32 [8, 8, 3]"},
      {"PictureWithoutColor",
       [](auto&, auto&, auto& t) {
         replace(t, "third_obs", kPixels, {16, 12});
       },
       "/timestep_1/third_obs: expected color pictures [Y, X, 3] or"},
      {"PictureOfAnotherSize",
       [](auto&, auto&, auto& t) {
         replace(t, "third_obs", kPixels, {4, 16, 3});
       },
       "/timestep_1/third_obs: expected the first timestep's size 8x8, found uint8 [4, 16, 3]"},
      {"AGap", [](auto& e, auto&, auto&) { e.remove("timestep_2"); },
       ": expected timestep_2, found timestep_3"},
      {"ATimestepIsADataset",
       [](auto& e, auto&, auto&) {
         e.remove("timestep_1");
         e.write("timestep_1", kAction, {7});
       },
       "/timestep_1: expected a group, found a dataset"},
      {"ALinkToAnotherFile",
       [](auto&, auto&, auto& t) {
         t.remove("action");
         t.link_external("action", "other.hdf5", "/action");
       },
       "/timestep_1/action: a link to another file, which is not followed"},
      {"APictureInAnotherFile",
       [](auto&, auto&, auto& t) {
         t.remove("third_obs");
         t.link_external("third_obs", "other.hdf5", "/third_obs");
       },
       "/timestep_1/third_obs: a link to another file, which is not followed"},
      {"ACircleOfLinks",
       [](auto& e, auto&, auto&) {
         e.remove("timestep_1");
         e.link_soft("timestep_1", "timestep_x");
         e.link_soft("timestep_x", "timestep_1");
       },
       "/timestep_1: cannot open: too many"},
      {"ALinkToNowhere",
       [](auto&, auto&, auto& t) {
         t.remove("third_obs");
         t.link_soft("third_obs", "/nowhere");
       },
       "/timestep_1/third_obs: cannot open: "},
  };
  return all;
}

class BadTimestepTest : public ::testing::TestWithParam<std::tuple<std::string, size_t>> {};

TEST_P(BadTimestepTest, NamesPathExpectedAndFound) {
  const auto& [name, number] = GetParam();
  const Wrong& wrong = wrongs()[number];
  TempDir dir;
  const fs::path path = dir / "bad.hdf5";
  fs::copy_file(layout(name), path);
  const std::string group = name == "released_demo.hdf5" ? "demo_0" : "data";
  {
    Group episode = Group::open_for_writing(path).group(group);
    Group first = episode.group("timestep_0"), second = episode.group("timestep_1");
    wrong.change(episode, first, second);
  }
  const std::string message =
      data_error([&] { TrajectoryFile::open(path, TrajectoryFormat::automatic, "do it"); });
  EXPECT_THAT(message, AllOf(HasSubstr("bad.hdf5: /" + group), HasSubstr(wrong.message)));
  // the tools tell the same, and validate goes on behind it
  const DataOptions options = options_for_paths({path.string()}, TrajectoryFormat::automatic, "do it");
  EXPECT_EQ(data_error([&] { inspect_json(options); }), message);
  EXPECT_EQ(data_error([&] { convert(options, TrajectoryFormat::apo, dir / "out.hdf5"); }), message);
  EXPECT_FALSE(fs::exists(dir / "out.hdf5"));
  EXPECT_THAT(to_text(validate(options, false)), HasSubstr(message));
}

INSTANTIATE_TEST_SUITE_P(Released, BadTimestepTest,
                         ::testing::Combine(::testing::Values("released_demo.hdf5",
                                                              "released_interaction.hdf5"),
                                            ::testing::Range<size_t>(0, wrongs().size())),
                         [](const auto& info) {
                           const std::string name = std::get<0>(info.param);
                           return std::string(wrongs()[std::get<1>(info.param)].name) +
                                  (name == "released_demo.hdf5" ? "InADemo" : "InAnInteraction");
                         });

TEST(BadTimesteps, AnEpisodeWithoutSteps) {
  TempDir dir;
  fs::copy_file(layout("released_demo.hdf5"), dir / "a.hdf5");
  Group::open_for_writing(dir / "a.hdf5").create_group("demo_2");
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "x");
  EXPECT_EQ(file->num_episodes(), 2);
  EXPECT_THAT(file->left_out(), ::testing::ElementsAre("demo_2: no step"));
  Group::create(dir / "b.hdf5").create_group("data").write_text("task_description", "lift");
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "b.hdf5", TrajectoryFormat::released_interaction); }),
      HasSubstr("b.hdf5: /data: expected groups timestep_0, timestep_1, ..., found none"));
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "b.hdf5"); }),
              HasSubstr("b.hdf5: expected a known layout"));
}

TEST(BadTimesteps, MixedCamerasAreTold) {
  TempDir dir;
  fs::copy_file(layout("released_demo.hdf5"), dir / "a.hdf5");
  {
    Group demo = Group::open_for_writing(dir / "a.hdf5").group("demo_1");
    for (int t = 0; t < 6; ++t) {
      Group step = demo.group("timestep_" + std::to_string(t));
      step.write("wrist_obs", kPixels, {8, 8, 3});
    }
  }
  const DataOptions options =
      options_for_paths({(dir / "a.hdf5").string()}, TrajectoryFormat::automatic, "do it");
  EXPECT_THAT(to_text(validate(options, false)),
              AllOf(HasSubstr("mixed cameras: "), HasSubstr("third+wrist (first: a.hdf5 demo_1)")));
}

TEST(BadTimesteps, ACameraThatIsNotStoredAlikeIsNotUsed) {
  TempDir dir;
  fs::copy_file(layout("released_demo.hdf5"), dir / "a.hdf5");
  {
    Group demo = Group::open_for_writing(dir / "a.hdf5").group("demo_0");
    for (const std::string& name : demo.names()) {
      const bool first = name == "timestep_0";
      Group step = demo.group(name);
      step.write("wrist_obs", kPixels, {first ? 8 : 4, first ? 8 : 16, 3});
    }
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "do it");
  EXPECT_EQ(file->episode(0).observation_names, std::vector<std::string>{"third"});
  EXPECT_EQ(file->observation(0, 1).images.size(), 1u);
  const std::vector<std::string> paths{(dir / "a.hdf5").string()};
  const DataOptions options = options_for_paths(paths, TrajectoryFormat::automatic, "do it");
  EXPECT_THAT(to_text(validate(options, false, {.cameras = {"wrist"}})),
              AllOf(HasSubstr("the policy needs wrist; timestep_*/wrist_obs is not used: "),
                    HasSubstr("expected the first timestep's size 8x8, found uint8 [4, 16, 3]")));
}

// Every reader that hands numbers on refuses NaN by name; steps that the file marks as skipped are not looked
// at.
TEST(BadTimesteps, NumbersThatAreNone) {
  TempDir dir;
  const auto spoiled = [&](int timestep) {
    fs::copy_file(layout("released_interaction.hdf5"), dir / "a.hdf5", fs::copy_options::overwrite_existing);
    Group step =
        Group::open_for_writing(dir / "a.hdf5").group("data").group("timestep_" + std::to_string(timestep));
    std::vector<float> action(7, 0.5f);
    action[3] = NAN;
    replace(step, "action", action, {7});
    return options_for_paths({(dir / "a.hdf5").string()}, TrajectoryFormat::automatic, "do it");
  };
  const auto wrong = HasSubstr("a.hdf5: action of data timestep 2: expected finite numbers, found NaN");
  EXPECT_THAT(data_error([&] { inspect_json(spoiled(2)); }), wrong);
  EXPECT_THAT(data_error([&] { convert(spoiled(2), TrajectoryFormat::apo, dir / "out.hdf5"); }), wrong);
  EXPECT_THAT(data_error([&] { const Dataset dataset(spoiled(2)); }), wrong);
  EXPECT_THAT(to_text(validate(spoiled(2), false)),
              HasSubstr("1 steps with NaN or infinite numbers (first: a.hdf5 data timestep 2)"));
  EXPECT_FALSE(fs::exists(dir / "out.hdf5"));
  inspect_json(spoiled(5));  // is_human 0
}

// A fuzzer's find: an address that makes HDF5's own driver read outside its memory.
TEST(BadTimesteps, AnAddressOutsideTheFile) {
  const std::string path = apo::testing::in_source("tests/data/goldens/damaged_address.hdf5");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(path, TrajectoryFormat::automatic, "x"); }),
              HasSubstr("/data/timestep_0: cannot list: an address outside the file"));
}

// Half of what somebody records just now would look like a whole file with fewer episodes.
TEST(BadTimesteps, AFileThatIsBeingWritten) {
  const TempDir dir;
  const fs::path path = dir / "a.hdf5";
  fs::copy_file(layout("released_demo.hdf5"), path);
  {
    const hdf5::Group writing = hdf5::Group::open_for_writing(path);
    EXPECT_THAT(data_error([&] { TrajectoryFile::open(path, TrajectoryFormat::automatic, "x"); }),
                AllOf(HasSubstr("a.hdf5: another process is writing this file"), Not(HasSubstr("damaged"))));
  }
  const auto one = TrajectoryFile::open(path, TrajectoryFormat::automatic, "x");
  EXPECT_GT(TrajectoryFile::open(path, TrajectoryFormat::automatic, "x")->num_episodes(),
            0);  // readers may be many
}

TEST(BadTimesteps, UnknownCompressionIsNamed) {
  for (const std::string name : {"lzf.hdf5", "lzf_released.hdf5"})
    EXPECT_THAT(data_error([&] { TrajectoryFile::open(layout(name), TrajectoryFormat::automatic, "do it"); }),
                AllOf(HasSubstr(name + ": /"), HasSubstr("is compressed with 'lzf'")));
}

// gzip, shuffle and checksums over chunks that cut through rows: the same steps and pictures.
TEST(PackedOddly, ReadsTheSameInEveryLayout) {
  for (const std::string name : {"apo.hdf5", "released_demo.hdf5", "released_interaction.hdf5",
                                 "robomimic.hdf5", "libero.hdf5", "mimicgen.hdf5", "sirius.hdf5"}) {
    SCOPED_TRACE(name);
    const auto plain = TrajectoryFile::open(layout(name), TrajectoryFormat::automatic, "do it");
    const auto odd = TrajectoryFile::open(layout("odd/" + name), TrajectoryFormat::automatic, "do it");
    EXPECT_EQ(odd->format(), plain->format());
    ASSERT_EQ(odd->num_episodes(), plain->num_episodes());
    for (int64_t e = 0; e < plain->num_episodes(); ++e) {
      const EpisodeRecord a = plain->episode(e), b = odd->episode(e);
      EXPECT_EQ(a.actions, b.actions);
      EXPECT_EQ(a.sources, b.sources);
      EXPECT_EQ(a.desirable, b.desirable);
      EXPECT_EQ(a.policy_actions, b.policy_actions);
      for (int64_t t = 0; t < a.num_steps(); ++t) {
        const Observation x = plain->observation(e, t), y = odd->observation(e, t);
        EXPECT_EQ(x.state, y.state);
        for (const auto& [camera, image] : x.images)
          EXPECT_TRUE(at::equal(image, y.images.at(camera))) << camera << " " << t;
      }
    }
  }
}

}  // namespace
}  // namespace apo::audit
