// Every layout that is read, and everything wrong that a file can be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/data/trajectory.h"
#include "data/recordings.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<uint8_t> pixels(size_t n, int first) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(first + static_cast<int>(i));
  return bytes;
}

std::vector<float> ramp(size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = 0.1f + static_cast<float>(i) / 100;
  return values;
}

// data/`name` with 3 steps, 2 action numbers, a 2x2 camera and a state: the smallest robomimic demonstration.
void add_demo(hdf5::Group& data, const std::string& name, const std::string& image = "agentview_image") {
  hdf5::Group demo = data.create_group(name);
  demo.set_attribute("num_samples", int64_t{3});
  demo.write("actions", ramp(6), {3, 2});
  hdf5::Group obs = demo.create_group("obs");
  obs.write(image, pixels(36, 0), {3, 2, 2, 3});
  obs.write("robot0_eef_pos", ramp(9), {3, 3});
}

void add_timestep(hdf5::Group& parent, const std::string& name, int number, int is_human = -1) {
  hdf5::Group step = parent.create_group(name);
  step.write("action", std::vector<float>{static_cast<float>(number) / 10, 0.5f}, {2});
  step.write("third_obs", pixels(12, number), {2, 2, 3});
  if (is_human >= 0) step.write("is_human", std::vector<int8_t>{static_cast<int8_t>(is_human)}, {});
}

// Printing or freeing such a text takes stack for every level.
TEST(TrajectoryFile, RefusesTextThatIsNestedWithoutEnd) {
  constexpr size_t kLevels = 20000;
  for (const std::string attribute : {"env_args", "problem_info"}) {
    TempDir dir;
    {
      hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
      add_demo(data, "demo_0");
      data.set_attribute("task_description", "lift the cube");
      data.set_attribute(attribute, concat(R"({"env_kwargs": {"config": )", std::string(kLevels, '['),
                                           std::string(kLevels, ']'), "}}"));
    }
    const std::string message = message_of<DataError>([&] {
      const auto file = TrajectoryFile::open(dir / "a.hdf5");
      file->attributes();
      file->episode(0);
    });
    EXPECT_THAT(message, AllOf(HasSubstr("a.hdf5"), HasSubstr(attribute), HasSubstr("nested too deeply")))
        << attribute;
  }
}

TEST(TrajectoryFile, ReadsRobomimic) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
    add_demo(data, "demo_10");
    add_demo(data, "demo_2");
    data.set_attribute("total", int64_t{6});
    data.set_attribute("env_args", R"({"env_name": "Lift", "type": 1, "env_kwargs": {}})");
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift the cube");
  EXPECT_EQ(file->format(), TrajectoryFormat::robomimic);
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(0).name, "demo_2");  // natural order
  EXPECT_EQ(file->episode(1).name, "demo_10");
  const EpisodeRecord record = file->episode(0);
  EXPECT_EQ(record.instruction, "lift the cube");
  EXPECT_EQ(record.actions[1], (Action{ramp(6)[2], ramp(6)[3]}));
  EXPECT_EQ(record.sources, std::vector(3, ActionSource::expert));
  EXPECT_EQ(record.success, std::nullopt);
  const Observation second = file->observation(0, 1);
  EXPECT_EQ(second.images.at("agentview").sizes(), (std::vector<int64_t>{2, 2, 3}));
  EXPECT_EQ(second.images.at("agentview")[0][0][0].item<int>(), 12);
  EXPECT_EQ(second.state.at("robot0_eef_pos"), (std::vector<float>{ramp(6)[3], ramp(6)[4], ramp(6)[5]}));
  EXPECT_THAT(file->attributes(),
              ::testing::Contains(std::pair<std::string, std::string>("environment_name", "Lift")));
}

TEST(TrajectoryFile, RobomimicNeedsAnInstruction) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
    add_demo(data, "demo_0");
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
              AllOf(HasSubstr("a.hdf5: /data/demo_0: expected an attribute task_description"),
                    HasSubstr("`instruction`")));
}

