// Environments behind a WebSocket are as those of this process, say who acted, and come back when they are
// lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/files.h"
#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "apo/deploy/scripted_human.h"
#include "data/hdf5.h"
#include "deploy/remote_world.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using apo::testing::TempDir;
using environments::EnvironmentOptions;
using environments::EpisodeLost;
using ::testing::AllOf;
using testing::FunctionPolicy;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::Spoil;
using testing::Walk;
using testing::WalkServer;

std::unique_ptr<InterventionSource> scripted_human() {
  ScriptedHumanOptions options;
  options.calm_steps = 0;
  options.reaction_steps = 1;
  options.hand_back = HandBack::when_safe;
  options.min_steps = 2;
  return make_scripted_human(options);
}

std::vector<data::EpisodeRecord> collected(const EnvironmentOptions& options, const std::string& path,
                                           int64_t episodes, CollectionSummary* told = nullptr) {
  FunctionPolicy policy(testing::hesitant);
  const auto human = scripted_human();
  const CollectionSummary summary =
      collect(*environments::make_environment(options), policy, *human,
              {.take_overs = 0, .episodes = episodes, .max_steps_with_human = 20}, path);
  if (told != nullptr) *told = summary;
  std::vector<data::EpisodeRecord> records;
  const auto file = data::TrajectoryFile::open(path);
  for (int64_t i = 0; i < file->num_episodes(); ++i) records.push_back(file->episode(i));
  return records;
}

void expect_equal(const std::vector<data::EpisodeRecord>& a, const std::vector<data::EpisodeRecord>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].actions, b[i].actions) << "episode " << i;
    EXPECT_EQ(a[i].sources, b[i].sources) << "episode " << i;
    EXPECT_EQ(a[i].take_overs, b[i].take_overs) << "episode " << i;
    EXPECT_EQ(a[i].policy_actions, b[i].policy_actions) << "episode " << i;
    EXPECT_EQ(a[i].success, b[i].success) << "episode " << i;
    EXPECT_EQ(a[i].outcome, b[i].outcome) << "episode " << i;
  }
}

TEST(RemoteEnvironment, SaysOfItselfWhatTheServerSays) {
  const WalkServer server(Spoil::nothing, 3);
  const auto environment = environments::make_environment(server.options());
  EXPECT_EQ(environment->spec().name, "walk");
  EXPECT_EQ(environment->spec().action_size, 2);
  EXPECT_EQ(environment->spec().max_steps, 12);
  EXPECT_EQ(environment->spec().instances, 3);
  EXPECT_TRUE(environment->spec().repeatable);
  EXPECT_EQ(environments::available_disruptions(server.options()),
            (std::vector<std::string>{"lighting", "action_noise", "action_delay"}));
}

TEST(RemoteEnvironment, PlaysAsTheEnvironmentThatIsServed) {
  const WalkServer server;
  const auto remote = environments::make_environment(server.options());
  Walk here;
  for (const uint64_t seed : {3u, 4u}) {
    environments::Situation there = remote->reset(seed), expected = here.reset(seed);
    for (int t = 0; t < 8 && !expected.done; ++t) {
      const Observation seen = remote->observe(), own = here.observe();
      EXPECT_EQ(seen.state, own.state);
      EXPECT_EQ(seen.instruction, own.instruction);
      EXPECT_EQ(seen.images.at("front").sizes(), own.images.at("front").sizes());
      EXPECT_EQ(remote->expert(), here.expert());
      const Action action = {0.5f - 0.25f * static_cast<float>(t % 3), 0.1f};
      there = remote->step(action);
      expected = here.step(action);
      EXPECT_EQ(there.done, expected.done);
      EXPECT_EQ(there.success, expected.success);
      EXPECT_EQ(there.concern, expected.concern);
      EXPECT_EQ(there.troubled, expected.troubled);
      EXPECT_EQ(there.facts, expected.facts);
      EXPECT_FALSE(there.executed.has_value());
    }
  }
}

TEST(RemoteEnvironment, CollectsTheSameRecordingAsHere) {
  const TempDir dir;
  const WalkServer server;
  expect_equal(collected(server.options(), dir / "remote.hdf5", 8),
               collected(testing::walk_options(), dir / "here.hdf5", 8));
}

