// Who is let in, and what senders may do before they are cut off.
#include "serving/admission.h"

#include <gmock/gmock.h>

#include "serving/world.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

int status_of(const RequestHead& head, const ServeOptions& options) {
  const auto refusal = refusal_of(head, options, true);
  return refusal ? refusal->status : 200;
}

TEST(Admission, HostsAreAddressesOrKnownNames) {
  ServeOptions options;
  for (const char* host : {"127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"})
    EXPECT_EQ(status_of({.host = host}, options), 200) << host;
  for (const char* host : {"evil.example", "evil.example:8000", "192.168.1.2", "", "localhost.evil.example"})
    EXPECT_EQ(status_of({.host = host}, options), 403) << host;
  EXPECT_EQ(status_of({}, options), 403);
  options.hosts = {"robot.example"};
  EXPECT_EQ(status_of({.host = "Robot.example:8000"}, options), 200);
  options.address = "0.0.0.0";
  EXPECT_EQ(status_of({.host = "192.168.1.2:8000"}, options), 200);
}

TEST(Admission, PagesOfOtherOriginsAreForeign) {
  ServeOptions options;
  const auto with = [](const char* origin) {
    return RequestHead{.host = "localhost:8000", .origin = origin};
  };
  EXPECT_EQ(status_of(with("http://localhost:8000"), options), 200);
  for (const char* origin : {"null", "http://evil.example", "http://localhost:9000", "http://127.0.0.1:8000",
                             "", "localhost:8000"})
    EXPECT_EQ(status_of(with(origin), options), 403) << origin;
  options.origins = {"https://robots.example"};
  EXPECT_EQ(status_of(with("https://robots.example"), options), 200);
}

TEST(Admission, TheTokenIsShownInAnyOfThreeWays) {
  ServeOptions options;
  options.token = "0123456789abcdef";
  const std::string host = "localhost";
  EXPECT_EQ(status_of({.host = host}, options), 401);
  EXPECT_EQ(status_of({.host = host, .authorization = "Bearer 0123456789abcdef"}, options), 200);
  EXPECT_EQ(status_of({.host = host, .authorization = "Api-Key 0123456789abcdef"}, options), 200);
  EXPECT_EQ(status_of({.host = host, .query_token = "0123456789abcdef"}, options), 200);
  for (const char* wrong : {"Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0",
                            "0123456789abcdef", "Basic 0123456789abcdef", "Bearer"})
    EXPECT_EQ(status_of({.host = host, .authorization = wrong}, options), 401) << wrong;
  EXPECT_EQ(refusal_of({.host = host}, options, false), std::nullopt);
  EXPECT_EQ(query_value("/console/ws?a=1&token=x%20y&b=", "token"), "x y");
  EXPECT_EQ(query_value("/console/ws?tokens=3", "token"), "");
}

TEST(Admission, OtherAddressesNeedAToken) {
  ServeOptions options;
  options.address = "0.0.0.0";
  EXPECT_THAT(message_of<ConfigError>([&] { check_options(options); }), HasSubstr("expected serve.token"));
  options.token = "short";
  EXPECT_THAT(message_of<ConfigError>([&] { check_options(options); }), HasSubstr("at least 16 characters"));
  options.token = "0123456789abcdef";
  check_options(options);
  options.address = "here";
  EXPECT_THAT(message_of<ConfigError>([&] { check_options(options); }),
              HasSubstr("serve.address: expected an IP"));
  options.address = "::1";
  options.keys.rotate = 90;
  EXPECT_THAT(message_of<ConfigError>([&] { check_options(options); }), HasSubstr("serve.keys.rotate"));
}