TEST(TrajectoryFile, ReadsLiberoUpright) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
    add_demo(data, "demo_0", "agentview_rgb");
    data.set_attribute("bddl_file_name", "x.bddl");
    data.set_attribute("macros_image_convention", "opengl");
    data.set_attribute("problem_info", R"({"language_instruction": "\"open the drawer\""})");
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5");
  EXPECT_EQ(file->format(), TrajectoryFormat::libero);
  EXPECT_EQ(file->episode(0).instruction, "open the drawer");
  // stored rows start with pixels 0 and 6: the last stored row is the top
  EXPECT_EQ(file->observation(0, 0).images.at("agentview")[0][0][0].item<int>(), 6);
}

TEST(TrajectoryFile, ReadsSiriusModes) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
    add_demo(data, "demo_0");
    hdf5::Group demo = data.group("demo_0");
    demo.write("action_modes", std::vector<int8_t>{-1, 0, 1}, {3});
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5", TrajectoryFormat::automatic, "lift");
  EXPECT_EQ(file->format(), TrajectoryFormat::sirius);
  EXPECT_EQ(file->episode(0).sources,
            (std::vector{ActionSource::expert, ActionSource::policy, ActionSource::intervention}));
}

TEST(TrajectoryFile, ReadsReleasedDemosWithEveryTimestep) {
  TempDir dir;
  {
    hdf5::Group root = hdf5::Group::create(dir / "coffee.hdf5");
    hdf5::Group demo = root.create_group("demo_0");
    for (int t = 0; t < 11; ++t) add_timestep(demo, "timestep_" + std::to_string(t), t);
  }
  const auto file = TrajectoryFile::open(dir / "coffee.hdf5", TrajectoryFormat::automatic, "make coffee");
  EXPECT_EQ(file->format(), TrajectoryFormat::released_demo);
  const EpisodeRecord record = file->episode(0);
  ASSERT_EQ(record.num_steps(), 11);
  EXPECT_EQ(record.actions[10], (Action{1.0f, 0.5f}));  // timestep_10 comes last, not after timestep_1
  EXPECT_EQ(record.instruction, "make coffee");
  EXPECT_EQ(record.sources[3], ActionSource::expert);
  EXPECT_EQ(file->observation(0, 10).images.at("third")[0][0][0].item<int>(), 10);
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "coffee.hdf5"); }),
              HasSubstr("give one with the option `instruction`"));
}

TEST(TrajectoryFile, ReadsReleasedInteractions) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "i.hdf5").create_group("data");
    data.write_text("task_description", "make_coffee_now");
    add_timestep(data, "timestep_0", 0, 2);
    add_timestep(data, "timestep_1", 1, 0);
    add_timestep(data, "timestep_2", 2, 1);
  }
  const auto file = TrajectoryFile::open(dir / "i.hdf5");
  EXPECT_EQ(file->format(), TrajectoryFormat::released_interaction);
  ASSERT_EQ(file->num_episodes(), 1);
  const EpisodeRecord record = file->episode(0);
  EXPECT_EQ(record.name, "data");
  EXPECT_EQ(record.instruction, "make coffee now");
  EXPECT_EQ(record.recorded, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(record.sources[0], ActionSource::policy);
  EXPECT_EQ(record.sources[2], ActionSource::intervention);
  EXPECT_EQ(TrajectoryFile::open(dir / "i.hdf5", TrajectoryFormat::automatic, "brew")->episode(0).instruction,
            "brew");
}

