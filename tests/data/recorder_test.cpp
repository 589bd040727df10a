// Several episodes at once into one file, and what is left of them when the process is killed.
#include "apo/data/recorder.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "data/journal.h"
#include "data/recordings.h"
#include "support/child_process.h"
#include "support/sudden_death.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::exit_code_of_child;
using apo::testing::Fate;
using apo::testing::fate;
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
  const auto seen = file->observation(1, 3).images.at("front");
  EXPECT_TRUE(at::equal(seen, numbered_step(3).observation.images.at("front")));
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
  EXPECT_EQ(file->episode(0).success, std::nullopt);
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
    exit_code_of_child([&] {
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

// Each of three episodes is there once, whole, and what it says of its success is what was said of it.
void expect_three(const fs::path& path, const std::string& when) {
  EXPECT_EQ(files_in(path.parent_path()), 1u) << when;
  const auto file = TrajectoryFile::open(path);
  std::multiset<std::vector<int64_t>> found;
  for (int64_t i = 0; i < file->num_episodes(); ++i) {
    const EpisodeRecord record = file->episode(i);
    found.insert(ids_of(*file, i));
    const std::map<std::string, std::optional<bool>> successes{
        {"success", true}, {"failure", false}, {"interrupted", std::nullopt}};
    EXPECT_EQ(record.success, successes.at(record.outcome)) << when;
  }
  EXPECT_EQ(found, (std::multiset<std::vector<int64_t>>{{0, 1, 2}, {10, 11, 12}, {20, 21, 22}})) << when;
}

// Three run at once; the fate begins when the first ends, and a third one runs until the process does.
void record_three(const fs::path& path, Fate::What what, int at, bool lifted = false) {
  EpisodeRecorder recorder(path, test_info());
  std::vector<int64_t> episodes;
  for (int64_t e = 0; e < 3; ++e) {
    episodes.push_back(recorder.begin("lift"));
    for (int64_t t = 0; t < 3; ++t) recorder.append(episodes.back(), numbered_step(10 * e + t));
  }
  fate.set(what, at);
  recorder.end(episodes[0], true, "success");
  recorder.wait();
  if (lifted) fate.set(Fate::nothing, 0);
  recorder.end(episodes[2], false, "failure");
  recorder.wait();
}

TEST(EpisodeRecorder, AKillAtEveryPointOfAMergeLosesAndDoublesNothing) {
  int kills = 0, kills_of_recovery = 0;
  for (int at = 0;; ++at, ++kills) {
    const TempDir dir;
    const fs::path path = dir / "served.hdf5";
    const int code = exit_code_of_child([&] {
      record_three(path, Fate::death, at);
      return 0;
    });
    if (code == 0) break;
    ASSERT_EQ(code, -1);
    // who takes it up is killed, too, each time at another point
    const int again = at * 7 % 61;
    const int recovered = exit_code_of_child([&] {
      fate.set(Fate::death, again);
      EpisodeRecorder(path, test_info());
      return 0;
    });
    ASSERT_TRUE(recovered == 0 || recovered == -1);
    kills_of_recovery += recovered == -1;
    { const EpisodeRecorder last(path, test_info()); }
    expect_three(path, concat("killed at ", at, ", then at ", again));
    if (HasFailure()) return;
  }
  RecordProperty("points", kills);
  EXPECT_GT(kills, 30);
  EXPECT_GT(kills_of_recovery, kills / 2);
}

TEST(EpisodeRecorder, AFullDiskAtEveryPointOfAMergeLosesAndDoublesNothing) {
  for (const bool lifted : {false, true}) {
    for (int at = 0; at < 60; at += lifted ? 1 : 3) {
      const TempDir dir;
      const fs::path path = dir / "served.hdf5";
      ASSERT_EQ(exit_code_of_child([&] {
                  record_three(path, Fate::full_disk, at, lifted);
                  return 0;
                }),
                0);
      for (const auto& entry : fs::directory_iterator(dir.path()))
        EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr(".into-"))) << at;
      { const EpisodeRecorder recovered(path, test_info()); }
      expect_three(path, concat("full at ", at, lifted ? ", not for long" : ""));
      if (HasFailure()) return;
    }
  }
}

// Beside a file of seven episodes: one that ran, and one that was to become demo_7.
void leave_two(const fs::path& path) {
  write_recording(path, std::vector<std::string>(7, "pp"));
  for (const auto& [number, name] : {std::pair(3, ".episode-3.journal"), {5, ".episode-5.into-7.journal"}}) {
    Journal journal(path.string() + name);
    journal.begin_episode(number, "lift", "hash");
    for (int64_t t = 0; t < 3; ++t) journal.append(numbered_step(100 * number + t));
    if (number == 5) journal.end_episode(true, "success");
    journal.flush();
  }
}