TEST(RemoteEnvironment, WhatASimulatorPlaysBackIsRecorded) {
  const TempDir dir;
  WalkServer server;
  server.die_every = 29;
  collected(server.options(), dir / "a.hdf5", 4);
  collect_demonstrations(*environments::make_environment(server.options()), {.episodes = 2},
                         dir / "demos.hdf5");
  for (const std::string name : {"a.hdf5", "demos.hdf5"}) {
    const auto data = data::hdf5::Group::open(dir / name).group("data");
    EXPECT_EQ(data.text_attribute("env_args"), testing::kWalkEnvArgs);
    for (const std::string& each : data.names()) {
      const auto demo = data.group(each);
      EXPECT_EQ(demo.text_attribute("model_file"), testing::kWalkModel);
      const std::vector<float> states = demo.array("states").floats();
      const std::vector<float> positions = demo.group("obs").array("position").floats();
      ASSERT_EQ(states.size(), 2 * positions.size());
      for (size_t t = 0; t < positions.size(); ++t) {
        EXPECT_EQ(states[2 * t], positions[t]) << "of the observation in the same row";
        EXPECT_EQ(states[2 * t + 1], static_cast<float>(t) / 4);
      }
    }
  }
}

TEST(RemoteEnvironment, EvaluatesInLockStepInAsManyEnvironmentsAsThereAre) {
  const WalkServer server(Spoil::nothing, 2);
  FunctionPolicy policy(testing::hesitant);
  const EvalOptions options{.trials = 12, .seed = 3, .parallel = 50};
  const EvalResult remote = evaluate(policy, server.options(), options);
  EXPECT_LE(policy.largest_batch, 2u);
  const EvalResult here = evaluate(policy, testing::walk_options(), options);
  ASSERT_EQ(remote.trials.size(), here.trials.size());
  for (size_t i = 0; i < here.trials.size(); ++i) {
    EXPECT_EQ(remote.trials[i].success, here.trials[i].success) << i;
    EXPECT_EQ(remote.trials[i].steps, here.trials[i].steps) << i;
    EXPECT_EQ(remote.trials[i].outcome, here.trials[i].outcome) << i;
  }
  EXPECT_EQ(server.connections, 1) << "one connection for all";
}

TEST(RemoteEnvironment, OneMoreThanThereAreIsRefused) {
  const WalkServer server;
  const auto first = environments::make_environment(server.options());
  EXPECT_THAT(message_of<RunError>([&] { environments::make_environment(server.options()); }),
              HasSubstr("expected at most 1 environments at a time (num_envs of the server)"));
}

TEST(RemoteEnvironment, AnInterruptedRunGivesTheSameFile) {
  const TempDir dir;
  WalkServer server;
  server.die_every = 29;  // more than the longest episode has
  CollectionSummary summary;
  const auto lost = collected(server.options(), dir / "lost.hdf5", 12, &summary);
  EXPECT_GE(summary.interrupted, 3) << "or the test tests nothing";
  EXPECT_EQ(summary.episodes, 12);
  EXPECT_EQ(server.connections, summary.interrupted + 1);
  expect_equal(lost, collected(testing::walk_options(), dir / "here.hdf5", 12));
}

TEST(RemoteEnvironment, AnInterruptedEvaluationGivesTheSameTrials) {
  WalkServer server(Spoil::nothing, 2);
  server.die_every = 23;
  FunctionPolicy policy(testing::hesitant);
  const EvalOptions options{.trials = 12, .seed = 3};
  const EvalResult remote = evaluate(policy, server.options(), options);
  EXPECT_GE(server.connections, 3);
  EXPECT_EQ(remote.successes(), evaluate(policy, testing::walk_options(), options).successes());
}

TEST(RemoteEnvironment, WhatCannotBeRepeatedIsKeptUpToTheLastStep) {
  const TempDir dir;
  WalkServer server;
  server.repeats = false;
  server.die_every = 29;  // more than the longest episode has
  CollectionSummary summary;
  const auto records = collected(server.options(), dir / "robot.hdf5", 12, &summary);
  EXPECT_GE(summary.interrupted, 2);
  EXPECT_EQ(std::ssize(records), summary.recorded);
  int64_t interrupted = 0;
  for (const data::EpisodeRecord& record : records) {
    if (record.outcome != "interrupted") continue;
    ++interrupted;
    EXPECT_FALSE(record.success.has_value()) << "nobody knows";
  }
  EXPECT_GE(interrupted, 1) << "a connection that is cut in the first step of an episode leaves nothing";
  EXPECT_EQ(std::ssize(records) - interrupted, 12) << "each seed is played to its end";
  // the summary is made again from the file alone
  std::filesystem::remove(dir / "robot.hdf5.json");
  FunctionPolicy policy(testing::hesitant);
  const auto human = scripted_human();
  const auto again =
      collect(*environments::make_environment(server.options()), policy, *human,
              {.take_overs = 0, .episodes = 12, .existing = ExistingFile::append}, dir / "robot.hdf5");
  EXPECT_EQ(again.episodes, 12);
  EXPECT_EQ(again.interrupted, interrupted);
  EXPECT_EQ(again.steps, summary.steps);
}