TEST(TrajectoryFile, SoftLinksStayInsideTheFile) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "other.hdf5").create_group("data");
    add_demo(data, "demo_0");
  }
  {
    hdf5::Group data = hdf5::Group::create(dir / "soft.hdf5").create_group("data");
    add_demo(data, "demo_0");
    data.link_soft("demo_1", "/data/demo_0");
  }
  EXPECT_EQ(TrajectoryFile::open(dir / "soft.hdf5", TrajectoryFormat::robomimic, "lift")->num_episodes(), 2);
  {
    hdf5::Group data = hdf5::Group::create(dir / "external.hdf5").create_group("data");
    data.link_external("demo_0", "other.hdf5", "/data/demo_0");
  }
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "external.hdf5", TrajectoryFormat::robomimic, "lift"); }),
      HasSubstr("external.hdf5: /data/demo_0: a link to another file, which is not followed"));
  {
    hdf5::Group root = hdf5::Group::create(dir / "through.hdf5");
    root.link_external("elsewhere", "other.hdf5", "/data");
    root.create_group("data").link_soft("demo_0", "/elsewhere/demo_0");
  }
  EXPECT_THAT(
      data_error([&] { TrajectoryFile::open(dir / "through.hdf5", TrajectoryFormat::robomimic, "lift"); }),
      HasSubstr("/data/demo_0: cannot open"));
}

TEST(TrajectoryFile, RefusesWhatIsNoTrajectoryFile) {
  TempDir dir;
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "none.hdf5"); }),
              HasSubstr("none.hdf5: no such file"));
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir.path()); }),
              HasSubstr("expected an HDF5 file, found a directory"));
  std::ofstream(dir / "empty.hdf5").flush();
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "empty.hdf5"); }),
              HasSubstr("expected an HDF5 file, found an empty file"));
  std::ofstream(dir / "text.hdf5") << std::string(5000, 'x');
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "text.hdf5"); }),
              HasSubstr("expected an HDF5 file, found other content"));
  write_file_atomic(dir / "lfs.hdf5", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "lfs.hdf5"); }),
              HasSubstr("lfs.hdf5: found a Git LFS pointer"));
  hdf5::Group::create(dir / "bare.hdf5");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "bare.hdf5"); }),
              HasSubstr("expected a known layout"));
  hdf5::Group::create(dir / "wrong.hdf5").create_group("episodes").create_group("first");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "wrong.hdf5"); }), HasSubstr("found /episodes"));
  hdf5::Group::create(dir / "data.hdf5").create_group("data").create_group("trial_1");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "data.hdf5"); }),
              HasSubstr("found /data, /data/trial_1"));
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "data.hdf5", TrajectoryFormat::robomimic); }),
              HasSubstr("/data: expected groups demo_0, demo_1, ... with steps, found data/trial_1: a group "
                        "that is not named"));
}

TEST(TrajectoryFile, EveryTruncationIsAnError) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pph", "pp"});
  const std::string bytes = read_file(dir / "a.hdf5");
  const size_t step = bytes.size() / 60 + 1;
  int refused = 0;
  for (size_t n = 0; n < bytes.size(); n += step) {
    std::ofstream(dir / "cut.hdf5", std::ios::binary | std::ios::trunc) << bytes.substr(0, n);
    EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "cut.hdf5"); }), HasSubstr("cut.hdf5"))
        << n << " bytes";
    ++refused;
  }
  EXPECT_GE(refused, 50);
}

// Group trees, name heaps, symbol tables and text heaps begin with a mark; a file without one of them is
// damaged.
TEST(TrajectoryFile, DamagedStructureIsAnError) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pph", "pp"});
  const std::string bytes = read_file(dir / "a.hdf5");
  int damaged = 0, refused = 0;
  for (const std::string mark : {"TREE", "HEAP", "SNOD", "GCOL"}) {
    for (size_t n = bytes.find(mark); n != std::string::npos; n = bytes.find(mark, n + 1), ++damaged) {
      std::string bad = bytes;
      bad[n] = '?';
      std::ofstream(dir / "bad.hdf5", std::ios::binary | std::ios::trunc) << bad;
      try {
        const auto file = TrajectoryFile::open(dir / "bad.hdf5");
        for (int64_t e = 0; e < file->num_episodes(); ++e) file->observation(e, 0);
      } catch (const DataError& error) {
        EXPECT_THAT(error.what(), HasSubstr("bad.hdf5"));
        ++refused;
      }
    }
  }
  EXPECT_GE(damaged, 10);
  EXPECT_EQ(refused, damaged);
}

// One change to a good demonstration, and the message it must give.
struct BadDemo {
  const char* name;
  std::function<void(hdf5::Group& demo)> change;
  const char* message;
};

