// openpi's protocol over real sockets: what comes first, what is answered, and what to whom while it takes
// long.
#include <gmock/gmock.h>

#include "serving/world.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

std::vector<std::string> keys_of(const wire::Value& value) {
  std::vector<std::string> keys;
  if (const auto* map = value.as<wire::Map>())
    for (const wire::Member& member : *map) keys.push_back(member.key);
  return keys;
}

TEST(Openpi, SaysWhatItServesFirstAndOnEveryPath) {
  const World world;
  for (const char* path : {"/", "/any/path?x=1", "/v1/realtime/robot/openpi"}) {
    WebClient client(world.port(), path);
    ASSERT_TRUE(client.connected()) << path;
    const wire::Value metadata = wire::from_msgpack(client.metadata, "metadata");
    EXPECT_EQ(*metadata.find("action_size"), wire::Value(2));
    EXPECT_EQ(*metadata.find("cameras"), wire::Value(wire::List{"front"}));
    client.close();
  }
}

TEST(Openpi, AnswersWithActionsAsTheOnlyArrayAndSaysHowLongItTook) {
  const World world(free_port(), 3);
  WebClient client(world.port());
  const wire::Value first = client.ask(request_map(51, 0.25f, {{"request_id", 7}}));
  EXPECT_EQ(keys_of(first),
            (std::vector<std::string>{"actions", "server_timing", "action_source", "request_id"}));
  const auto* actions = first.find("actions")->as<wire::Array>();
  ASSERT_NE(actions, nullptr);
  EXPECT_EQ(actions->shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(actions->dtype, wire::Dtype::f4);
  EXPECT_NEAR(action_of(first, 0, 0), 0.2, 0.006);
  EXPECT_NEAR(action_of(first, 0, 1), 0.25, 0.006);
  EXPECT_NEAR(action_of(first, 2, 1), 0.05, 0.006);
  EXPECT_EQ(*first.find("request_id"), wire::Value(7));
  EXPECT_EQ(keys_of(*first.find("server_timing")), (std::vector<std::string>{"infer_ms", "queue_ms"}));
  const wire::Value second = client.ask(request_map(102, -0.5f));
  EXPECT_EQ(keys_of(*second.find("server_timing")),
            (std::vector<std::string>{"infer_ms", "queue_ms", "prev_total_ms"}));
  EXPECT_NEAR(action_of(second, 0, 0), 0.4, 0.006);
}

TEST(Openpi, PingsAndOthersAreAnsweredDuringAnInference) {
  World world;
  world.policy.delay = 600ms;
  WebClient slow(world.port());
  const auto begin = std::chrono::steady_clock::now();
  slow.send(request_map(0, 0));
  std::this_thread::sleep_for(50ms);
  bool pong = false;
  slow.socket().control_callback([&](websocket::frame_type type, beast::string_view) {
    pong |= type == websocket::frame_type::pong;
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 500ms);
  });
  slow.socket().ping({});
  EXPECT_EQ(ask_http(world.port(), http_get("/healthz")).body(), "OK\n");
  WebClient other(world.port());
  EXPECT_TRUE(other.connected());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 500ms);
  EXPECT_FALSE(slow.receive().broken);  // handles the pong on its way
  EXPECT_TRUE(pong);
}

TEST(Openpi, AnswersInTheOrderOfTheQuestions) {
  World world;
  world.policy.delay = 1ms;
  WebClient client(world.port());
  for (int i = 0; i < 50; ++i) client.send(request_map(0, 0, {{"request_id", i}}));
  for (int i = 0; i < 50; ++i) {
    const Received got = client.receive();
    ASSERT_FALSE(got.is_text || got.broken || got.close_code) << i;
    EXPECT_EQ(*wire::from_msgpack(got.bytes, "answer").find("request_id"), wire::Value(i));
  }
}

TEST(Openpi, SeveralClientsShareABatchAndNobodysAnswerDependsOnIt) {
  ServeOptions options = free_port();
  options.temperature = 1;
  options.batch.wait_ms = 30;
  std::vector<std::vector<float>> alone(4), together(4);
  const auto play = [](int64_t port, int robot, std::vector<float>& actions) {
    WebClient client(port);
    for (int step = 0; step < 5; ++step) {
      const wire::Value answer =
          client.ask(request_map(static_cast<uint8_t>(40 * robot), 0.1f * step, {{"seed", robot}}));
      actions.push_back(action_of(answer, 0, 0));
      actions.push_back(action_of(answer, 0, 1));
    }
  };
  {
    World world(options);
    for (int robot = 0; robot < 4; ++robot) play(world.port(), robot, alone[static_cast<size_t>(robot)]);
    EXPECT_EQ(world.policy.largest_batch, 1);
  }
  {
    World world(options);
    std::vector<std::thread> robots;
    for (int robot = 0; robot < 4; ++robot)
      robots.emplace_back([&, robot] { play(world.port(), robot, together[static_cast<size_t>(robot)]); });
    for (std::thread& robot : robots) robot.join();
    EXPECT_GT(world.policy.largest_batch, 1);
  }
  EXPECT_EQ(alone, together);
  EXPECT_NE(alone[0][1], alone[1][1]);  // seeds
  EXPECT_NE(alone[0][1], alone[0][3]);  // steps
}

