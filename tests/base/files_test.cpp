// Files that are whole or absent, whatever goes wrong in between.
#include "apo/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/output.h"
#include "support/child_process.h"
#include "support/no_room.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using apo::testing::exit_code_of_child;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The message of the `Kind` that `body` throws, "" if it throws nothing.
template <class Kind>
std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Kind& error) {
    return error.what();
  }
  return "";
}

TEST(Files, ReadsEveryByte) {
  const TempDir dir;
  const std::string bytes("a\0b\r\n\xff", 6);
  std::ofstream(dir / "x", std::ios::binary) << bytes;
  EXPECT_EQ(read_file(dir / "x"), bytes);
  std::ofstream(dir / "empty");
  EXPECT_EQ(read_file(dir / "empty"), "");
}

TEST(Files, UnreadableFilesAreDataErrorsThatNameThem) {
  const TempDir dir;
  EXPECT_EQ(error_of<DataError>([&] { read_file(dir / "none"); }),
            (dir / "none").string() + ": cannot open: No such file or directory");
  EXPECT_EQ(error_of<DataError>([&] { read_file(dir.path()); }),
            dir.path().string() + ": expected a file, found a directory");
}

TEST(AtomicFile, ReplacesTheWholeFile) {
  const TempDir dir;
  write_file_atomic(dir / "x", "a long first text");
  write_file_atomic(dir / "x", std::string("b\0", 2));
  EXPECT_EQ(read_file(dir / "x"), std::string("b\0", 2));
  EXPECT_THAT(names_in(dir.path()), ElementsAre("x"));
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const TempDir dir;
  write_file_atomic(dir / "x", "old");
  EXPECT_EQ(error_of<RunError>([&] {
              const apo::testing::NoRoom no_room;
              write_file_atomic(dir / "x", "new");
            }),
            (dir / "x").string() + ": cannot write: File too large");
  EXPECT_EQ(read_file(dir / "x"), "old");
  EXPECT_THAT(names_in(dir.path()), ElementsAre("x"));
}

TEST(AtomicFile, AReadOnlyDirectoryLeavesTheOldFile) {
  const TempDir dir;
  write_file_atomic(dir / "x", "old");
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                                  fs::perms::others_exec);
  const int code = exit_code_of_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 77;  // root may write everywhere
    const std::string message = error_of<RunError>([&] { write_file_atomic(dir / "x", "new"); });
    return message == (dir / "x").string() + ": cannot create x.partial: Permission denied" ? 0 : 1;
  });
  fs::permissions(dir.path(), fs::perms::owner_all);
  if (code == 77) GTEST_SKIP() << "running as root, and root cannot be given up here";
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_file(dir / "x"), "old");
}

TEST(AtomicFile, ADirectoryIsNotReplaced) {
  const TempDir dir;
  fs::create_directories(dir.path() / "x" / "y");
  EXPECT_THAT(error_of<RunError>([&] { write_file_atomic(dir / "x", "new"); }),
              HasSubstr((dir / "x").string() + ": cannot replace: "));
  EXPECT_THAT(names_in(dir.path()), ElementsAre("x"));
}

TEST(AtomicFile, AMissingDirectoryIsNamed) {
  const TempDir dir;
  EXPECT_EQ(error_of<RunError>([&] { write_file_atomic(dir.path() / "none" / "x", "new"); }),
            (dir.path() / "none" / "x").string() + ": cannot create x.partial: No such file or directory");
}

TEST(AtomicDirectory, AppearsWithItsMark) {
  const TempDir dir;
  const fs::path path = dir / "step-1";
  EXPECT_FALSE(is_whole_directory(path));
  write_directory_atomic(path, [&](const fs::path& staging) {
    EXPECT_FALSE(fs::exists(path));
    EXPECT_FALSE(is_whole_directory(staging));
    fs::create_directories(staging / "inner");
    std::ofstream(staging / "inner" / "weights") << "w";
  });
  EXPECT_TRUE(is_whole_directory(path));
  EXPECT_THAT(names_in(path), ElementsAre("DONE", "inner"));
  EXPECT_EQ(read_file(path / "inner" / "weights"), "w");
  EXPECT_THAT(names_in(dir.path()), ElementsAre("step-1"));
}

