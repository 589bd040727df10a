// The process that reads: what it does not survive is an error here, and nothing of this process is held by
// it.
#include "data/reading_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "data/hdf5.h"
#include "recordings.h"
#include "support/child_process.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::exit_code_of_child;
using apo::testing::TempDir;
using hdf5::GuardedFile;
using hdf5::Packer;
using hdf5::Unpacker;
using ::testing::HasSubstr;

// As a call does: what says which file comes first.
void skip_file(Unpacker& in) {
  in.take<int64_t>();
  in.take<std::string>();
  in.take<std::string>();
  in.take<std::vector<int64_t>>();
}

std::string run(GuardedFile::Function function) {
  return GuardedFile("any.hdf5").run(function, Packer(), "any.hdf5: /data");
}

void end_reading_process() {
  if (const pid_t pid = hdf5::reading_process(); pid > 0) kill(pid, SIGSEGV);
}

TEST(Guard, CarriesValuesThereAndBack) {
  Packer arguments;
  arguments.put(std::vector<std::string>{"a", "", "ü"});
  arguments.put(std::optional<std::pair<int64_t, std::string>>({-7, "x"}));
  arguments.put(std::vector<float>{0.5f, -1.0f});
  const std::string result = GuardedFile("any.hdf5")
                                 .run(
                                     [](Unpacker& in, Packer& out) {
                                       skip_file(in);
                                       out.put(in.take<std::vector<std::string>>());
                                       out.put(in.take<std::optional<std::pair<int64_t, std::string>>>());
                                       out.put(in.take<std::vector<float>>());
                                       out.put<bool>(hdf5::in_reading_process());
                                     },
                                     arguments, "");
  EXPECT_EQ(result, arguments.bytes() + '\1');
  EXPECT_FALSE(hdf5::in_reading_process());
}

TEST(Guard, ErrorsKeepTheirKindAndMessage) {
  EXPECT_EQ(data_error([] { run([](Unpacker&, Packer&) { throw DataError("a: b"); }); }), "a: b");
  EXPECT_EQ(config_error([] { run([](Unpacker&, Packer&) { throw ConfigError("c"); }); }), "c");
  EXPECT_EQ(message_of<RunError>([] { run([](Unpacker&, Packer&) { throw std::logic_error("d"); }); }), "d");
}

TEST(Guard, WhatCrashesIsADamagedFile) {
  const auto crash = [] { run([](Unpacker&, Packer&) { raise(SIGSEGV); }); };
  EXPECT_EQ(data_error(crash),
            "any.hdf5: /data: damaged HDF5 file: working with it ends the process that does it (Segmentation "
            "fault)");
  EXPECT_EQ(data_error(crash),
            "any.hdf5: /data: damaged HDF5 file: working with it ends the process that does it (Segmentation "
            "fault)");
}

TEST(Guard, WhatDoesNotEndIsADamagedFile) {
  hdf5::set_reading_limit(1);
  EXPECT_EQ(data_error([] {
              run([](Unpacker&, Packer&) {
                while (getpid() > 0) {
                }
              });
            }),
            "any.hdf5: /data: damaged HDF5 file: working with it does not come to an end");
  hdf5::set_reading_limit(20);
}

// A stale network disk looks the same: no answer, and no processor time that would run out.
TEST(Guard, WhatDoesNotAnswerIsTold) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pp"});
  const auto file = TrajectoryFile::open(dir / "good.hdf5");
  const pid_t pid = hdf5::reading_process();
  ASSERT_GT(pid, 0);
  hdf5::set_reading_limit(1);
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  std::thread later([pid] {
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    kill(pid, SIGCONT);
  });
  ::testing::internal::CaptureStderr();
  const Observation observation = file->observation(0, 1);
  const std::string told = ::testing::internal::GetCapturedStderr();
  later.join();
  hdf5::set_reading_limit(20);
  EXPECT_EQ(observation.images.size(), 1u);
  EXPECT_EQ(hdf5::reading_process(), pid);
  const std::string line = concat("good.hdf5: /data/demo_0/obs/front_image: does not answer: process ", pid);
  EXPECT_THAT(told, HasSubstr(line));
  EXPECT_EQ(told.find(line), told.rfind(line));  // once
}

