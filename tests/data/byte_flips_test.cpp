// One changed byte anywhere in a recording never ends the program, and where a recording has hashes it is
// never read as something else.
#include "support/byte_flips.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "apo/base/hash.h"
#include "data/reading_process.h"
#include "data/seal.h"
#include "recordings.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;
using ::testing::HasSubstr;

void add_action(ContentHash& hash, const Action& action) {
  hash.add_number(static_cast<int64_t>(action.size()));
  hash.add(action.data(), action.size() * sizeof(float));
}

// All that training sees of a file.
std::string content(const fs::path& path, const std::string& instruction = "") {
  const auto file = TrajectoryFile::open(path, TrajectoryFormat::automatic, instruction);
  ContentHash hash;
  for (int64_t e = 0; e < file->num_episodes(); ++e) {
    const EpisodeRecord record = file->episode(e);
    // the episode's name is not in its hash: it may be copied and counted anew
    for (const std::string& text : {record.instruction, record.outcome}) hash.add_text(text);
    hash.add_number(record.success ? *record.success : -1);
    for (size_t t = 0; t < record.actions.size(); ++t) {
      add_action(hash, record.actions[t]);
      hash.add_number(static_cast<int64_t>(record.sources[t]));
      hash.add_number(record.recorded[t]);
      if (record.policy_actions[t]) add_action(hash, *record.policy_actions[t]);
      const Observation observation = file->observation(e, static_cast<int64_t>(t));
      for (const auto& [name, image] : observation.images) {
        hash.add_text(name);
        hash.add_number(picture_hash(image));
      }
      for (const auto& [name, values] : observation.state) {
        hash.add_text(name);
        add_action(hash, values);
      }
    }
  }
  return hash.text();
}

TEST(ByteFlips, NoneInAFileOfOursIsReadAsSomethingElse) {
  const TempDir dir;
  hdf5::set_reading_limit(2);
  {
    TrajectoryWriter writer(dir / "ours.hdf5", test_info());
    for (int64_t e = 0; e < 2; ++e) {
      writer.begin_episode("lift the cube");
      for (int64_t t = 0; t < 4; ++t) {
        Step step = numbered_step(4 * e + t, t < 2 ? ActionSource::policy : ActionSource::intervention);
        if (t > 1) step.policy_action = Action{0.5f, -0.5f, 0.0f};
        writer.append(step);
      }
      writer.end_episode(true, "success");
    }
  }
  const FlipCounts counts = flip_bytes(
      dir / "ours.hdf5", dir / "flipped.hdf5", 400, [&dir] { return content(dir / "flipped.hdf5"); },
      [](size_t byte, const std::string&) {
        ADD_FAILURE() << "byte " << byte << " changed what was read, without a word";
      });
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.same, 0);  // much of a small file is room that nothing uses
}

// Written by h5py, with texts of variable length, and without hashes: what is read as something else cannot
// be known.
TEST(ByteFlips, NoneInAFileOfH5pyEndsTheProgram) {
  const TempDir dir;
  hdf5::set_reading_limit(2);
  for (const char* layout :
       {"apo", "libero", "mimicgen", "released_demo", "released_interaction", "robomimic", "sirius"}) {
    const std::string golden = concat("tests/data/goldens/layouts/", layout, ".hdf5");
    const FlipCounts counts = flip_bytes(
        apo::testing::in_source(golden), dir / "flipped.hdf5", 100,
        [&dir] { return content(dir / "flipped.hdf5", "lift"); }, [](size_t, const std::string&) {});
    EXPECT_GT(counts.refused, 0) << golden;
  }
}

// Recording goes on in a damaged file of ours: it is refused, or what was in it is still there behind what is
// new.
TEST(ByteFlips, NoneInAFileThatIsAppendedToEndsTheProgram) {
  const TempDir dir;
  hdf5::set_reading_limit(2);
  write_recording(dir / "ours.hdf5", {"pph", "pp"});
  const FlipCounts counts = flip_bytes(
      dir / "ours.hdf5", dir / "flipped.hdf5", 100,
      [&dir]() -> std::string {
        fs::remove(dir / "flipped.hdf5.journal");
        try {
          write_recording(dir / "flipped.hdf5", {"p"});
        } catch (const RunError& error) {
          return "";
        }
        return content(dir / "flipped.hdf5");
      },
      [](size_t byte, const std::string& what) {
        if (!what.empty()) ADD_FAILURE() << "byte " << byte << " changed what was read, without a word";
      });
  EXPECT_GT(counts.same, 0);
}

