// Several episodes at once into one file, and what is left of them when the process is killed.
#include "apo/data/recorder.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <set>

#include "data/recordings.h"
#include "support/child_process.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::HasSubstr;

std::vector<int64_t> ids_of(const TrajectoryFile& file, int64_t episode) {
  std::vector<int64_t> ids;
  for (int64_t t = 0; t < file.episode(episode).num_steps(); ++t)
    ids.push_back(static_cast<int64_t>(file.observation(episode, t).state.at("joints")[0]));
  return ids;
}

size_t files_in(const fs::path& directory) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(EpisodeRecorder, KeepsEpisodesApartThatRunAtOnce) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  std::vector<std::string> names;
  {
    EpisodeRecorder recorder(path, test_info(),
                             [&](int64_t, const std::string& name) { names.push_back(name); });
    const int64_t a = recorder.begin("lift"), b = recorder.begin("push");
    for (int64_t t = 0; t < 5; ++t) {
      recorder.append(a, numbered_step(t));
      recorder.append(b, numbered_step(100 + t, ActionSource::intervention));
    }
    EXPECT_EQ(recorder.num_steps(a), 5);
    recorder.end(b, std::nullopt, "disconnected");
    recorder.append(a, numbered_step(5));
    recorder.end(a, true, "success");
    recorder.wait();
    EXPECT_EQ(recorder.num_episodes(), 2);
    const int64_t empty = recorder.begin("nothing"), dropped = recorder.begin("nothing");
    recorder.append(dropped, numbered_step(9));
    recorder.discard(dropped);
    recorder.end(empty, true, "success");
  }
  EXPECT_EQ(names, (std::vector<std::string>{"demo_0", "demo_1"}));
  EXPECT_EQ(files_in(dir.path()), 1u);
  const auto file = TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(ids_of(*file, 0), (std::vector<int64_t>{100, 101, 102, 103, 104}));
  EXPECT_EQ(ids_of(*file, 1), (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file->episode(0).success, std::nullopt);
  EXPECT_EQ(file->episode(0).instruction, "push");
  EXPECT_EQ(file->episode(1).success, true);
}

TEST(EpisodeRecorder, RefusesAStepThatDoesNotFitTheFileAndKeepsTheOthers) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    EpisodeRecorder recorder(path, test_info());
    const int64_t a = recorder.begin("lift");
    recorder.append(a, numbered_step(0));
    Step other = numbered_step(1);
    other.observation.state["joints"].push_back(1);
    EXPECT_THAT(message_of<DataError>([&] { recorder.append(a, other); }),
                HasSubstr("step 1: expected action [3], camera front 6x5, state joints [2] as in the file's "
                          "first step, found action [3], camera front 6x5, state joints [3]"));
    other = numbered_step(1);
    other.action[1] = std::nanf("");
    EXPECT_THAT(message_of<DataError>([&] { recorder.append(a, other); }), HasSubstr("a finite action"));
    recorder.append(a, numbered_step(1));
  }
  {
    EpisodeRecorder again(path, test_info());  // the file's first step holds from then on
    const int64_t b = again.begin("lift");
    Step other = numbered_step(1);
    other.observation.images.clear();
    EXPECT_THAT(message_of<DataError>([&] { again.append(b, other); }), HasSubstr("the file's first step"));
  }
  const auto file = TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 1);
  EXPECT_EQ(ids_of(*file, 0), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(file->episode(0).outcome, "interrupted");
}

TEST(EpisodeRecorder, OneProcessAFile) {
  const TempDir dir;
  const EpisodeRecorder recorder(dir / "served.hdf5", test_info());
  EXPECT_THAT(message_of<RunError>([&] { EpisodeRecorder(dir / "served.hdf5", test_info()); }),
              HasSubstr("another process is writing"));
}

// Killed after so many calls: every step of a call that returned is in the file afterwards, once.
TEST(EpisodeRecorder, AKilledOneLosesNothingThatWasAppended) {
  for (int killed_after = 0; killed_after < 20; ++killed_after) {
    const TempDir dir;
    const fs::path path = dir / "served.hdf5";
    apo::testing::exit_code_of_child([&] {
      EpisodeRecorder recorder(path, test_info());
      int calls = 0;
      const auto call = [&] {
        if (++calls > killed_after) ::raise(SIGKILL);
      };
      for (int64_t round = 0;; ++round) {
        const int64_t a = recorder.begin("lift"), b = recorder.begin("push");
        for (int64_t t = 0; t < 2; ++t) {
          call();
          recorder.append(a, numbered_step(100 * round + t));
          call();
          recorder.append(b, numbered_step(100 * round + 50 + t));
        }
        recorder.end(a, true, "success");
        call();
        recorder.end(b, false, "failure");
      }
      return 0;
    });
    { const EpisodeRecorder recovered(path, test_info()); }
    EXPECT_EQ(files_in(dir.path()), 1u) << killed_after;
    const auto file = TrajectoryFile::open(path);
    std::multiset<int64_t> found;
    for (int64_t i = 0; i < file->num_episodes(); ++i)
      for (const int64_t id : ids_of(*file, i)) found.insert(id);
    std::multiset<int64_t> expected;  // five calls a round, of which the fifth appends nothing
    for (int i = 0; i < killed_after; ++i)
      if (i % 5 < 4) expected.insert(100 * (i / 5) + 50 * (i % 5 % 2) + i % 5 / 2);
    EXPECT_EQ(found, expected) << killed_after;
  }
}

}  // namespace
}  // namespace apo::data
