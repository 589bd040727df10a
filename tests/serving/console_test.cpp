// A page of the console on a real server, beside a robot: what it says and what becomes of it.
#include <gmock/gmock.h>

#include "apo/data/trajectory.h"
#include "serving/fake_page.h"
#include "serving/world.h"
#include "wire/json_numpy.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

ServeOptions recording_into(const std::filesystem::path& path) {
  ServeOptions options = free_port();
  options.record = path.string();
  options.hysteresis_s = 0;
  return options;
}

std::string ended_of(const wire::Value& answer) {
  const wire::Value* ended = answer.find("episode_ended");
  return ended != nullptr ? *ended->as<std::string>() : "";
}

TEST(ConsoleOnAServer, AMarkEndsTheEpisodeAndTheRobotLearnsOfIt) {
  const TempDir dir;
  {
    const World world(recording_into(dir / "served.hdf5"));
    FakePage page(world.port());
    WebClient robot(world.port());
    EXPECT_EQ(ended_of(robot.ask(request_map(51, 0.25f))), "");
    page.hear("state", [](const Json& state) { return state["step"] == 1; });
    page.say({{"type", "success"}});
    const Json told =
        page.hear("episodes", [](const Json& message) { return message["episodes"].size() == 1; });
    EXPECT_EQ(told["episodes"][0]["name"], "demo_0");
    EXPECT_EQ(told["episodes"][0]["success"], true);
    page.hear("state", [](const Json& state) { return state["episode_state"] == "finished"; });
    EXPECT_EQ(ended_of(robot.ask(request_map(51, 0.25f))), "success");
    EXPECT_EQ(ended_of(robot.ask(request_map(51, 0.25f))), "");
  }
  const auto file = data::TrajectoryFile::open(dir / "served.hdf5");
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(0).success, true);
  EXPECT_EQ(file->episode(0).outcome, "success");
  EXPECT_EQ(file->episode(1).success, std::nullopt);
}

// The person has their hands in the scene when the policy's answer comes.
TEST(ConsoleOnAServer, AnAnswerThatWasOnItsWayWhenTheEpisodeWasEndedHoldsTheArmStill) {
  World world;
  FakePage page(world.port());
  WebClient robot(world.port());
  EXPECT_NEAR(action_of(robot.ask(request_map(51, 0.25f))), 0.2, 0.006);
  page.hear("state", [](const Json& state) { return state["step"] == 1; });
  world.policy.delay = 500ms;
  robot.send(request_map(255, 0.25f));
  std::this_thread::sleep_for(100ms);
  page.say({{"type", "reset"}});
  const wire::Value answer = wire::from_msgpack(robot.receive().bytes, "answer");
  EXPECT_EQ(action_of(answer), 0);
  EXPECT_EQ(ended_of(answer), "reset");
  world.policy.delay = 0ms;
  EXPECT_EQ(action_of(robot.ask(request_map(255, 0.25f))), 0);  // paused while the scene is set up
  page.say({{"type", "pause"}, {"paused", false}});
  EXPECT_TRUE(eventually([&] { return action_of(robot.ask(request_map(255, 0.25f))) > 0.9f; }));
}

TEST(ConsoleOnAServer, ARestClientReadsInTheHeaderThatItsEpisodeWasEnded) {
  const World world;
  FakePage page(world.port());
  const auto ask = [&] {
    const wire::Map request = {{"image", picture_array(51)},
                               {"state", wire::array(std::vector<double>{0.5, 0.5})},
                               {"instruction", "lift the cube"}};
    return std::string(
        ask_http(world.port(), http_post("/act", wire::to_json(request)))["X-Apo-Episode-Ended"]);
  };
  EXPECT_EQ(ask(), "");
  page.hear("state", [](const Json& state) { return state["step"] == 1; });
  page.say({{"type", "failure"}});
  page.hear("state", [](const Json& state) { return state["episode_state"] == "finished"; });
  EXPECT_EQ(ask(), "failure");
  EXPECT_EQ(ask(), "");
}

TEST(ConsoleOnAServer, APersonsInstructionStandsForTheRobotsFromTheNextEpisodeOn) {
  const TempDir dir;
  {
    const World world(recording_into(dir / "served.hdf5"));
    FakePage page(world.port());
    page.say({{"type", "instruction"}, {"text", "fold"}});
    page.hear("state", [](const Json& state) { return state["instruction"] == "fold"; });
    WebClient robot(world.port());
    robot.ask(request_map(51, 0.25f));
    page.say({{"type", "instruction"}, {"text", "refuse"}});
    EXPECT_THAT(page.hear("notice")["text"].get<std::string>(), HasSubstr("between episodes"));
    robot.ask(request_map(51, 0.25f));
    robot.ask(wire::Map{{"event", "end"}});
    page.hear("state", [](const Json& state) { return state["episode_state"] == "finished"; });
    page.say({{"type", "instruction"}, {"text", ""}});
    page.hear("state", [](const Json& state) { return state["instruction"] == ""; });
    robot.ask(request_map(51, 0.25f));
  }
  const auto file = data::TrajectoryFile::open(dir / "served.hdf5");
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(0).instruction, "fold");
  EXPECT_EQ(file->episode(0).num_steps(), 2);
  EXPECT_EQ(file->episode(1).instruction, "lift the cube");
}

// A robot that nobody watches keeps what it holds when somebody pauses.
TEST(ConsoleOnAServer, APauseKeepsTheGripperOfEveryRobotAsItWas) {
  ServeOptions options = free_port();
  options.gripper = {.dimension = {1}, .open = -1, .closed = 1};
  World world(options);
  FakePage page(world.port());
  WebClient watched(world.port()), other(world.port());
  watched.ask(request_map(51, 0));
  const float grip = action_of(other.ask(request_map(51, 0.75f)), 0, 1);
  page.hear("state", [](const Json& state) { return state["step"] == 1; });
  page.say({{"type", "pause"}, {"paused", true}});
  page.hear("state", [](const Json& state) { return state["mode"] == "paused"; });
  const wire::Value answer = other.ask(request_map(51, -0.75f));  // its policy wants to let go
  EXPECT_EQ(action_of(answer, 0, 0), 0);
  EXPECT_EQ(action_of(answer, 0, 1), grip);
}

TEST(ConsoleOnAServer, WhatIsRefinedIsACopyOfTheRecording) {
  const TempDir dir;
  ServedPolicy needs = echo_needs();
  needs.refine = {
      .command = {"/bin/sh", "-c", "true", "apo-train"}, .directory = dir / "refined", .updates = 7};
  {
    const World world(recording_into(dir / "served.hdf5"), 1, needs);
    FakePage page(world.port());
    EXPECT_EQ(page.hear("refine")["state"], "idle");
    page.say({{"type", "refine"}});
    EXPECT_THAT(page.hear("refine", [](const Json& told) { return told["state"] == "failed"; })["text"]
                    .get<std::string>(),
                HasSubstr("served.hdf5: expected an episode, found none yet"));
    WebClient robot(world.port());
    robot.ask(request_map(51, 0.25f));
    robot.ask(wire::Map{{"event", "end"}, {"success", true}});
    robot.ask(request_map(51, 0.25f));
    page.say({{"type", "refine"}});
    const Json told = page.hear("refine", [](const Json& message) { return message["state"] == "done"; });
    EXPECT_EQ(told["of"], 7);
  }
  EXPECT_EQ(data::TrajectoryFile::open(dir / "refined/1/interactions.hdf5")->num_episodes(), 1);
}

}  // namespace
}  // namespace apo::serving
