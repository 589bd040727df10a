// One changed byte anywhere in a manifest: refused, or read; and no name leads out of its directory.
#include "support/byte_flips.h"

#include <gmock/gmock.h>

#include "base/manifest.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;

TEST(ByteFlips, NoneInAManifestEndsTheProgram) {
  const TempDir dir, run;
  Manifest(dir.path(), "run.dir")
      .claim({"config.yaml", "checkpoints/latest@", "checkpoints/step-2/", "tensorboard/events.*",
              "policy/weights"});
  const std::vector<std::string> names = {"config.yaml", "checkpoints", "tensorboard", "policy"};
  for (const char* file :
       {"config.yaml", "tensorboard/events.1", "checkpoints/step-2/a", "policy/weights", "policy/mine"}) {
    std::filesystem::create_directories((run / file).parent_path());
    std::ofstream(run / file) << "x";
  }
  const FlipCounts counts = flip_bytes(
      dir / Manifest::kFile, run / Manifest::kFile, 3000,
      [&] {
        std::string all;
        for (const std::string& name : Manifest(run.path(), "run.dir").strangers(names)) all += name + "\n";
        EXPECT_THAT(all, ::testing::HasSubstr("policy/mine"));
        return all;
      },
      [](size_t, const std::string&) {});
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);
}

}  // namespace
}  // namespace apo