TEST(Guard, AnInterruptEndsTheWaitForWhatDoesNotAnswer) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pp"});
  const auto file = TrajectoryFile::open(dir / "good.hdf5");
  ASSERT_GT(hdf5::reading_process(), 0);
  set_interrupted(true);
  EXPECT_NO_THROW(file->observation(0, 0));  // what answers is not given up
  ASSERT_EQ(kill(hdf5::reading_process(), SIGSTOP), 0);
  const std::string message = message_of<Interrupted>([&] { file->observation(0, 1); });
  set_interrupted(false);
  EXPECT_THAT(message, HasSubstr("/data/demo_0/obs/front_image: interrupted while it did not answer"));
  EXPECT_EQ(file->observation(0, 1).images.size(), 1u);  // in a fresh process
}

TEST(Guard, WorksWithoutStandardStreams) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pp"});
  EXPECT_EQ(exit_code_of_child([&] {
              for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(standard);
              return TrajectoryFile::open(dir / "good.hdf5")->observation(0, 1).images.size() == 1 ? 0 : 1;
            }),
            0);
}

TEST(Guard, AFileGoesOnWhenAnotherOneEndedTheProcess) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pph"});
  const auto file = TrajectoryFile::open(dir / "good.hdf5");
  data_error([] { run([](Unpacker&, Packer&) { raise(SIGSEGV); }); });
  EXPECT_TRUE(
      file->observation(0, 2).images.at("front").equal(numbered_step(2).observation.images.at("front")));
  // a process that somebody else ended is no fault of the file that comes next
  end_reading_process();
  EXPECT_NO_THROW(file->observation(0, 1));
  // but another file of the same name is not the one that was opened
  end_reading_process();
  std::filesystem::remove(dir / "good.hdf5");
  write_recording(dir / "good.hdf5", {"ph"});
  EXPECT_THAT(data_error([&] { file->observation(0, 1); }),
              HasSubstr("good.hdf5: was replaced or changed while it was read"));
}

TEST(Guard, APictureIsOneCall) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pph"});
  const auto file = TrajectoryFile::open(dir / "good.hdf5");
  const int64_t before = hdf5::calls_made();
  EXPECT_EQ(file->observation(0, 2).images.size(), 1u);
  EXPECT_EQ(hdf5::calls_made() - before, 1);
}

TEST(Guard, HoldsNoLockOfThisProcess) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"p"});
  write_file_atomic(dir / "lock", "");
  end_reading_process();
  const int ours = open((dir / "lock").c_str(), O_RDONLY), other = open((dir / "lock").c_str(), O_RDONLY);
  ASSERT_EQ(flock(ours, LOCK_EX | LOCK_NB), 0);
  const auto file = TrajectoryFile::open(dir / "good.hdf5");  // starts the process while the lock is held
  ASSERT_GT(hdf5::reading_process(), 0);
  close(ours);
  EXPECT_EQ(flock(other, LOCK_EX | LOCK_NB), 0);
  close(other);
}

TEST(Guard, AForkHasAReadingProcessOfItsOwnThatEndsWithIt) {
  const TempDir dir;
  write_recording(dir / "good.hdf5", {"pp"});
  const auto file = TrajectoryFile::open(dir / "good.hdf5");
  const pid_t here = hdf5::reading_process();
  EXPECT_EQ(exit_code_of_child([&] {
              const bool good = hdf5::reading_process() == 0 && file->observation(0, 1).images.size() == 1 &&
                                hdf5::reading_process() != here;
              write_file_atomic(dir / "pid", concat(hdf5::reading_process()));
              return good ? 0 : 1;
            }),
            0);
  EXPECT_EQ(hdf5::reading_process(), here);
  EXPECT_NO_THROW(file->observation(0, 0));
  const auto pid = static_cast<pid_t>(std::stol(read_file(dir / "pid")));
  const auto ended = [pid] {
    return read_file(concat("/proc/", pid, "/stat")).find(") Z ") != std::string::npos;
  };
  bool gone = false;
  for (int i = 0; i < 500 && !gone; ++i) {
    gone = kill(pid, 0) != 0 || !std::filesystem::exists(concat("/proc/", pid)) || ended();
    if (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace apo::data
