// One changed byte anywhere in a config: a ConfigError or a value.
#include "support/byte_flips.h"

#include "config/robot_options.h"
#include "support/temp_dir.h"

namespace apo::config {
namespace {

using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;

TEST(ByteFlips, NoneInYamlEndsTheProgram) {
  const TempDir dir;
  write_file_atomic(dir / "whole.yaml", print(RobotOptions{}));
  const FlipCounts counts = flip_bytes(
      dir / "whole.yaml", dir / "flipped.yaml", 3000,
      [&dir] { return print(load<RobotOptions>(Document::from_file(dir / "flipped.yaml"))); },
      [](size_t, const std::string&) {});
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);
}

}  // namespace
}  // namespace apo::config