TEST(RemoteEnvironment, AHumanAtTheRobotIsRecordedAsOne) {
  const TempDir dir;
  WalkServer server;
  server.human_from = 2;
  FunctionPolicy policy([](const Observation&) { return Action{0.25f, 0.5f}; });
  const auto nobody = make_no_human();
  const CollectionSummary summary = collect(*environments::make_environment(server.options()), policy,
                                            *nobody, {.take_overs = 0, .episodes = 1}, dir / "a.hdf5");
  const data::EpisodeRecord record = data::TrajectoryFile::open(dir / "a.hdf5")->episode(0);
  ASSERT_EQ(record.num_steps(), 5) << "2 of 0.25 and 3 of 1 reach 3";
  const auto decided = ActionSource::policy, human = ActionSource::intervention;
  EXPECT_EQ(record.sources, (std::vector{decided, decided, human, human, human}));
  EXPECT_EQ(record.actions[1], (Action{0.25f, 0.5f}));
  EXPECT_EQ(record.actions[2], (Action{1.0f, -0.5f})) << "what was executed";
  EXPECT_EQ(record.policy_actions[2], (Action{0.25f, 0.5f})) << "what the policy wanted";
  ASSERT_EQ(record.take_overs.size(), 1u);
  EXPECT_EQ(record.take_overs[0].timestep, 2);
  EXPECT_EQ(record.take_overs[0].reason, "saw a hole");
  EXPECT_EQ(summary.take_overs, 1);
}

TEST(RemoteEnvironment, WhatALimitMadeOfAnActionIsRecorded) {
  const TempDir dir;
  const WalkServer server;
  FunctionPolicy policy([](const Observation&) { return Action{1.5f, 0.5f}; });
  const auto nobody = make_no_human();
  collect(*environments::make_environment(server.options()), policy, *nobody,
          {.take_overs = 0, .episodes = 1}, dir / "a.hdf5");
  const data::EpisodeRecord record = data::TrajectoryFile::open(dir / "a.hdf5")->episode(0);
  EXPECT_EQ(record.actions[0], (Action{1.0f, 0.5f}));
  EXPECT_EQ(record.sources[0], ActionSource::policy);
}

TEST(RemoteEnvironment, DemonstrationsStayCleanWhateverALimitDoes) {
  const TempDir dir;
  const WalkServer server;
  const CollectionSummary summary =
      collect_demonstrations(*environments::make_environment(server.options()),
                             {.episodes = 3, .action_noise = 2, .noise_dimensions = 1}, dir / "demos.hdf5");
  EXPECT_EQ(summary.recorded, 3);
  const auto file = data::TrajectoryFile::open(dir / "demos.hdf5");
  for (int64_t i = 0; i < 3; ++i)
    for (const Action& action : file->episode(i).actions) EXPECT_EQ(action, (Action{1.0f, 0.25f}));
}

TEST(RemoteEnvironment, ALateStepIsALostEpisode) {
  const WalkServer server(Spoil::never_answers);
  const auto environment = environments::make_environment(server.options());
  environment->reset(1);
  EXPECT_THAT(message_of<EpisodeLost>([&] {
                environment->step({0, 0});
              }),
              HasSubstr("expected a reply to \"step\" within 1 s (environment.remote.timeouts), found none"));
  EXPECT_NO_THROW(environment->reset(1)) << "the next one may work again";
}

TEST(RemoteEnvironment, AnEpisodeThatIsAlwaysLostIsGivenUp) {
  const TempDir dir;
  const WalkServer server(Spoil::dies);
  EXPECT_THAT(message_of<RunError>([&] { collected(server.options(), dir / "a.hdf5", 1); }),
              AllOf(HasSubstr("episode 0: interrupted 9 times in a row"), HasSubstr("lost")));
}

TEST(RemoteEnvironment, WhatAServerGetsWrongIsNamed) {
  const std::vector<std::pair<Spoil, std::string>> wrong = {
      {Spoil::wrong_id, "id: expected that of a request without a reply"},
      {Spoil::lying_shape, "expected"},
      {Spoil::not_a_number, "obs.position[0]: expected a finite number, found nan"},
      {Spoil::missing_camera, "obs.front_image: expected the picture of camera front, found nothing"},
      {Spoil::other_size, "obs.front_image: expected [4, 4, 3] as the metadata say"},
      {Spoil::huge, "expected frames of at most 64 MiB"},
      {Spoil::other_length, "state: expected 2 numbers as after the reset, found 3"},
      {Spoil::endless_state, "state[1]: expected a finite number, found inf"}};
  for (const auto& [spoil, message] : wrong) {
    const WalkServer server(spoil);
    const auto environment = environments::make_environment(server.options());
    environment->reset(1);
    std::string found;
    try {
      environment->step({0, 0});
    } catch (const EpisodeLost& error) {
      found = concat("lost: ", error.what());
    } catch (const RunError& error) {
      found = error.what();
    }
    EXPECT_THAT(found, AllOf(HasSubstr(message), HasSubstr("environment.remote ws://127.0.0.1:"),
                             Not(HasSubstr("lost:"))))
        << static_cast<int>(spoil);
  }
}