// Every byte of an array of numbers and of a picture: the place is known because the values are.
TEST(Hashes, OfAnEpisodeNoticeEveryByteOfItsData) {
  const TempDir dir;
  write_recording(dir / "ours.hdf5", {"pph", "pp"});
  const std::string bytes = read_file(dir / "ours.hdf5");
  // the second episode's actions: (0.3, 0.5, 1), (0.4, 0.5, 1)
  const float actions[] = {0.3f, 0.5f, 1.0f, 0.4f, 0.5f, 1.0f};
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(actions), sizeof actions));
  ASSERT_NE(at, std::string::npos);
  for (size_t i = 0; i < sizeof actions; ++i) {
    std::string changed = bytes;
    changed[at + i] ^= 1;
    write_file_atomic(dir / "changed.hdf5", changed);
    EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "changed.hdf5"); }),
                HasSubstr("changed.hdf5: /data/demo_1: damaged or changed since it was recorded"))
        << "byte " << i;
  }
  // the first episode's last picture begins with 14, 15, 16, ...
  std::string picture;
  for (int i = 0; i < 90; ++i) picture += static_cast<char>((14 + i) % 256);
  const size_t pixel = bytes.find(picture) + 50;
  std::string changed = bytes;
  changed[pixel] ^= 1;
  write_file_atomic(dir / "changed.hdf5", changed);
  const auto file = TrajectoryFile::open(dir / "changed.hdf5");
  EXPECT_NO_THROW(file->observation(0, 1));
  EXPECT_THAT(
      data_error([&] { file->observation(0, 2); }),
      HasSubstr("/data/demo_0/obs/front_image row 2: damaged or changed: not the picture that was recorded"));
}

TEST(Hashes, WithoutThemAFileOfVersionTwoIsRefusedAndAnOlderOneIsRead) {
  const TempDir dir;
  write_recording(dir / "ours.hdf5", {"pph"});
  {
    hdf5::Group data = hdf5::Group::open_for_writing(dir / "ours.hdf5").group("data");
    hdf5::Group demo = data.group("demo_0");
    demo.remove_attribute("content_hash");
    demo.remove_attribute("content_hash_of");
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "ours.hdf5"); }),
              HasSubstr("/data/demo_0: expected attribute content_hash, found none"));
  hdf5::Group::open_for_writing(dir / "ours.hdf5")
      .group("data")
      .set_attribute("apo_schema_version", int64_t{1});
  EXPECT_EQ(TrajectoryFile::open(dir / "ours.hdf5")->num_episodes(), 1);
}

TEST(Hashes, AnEpisodeThatIsMissingIsNoticed) {
  const TempDir dir;
  write_recording(dir / "ours.hdf5", {"pph", "pp"});
  hdf5::Group::open_for_writing(dir / "ours.hdf5").group("data").remove("demo_0");
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "ours.hdf5"); }),
              HasSubstr("/data: expected 5 steps in its episodes (attribute total), found 2"));
}

// What others add is theirs.
TEST(Hashes, LeaveRoomForWhatOthersAdd) {
  const TempDir dir;
  write_recording(dir / "ours.hdf5", {"pph"});
  {
    hdf5::Group data = hdf5::Group::open_for_writing(dir / "ours.hdf5").group("data");
    hdf5::Group demo = data.group("demo_0"), observations = demo.group("obs");
    data.create_group("mask");
    demo.set_attribute("operator", "A");
    observations.write("gripper", std::vector<float>{0, 0, 1}, {3});
  }
  const auto file = TrajectoryFile::open(dir / "ours.hdf5");
  EXPECT_EQ(file->state(0, 2).state.at("gripper"), std::vector<float>{1});
}

}  // namespace
}  // namespace apo::data