TEST(AtomicDirectory, ReplacesAnOlderOneWhole) {
  const TempDir dir;
  write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "old") << "1"; });
  write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "new") << "2"; });
  EXPECT_THAT(names_in(dir / "d"), ElementsAre("DONE", "new"));
}

TEST(AtomicDirectory, AThrowLeavesTheOldOne) {
  const TempDir dir;
  write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "old") << "1"; });
  EXPECT_EQ(error_of<RunError>([&] {
              write_directory_atomic(dir / "d", [](const fs::path& staging) {
                std::ofstream(staging / "new") << "2";
                throw RunError("the disk broke");
              });
            }),
            "the disk broke");
  EXPECT_TRUE(is_whole_directory(dir / "d"));
  EXPECT_EQ(read_file(dir.path() / "d" / "old"), "1");
  EXPECT_THAT(names_in(dir.path()), ElementsAre("d"));
}

TEST(AtomicDirectory, SuddenDeathLeavesTheOldOneAndTheNextWriteWorks) {
  const TempDir dir;
  write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "old") << "1"; });
  EXPECT_EQ(exit_code_of_child([&] {
              write_directory_atomic(dir / "d", [](const fs::path& staging) {
                std::ofstream(staging / "half") << "2";
                ::_exit(7);
              });
              return 0;
            }),
            7);
  EXPECT_THAT(names_in(dir / "d"), ElementsAre("DONE", "old"));
  write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "new") << "3"; });
  EXPECT_THAT(names_in(dir / "d"), ElementsAre("DONE", "new"));
  EXPECT_THAT(names_in(dir.path()), ElementsAre("d"));
}

TEST(AtomicDirectory, ItsMarkNamesItsFilesAndOnlyThoseAreReplaced) {
  const TempDir dir;
  const auto write = [&] {
    write_directory_atomic(dir / "d", [](const fs::path& staging) {
      fs::create_directories(staging / "policy");
      std::ofstream(staging / "policy/weights") << "1";
      std::ofstream(staging / "state.json") << "{}";
    });
  };
  write();
  EXPECT_EQ(read_file(dir / "d/DONE"), "policy/weights\nstate.json\n");
  EXPECT_THAT(files_not_marked(dir / "d"), ElementsAre());
  std::ofstream(dir / "d/policy/notes.txt") << "mine";
  EXPECT_THAT(files_not_marked(dir / "d"), ElementsAre("policy/notes.txt"));
  EXPECT_THAT(error_of<RunError>(write), HasSubstr("holds policy/notes.txt, which was not written with it"));
  EXPECT_EQ(read_file(dir / "d/policy/notes.txt"), "mine");
  EXPECT_THAT(names_in(dir.path()), ElementsAre("d"));
}

TEST(AtomicDirectory, ADirectoryOfOthersIsNoStagingDirectory) {
  const TempDir dir;
  fs::create_directories(dir / "d.partial");
  std::ofstream(dir / "d.partial/theses.tex") << "mine";
  const auto expect_refused = [&] {
    EXPECT_THAT(error_of<RunError>([&] { write_directory_atomic(dir / "d", [](const fs::path&) {}); }),
                HasSubstr("d.partial: in the way"));
    EXPECT_EQ(read_file(dir / "d.partial/theses.tex"), "mine");
  };
  expect_refused();
  for (const char* mark : {"", "other.tex\n"}) {
    std::ofstream(dir / "d.partial/DONE") << mark;
    expect_refused();
  }
}

// Killed before its first file, between its files, while it wrote its mark, or before the last renaming.
TEST(AtomicDirectory, WhatAKilledProcessLeftIsReplaced) {
  const TempDir dir;
  for (const std::vector<const char*>& files :
       std::vector<std::vector<const char*>>{{},
                                             {".apo-unfinished", "a"},
                                             {".apo-unfinished", "a", "DONE.partial"},
                                             {".apo-unfinished", "a", "DONE"},
                                             {"a", "DONE"}}) {
    fs::create_directories(dir / "d.partial");
    for (const char* file : files)
      std::ofstream(dir / "d.partial" / file) << (std::string(file) == "DONE" ? "a\n" : "x");
    write_directory_atomic(dir / "d", [](const fs::path& staging) { std::ofstream(staging / "b") << "new"; });
    EXPECT_THAT(names_in(dir.path()), ElementsAre("d"));
    EXPECT_THAT(names_in(dir / "d"), ElementsAre("DONE", "b"));
  }
}

