// One changed byte anywhere in what loops, evaluations and recordings keep as JSON: refused, or read.
#include "support/byte_flips.h"

#include <gmock/gmock.h>

#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "apo/results/evaluation.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;

void ignore(size_t, const std::string&) {}

TEST(ByteFlips, NoneInResultsEndsTheProgram) {
  const TempDir dir;
  EvalResult result = results::summarize_trials({{.trial = 0,
                                                  .seed = 7,
                                                  .success = true,
                                                  .unaided = true,
                                                  .outcome = "success",
                                                  .steps = 9,
                                                  .facts = {{"layout", "swapped"}}},
                                                 {.trial = 1,
                                                  .seed = 8,
                                                  .success = false,
                                                  .unaided = false,
                                                  .outcome = "fell",
                                                  .steps = 12,
                                                  .facts = {{"layout", "line"}}}});
  result.policy_hash = "0123456789abcdef";
  EvalResult disrupted = result;
  result.disruptions.push_back({.disruption = "lighting", .result = disrupted, .against_none = {}});
  write_file_atomic(dir / "whole.json", result.json());
  const FlipCounts counts = flip_bytes(
      dir / "whole.json", dir / "flipped.json", 3000,
      [&] {
        const EvalResult read = EvalResult::from_json(read_file(dir / "flipped.json"), "flipped.json");
        return read.json() + read.text() + read.disruption_markdown();
      },
      ignore);
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);
}

TEST(ByteFlips, NoneInTheSummaryOfARecordingEndsTheProgram) {
  const TempDir dir;
  CollectionSummary summary;
  summary.episodes = summary.recorded = 3;
  summary.take_overs = 2;
  summary.take_overs_by_reason = {{"off course", 1}, {"wrong object", 1}};
  summary.outcomes = {{"success", 2}, {"fell", 1}};
  summary.steps = {{"policy", 20}, {"intervention", 9}};
  summary.seconds = 1.25;
  summary.take_overs_by_episode = {{"off course"}, {}, {"wrong object"}};
  write_file_atomic(dir / "whole.json", summary.json());
  const FlipCounts counts = flip_bytes(
      dir / "whole.json", dir / "flipped.json", 3000,
      [&] {
        const auto read = CollectionSummary::from_json(read_file(dir / "flipped.json"), "flipped.json");
        return read.json() + read.text();
      },
      ignore);
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);
}

}  // namespace
}  // namespace apo::deploy
