// What a loop hands from stage to stage.
#include "loop/stages.h"

#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/deploy/scripted_human.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"
#include "training/checkpoint.h"
#include "training/resume.h"

namespace apo::loop {
namespace {

using apo::testing::TempDir;

const config::GripperOptions kGripper = {.dimension = {1}, .open = 0.5, .closed = -0.5};

// An environment that says itself what its actions code, as plug-ins do.
class CodedWalk : public deploy::testing::Walk {
 public:
  CodedWalk() {
    spec_.name = "coded walk";
    spec_.gripper = kGripper;
  }
  std::optional<Action> expert() override {
    const bool even = step_count() % 2 == 0;
    return Action{even ? 0.75f : 1.0f, even ? 0.5f : -0.5f};
  }
};

RefineSetup tiny_setup(const std::string& dir) {
  environments::register_environment(
      "coded-walk", [](const environments::EnvironmentOptions&) { return std::make_unique<CodedWalk>(); });
  RefineSetup setup;
  setup.environment.type = "coded-walk";
  setup.training.run.dir = dir;
  setup.training.run.device = "cpu";
  setup.training.run.threads = 1;
  models::PolicyOptions& policy = setup.training.policy;
  policy.of<models::SmallOptions>().image_size = 16;
  policy.of<models::SmallOptions>().width = 16;
  policy.of<models::SmallOptions>().layers = 1;
  policy.of<models::SmallOptions>().heads = 2;
  policy.of<models::SmallOptions>().channels = 4;
  policy.of<models::SmallOptions>().action_bins = 16;
  policy.state_keys = {"position"};
  setup.training.data.filter.min_motion = 0;
  setup.training.data.checks = data::DataChecks::warn;
  setup.training.data.loader = {.workers = 0, .prefetch = 1};
  setup.refine.base.augmentation.enabled = false;
  setup.refine.base.train.batch_size = 4;
  setup.refine.base.train.max_steps = 1;
  setup.deploy.demonstrations.episodes = 3;
  setup.deploy.demonstrations.action_noise = 0;
  setup.deploy.collect.take_overs = 0;
  setup.deploy.collect.episodes = 2;
  setup.deploy.intervention.of<deploy::ScriptedHumanOptions>().calm_steps = 0;
  setup.deploy.intervention.of<deploy::ScriptedHumanOptions>().patience_steps = 1;
  setup.eval.trials = 2;
  setup.eval.parallel = 1;
  setup.eval.threads = 1;
  return setup;
}

TEST(Stages, RecordingsHaveTheGripperThatTheEnvironmentSays) {
  const TempDir dir;
  const RefineSetup setup = tiny_setup(dir.path());
  Stages stages(setup);
  stages.demonstrate();
  const Stages::Base base = stages.base();
  const std::string recording = dir / "round-1/interactions.hdf5";
  stages.deploy("round-1/deployment", base.checkpoint, setup.deploy.intervention, setup.deploy.collect,
                recording);
  stages.refine("round-1/training", base_training(setup), base.checkpoint, {recording},
                dir / "round-1/training");
  const auto trained_on = training::read_options(dir / "round-1/training/checkpoints/step-1").data;
  ASSERT_EQ(trained_on.expert.size(), 1u);
  EXPECT_EQ(trained_on.expert[0].gripper, kGripper);
  ASSERT_EQ(trained_on.interactions.size(), 1u);
  EXPECT_EQ(trained_on.interactions[0].gripper, kGripper);
}

// A human who takes over for mere time leaves no undesirable step, a policy that is never taken over no
// correction.
TEST(Stages, PoolsThatADeploymentLeavesEmptyAreLeftOut) {
  const TempDir dir;
  RefineSetup setup = tiny_setup(dir.path());
  Stages stages(setup);
  stages.demonstrate();
  const Stages::Base base = stages.base();
  training::TrainingOptions options = base_training(setup);
  options.objective = {};  // apo
  options.data.pools = {.desirable = 0.5, .intervention = 0.25, .undesirable = 0.25};
  const auto pools_used = [&](const std::string& round, const InterventionOptions& human) {
    const std::string recording = dir / (round + "/interactions.hdf5");
    stages.deploy(round + "/deployment", base.checkpoint, human, setup.deploy.collect, recording);
    stages.refine(round + "/training", options, base.checkpoint, {recording}, dir / (round + "/training"));
    return training::read_options(dir / (round + "/training/checkpoints/step-1")).data.pools;
  };
  const data::PoolOptions impatient = pools_used("round-1", setup.deploy.intervention);
  EXPECT_EQ(impatient.desirable, 0.5);
  EXPECT_EQ(impatient.intervention, 0.25);
  EXPECT_EQ(impatient.undesirable, 0);
  const data::PoolOptions nobody = pools_used("round-2", {.type = "none"});
  EXPECT_EQ(nobody.desirable, 0.5);
  EXPECT_EQ(nobody.intervention, 0);
  EXPECT_EQ(nobody.undesirable, 0);
  // an objective that learns from corrections alone has nothing left to learn from
  options.data.pools = {.desirable = 0, .intervention = 1, .undesirable = 0};
  EXPECT_THROW(pools_used("round-3", {.type = "none"}), ConfigError);
}

}  // namespace
}  // namespace apo::loop