TEST(Openpi, ARowThatThePolicyRefusesFailsAlone) {
  ServeOptions options = free_port();
  options.batch.wait_ms = 200;
  World world(options);
  WebClient good(world.port()), bad(world.port()), broken(world.port());
  wire::Map refused = request_map(0, 0), breaks = request_map(0, 0);
  refused[2].value = "refuse";
  breaks[2].value = "break";
  good.send(request_map(255, 0));
  bad.send(refused);
  broken.send(breaks);
  EXPECT_EQ(bad.complaint(), "the policy refuses");
  EXPECT_EQ(broken.complaint(), "the policy broke");
  EXPECT_NEAR(action_of(wire::from_msgpack(good.receive().bytes, "answer")), 1, 0.006);
  EXPECT_EQ(world.policy.largest_batch, 3);
}

TEST(Openpi, LateAnswersAreErrorsAndTheQueueIsBounded) {
  ServeOptions options = free_port();
  options.deadline_ms = 450;
  options.batch = {.max_size = 1, .wait_ms = 0, .queue = 2};
  World world(options);
  world.policy.delay = 300ms;
  std::vector<std::unique_ptr<WebClient>> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(std::make_unique<WebClient>(world.port()));
  std::vector<std::string> said(5);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 5; ++i) {
    clients[i]->send(request_map(0, 0));
    std::this_thread::sleep_for(5ms);
    threads.emplace_back([&, i] {
      const Received got = clients[i]->receive();
      said[i] = got.is_text ? got.bytes : "an answer";
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(said[0], "an answer");                               // 300 ms
  EXPECT_THAT(said[1], HasSubstr("too late: no answer after"));  // 600 ms
  EXPECT_THAT(said[2], HasSubstr("too late: no answer after"));
  EXPECT_THAT(said[3], HasSubstr("the server is busy: 2 requests wait already (serve.batch.queue)"));
  EXPECT_THAT(said[4], HasSubstr("the server is busy"));
}

TEST(Openpi, WhoWaitsForAPolicyThatHangsIsToldAtTheDeadline) {
  ServeOptions options = free_port();
  options.deadline_ms = 200;
  World world(options);
  world.policy.delay = 3000ms;
  WebClient client(world.port());
  const auto begin = std::chrono::steady_clock::now();
  client.send(request_map(0, 0));
  EXPECT_THAT(client.complaint(), HasSubstr("serve.deadline_ms is 200"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2500ms);
}

TEST(Openpi, NoMoreEpisodesRunThanAllowed) {
  ServeOptions options = free_port();
  options.limits.episodes = 2;
  World world(options);
  WebClient client(world.port());
  client.ask(request_map(0, 0, {{"episode_id", "a"}}));
  client.ask(request_map(0, 0, {{"episode_id", "b"}}));
  client.ask(request_map(0, 0, {{"episode_id", "a"}}));
  client.ask(wire::Map{{"event", "end"}, {"episode_id", "a"}});
  client.ask(request_map(0, 0, {{"episode_id", "c"}}));
  client.send(request_map(0, 0, {{"episode_id", "d"}}));
  EXPECT_THAT(client.complaint(), HasSubstr("2 episodes run already (serve.limits.episodes)"));
}

TEST(Openpi, NobodyIsAskedForAClientThatIsGone) {
  ServeOptions options = free_port();
  options.batch.max_size = 1;
  World world(options);
  world.policy.delay = 300ms;
  WebClient first(world.port()), gone(world.port());
  first.send(request_map(0, 0));
  std::this_thread::sleep_for(50ms);
  gone.send(request_map(0, 0));
  std::this_thread::sleep_for(50ms);
  gone.vanish();
  EXPECT_FALSE(first.receive().broken);
  world.policy.delay = 0ms;
  first.ask(request_map(0, 0));
  EXPECT_EQ(world.policy.asked, 2);
  EXPECT_THAT(ask_http(world.port(), http_get("/metrics")).body(),
              HasSubstr("apo_serve_errors_total{kind=\"gone\"} 1"));
}

TEST(Openpi, StoppingAnswersWhatWasAskedAndSaysGoodBye) {
  World world;
  world.policy.delay = 200ms;
  WebClient busy(world.port()), idle(world.port());
  busy.send(request_map(255, 0));
  std::this_thread::sleep_for(50ms);
  std::thread stopping([&] { world.server.reset(); });
  const Received answer = busy.receive();
  EXPECT_FALSE(answer.is_text);
  EXPECT_NEAR(action_of(wire::from_msgpack(answer.bytes, "answer")), 1, 0.006);
  EXPECT_EQ(busy.receive().close_code, 1001);
  EXPECT_EQ(idle.receive().close_code, 1001);
  stopping.join();
}

}  // namespace
}  // namespace apo::serving