TEST(EpisodeRecorder, TakesUpFirstWhatWasBeingBroughtIn) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  leave_two(path);
  std::map<int64_t, std::string> told;
  {
    EpisodeRecorder recorder(path, test_info(),
                             [&](int64_t episode, const std::string& name) { told[episode] = name; });
    EXPECT_EQ(recorder.num_episodes(), 9);
    EXPECT_EQ(told, (std::map<int64_t, std::string>{{3, "demo_8"}, {5, "demo_7"}}));
    const int64_t next = recorder.begin("lift");
    EXPECT_EQ(next, 6);
    recorder.append(next, numbered_step(0));
    EXPECT_EQ(recorder.name_of(next), std::nullopt);
    recorder.end(next, true, "success");
    recorder.wait();
    EXPECT_EQ(recorder.name_of(next), "demo_9");
    EXPECT_EQ(recorder.name_of(3), "demo_8");
  }
  EXPECT_EQ(files_in(dir.path()), 1u);
  const auto file = TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 10);
  EXPECT_EQ(ids_of(*file, 7), (std::vector<int64_t>{500, 501, 502}));
  EXPECT_EQ(file->episode(7).success, true);
  EXPECT_EQ(ids_of(*file, 8), (std::vector<int64_t>{300, 301, 302}));
  EXPECT_EQ(file->episode(8).outcome, "interrupted");
  EXPECT_EQ(file->episode(8).success, std::nullopt);
}

// The file may have grown since: by that very episode, or by another program's.
TEST(EpisodeRecorder, KnowsWhetherWhatWasBeingBroughtInIsThere) {
  for (const int64_t first : {500, 900}) {
    const TempDir dir;
    const fs::path path = dir / "served.hdf5";
    leave_two(path);
    {
      TrajectoryWriter writer(path, test_info());
      writer.begin_episode("lift");
      for (int64_t t = 0; t < 3; ++t)
        writer.append(numbered_step(first + t, first == 500 ? ActionSource::policy : ActionSource::expert));
      writer.end_episode(true, "success");
    }
    std::map<int64_t, std::string> told;
    {
      EpisodeRecorder(path, test_info(),
                      [&](int64_t episode, const std::string& name) { told[episode] = name; });
    }
    EXPECT_EQ(told[5], first == 500 ? "demo_7" : "demo_8");
    std::multiset<int64_t> firsts;
    const auto file = TrajectoryFile::open(path);
    for (int64_t i = 7; i < file->num_episodes(); ++i) firsts.insert(ids_of(*file, i).front());
    EXPECT_EQ(firsts,
              first == 500 ? (std::multiset<int64_t>{300, 500}) : (std::multiset<int64_t>{300, 500, 900}));
    EXPECT_EQ(files_in(dir.path()), 1u);
  }
}

// Kilobytes at the peak of a process, or of one that it made, that records and merges so many steps, by
// itself or left behind by another.
int64_t peak_of_merging(int64_t steps, bool left_behind) {
  auto* peak = static_cast<int64_t*>(
      ::mmap(nullptr, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  const auto record = [&] {
    EpisodeRecorder recorder(path, test_info());
    const int64_t episode = recorder.begin("lift");
    Step step = numbered_step(0);
    step.observation.images["front"] = at::full({96, 96, 3}, 7, at::kByte);
    for (int64_t t = 0; t < steps; ++t) recorder.append(episode, step);
    if (left_behind) ::raise(SIGKILL);
    recorder.end(episode, true, "success");
  };
  const auto measured = [&](const std::function<void()>& work) {
    return exit_code_of_child([&] {
      work();
      for (const int whose : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
        rusage usage = {};
        ::getrusage(whose, &usage);
        *peak = std::max<int64_t>(*peak, usage.ru_maxrss);
      }
      return 0;
    });
  };
  EXPECT_EQ(measured(record), left_behind ? -1 : 0);
  if (left_behind) {
    EXPECT_EQ(measured([&] { EpisodeRecorder(path, test_info()); }), 0);
  }
  EXPECT_EQ(TrajectoryFile::open(path)->episode(0).num_steps(), steps);
  const int64_t found = *peak;
  ::munmap(peak, sizeof(int64_t));
  return found;
}

TEST(EpisodeRecorder, TheMemoryOfAMergeDoesNotGrowWithTheEpisode) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer keeps what was freed";
#endif
  constexpr int64_t kPictureBytes = 96 * 96 * 3;
  for (const bool left_behind : {false, true}) {
    const int64_t small = peak_of_merging(300, left_behind), large = peak_of_merging(3000, left_behind);
    RecordProperty(left_behind ? "left_behind" : "own", concat(small, " and ", large, " KiB"));
    EXPECT_LT((large - small) * 1024, 2700 * kPictureBytes / 8) << small << " KiB, " << large << " KiB";
  }
}

}  // namespace
}  // namespace apo::data