TEST(AtomicFile, ANeighborOfOthersStays) {
  const TempDir dir;
  const auto write = [&] {
    return error_of<RunError>([&] { write_file_atomic(dir / "x.json", "{\n \"stages\": 1}"); });
  };
  for (const char* theirs : {"mine", "{\"mine\": 1}", "{\n \"mine\": 1}"}) {
    std::ofstream(dir / "x.json.partial") << theirs;
    EXPECT_THAT(write(), AllOf(HasSubstr("x.json.partial: in the way"), HasSubstr("nothing was written")));
    EXPECT_EQ(read_file(dir / "x.json.partial"), theirs);
  }
  for (const char* ours : {"", "{\n", "{\n \"stages\": {\"base"}) {
    std::ofstream(dir / "x.json.partial") << ours;
    EXPECT_EQ(write(), "");
    EXPECT_THAT(names_in(dir.path()), ElementsAre("x.json"));
  }
  fs::create_symlink("x.json", dir / "x.json.partial");
  EXPECT_THAT(write(), HasSubstr("it is a link"));
  EXPECT_TRUE(fs::is_symlink(dir / "x.json.partial"));
}

TEST(CheckWritable, TouchesNothing) {
  const TempDir dir;
  for (const char* name : {"x.hdf5.check", "x.hdf5.check-1"}) std::ofstream(dir / name) << "mine";
  std::ofstream(dir / "x.hdf5.partial") << "\x89HDF of a conversion that was killed";
  check_writable(dir / "x.hdf5");
  EXPECT_THAT(names_in(dir.path()), ElementsAre("x.hdf5.check", "x.hdf5.check-1", "x.hdf5.partial"));
  EXPECT_EQ(read_file(dir / "x.hdf5.check"), "mine");
  std::ofstream(dir / "x.hdf5.partial") << "mine";
  EXPECT_THAT(error_of<RunError>([&] { check_writable(dir / "x.hdf5"); }),
              HasSubstr("x.hdf5.partial: in the way"));
  EXPECT_EQ(read_file(dir / "x.hdf5.partial"), "mine");
}

TEST(AtomicFile, LinksAreReplacedAndDevicesStay) {
  const TempDir dir;
  std::ofstream(dir / "victim") << "secret";
  fs::create_symlink("victim", dir / "x");
  write_file_atomic(dir / "x", "new");
  EXPECT_EQ(read_file(dir / "victim"), "secret");
  EXPECT_EQ(read_file(dir / "x"), "new");
  EXPECT_FALSE(fs::is_symlink(dir / "x"));
  EXPECT_THAT(error_of<RunError>([] { write_file_atomic("/dev/null", "new"); }),
              HasSubstr("/dev/null: cannot replace"));
}

TEST(LineWriter, LinksAndPipesAreNotFollowed) {
  const TempDir dir;
  std::ofstream(dir / "victim") << "secret";
  fs::create_symlink("victim", dir / "metrics.jsonl");
  EXPECT_THAT(error_of<RunError>([&] { LineWriter(dir / "metrics.jsonl", 0); }),
              HasSubstr("metrics.jsonl: cannot open for writing: it is a link"));
  EXPECT_EQ(read_file(dir / "victim"), "secret");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of<RunError>([&] { LineWriter(dir / "pipe", 0); }),
              HasSubstr("pipe: cannot open for writing"));
}

TEST(AtomicDirectory, ATrailingSlashChangesNothing) {
  const TempDir dir;
  write_directory_atomic(dir.path() / "d" / "",
                         [](const fs::path& staging) { std::ofstream(staging / "a") << "1"; });
  EXPECT_THAT(names_in(dir.path()), ElementsAre("d"));
  EXPECT_THAT(names_in(dir / "d"), ElementsAre("DONE", "a"));
}

TEST(AtomicDirectory, FailuresNameTheDirectory) {
  const TempDir dir;
  std::ofstream(dir / "file") << "not a directory";
  EXPECT_THAT(
      error_of<RunError>([&] { write_directory_atomic(dir.path() / "file" / "d", [](const fs::path&) {}); }),
      AllOf(HasSubstr((dir.path() / "file" / "d").string() + ": cannot write directory: "),
            HasSubstr("Not a directory")));
}

