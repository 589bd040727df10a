// One changed byte anywhere in a loop's state: refused, or read.
#include "support/byte_flips.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "apo/base/log.h"
#include "loop/loop_state.h"
#include "support/temp_dir.h"

namespace apo::loop {
namespace {

using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;
using nlohmann::json;

void ignore(size_t, const std::string&) {}

TEST(ByteFlips, NoneInTheStateOfALoopEndsTheProgram) {
  const TempDir dir, flipped;
  const json trained = {{"checkpoint", "base/training/checkpoints/step-4"},
                        {"objective", "sft"},
                        {"directory", "base/training"},
                        {"steps", 4},
                        {"seconds", 1.5}};
  {
    LoopState state(dir.path());
    state.run("base/training", {}, [&] { return trained; });
    state.run("base/evaluation", {}, [] { return json{{"success_rate", 0.25}}; });
  }
  set_log_level(LogLevel::warn);  // a line for each stage that is kept
  const FlipCounts counts = flip_bytes(
      dir / "state.json", flipped / "state.json", 3000,
      [&] {
        LoopState state(flipped.path());
        std::string all = std::to_string(state.seconds());
        for (const char* stage : {"base/training", "base/evaluation"}) {
          if (!state.finished(stage)) continue;
          const json result = state.run(stage, {}, [] { return json(); });
          if (std::string(stage) == "base/training") check_trained(result, "state.json");
          all += result.dump();
        }
        return all;
      },
      ignore);
  set_log_level(LogLevel::info);
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);  // numbers that no hash vouches for
}

}  // namespace
}  // namespace apo::loop
