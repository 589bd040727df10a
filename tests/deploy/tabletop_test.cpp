// The simulated tabletop under the collector and the evaluator, with the scripted expert in the policy's
// place.
#include "apo/simulation/tabletop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "apo/deploy/scripted_human.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using testing::FunctionPolicy;

// The tabletop that whispers what to do: the expert's action for the named block ("right") and for the other
// one ("wrong") come as state, from a twin that is stepped alike.
class Whispering : public environments::Environment {
 public:
  explicit Whispering(const environments::EnvironmentOptions& options)
      : Whispering(environments::make_environment({.disruptions = {.scene = options.disruptions.scene}}),
                   options) {}
  environments::Situation reset(uint64_t seed) override {
    twin_.reset(seed);
    return table_->reset(seed);
  }
  Observation observe() override {
    Observation observation = table_->observe();
    simulation::TabletopState state = twin_.state();
    observation.state["right"] = simulation::scripted_expert(state);
    state.target = 1 - state.target;
    observation.state["wrong"] = simulation::scripted_expert(state);
    return observation;
  }
  environments::Situation step(const Action& action) override {
    twin_.step(action);
    return table_->step(action);
  }
  at::Tensor render(int64_t size) override { return table_->render(size); }
  std::optional<Action> expert() override { return table_->expert(); }

 private:
  Whispering(std::unique_ptr<environments::Environment> table,
             const environments::EnvironmentOptions& options)
      : environments::Environment(table->spec()),
        table_(std::move(table)),
        twin_({}, options.disruptions.scene) {}

  std::unique_ptr<environments::Environment> table_;
  simulation::Tabletop twin_;
};

environments::EnvironmentOptions whispering() {
  environments::register_environment("whispering", [](const environments::EnvironmentOptions& options) {
    return std::make_unique<Whispering>(options);
  });
  environments::EnvironmentOptions options;
  options.type = "whispering";
  return options;
}

class OnTabletop : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!simulation::Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
  FunctionPolicy expert_{[](const Observation& o) { return o.state.at("right"); }, 7};
  FunctionPolicy confused_{[](const Observation& o) { return o.state.at("wrong"); }, 7};
};

TEST_F(OnTabletop, TheExpertSucceedsUnaidedAndTheConfusedNever) {
  const EvalOptions options{.trials = 12, .parallel = 6, .threads = 2};
  const EvalResult expert = evaluate(expert_, whispering(), options);
  EXPECT_EQ(expert.success.count, 12);
  EXPECT_EQ(expert.unaided.count, 12);
  EXPECT_GT(expert.mean_steps, 10);
  EXPECT_LT(expert.mean_steps, 25);
  EXPECT_EQ(expert.success_by_fact.at("target=red").total + expert.success_by_fact.at("target=blue").total,
            12);
  EXPECT_EQ(expert.success_by_fact.count("layout=habit") + expert.success_by_fact.count("layout=swapped"),
            2u);
  const EvalResult confused = evaluate(confused_, whispering(), options);
  EXPECT_EQ(confused.success.count, 0);
  EXPECT_EQ(confused.outcomes.at("wrong object"), 12);
}

TEST_F(OnTabletop, TrialsDoNotDependOnParallelOrThreads) {
  const EvalResult one = evaluate(confused_, whispering(), {.trials = 9, .parallel = 1, .threads = 1});
  const EvalResult seven = evaluate(confused_, whispering(), {.trials = 9, .parallel = 7, .threads = 2});
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(one.trials[i].steps, seven.trials[i].steps) << i;
    EXPECT_EQ(one.trials[i].outcome, seven.trials[i].outcome) << i;
    EXPECT_EQ(one.trials[i].facts, seven.trials[i].facts) << i;
  }
}

TEST_F(OnTabletop, AHumanSavesTheConfusedEarly) {
  const apo::testing::TempDir dir;
  const auto environment = environments::make_environment(whispering());
  const auto human = make_scripted_human({});
  const CollectionSummary summary = collect(
      *environment, confused_, *human, {.take_overs = 8, .episodes = 40, .seed = 50}, dir / "table.hdf5");
  EXPECT_EQ(summary.take_overs, 8);
  EXPECT_EQ(summary.episodes, 8);  // he steps in every time
  EXPECT_GE(summary.take_overs_by_reason.at("wrong object"), 7);
  EXPECT_GE(summary.corrected, 7);  // from where the correction is still easy
  const auto file = data::TrajectoryFile::open(dir / "table.hdf5");
  for (int64_t e = 0; e < file->num_episodes(); ++e) {
    const auto record = file->episode(e);
    const auto taken = std::find(record.sources.begin(), record.sources.end(), ActionSource::intervention);
    ASSERT_NE(taken, record.sources.end());
    const auto step = std::distance(record.sources.begin(), taken);
    EXPECT_GE(step, 3);
    // high enough over the other block for a correction by a sideways motion
    EXPECT_GT(file->observation(e, step).state.at("eef_height")[0], 0.04f) << "episode " << e;
  }
}

TEST_F(OnTabletop, DemonstrationsKeepTheHabit) {
  const apo::testing::TempDir dir;
  const CollectionSummary summary =
      collect_demonstrations(environments::EnvironmentOptions{}, {.episodes = 6}, dir / "demos.hdf5");
  EXPECT_EQ(summary.recorded, 6);
  const auto file = data::TrajectoryFile::open(dir / "demos.hdf5");
  std::string attributes;
  for (const auto& [name, value] : file->attributes()) attributes += name + "=" + value + "\n";
  EXPECT_THAT(attributes, ::testing::HasSubstr(" habit: 1"));
  for (int64_t e = 0; e < 6; ++e) {
    const auto record = file->episode(e);
    EXPECT_EQ(record.actions.front().size(), 7u);
    for (const ActionSource source : record.sources) EXPECT_EQ(source, ActionSource::expert);
    EXPECT_THAT(record.instruction, ::testing::StartsWith("pick up the "));
  }
}

TEST_F(OnTabletop, PicturesOfACorrectionTellWhoActs) {
  const auto environment = environments::make_environment(whispering());
  const auto human = make_scripted_human({});
  const RecordedTrial corrected = record_trial(confused_, *environment, 50, 64, human.get());
  EXPECT_EQ(corrected.take_overs, 1);
  EXPECT_TRUE(corrected.trial.success);
  EXPECT_FALSE(corrected.trial.unaided);
  EXPECT_EQ(std::ssize(corrected.frames), corrected.trial.steps + 1);
  const auto red_minus_blue = [](const at::Tensor& frame) {
    return frame[0][0][0].item<int64_t>() - frame[0][0][2].item<int64_t>();
  };
  EXPECT_LT(red_minus_blue(corrected.frames.front()), 0);  // blue: the policy
  EXPECT_GT(red_minus_blue(corrected.frames.back()), 0);   // orange: the human
  const RecordedTrial alone = record_trial(expert_, *environment, 50, 64);
  EXPECT_TRUE(alone.trial.unaided);
  EXPECT_EQ(alone.frames.front().sizes(), (std::vector<int64_t>{64, 64, 3}));
}

TEST_F(OnTabletop, TheBlockThatSlipsAwayIsAFact) {
  environments::EnvironmentOptions options = whispering();
  options.disruptions.scene.object_moved.probability = 1;
  const EvalResult result = evaluate(expert_, options, {.trials = 4, .parallel = 4});
  EXPECT_EQ(result.success_by_fact.at("object_moved=yes").total, 4);
}

}  // namespace
}  // namespace apo::deploy
