#include "models/sequence/replayed.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <stdexcept>

namespace apo::models {
namespace {

// A recording that runs its body again, and tells what became of it.
struct Log {
  int recorded = 0, replayed = 0, dropped = 0;
};

class ReplayedTest : public ::testing::Test {
 protected:
  struct Again final : DeviceGraph {
    Again(Log& log, std::function<void()> body) : log(log), body(std::move(body)) {
      ++log.recorded;
      this->body();
    }
    ~Again() override { ++log.dropped; }
    void replay() override { ++log.replayed, body(); }
    Log& log;
    std::function<void()> body;
  };

  void SetUp() override {
    set_graph_recorder(
        [this](const std::function<void()>& body) { return std::make_unique<Again>(log, body); });
  }
  void TearDown() override { set_graph_recorder(nullptr); }
  // x y + x, counting
  Replayed::Body body = [this](const Replayed::Inputs& inputs) {
    ++bodies;
    return inputs[1].defined() ? inputs[0] * inputs[1] + inputs[0] : inputs[0] * 1;
  };
  at::Tensor run(double x, double y, int64_t size = 2, std::vector<int64_t> state = {1}) {
    return replayed.run({at::full({size}, x), at::full({size}, y)}, state, body);
  }

  Log log;
  int bodies = 0;
  Replayed replayed;
};

TEST_F(ReplayedTest, TheThirdCallIsRecordedAndLaterOnesReadTheirOwnNumbers) {
  EXPECT_TRUE(run(2, 3).equal(at::full({2}, 8.0)));
  EXPECT_TRUE(run(1, 3).equal(at::full({2}, 4.0)));
  EXPECT_EQ(log.recorded, 0);
  EXPECT_TRUE(run(3, 3).equal(at::full({2}, 12.0)));
  EXPECT_EQ(log.recorded, 1);
  EXPECT_EQ(log.replayed, 1);
  const at::Tensor kept = run(5, 1);
  EXPECT_TRUE(run(7, 0).equal(at::full({2}, 7.0)));
  EXPECT_TRUE(kept.equal(at::full({2}, 10.0)));  // a result is not the recording's own memory
  EXPECT_EQ(log.recorded, 1);
  EXPECT_EQ(log.replayed, 3);
}

TEST_F(ReplayedTest, OtherShapesTypesAndMissingTensorsHaveRecordingsOfTheirOwn) {
  for (int i = 0; i < 3; ++i) {
    run(1, 1);
    EXPECT_EQ(run(2, 1, 3).size(0), 3);
    EXPECT_EQ(
        replayed.run({at::full({2}, 2, at::kLong), at::full({2}, 1, at::kLong)}, {1}, body).scalar_type(),
        at::kLong);
    EXPECT_TRUE(replayed.run({at::full({2}, 4.0), at::Tensor()}, {1}, body).equal(at::full({2}, 4.0)));
  }
  EXPECT_EQ(log.recorded, 4);
  EXPECT_TRUE(run(6, 1, 3).equal(at::full({3}, 12.0)));
  EXPECT_TRUE(run(5, 1).equal(at::full({2}, 10.0)));
}

TEST_F(ReplayedTest, AnotherStateThrowsRecordingsAway) {
  for (int i = 0; i < 4; ++i) run(1, 1);
  run(1, 1, 2, {2});
  EXPECT_EQ(log.dropped, 1);
  run(1, 1, 2, {2});
  EXPECT_EQ(log.recorded, 1);
  run(1, 1, 2, {2});
  EXPECT_EQ(log.recorded, 2);
  replayed.clear();
  EXPECT_EQ(log.dropped, 2);
}

TEST_F(ReplayedTest, TheLeastUsedRecordingMakesRoom) {
  for (int64_t size = 1; size <= 8; ++size)
    for (int i = 0; i < 3; ++i) run(1, 1, size);
  run(1, 1, 1);  // 2 is now the oldest
  run(1, 1, 9);
  EXPECT_EQ(log.dropped, 1);
  const int before = bodies;
  run(1, 1, 1);
  EXPECT_EQ(bodies, before + 1);  // replayed: the recording's one body
  run(1, 1, 2);
  EXPECT_EQ(log.dropped, 2);
}

TEST_F(ReplayedTest, WhereNothingCanBeRecordedTheBodyRuns) {
  set_graph_recorder(nullptr);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(run(i, 1).equal(at::full({2}, 2.0 * i)));
  EXPECT_EQ(bodies, 5);
  EXPECT_EQ(log.recorded, 0);
}

TEST_F(ReplayedTest, ARecordingThatThrewLeavesNothing) {
  set_graph_recorder(
      [](const std::function<void()>&) -> std::unique_ptr<DeviceGraph> { throw std::runtime_error("no"); });
  for (int i = 0; i < 2; ++i) run(1, 1);
  EXPECT_THROW(run(1, 1), std::runtime_error);
  SetUp();
  body = [](const Replayed::Inputs& inputs) { return at::full({1}, static_cast<int64_t>(inputs.size())); };
  EXPECT_EQ(run(1, 1).item<int64_t>(), 2);
  EXPECT_EQ(log.recorded, 1);
}

}  // namespace
}  // namespace apo::models
