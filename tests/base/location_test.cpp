// What lies beside our own code is found there and nowhere else.
#include "apo/base/location.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

TEST(Location, OfOurCodeIsThisProgram) { EXPECT_EQ(own_file(), fs::canonical("/proc/self/exe")); }

TEST(Location, OfAFunctionIsItsLibrary) {
  EXPECT_NE(file_of(reinterpret_cast<const void*>(&::fopen)).filename().string().find("libc.so"),
            std::string::npos);
}

TEST(Location, TheWorkingDirectoryIsNoPlaceToLook) {
  const testing::TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  std::ofstream("rubbish.so") << "no library";
  EXPECT_FALSE(find_beside({"rubbish.so", "./rubbish.so"}).has_value());
  fs::current_path(before);
}

TEST(Location, TheFirstThatExistsIsTaken) {
  const std::string name = own_file().filename().string();
  EXPECT_EQ(find_beside({"no-such-file", name, "../bin/" + name}), own_file().string());
}

}  // namespace
}  // namespace apo
