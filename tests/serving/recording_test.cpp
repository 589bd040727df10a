// What of served robots is in the recording: who acted, where episodes end, and what a kill leaves.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include "apo/data/trajectory.h"
#include "serving/world.h"
#include "support/no_room.h"
#include "wire/json_numpy.h"

namespace apo::serving {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

ServeOptions recording_into(const fs::path& path) {
  ServeOptions options = free_port();
  options.record = path.string();
  options.hysteresis_s = 0;
  return options;
}

wire::Value human(std::vector<float> action) { return wire::array(action); }

std::string sources_of(const data::EpisodeRecord& record) {
  std::string letters;
  for (const ActionSource source : record.sources) letters += source == ActionSource::policy ? 'p' : 'h';
  return letters;
}

std::vector<data::EpisodeRecord> episodes_of(const fs::path& path) {
  const auto file = data::TrajectoryFile::open(path);
  std::vector<data::EpisodeRecord> all;
  for (int64_t i = 0; i < file->num_episodes(); ++i) all.push_back(file->episode(i));
  return all;
}

TEST(Recording, AConnectionIsAnEpisodeWithEverythingInIt) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port());
    client.ask(request_map(51, 0.25f));
    const wire::Value answer = client.ask(
        request_map(102, 0.5f, {{"intervention_action", human({-1, 0.5f})}, {"reason", "wrong cup"}}));
    EXPECT_EQ(action_of(answer, 0, 0), -1);
    EXPECT_EQ(*answer.find("action_source"), wire::Value(2));
    client.ask(request_map(153, 0.75f));
    client.close();
    WebClient silent(world.port());
    silent.close();
  }
  const auto file = data::TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 1);
  const data::EpisodeRecord record = file->episode(0);
  EXPECT_EQ(sources_of(record), "php");
  EXPECT_EQ(record.instruction, "lift the cube");
  EXPECT_EQ(record.success, std::nullopt);
  EXPECT_EQ(record.outcome, "disconnected");
  EXPECT_NEAR(record.actions[0][0], 0.2, 0.006);
  EXPECT_EQ(record.actions[1], (Action{-1, 0.5f}));
  ASSERT_TRUE(record.policy_actions[1]);
  EXPECT_NEAR((*record.policy_actions[1])[0], 0.4, 0.006);
  EXPECT_EQ(record.decision_offsets, (std::vector<std::optional<int64_t>>{0, 0, 0}));
  ASSERT_EQ(record.take_overs.size(), 1u);
  EXPECT_EQ(record.take_overs[0].reason, "wrong cup");
  const Observation seen = file->observation(0, 2);
  EXPECT_EQ(seen.images.at("front")[0][0][0].item<int64_t>(), 153);
  EXPECT_EQ(seen.state.at("arm"), (std::vector<float>{0.75f, 0.5f}));
}

TEST(Recording, EndSaysHowItEndedAndTheNextRequestBeginsAnother) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port());
    for (const wire::Value& success : {wire::Value(true), wire::Value(false), wire::Value()}) {
      client.ask(request_map(0, 0));
      client.ask(request_map(0, 0));
      const wire::Value ended = client.ask(wire::Map{{"event", "end"}, {"success", success}});
      EXPECT_EQ(*ended.find("steps"), wire::Value(2));
    }
    EXPECT_EQ(*client.ask(wire::Map{{"event", "end"}, {"episode_id", "none such"}}).find("steps"),
              wire::Value(0));
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 3u);
  EXPECT_EQ(episodes[0].success, true);
  EXPECT_EQ(episodes[0].outcome, "success");
  EXPECT_EQ(episodes[1].success, false);
  EXPECT_EQ(episodes[2].success, std::nullopt);
}

TEST(Recording, NamedEpisodesOutliveTheirConnectionsAndDoNotMix) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    for (int step = 0; step < 3; ++step) {
      WebClient client(world.port());
      for (const char* id : {"left", "right"})
        client.ask(request_map(static_cast<uint8_t>(id[0]), 0.1f * step, {{"episode_id", id}}));
    }
    WebClient client(world.port());
    client.ask(wire::Map{{"event", "end"}, {"episode_id", "right"}, {"success", true}});
  }
  const auto file = data::TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 2);
  for (int64_t i = 0; i < 2; ++i) {
    ASSERT_EQ(file->episode(i).num_steps(), 3);
    for (int64_t t = 0; t < 3; ++t)
      EXPECT_EQ(file->observation(i, t).images.at("front")[0][0][0].item<int64_t>(), i == 0 ? 'r' : 'l');
  }
  EXPECT_EQ(file->episode(1).outcome, "interrupted");
}

TEST(Recording, OverRestAnAddressIsAnEpisodeUntilItIsSilent) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  ServeOptions options = recording_into(path);
  options.limits.episode_idle_s = 0.2;
  {
    const World world(options);
    const std::string body = wire::to_json(
        wire::Map{{"image", picture_array(9)}, {"state", wire::List{0.0, 1.0}}, {"instruction", "lift"}});
    for (int i = 0; i < 2; ++i) ask_http(world.port(), http_post("/act", body));
    std::this_thread::sleep_for(2s);
    ask_http(world.port(), http_post("/act", body));
    const HttpResponse ended =
        ask_http(world.port(), http_post("/act", R"({"event": "end", "success": true})"));
    EXPECT_EQ(ended.body(), R"({"event":"end","steps":1})");
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 2u);
  EXPECT_EQ(sources_of(episodes[0]), "pp");
  EXPECT_EQ(episodes[0].outcome, "idle");
  EXPECT_EQ(episodes[1].success, true);
}