void replace(hdf5::Group& demo, const std::string& name, const std::function<void()>& write) {
  demo.remove(name);
  write();
}

class BadDemoTest : public ::testing::TestWithParam<BadDemo> {};

TEST_P(BadDemoTest, NamesPathExpectedAndFound) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "bad.hdf5").create_group("data");
    data.set_attribute("task_description", "lift");
    add_demo(data, "demo_0");
    hdf5::Group demo = data.group("demo_0");
    GetParam().change(demo);
  }
  const std::string message = data_error([&] { TrajectoryFile::open(dir / "bad.hdf5"); });
  EXPECT_THAT(message, AllOf(HasSubstr("bad.hdf5: /data/demo_0"), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    TrajectoryFile, BadDemoTest,
    ::testing::Values(
        BadDemo{"NoActions", [](hdf5::Group& d) { d.remove("actions"); },
                "/actions: expected a dataset, found nothing"},
        BadDemo{"NoObservations", [](hdf5::Group& d) { d.remove("obs"); },
                "/obs: expected a group, found nothing"},
        BadDemo{"ActionsOfIntegers",
                [](hdf5::Group& d) {
                  replace(d, "actions", [&] { d.write("actions", std::vector<int8_t>(6), {3, 2}); });
                },
                "/actions: expected floating-point actions [S, A] with S >= 1, found int8 [3, 2]"},
        BadDemo{"ActionsOfRankOne",
                [](hdf5::Group& d) { replace(d, "actions", [&] { d.write("actions", ramp(6), {6}); }); },
                "/actions: expected floating-point actions [S, A] with S >= 1, found float32 [6]"},
        BadDemo{"ActionsAreText",
                [](hdf5::Group& d) { replace(d, "actions", [&] { d.write_text("actions", "up"); }); },
                "found text []"},
        BadDemo{"ActionsAreAGroup",
                [](hdf5::Group& d) { replace(d, "actions", [&] { d.create_group("actions"); }); },
                "/actions: expected a dataset, found a group"},
        BadDemo{"OtherLength", [](hdf5::Group& d) { d.set_attribute("num_samples", int64_t{4}); },
                "/actions: expected 4 rows (attribute num_samples), found 3"},
        BadDemo{"ImageOfFloats",
                [](hdf5::Group& d) {
                  hdf5::Group obs = d.group("obs");
                  replace(obs, "agentview_image", [&] {
                    obs.write("agentview_image", std::vector<float>(36, 7), {3, 2, 2, 3});
                  });
                },
                "JPEG or PNG, found float32 [3, 2, 2, 3] with a value of 7"},
        BadDemo{"ImageWithoutColor",
                [](hdf5::Group& d) {
                  hdf5::Group obs = d.group("obs");
                  replace(obs, "agentview_image", [&] {
                    obs.write("agentview_image", pixels(12, 0), {3, 2, 2});
                  });
                },
                "/obs/agentview_image: expected color pictures [S, Y, X, 3] or [S, 3, Y, X] of uint8 or of "
                "numbers 0..1, or JPEG or PNG, found uint8 [3, 2, 2]"},
        BadDemo{"ImageOfAnySideThree",
                [](hdf5::Group& d) {
                  hdf5::Group obs = d.group("obs");
                  replace(obs, "agentview_image", [&] {
                    obs.write("agentview_image", pixels(54, 0), {3, 3, 2, 3});
                  });
                },
                "found uint8 [3, 3, 2, 3]: either dimension could be the colors"},
        BadDemo{"TooManyImages",
                [](hdf5::Group& d) {
                  hdf5::Group obs = d.group("obs");
                  replace(obs, "agentview_image", [&] {
                    obs.write("agentview_image", pixels(48, 0), {4, 2, 2, 3});
                  });
                },
                "/obs/agentview_image: expected 3 rows, one for each action, found uint8 [4, 2, 2, 3]"},
        BadDemo{"UnknownSource",
                [](hdf5::Group& d) {
                  d.write("action_source", std::vector<int8_t>{0, 1, 7}, {3});
                },
                "/action_source row 2: expected one of -1, 0, 1, 2, found 7"},
        BadDemo{"UnknownLabel",
                [](hdf5::Group& d) {
                  d.write("desirable", std::vector<int8_t>{0, 2, 1}, {3});
                },
                "/desirable row 1: expected one of -2, -1, 0, 1, found 2"},
        BadDemo{"LabelsOfFloats", [](hdf5::Group& d) { d.write("desirable", ramp(3), {3}); },
                "/desirable row 0: expected one of -2, -1, 0, 1, found 0.1"},
        BadDemo{"ShortLabels",
                [](hdf5::Group& d) {
                  d.write("desirable", std::vector<int8_t>{0, 1}, {2});
                },
                "/desirable: expected 3 rows, one for each action, found int8 [2]"},
        BadDemo{"PolicyActionOfAnotherSize",
                [](hdf5::Group& d) {
                  d.write("policy_action", ramp(9), {3, 3});
                },
                "/policy_action: expected 2 columns as in actions, found 3"}),
    [](const ::testing::TestParamInfo<BadDemo>& info) { return info.param.name; });

std::string golden(const std::string& name) { return apo::testing::in_source("tests/data/goldens/") + name; }

// Written by scripts/goldens/make_data.py: gzip, double precision, half precision, bool and variable-length
// text.
TEST(TrajectoryFile, ReadsWhatH5pyWrites) {
  const auto file = TrajectoryFile::open(golden("h5py.hdf5"));
  EXPECT_EQ(file->format(), TrajectoryFormat::apo);
  const EpisodeRecord record = file->episode(0);
  EXPECT_EQ(record.actions[2], (Action{0.4f, 0.5f}));
  EXPECT_EQ(record.success, std::optional<bool>(true));
  EXPECT_EQ(record.sources,
            (std::vector{ActionSource::policy, ActionSource::intervention, ActionSource::policy}));
  const Observation last = file->observation(0, 2);
  EXPECT_EQ(last.images.size(), 1u);  // depth is not used
  EXPECT_EQ(last.images.at("agentview")[3][4][1].item<int>(), (37 * 3 + 59 * 4 + 101 + 7 * 12) % 256 + 2);
  EXPECT_EQ(last.state.at("gripper"), (std::vector<float>{0.125f}));
}

TEST(TrajectoryFile, ShapesThatTheFileCannotHoldAreRefused) {
  for (const std::string name : {"never_written.hdf5", "huge.hdf5", "huge_gzip.hdf5"})
    EXPECT_THAT(data_error([&] { TrajectoryFile::open(golden(name)); }),
                AllOf(HasSubstr(name + ": /data/demo_0/actions: expected "), HasSubstr("the file holds 0")));
}

TEST(TrajectoryFile, ARowThatNoMemoryShouldHoldIsRefused) {
  TempDir dir;
  {
    hdf5::Group root = hdf5::Group::create(dir / "a.hdf5");
    root.make_unwritten("numbers", {2, int64_t{1} << 27});
    root.make_unwritten("bytes", {2, int64_t{1} << 29}, true);
    root.make_unwritten("few", {2, 3}, true);
  }
  const hdf5::Group root = hdf5::Group::open(dir / "a.hdf5");
  EXPECT_THAT(data_error([&] { root.array("numbers").row_floats(0); }),
              HasSubstr("a.hdf5: /numbers: too large to be read at once: float32 [2, 134217728]"));
  EXPECT_THAT(data_error([&] { root.array("bytes").row_bytes(1); }),
              HasSubstr("a.hdf5: /bytes: too large to be read at once: uint8 [2, 536870912]"));
  EXPECT_EQ(root.array("few").row_bytes(1), std::vector<uint8_t>(3));
}

TEST(TrajectoryFile, DataInOtherFilesAreRefused) {
  for (const std::string name : {"external.hdf5", "virtual.hdf5"})
    EXPECT_THAT(
        data_error([&] { TrajectoryFile::open(golden(name)); }),
        HasSubstr(name + ": /data/demo_0/actions: its data are in another file, which is not followed"));
}

TEST(TrajectoryFile, ReleasedLayoutsNameWhatIsWrong) {
  TempDir dir;
  const auto message = [&dir](const std::function<void(hdf5::Group&)>& change) {
    {
      hdf5::Group data = hdf5::Group::create(dir / "bad.hdf5").create_group("data");
      data.write_text("task_description", "lift");
      add_timestep(data, "timestep_0", 0, 2);
      change(data);
    }
    return data_error([&] { TrajectoryFile::open(dir / "bad.hdf5"); });
  };
  EXPECT_THAT(message([](auto& d) { add_timestep(d, "timestep_2", 0, 2); }),
              HasSubstr("/data: expected timestep_1, found timestep_2"));
  EXPECT_THAT(message([](auto& d) { add_timestep(d, "timestep_1", 0); }),
              HasSubstr("/data/timestep_1/is_human: expected a dataset, found nothing"));
  EXPECT_THAT(message([](auto& d) { add_timestep(d, "timestep_1", 0, 5); }),
              HasSubstr("/data/timestep_1/is_human: expected 0 (skip), 1 (human) or 2 (policy), found 5"));
  EXPECT_THAT(message([](auto& d) { d.remove("task_description"); }),
              HasSubstr("/data/task_description: expected a dataset, found nothing"));
  EXPECT_THAT(
      message([](auto& d) {
        hdf5::Group step = d.create_group("timestep_1");
        step.write("action", ramp(3), {3});
      }),
      HasSubstr("/data/timestep_1/action: expected 2 numbers as in the first timestep, found float32 [3]"));
  EXPECT_THAT(
      message([](auto& d) {
        hdf5::Group step = d.create_group("timestep_1");
        step.write("action", ramp(2), {2});
        step.write("is_human", std::vector<int8_t>{1}, {1});
        step.write("third_obs", pixels(27, 0), {3, 3, 3});
      }),
      HasSubstr("/data/timestep_1/third_obs: expected the first timestep's size 2x2, found uint8 [3, 3, 3]"));
}

TEST(TrajectoryFile, NothingButEpisodesWithoutSteps) {
  TempDir dir;
  {
    hdf5::Group demo = hdf5::Group::create(dir / "a.hdf5").create_group("data").create_group("demo_0");
    demo.write("actions", ramp(0), {0, 2});
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
              HasSubstr("/data: expected groups demo_0, demo_1, ... with steps, found data/demo_0: no step"));
}

TEST(TrajectoryFile, NewerSchemaIsRefused) {
  TempDir dir;
  {
    hdf5::Group data = hdf5::Group::create(dir / "a.hdf5").create_group("data");
    data.set_attribute("apo_schema_version", int64_t{9});
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
              HasSubstr("expected schema version 2 or older, found 9"));
}

TEST(Hdf5, NaturalOrder) {
  EXPECT_TRUE(hdf5::natural_less("demo_2", "demo_10"));
  EXPECT_FALSE(hdf5::natural_less("demo_10", "demo_2"));
  EXPECT_TRUE(hdf5::natural_less("demo_", "demo_0"));
  EXPECT_TRUE(hdf5::natural_less("a9b", "a10"));
  EXPECT_FALSE(hdf5::natural_less("demo_7", "demo_7"));
  EXPECT_TRUE(hdf5::natural_less("demo_99999999999999999999", "demo_100000000000000000000"));
}

TEST(Hdf5, TextThatIsNotUtf8IsLatin1OrRefused) {
  TempDir dir;
  hdf5::Group root = hdf5::Group::create(dir / "a.hdf5");
  root.write_text("task", "W\xfcrfel");
  root.write_text("other", "W\x81rfel");
  EXPECT_EQ(root.array("task").text(), "Würfel");
  EXPECT_THAT(data_error([&] { root.array("other").text(); }), HasSubstr("/other: expected UTF-8 text"));
  EXPECT_THAT(data_error([&] { root.set_attribute("task", "W\xfcrfel"); }), HasSubstr("expected UTF-8 text"));
}

}  // namespace
}  // namespace apo::data
