// Why a human took over goes into the recording, whoever the human is.
#include <gtest/gtest.h>

#include <filesystem>

#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;
using testing::FunctionPolicy;
using testing::hesitant;
using testing::Walk;

// Takes over in step 1 and, for as long as it is asked without a reason, in step 3.
struct Twice : InterventionSource {
  std::optional<Intervention> decide(const Moment& moment) override {
    if (moment.step == 1) return Intervention{{1, 0}, "slow start", 5};
    if (moment.step >= 3) return Intervention{{1, 0}, ""};
    return std::nullopt;
  }
};

TEST(Collect, RecordsWhyTheHumanTookOver) {
  const apo::testing::TempDir dir;
  Walk walk;
  FunctionPolicy policy(hesitant);
  Twice twice;
  const fs::path output = dir / "walks.hdf5";
  const CollectionSummary summary = collect(walk, policy, twice, {.take_overs = 0, .episodes = 1}, output);
  EXPECT_EQ(summary.take_overs_by_reason, (std::map<std::string, int64_t>{{"", 1}, {"slow start", 1}}));
  const std::vector<data::RecordedTakeOver> recorded{{1, "slow start", 0}, {3, "", 3}};
  EXPECT_EQ(data::TrajectoryFile::open(output)->episode(0).take_overs, recorded);
  fs::remove(output.string() + ".json");  // what it said is in the recording
  const CollectionSummary again = collect(
      walk, policy, twice, {.take_overs = 0, .episodes = 1, .existing = ExistingFile::append}, output);
  EXPECT_EQ(again.take_overs_by_reason, summary.take_overs_by_reason);
  EXPECT_EQ(again.take_overs_by_episode, summary.take_overs_by_episode);
}

}  // namespace
}  // namespace apo::deploy
