// Files that change while they are mapped.
#include "models/checkpoints/mapped_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::pair<std::string, FileChange>> changes() {
  std::vector<std::pair<std::string, FileChange>> found;
  for (const ChangedFile& file : changed_mapped_files())
    found.emplace_back(file.path.filename(), file.change);
  return found;
}

class Mapped : public ::testing::Test {
 protected:
  Mapped() { std::ofstream(path) << std::string(20000, 'x'); }
  // Overwrites one byte in place, without the program's own write.
  void write_byte(const fs::path& file, char byte) const {
    const int descriptor = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(::pwrite(descriptor, &byte, 1, 15000), 1);
    ::close(descriptor);
  }
  const TempDir directory;
  const fs::path path = directory / "weights", other = directory / "other";
};

TEST_F(Mapped, IsWhatTheFileHolds) {
  const MappedFile file(path);
  EXPECT_EQ(file.size(), 20000u);
  EXPECT_EQ(std::string_view(file.bytes(), file.size()), std::string(20000, 'x'));
  EXPECT_THAT(changes(), IsEmpty());
}

TEST_F(Mapped, AChangeIsSeenUntilItIsAccepted) {
  const MappedFile file(path);
  write_byte(path, 'y');
  // whatever the clock's grain
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(2));
  EXPECT_THAT(changes(), ElementsAre(std::pair("weights", FileChange::written)));
  accept_mapped_files();
  EXPECT_THAT(changes(), IsEmpty());
}

TEST_F(Mapped, AChangeWhoseTimeWasSetBackIsSeen) {
  const MappedFile file(path);
  const auto before = fs::last_write_time(path);
  ::usleep(50'000);  // more than the clock's grain
  write_byte(path, 'y');
  fs::last_write_time(path, before);
  EXPECT_THAT(changes(), ElementsAre(std::pair("weights", FileChange::written)));
}

TEST_F(Mapped, TruncationReplacementAndRemovalAreToldApart) {
  {
    const MappedFile file(path);
    fs::resize_file(path, 100);
    EXPECT_THAT(changes(), ElementsAre(std::pair("weights", FileChange::truncated)));
  }
  EXPECT_THAT(changes(), IsEmpty());  // it lives no more
  const MappedFile file(path);
  std::ofstream(other) << "another";
  fs::rename(other, path);
  EXPECT_THAT(changes(), ElementsAre(std::pair("weights", FileChange::replaced)));
  fs::remove(path);
  EXPECT_THAT(changes(), IsEmpty());
}

TEST_F(Mapped, ReadingBeyondATruncatedEndIsAMessage) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto read_truncated = [this] {
    const MappedFile file(path);
    fs::resize_file(path, 100);
    volatile char byte = file.bytes()[15000];
    (void)byte;
  };
  EXPECT_EXIT(read_truncated(), ::testing::ExitedWithCode(3),
              "weights: cannot be read any more: it was cut short");
}

// Somebody else's bus error stays one.
TEST_F(Mapped, OtherBusErrorsAreLeftAlone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto raise_elsewhere = [this] {
    const MappedFile file(path);
    ::raise(SIGBUS);
    ::raise(SIGBUS);
  };
  EXPECT_EXIT(raise_elsewhere(), ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(Mapped, TensorsKeepTheFileMapped) {
  write_safetensors(directory / "x.safetensors", {{"a", at::ones({4})}});
  {
    const at::Tensor tensor = SafetensorsReader(directory / "x.safetensors").tensor("a");
    fs::resize_file(directory / "x.safetensors", 3);
    EXPECT_THAT(changes(), ElementsAre(std::pair("x.safetensors", FileChange::truncated)));
  }
  EXPECT_THAT(changes(), IsEmpty());
}

}  // namespace
}  // namespace apo::models
