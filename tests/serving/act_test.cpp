// OpenVLA's POST /act over real sockets: both forms of JSON, OFT's keys, and what failures look like.
#include <gmock/gmock.h>

#include "serving/world.h"
#include "wire/json_numpy.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;
using ::testing::StartsWith;

wire::Map act_map(uint8_t brightness, float arm) {
  return {{"image", picture_array(brightness)},
          {"state", wire::array(std::vector<double>{arm, 0.5})},
          {"instruction", "lift the cube"}};
}

HttpResponse act(const World& world, const std::string& body, const std::string& type = "application/json") {
  return ask_http(world.port(), http_post("/act", body, type));
}

std::string error_of(const HttpResponse& response) {
  const auto text = response["X-Apo-Error"];
  return {text.data(), text.size()};
}

TEST(Act, AnswersABareArrayOfDoubles) {
  const World world;
  const HttpResponse response = act(world, wire::to_json(act_map(51, 0.25f)));
  EXPECT_EQ(response.result_int(), 200u);
  EXPECT_EQ(response[http::field::content_type], "application/json");
  EXPECT_THAT(response.body(), StartsWith("{\"__numpy__\":\""));
  EXPECT_THAT(response.body(), HasSubstr("\"dtype\":\"<f8\",\"shape\":[2]}"));
  const wire::Value value = wire::from_json(response.body(), "answer");
  ASSERT_NE(value.as<wire::Array>(), nullptr);
  EXPECT_NEAR(wire::tensor(*value.as<wire::Array>())[0].item<double>(), 0.2, 0.006);
}

TEST(Act, AnswersJsonWithinJsonInItsForm) {
  const World world;
  const std::string inner = wire::to_json(act_map(51, 0.25f));
  const HttpResponse response = act(world, wire::to_json(wire::Map{{"encoded", inner}}));
  const wire::Value outer = wire::from_json(response.body(), "answer");
  ASSERT_NE(outer.as<std::string>(), nullptr) << response.body();
  EXPECT_THAT(*outer.as<std::string>(), HasSubstr("\"dtype\": \"<f8\", \"shape\": [2]}"));
}

TEST(Act, AnswersOftWithAListOfAllActions) {
  const World world(free_port(), 3);
  wire::Map request = act_map(51, 0.25f);
  request[0].key = "full_image";
  const HttpResponse response = act(world, wire::to_json(request));
  const wire::Value value = wire::from_json(response.body(), "answer");
  ASSERT_NE(value.as<wire::List>(), nullptr) << response.body();
  ASSERT_EQ(value.as<wire::List>()->size(), 3u);
  EXPECT_EQ((*value.as<wire::List>())[2].as<wire::Array>()->shape, (std::vector<int64_t>{2}));
}

TEST(Act, WhatFailsInsideIsErrorWithStatus200AsThePeersHaveIt) {
  const World world;
  wire::Map missing = act_map(0, 0);
  missing.erase(missing.begin());
  HttpResponse response = act(world, wire::to_json(missing));
  EXPECT_EQ(response.result_int(), 200u);
  EXPECT_EQ(response.body(), "\"error\"");
  EXPECT_THAT(error_of(response), HasSubstr("request: camera front: expected a picture under front, "));
  EXPECT_THAT(error_of(response), HasSubstr("found the pictures none"));

  wire::Map refused = act_map(0, 0);
  refused[2].value = "refuse";
  EXPECT_EQ(error_of(act(world, wire::to_json(refused))), "the policy refuses");
  refused[2].value = 7;
  response = act(world, wire::to_json(refused));
  EXPECT_EQ(response.body(), "\"error\"");
  EXPECT_THAT(error_of(response), HasSubstr("instruction: expected"));

  wire::Map sized = act_map(0, 0);
  sized[1].value = wire::array(std::vector<double>{1, 2, 3});
  EXPECT_EQ(error_of(act(world, wire::to_json(sized))), "state arm: expected 2 numbers, found 3");

  const std::string both = wire::to_json(wire::Map{{"encoded", "{}"}, {"instruction", "x"}});
  EXPECT_EQ(act(world, both).body(), "\"error\"");
}

TEST(Act, OneCamerasPictureIsNotTakenForAnothers) {
  const auto with_picture = [](const char* key) {
    wire::Map request = act_map(51, 0.25f);
    request[0].key = key;
    return wire::to_json(request);
  };
  const World one;
  EXPECT_EQ(error_of(act(one, with_picture("overhead"))), "");
  EXPECT_THAT(error_of(act(one, with_picture("observation/wrist_image"))),
              HasSubstr("request: camera front: expected a picture under front, "));

  ServedPolicy needs = echo_needs();
  needs.cameras = {"front", "wrist"};
  const World two(free_port(), 1, needs);
  for (const char* key : {"observation/wrist_image", "wrist", "overhead"})
    EXPECT_THAT(error_of(act(two, with_picture(key))),
                HasSubstr("request: camera front: expected a picture under front, "))
        << key;
  EXPECT_THAT(error_of(act(two, with_picture("front"))),
              HasSubstr("request: camera wrist: expected a picture under wrist, "));
}

TEST(Act, StatisticsOfAnotherRobotAreNotServed) {
  ServedPolicy needs = echo_needs();
  needs.unnorm_key = "bridge_orig";
  const World world(free_port(), 1, needs);
  wire::Map request = act_map(0, 0);
  request.push_back({"unnorm_key", "bridge_orig"});
  EXPECT_EQ(error_of(act(world, wire::to_json(request))), "");
  request.back().value = "fractal20220817_data";
  const HttpResponse response = act(world, wire::to_json(request));
  EXPECT_EQ(response.body(), "\"error\"");
  EXPECT_EQ(error_of(response),
            "request: unnorm_key: expected 'bridge_orig' (policy.unnorm_key of the server), found "
            "the text \"fractal20220817_data\"");
  // whoever serves the only statistics there are does not care how they are called
  EXPECT_EQ(error_of(act(World(), wire::to_json(request))), "");
}