TEST(AtomicDirectory, WithoutItsMarkADirectoryIsNotWhole) {
  const TempDir dir;
  EXPECT_FALSE(is_whole_directory(dir.path()));
  std::ofstream(dir / "DONE");
  EXPECT_TRUE(is_whole_directory(dir.path()));
  EXPECT_FALSE(is_whole_directory(dir / "DONE"));
}

TEST(DirectoryLock, HoldsAgainstOtherProcesses) {
  const TempDir dir;
  const auto try_to_lock = [&] {
    return exit_code_of_child([&] {
      const std::string message = error_of<RunError>([&] { const DirectoryLock lock(dir / "run"); });
      if (message.empty()) return 0;
      return message == concat((dir / "run").string(), ": in use by another process (pid ", ::getppid(), ")")
                 ? 1
                 : 2;
    });
  };
  {
    const DirectoryLock lock(dir / "run");  // makes the directory
    EXPECT_TRUE(fs::is_directory(dir / "run"));
    EXPECT_EQ(try_to_lock(), 1);
    EXPECT_THAT(error_of<RunError>([&] { const DirectoryLock second(dir / "run"); }), HasSubstr("in use by"));
  }
  EXPECT_EQ(try_to_lock(), 0);
  const DirectoryLock again(dir / "run");
}

TEST(DirectoryLock, DiesWithItsProcess) {
  const TempDir dir;
  EXPECT_EQ(exit_code_of_child([&] {
              new DirectoryLock(dir / "run");  // never released
              return 5;
            }),
            5);
  const DirectoryLock lock(dir / "run");
}

TEST(DirectoryLock, AFileInTheWayIsNamed) {
  const TempDir dir;
  std::ofstream(dir / "run") << "a file";
  EXPECT_THAT(error_of<RunError>([&] { const DirectoryLock lock(dir / "run"); }),
              HasSubstr((dir / "run").string()));
}

TEST(LineWriter, AppendsLinesThatAreThereAtOnce) {
  const TempDir dir;
  LineWriter writer(dir / "metrics.jsonl");
  EXPECT_EQ(writer.size(), 0);
  writer.append("{\"step\": 1}");
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), "{\"step\": 1}\n");
  writer.append("");
  EXPECT_EQ(writer.size(), 13);
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), "{\"step\": 1}\n\n");
}

TEST(LineWriter, ContinuesAfterWhatWasThere) {
  const TempDir dir;
  std::ofstream(dir / "x") << "one\ntwo\nhalf a li";
  {
    LineWriter writer(dir / "x", 8);
    EXPECT_EQ(writer.size(), 8);
    writer.append("three");
    EXPECT_EQ(writer.size(), 14);
  }
  EXPECT_EQ(read_file(dir / "x"), "one\ntwo\nthree\n");
  LineWriter keeping(dir / "x");
  EXPECT_EQ(keeping.size(), 14);
  LineWriter clearing(dir / "x", 0);
  EXPECT_EQ(read_file(dir / "x"), "");
}

TEST(LineWriter, FailuresNameTheFile) {
  const TempDir dir;
  EXPECT_EQ(error_of<RunError>([&] { LineWriter writer(dir.path() / "none" / "x"); }),
            (dir.path() / "none" / "x").string() + ": cannot open for writing: No such file or directory");
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  LineWriter full("/dev/full");
  EXPECT_EQ(error_of<RunError>([&] { full.append("x"); }),
            "/dev/full: cannot write: No space left on device");
  EXPECT_EQ(full.size(), 0);
}

TEST(LineWriter, AFileThatLostLinesIsKeptWithAWarning) {
  const TempDir dir;
  std::ofstream(dir / "x") << "one\n";
  ::testing::internal::CaptureStderr();
  LineWriter writer(dir / "x", 100);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr((dir / "x").string() + ": expected at least 100 bytes, found 4"));
  writer.append("two");
  EXPECT_EQ(writer.size(), 8);
  EXPECT_EQ(read_file(dir / "x"), "one\ntwo\n");
}

}  // namespace
}  // namespace apo