// What is answered to a WebSocket's first words with these headers.
HttpResponse upgraded(int64_t port, std::vector<std::pair<std::string, std::string>> head) {
  HttpRequest request = http_get("/");
  head.insert(head.end(), {{"Upgrade", "websocket"},
                           {"Connection", "Upgrade"},
                           {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                           {"Sec-WebSocket-Version", "13"}});
  for (const auto& [name, value] : head) request.set(name, value);
  return ask_http(port, std::move(request));
}

TEST(Admission, IsAskedOfEveryProtocol) {
  ServeOptions options = free_port();
  options.token = "0123456789abcdef";
  const World world(options);
  EXPECT_EQ(upgraded(world.port(), {}).result_int(), 401u);
  EXPECT_EQ(WebClient(world.port(), "/", {{"Authorization", "Api-Key 0123456789abcdef"}}).status(), 101u);
  const HttpResponse foreign = upgraded(
      world.port(), {{"Authorization", "Bearer 0123456789abcdef"}, {"Origin", "http://evil.example"}});
  EXPECT_EQ(foreign.result_int(), 403u);
  EXPECT_THAT(std::string(foreign["X-Apo-Error"]), HasSubstr("found 'http://evil.example'"));
  EXPECT_EQ(upgraded(world.port(), {{"Host", "evil.example"}}).result_int(), 403u);
  EXPECT_EQ(ask_http(world.port(), http_post("/act", "{}")).result_int(), 401u);
  EXPECT_EQ(ask_http(world.port(), http_get("/metrics")).result_int(), 401u);
  EXPECT_EQ(ask_http(world.port(), http_get("/healthz")).result_int(), 200u);
}

TEST(Admission, APortInUseIsAnErrorThatNamesIt) {
  const World world;
  EchoPolicy policy;
  ServeOptions options;
  options.port = world.port();
  EXPECT_THAT(message_of<RunError>([&] { Server(policy, options, echo_needs()); }),
              HasSubstr(concat("serve.port ", world.port(), ": cannot listen: Address already in use")));
}

// --- what senders may do

std::string head_of(const std::string& first_line, const std::string& more) {
  return first_line + " HTTP/1.1\r\nHost: localhost\r\n" + more + "\r\n";
}

TEST(Limits, HugeBodiesAndFramesAreRefusedWhenTheyAreAnnounced) {
  const World world;
  RawClient body(world.port());
  body.send(head_of("POST /act", "Content-Type: application/json\r\nContent-Length: 2147483648\r\n"));
  EXPECT_THAT(body.receive_all(), HasSubstr("413 Payload Too Large"));
  EXPECT_TRUE(body.closed());

  WebClient frame(world.port());
  const std::string announced("\x82\xff\x00\x00\x00\x00\x80\x00\x00\x00\x01\x02\x03\x04",
                              14);  // 2 GiB, masked
  net::write(beast::get_lowest_layer(frame.socket()).socket(), net::buffer(announced));
  EXPECT_EQ(frame.receive().close_code, 1009);
}

TEST(Limits, WhatIsNoWebSocketFrameIsAProtocolError) {
  const World world;
  for (const std::string& bytes : {std::string("\x82\x01x", 3), std::string("\x87\x80\x01\x02\x03\x04", 6)}) {
    WebClient client(world.port());  // not masked; a reserved opcode
    net::write(beast::get_lowest_layer(client.socket()).socket(), net::buffer(bytes));
    EXPECT_EQ(client.receive().close_code, 1002);
  }
  RawClient http(world.port());
  http.send("this is no HTTP\r\n\r\n");
  EXPECT_THAT(http.receive_all(), HasSubstr("400 Bad Request"));
}

TEST(Limits, SlowSendersAreCutOff) {
  ServeOptions options = free_port();
  options.limits.handshake_s = 0.3;
  options.limits.message_s = 0.3;
  const World world(options);
  RawClient silent(world.port()), head(world.port()), body(world.port());
  head.send("POST /act HTTP/1.1\r\nHost: local");
  body.send(head_of("POST /act", "Content-Type: application/json\r\nContent-Length: 100\r\n") + "{");
  WebClient frame(world.port());
  const std::string half("\x82\x90\x01\x02\x03\x04half", 10);
  net::write(beast::get_lowest_layer(frame.socket()).socket(), net::buffer(half));
  silent.receive_all(5);
  EXPECT_TRUE(silent.closed());
  head.receive_all(5);
  EXPECT_TRUE(head.closed());
  EXPECT_THAT(body.receive_all(5), HasSubstr("408 Request Timeout"));
  EXPECT_TRUE(body.closed());
  EXPECT_THAT(frame.complaint(), HasSubstr("a message took longer than 0.3 s (serve.limits.message_s)"));
}

TEST(Limits, SilentConnectionsAreClosed) {
  ServeOptions options = free_port();
  options.limits.idle_s = 0.3;
  const World world(options);
  WebClient client(world.port());
  client.ask(request_map(0, 0));
  EXPECT_THAT(client.complaint(), HasSubstr("no request for 0.3 s (serve.limits.idle_s)"));
}

TEST(Limits, TooManyRequestsASecond) {
  ServeOptions options = free_port();
  options.limits.requests_per_second = 3;
  const World world(options);
  WebClient client(world.port());
  for (int i = 0; i < 3; ++i) client.ask(request_map(0, 0));
  client.send(request_map(0, 0));
  EXPECT_THAT(client.complaint(), HasSubstr("more than 3 requests a second"));
}

TEST(Limits, TooManyConnections) {
  ServeOptions options = free_port();
  options.limits.connections = 2;
  const World world(options);
  WebClient first(world.port()), second(world.port());
  RawClient third(world.port());
  third.receive_all(2);
  EXPECT_TRUE(third.closed());
  EXPECT_NEAR(action_of(first.ask(request_map(255, 0))), 1, 0.006);
}

TEST(Limits, OneSentenceForEachBadMessageAndNobodyElseNotices) {
  World world;
  WebClient witness(world.port());
  witness.ask(request_map(0, 0));
  const auto complaint_about = [&](const std::string& bytes, bool is_text = false) {
    WebClient client(world.port());
    client.send_bytes(bytes, is_text);
    return client.complaint();
  };
  EXPECT_THAT(complaint_about("hello", true), HasSubstr("expected a binary frame"));
  EXPECT_THAT(complaint_about(std::string("\xc1", 1)), HasSubstr("request"));
  EXPECT_THAT(complaint_about(""), HasSubstr("request"));
  EXPECT_THAT(complaint_about(wire::to_msgpack(wire::List{1, 2})), HasSubstr("request: expected a map"));
  const auto with = [](const std::string& key, wire::Value value) {
    wire::Map map = request_map(0, 0);
    for (wire::Member& member : map)
      if (member.key == key) member.value = value;
    return wire::to_msgpack(map);
  };
  wire::Array lying = picture_array(1);
  lying.data += "more";
  EXPECT_THAT(complaint_about(with("observation/image", lying)), HasSubstr("observation/image: expected"));
  lying.data.resize(10);
  EXPECT_THAT(complaint_about(with("observation/image", lying)), HasSubstr("observation/image: expected"));
  EXPECT_THAT(complaint_about(with("observation/image", "a text")), HasSubstr("request: camera front"));
  EXPECT_THAT(complaint_about(with("observation/image", wire::Value())), HasSubstr("request: camera front"));
  EXPECT_THAT(complaint_about(with("observation/state", wire::array(std::vector<float>{1}))),
              HasSubstr("state arm: expected 2 numbers, found 1"));
  EXPECT_THAT(complaint_about(with("observation/state", wire::array(std::vector<float>{1, INFINITY}))),
              HasSubstr("observation/state: expected finite numbers"));
  EXPECT_THAT(complaint_about(with("prompt", std::string(1 << 20, 'x'))), HasSubstr("at most 1000 bytes"));
  EXPECT_THAT(complaint_about(with("prompt", wire::Value())), HasSubstr("expected an instruction"));
  const auto adding = [](const std::string& key, wire::Value value) {
    return wire::to_msgpack(request_map(0, 0, {{key, std::move(value)}}));
  };
  EXPECT_THAT(complaint_about(adding("intervention_action", wire::array(std::vector<float>{1}))),
              HasSubstr("intervention_action: expected an action of 2 numbers"));
  EXPECT_THAT(complaint_about(adding("intervention_action", wire::array(std::vector<float>{1, NAN}))),
              HasSubstr("intervention_action: expected finite numbers"));
  EXPECT_THAT(complaint_about(adding("event", "begin")), HasSubstr("event: expected \"end\""));
  EXPECT_THAT(complaint_about(adding("seed", -1)), HasSubstr("seed"));
  EXPECT_NEAR(action_of(witness.ask(request_map(255, 0))), 1, 0.006);
}

}  // namespace
}  // namespace apo::serving