TEST(Act, WhatFailsInTheBodyHasAStatus) {
  const World world;
  const std::string good = wire::to_json(act_map(0, 0));
  for (const char* type : {"text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"})
    EXPECT_EQ(act(world, good, type).result_int(), 422u) << type;
  EXPECT_EQ(act(world, good, "application/json; charset=utf-8").result_int(), 200u);
  for (const std::string body : {"", "{", "nonsense", "[1]", "\"text\"", "null", "{\"a\": }"}) {
    const HttpResponse response = act(world, body);
    EXPECT_EQ(response.result_int(), 422u) << body;
    EXPECT_THAT(response.body(), StartsWith("{\"detail\":[{")) << body;
    EXPECT_NE(error_of(response), "") << body;
  }
  for (const std::string array :
       {R"({"__numpy__": "AAAA", "dtype": "|u1", "shape": [2, 2, 3]})",
        R"({"__numpy__": "AAAA", "dtype": "|u1", "shape": [1]})",
        R"({"__numpy__": "AAAA", "dtype": "|u1", "shape": [-1]})",
        R"({"__numpy__": "AAAA", "dtype": "|u1", "shape": null})",
        R"({"__numpy__": "AAAA", "dtype": "|u1", "shape": [4611686018427387904, 8]})",
        R"({"__numpy__": "A", "dtype": "|u1", "shape": [1]})",
        R"({"__numpy__": "AAAA", "dtype": "O", "shape": [1]})"}) {
    const HttpResponse response = act(world, "{\"instruction\": \"lift\", \"image\": " + array + "}");
    EXPECT_EQ(response.result_int(), 400u) << array;
    EXPECT_EQ(response.body(), "{\"detail\":\"There was an error parsing the body\"}");
    EXPECT_THAT(error_of(response), HasSubstr("image: expected")) << array;
  }
}

TEST(Act, StrictFailuresHaveAStatusOfTheirOwn) {
  ServeOptions options = free_port();
  options.strict = true;
  World world(options);
  wire::Map request = act_map(0, 0);
  request[2].value = "refuse";
  HttpResponse response = act(world, wire::to_json(request));
  EXPECT_EQ(response.result_int(), 400u);
  EXPECT_EQ(response.body(), "{\"detail\":\"the policy refuses\"}");
  request[2].value = "break";
  EXPECT_EQ(act(world, wire::to_json(request)).result_int(), 500u);
}

TEST(Act, NumbersThatAreNoneAndLongInstructionsAreRefused) {
  const World world;
  wire::Map request = act_map(0, 0);
  request[1].value = wire::array(std::vector<double>{std::nan(""), 0});
  EXPECT_THAT(error_of(act(world, wire::to_json(request))), HasSubstr("state: expected finite numbers"));
  request = act_map(0, 0);
  request[2].value = std::string(size_t{1} << 20, 'x');
  EXPECT_THAT(error_of(act(world, wire::to_json(request))),
              HasSubstr("expected at most 1000 bytes (serve.limits.instruction_bytes), found 1048576"));
}

TEST(Act, OtherMethodsAndPaths) {
  const World world;
  EXPECT_EQ(ask_http(world.port(), http_get("/act")).result_int(), 405u);
  EXPECT_EQ(ask_http(world.port(), http_get("/nowhere")).result_int(), 404u);
  EXPECT_EQ(ask_http(world.port(), http_get("/healthz")).body(), "OK\n");
  HttpRequest get = http_get("/healthz");
  get.body() = "with a body";
  EXPECT_EQ(ask_http(world.port(), get).result_int(), 405u);
}

TEST(Act, MetricsCountWhatHappened) {
  World world;
  act(world, wire::to_json(act_map(0, 0)));
  act(world, "{");
  WebClient client(world.port());
  client.ask(request_map(0, 0));
  const std::string text = ask_http(world.port(), http_get("/metrics")).body();
  for (const char* line :
       {"# TYPE apo_serve_requests_total counter\n", "apo_serve_requests_total{protocol=\"act\"} 2\n",
        "apo_serve_requests_total{protocol=\"openpi\"} 1\n", "apo_serve_errors_total{kind=\"request\"} 1\n",
        "# TYPE apo_serve_connections gauge\napo_serve_connections ",
        "# TYPE apo_serve_inference_seconds histogram\n",
        "apo_serve_inference_seconds_bucket{le=\"+Inf\"} 2\n", "apo_serve_queue_seconds_count 2\n"})
    EXPECT_THAT(text, HasSubstr(line));
}

TEST(Act, OneConnectionMayAskManyTimes) {
  const World world;
  net::io_context io;
  beast::tcp_stream stream(io);
  stream.connect({net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(world.port())});
  beast::flat_buffer buffer;
  for (int i = 0; i < 5; ++i) {
    HttpRequest request = http_post("/act", wire::to_json(act_map(static_cast<uint8_t>(51 * i), 0)));
    request.set(http::field::host, "localhost");
    request.prepare_payload();
    http::write(stream, request);
    HttpResponse response;
    http::read(stream, buffer, response);
    const wire::Value value = wire::from_json(response.body(), "answer");
    EXPECT_NEAR(wire::tensor(*value.as<wire::Array>())[0].item<double>(), 0.2 * i, 0.006);
  }
}

}  // namespace
}  // namespace apo::serving