TEST(Recording, ARestingHandIsOneTakeOver) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  ServeOptions options = recording_into(path);
  options.hysteresis_s = 0.4;
  {
    const World world(options);
    WebClient client(world.port());
    client.ask(request_map(51, 0));
    client.ask(request_map(51, 0, {{"intervention_action", human({-1, 0.5f})}}));
    const wire::Value held = client.ask(request_map(51, 0));  // no input: the arm is held
    EXPECT_EQ(action_of(held, 0, 0), 0);
    EXPECT_EQ(action_of(held, 0, 1), 0.5f);  // the gripper as it was
    client.ask(request_map(51, 0, {{"intervention_action", human({-0.5f, 0.5f})}}));
    std::this_thread::sleep_for(500ms);
    EXPECT_NEAR(action_of(client.ask(request_map(51, 0))), 0.2, 0.006);
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_EQ(sources_of(episodes[0]), "phhhp");
  EXPECT_EQ(episodes[0].take_overs.size(), 1u);
  EXPECT_EQ(episodes[0].actions[2], (Action{0, 0.5f}));
}

TEST(Recording, AHumanActsEvenWhereThePolicyFails) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port());
    wire::Map request = request_map(51, 0, {{"intervention_action", human({-1, 0.5f})}});
    request[2].value = "refuse";
    EXPECT_EQ(action_of(client.ask(request)), -1);
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_FALSE(episodes[0].policy_actions[0]);
  EXPECT_FALSE(episodes[0].decision_offsets[0]);
}

TEST(Recording, AnotherInstructionIsAnotherEpisode) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port());
    client.ask(request_map(51, 0));
    wire::Map other = request_map(51, 0);
    other[2].value = "open the drawer";
    client.ask(other);
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 2u);
  EXPECT_EQ(episodes[1].instruction, "open the drawer");
}

TEST(Recording, ARobotWithOtherPicturesIsToldSoAndOthersGoOn) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port()), other(world.port());
    client.ask(request_map(51, 0));
    wire::Map larger = request_map(51, 0);
    larger[0].value = picture_array(1, 8, 8);
    other.send(larger);
    EXPECT_THAT(other.complaint(), HasSubstr("camera front 4x6, state arm [2] as in the file's first step"));
    client.ask(request_map(51, 0));
  }
  const auto episodes = episodes_of(path);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_EQ(sources_of(episodes[0]), "pp");
}

TEST(Recording, AFullDiskIsToldToTheSenderAndWhatWasRecordedStays) {
  const TempDir dir;
  const fs::path path = dir / "served.hdf5";
  {
    const World world(recording_into(path));
    WebClient client(world.port()), other(world.port());
    client.ask(request_map(1, 0));
    other.ask(request_map(2, 0));
    {
      const apo::testing::NoRoom full;
      client.send(request_map(3, 0));
      EXPECT_THAT(client.complaint(), HasSubstr("File too large"));
      EXPECT_EQ(ask_http(world.port(), http_get("/healthz")).body(), "OK\n");
    }
    other.ask(request_map(4, 0));
  }
  const auto file = data::TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(0).num_steps(), 1);  // ended by its error
  EXPECT_EQ(file->episode(1).num_steps(), 2);
}

// Killed at 20 moments: what was answered is recorded, but for the last step.
TEST(Recording, AKillLosesTheLastStepAtMost) {
  for (int moment = 0; moment < 20; ++moment) {
    const TempDir dir;
    const fs::path path = dir / "served.hdf5";
    int port_pipe[2];
    ASSERT_EQ(::pipe(port_pipe), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const World world(recording_into(path));
      const int64_t port = world.port();
      if (::write(port_pipe[1], &port, sizeof port) != sizeof port) ::_exit(1);
      for (;;) ::pause();
    }
    int64_t port = 0;
    ASSERT_EQ(::read(port_pipe[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
    int64_t answered = 0;
    {
      WebClient client(port);
      std::thread killer([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(3 + 7 * moment));
        ::kill(child, SIGKILL);
      });
      for (int i = 0;; ++i) {
        client.send(i % 7 == 6 ? wire::Value(wire::Map{{"event", "end"}, {"success", true}})
                               : wire::Value(request_map(static_cast<uint8_t>(i), 0)));
        const Received got = client.receive();
        if (got.broken || got.close_code) break;
        if (i % 7 != 6) ++answered;
      }
      killer.join();
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ::close(port_pipe[0]);
    ::close(port_pipe[1]);
    { const World again(recording_into(path)); }
    int64_t recorded = 0;
    for (const auto& episode : episodes_of(path)) recorded += episode.num_steps();
    EXPECT_GE(recorded, answered) << moment;
    EXPECT_LE(recorded, answered + 1) << moment;  // recorded, and killed before it was answered
    EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1) << moment;
  }
}

}  // namespace
}  // namespace apo::serving