TEST(RemoteEnvironment, AStateThatWasPromisedIsMissed) {
  const WalkServer server(Spoil::no_state);
  const auto environment = environments::make_environment(server.options());
  EXPECT_THAT(message_of<RunError>([&] { environment->reset(1); }),
              HasSubstr("state: expected the simulator's state, as capabilities name state, found nothing"));
}

TEST(RemoteEnvironment, ASecondReplyIsAnErrorOfTheNextRequest) {
  const WalkServer server(Spoil::answers_twice);
  const auto environment = environments::make_environment(server.options());
  environment->reset(1);
  EXPECT_THAT(message_of<RunError>([&] {
                for (int t = 0; t < 3; ++t) environment->step({0, 0});
              }),
              HasSubstr("id: expected that of a request without a reply"));
}

TEST(RemoteEnvironment, OtherVersionsAndWrongTokensAreRefused) {
  const WalkServer other(Spoil::other_version);
  EXPECT_THAT(message_of<RunError>([&] { environments::make_environment(other.options()); }),
              HasSubstr("metadata: version: expected version 1, which is what this program speaks, found 2"));
  const WalkServer locked(Spoil::nothing, 1, "a-secret-of-the-lab");
  EnvironmentOptions options = locked.options();
  EXPECT_NO_THROW(environments::make_environment(options));
  EXPECT_THAT(environments::make_environment(options)->spec().config, Not(HasSubstr("secret")))
      << "recordings hold no token";
  options.of<environments::RemoteOptions>().token = "guess";
  EXPECT_THAT(message_of<RunError>([&] { environments::make_environment(options); }),
              HasSubstr("expected environment.remote.token to be the server's token"));
  ::setenv("APO_TEST_TOKEN", "a-secret-of-the-lab", 1);
  options.of<environments::RemoteOptions>().token = "$APO_TEST_TOKEN";
  EXPECT_NO_THROW(environments::make_environment(options));
}

TEST(RemoteEnvironment, WhereNobodyListensItSaysSo) {
  EnvironmentOptions options;
  options.type = "remote";
  {
    const WalkServer gone;
    options = gone.options();
  }
  EXPECT_THAT(message_of<RunError>([&] { environments::make_environment(options); }),
              AllOf(HasSubstr("cannot connect"), HasSubstr("expected a server of the protocol")));
}

TEST(RemoteEnvironment, BadUrlsAreConfigErrors) {
  for (const std::string& url : std::vector<std::string>{
           "", "127.0.0.1:8765", "http://robot", "wss://robot:1", "ws://", "ws://robot:0", "ws://robot:99999",
           "ws://robot:x", "ws://[::1", "ws://a b", "ws://u@h"}) {
    EnvironmentOptions options;
    options.type = "remote";
    options.of<environments::RemoteOptions>().url = url;
    EXPECT_THAT(message_of<ConfigError>([&] { environments::make_environment(options); }),
                HasSubstr("environment.remote.url: expected ws://HOST[:PORT][/PATH]"))
        << url;
  }
}

TEST(CheckRemote, FindsNothingWrongWithAGoodServer) {
  const WalkServer server(Spoil::nothing, 2);
  const auto check = environments::check_remote(server.remote());
  EXPECT_EQ(check.num_errors(), 0) << check.text();
  EXPECT_THAT(check.text(),
              AllOf(HasSubstr("cameras      front 4x4"), HasSubstr("expert       2 of 2 episodes")));
}

TEST(CheckRemote, FailsEverySpoiledServer) {
  for (const Spoil spoil :
       {Spoil::other_version, Spoil::wrong_id, Spoil::lying_shape, Spoil::not_a_number, Spoil::missing_camera,
        Spoil::other_size, Spoil::never_answers, Spoil::dies, Spoil::answers_twice, Spoil::huge, Spoil::black,
        Spoil::random, Spoil::lets_anything, Spoil::no_state, Spoil::other_length, Spoil::endless_state}) {
    const WalkServer server(spoil);
    EXPECT_GE(environments::check_remote(server.remote()).num_errors(), 1) << static_cast<int>(spoil);
  }
}

}  // namespace
}  // namespace apo::deploy
