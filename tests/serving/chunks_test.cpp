// Real policies of chunks behind a port: whole chunks are answered over both protocols, and what was decided
// is recorded.
#include <gmock/gmock.h>

#include "apo/data/trajectory.h"
#include "models/openvla_oft_fixture.h"
#include "models/small/policy.h"
#include "serving/world.h"
#include "wire/json_numpy.h"

namespace apo::serving {
namespace {

using namespace testing;
namespace fs = std::filesystem;

// A policy, and an observation of the kind that it needs.
struct Served {
  std::unique_ptr<models::Policy> policy;
  Observation seen;
  ServedPolicy about;
};

Served small_chunks() {
  models::SmallShape shape = models::testing::small_shape();
  shape.horizon = 4;
  auto policy = std::make_unique<models::SmallPolicy>(
      shape, models::testing::small_preprocessing(),
      models::Vocabulary({"<pad>", "<unk>", "block", "blue", "pick", "red", "the"}, "test"), 1, at::kCPU);
  models::testing::randomize(*policy, 1);
  return {.policy = std::move(policy),
          .seen = models::testing::observation(3),
          .about = {.cameras = {"front", "wrist"}, .states = {"hand", "height"}, .checkpoint = "small"}};
}

Served openvla_oft() {
  const models::testing::OftGolden golden("a");
  return {
      .policy = golden.policy(),
      .seen = golden.observations().front(),
      .about = {
          .cameras = golden.options().cameras, .states = golden.options().state_keys, .checkpoint = "oft"}};
}

// As a client sends it: over REST with OpenVLA-OFT's key for the first camera.
wire::Map request_of(const Observation& seen, const ServedPolicy& about, bool rest) {
  wire::Map map;
  for (const std::string& camera : about.cameras) {
    const at::Tensor picture = seen.images.at(camera).contiguous();
    const bool is_first = camera == about.cameras.front();
    map.push_back({rest && is_first ? "full_image" : "observation/" + camera,
                   wire::Array{.dtype = wire::Dtype::u1,
                               .shape = picture.sizes().vec(),
                               .data = std::string(static_cast<const char*>(picture.const_data_ptr()),
                                                   static_cast<size_t>(picture.numel()))}});
  }
  for (const std::string& state : about.states) map.push_back({state, wire::array(seen.state.at(state))});
  map.push_back({rest ? "instruction" : "prompt", seen.instruction});
  return map;
}

ActionChunk chunk_in(const wire::Value& value) {
  ActionChunk chunk;
  const auto add = [&](const at::Tensor& rows) {
    for (int64_t h = 0; h < rows.size(0); ++h) {
      const at::Tensor row = rows[h].to(at::kFloat).contiguous();
      chunk.emplace_back(row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel());
    }
  };
  if (const auto* list = value.as<wire::List>())
    for (const wire::Value& each : *list) add(wire::tensor(*each.as<wire::Array>()).unsqueeze(0));
  else if (const auto* array = value.as<wire::Array>())
    add(wire::tensor(*array));
  return chunk;
}

void expect_near(const ActionChunk& found, const ActionChunk& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t h = 0; h < found.size(); ++h) {
    ASSERT_EQ(found[h].size(), expected[h].size());
    for (size_t d = 0; d < found[h].size(); ++d) EXPECT_NEAR(found[h][d], expected[h][d], 1e-6) << h << d;
  }
}

void expect_whole_chunks(Served served) {
  const TempDir dir;
  models::Policy& policy = *served.policy;
  policy.set_training(false);
  const ActionChunk decided = policy.act(policy.encode({&served.seen, 1})).actions.at(0);
  ASSERT_GT(policy.horizon(), 1);
  ASSERT_EQ(std::ssize(decided), policy.horizon());
  ServeOptions options = free_port();
  options.record = (dir / "served.hdf5").string();
  {
    const Server server(policy, options, served.about);
    WebClient client(server.port());
    for (int asked = 0; asked < 2; ++asked) {
      const wire::Value answer = client.ask(request_of(served.seen, served.about, false));
      const auto* actions = answer.find("actions");
      ASSERT_NE(actions, nullptr);
      EXPECT_EQ(actions->as<wire::Array>()->shape,
                (std::vector<int64_t>{policy.horizon(), policy.action_size()}));
      expect_near(chunk_in(*actions), decided);
    }
    client.close();
    const HttpResponse response = ask_http(
        server.port(), http_post("/act", wire::to_json(request_of(served.seen, served.about, true))));
    ASSERT_EQ(response.result_int(), 200u);
    expect_near(chunk_in(wire::from_json(response.body(), "answer")), decided);
  }
  // the step in which the policy was asked, with the first action
  const auto file = data::TrajectoryFile::open(dir / "served.hdf5");
  ASSERT_EQ(file->num_episodes(), 2);
  for (int64_t i = 0; i < 2; ++i) {
    const data::EpisodeRecord episode = file->episode(i);
    ASSERT_EQ(episode.num_steps(), i == 0 ? 2 : 1);
    for (size_t t = 0; t < episode.actions.size(); ++t) {
      EXPECT_EQ(episode.decision_offsets[t], 0);
      expect_near({episode.actions[t]}, {decided.front()});
    }
  }
}

// What is announced is what comes.
TEST(ServedChunks, AreAsLongAsBothSidesSay) {
  struct Case {
    int64_t execute_steps, horizon, expected;
  };
  for (const auto& [execute_steps, horizon, expected] :
       {Case{0, 0, 4}, Case{2, 0, 2}, Case{0, 1, 1}, Case{2, 3, 2}, Case{3, 2, 2}}) {
    EchoPolicy policy(4);
    policy.set_execute_steps(execute_steps);
    ServeOptions options = free_port();
    options.horizon = horizon;
    const Server server(policy, options, echo_needs());
    WebClient client(server.port());
    EXPECT_EQ(*wire::from_msgpack(client.metadata, "metadata").find("action_horizon")->as<int64_t>(),
              expected);
    EXPECT_EQ(std::ssize(chunk_in(*client.ask(request_map(100, 0.5f)).find("actions"))), expected);
  }
}

// Else an arm's joint would be recoded, and the gripper not.
TEST(Serving, AGripperAtAnotherPlaceThanThePolicysIsRefused) {
  EchoPolicy policy(1, {.dimension = {1}, .open = 1, .closed = 0});
  ServeOptions options = free_port();
  options.gripper = {.dimension = {0}, .open = -1, .closed = 1};
  EXPECT_THAT(message_of<ConfigError>([&] { const Server server(policy, options, echo_needs()); }),
              ::testing::HasSubstr(
                  "policy.gripper: dimension 1, 1 open, 0 closed; serve.gripper: dimension 0, -1 open, "
                  "1 closed; expected the same dimensions"));
  options.gripper = {.dimension = {-1}, .open = -1, .closed = 1};
  const Server server(policy, options, echo_needs());
  WebClient client(server.port());
  const ActionChunk answer = chunk_in(*client.ask(request_map(255, 1)).find("actions"));
  EXPECT_NEAR(answer.at(0).at(0), 1, 1e-6);
  EXPECT_NEAR(answer.at(0).at(1), -1, 1e-6);  // open is 1 to the policy
}

TEST(ServedChunks, OfTheBuiltInPolicyAreAnsweredWholeAndRecorded) { expect_whole_chunks(small_chunks()); }
TEST(ServedChunks, OfAnOpenVlaOftAreAnsweredWholeAndRecorded) { expect_whole_chunks(openvla_oft()); }

}  // namespace
}  // namespace apo::serving
