// A tiny policy behind a real port, and clients that say exactly what a test wants them to.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apo/models/policy.h"
#include "apo/serving/server.h"
#include "serving/net.h"
#include "support/message_of.h"
#include "support/temp_dir.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace apo::serving::testing {

using apo::testing::message_of;
using apo::testing::TempDir;

/// Decides H actions of two numbers: the mean of the "front" picture over 255 and the first number of "arm",
/// both from -1 to 1 in 201 bins, in each further action a tenth less; with a temperature the second number
/// is drawn. It takes `delay`, and throws a DataError for an instruction "refuse" and another exception for
/// "break".
class EchoPolicy : public models::Policy {
 public:
  static constexpr int64_t kBins = 201;
  explicit EchoPolicy(int64_t horizon = 1, config::GripperOptions gripper = {})
      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(kBins), 2, horizon),
                .normalizer = tokenizers::Normalizer(2),
                .vocabulary_size = kBins,
                .gripper = std::move(gripper)}) {}

  models::PolicyInput encode(std::span<const Observation> seen) const override {
    std::this_thread::sleep_for(delay.load());
    largest_batch = std::max<int64_t>(largest_batch, std::ssize(seen));
    asked += std::ssize(seen);
    models::PolicyInput input;
    input.state = at::empty({std::ssize(seen), 2});
    for (int64_t b = 0; b < std::ssize(seen); ++b) {
      const Observation& one = seen[static_cast<size_t>(b)];
      APO_CHECK(DataError, one.instruction != "refuse", "the policy refuses");
      if (one.instruction == "break") throw std::logic_error("the policy broke\nsomewhere");
      APO_CHECK(DataError, one.state.at("arm").size() == 2, "state arm: expected 2 numbers, found ",
                one.state.at("arm").size());
      input.state[b][0] = models::picture_of(one, "front").to(at::kFloat).mean() / 255;
      input.state[b][1] = one.state.at("arm")[0];
    }
    return input;
  }
  models::Score score(const models::PolicyInput&, const models::ActionTokens&,
                      const models::ActionTokens*) override {
    return {};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions& options) override {
    std::vector<at::Tensor> all;
    for (int64_t h = 0; h < horizon(); ++h) all.push_back(input.state - 0.1 * h);
    at::Tensor ids =
        ((at::cat(all, 1) + 1) / 2 * (kBins - 1) + 0.5).floor().clamp(0, kBins - 1).to(at::kLong);
    if (options.temperature > 0)
      for (int64_t b = 0; b < ids.size(0); ++b)
        ids[b][1] = static_cast<int64_t>(options.seeds.at(static_cast<size_t>(b)) % kBins);
    if (options.token_probs != nullptr)
      options.token_probs->assign(static_cast<size_t>(ids.size(1)), at::full({ids.size(0)}, 0.75));
    return ids;
  }
  models::NamedTensors named_parameters() const override { return {{"weight", weight_}}; }
  std::unique_ptr<models::Policy> clone() const override { return std::make_unique<EchoPolicy>(horizon()); }
  void save(const std::filesystem::path&) const override {}

  mutable std::atomic<int64_t> asked = 0, largest_batch = 0;
  std::atomic<std::chrono::milliseconds> delay = std::chrono::milliseconds(0);

 private:
  at::Tensor weight_ = at::ones({2});
};

inline ServedPolicy echo_needs() {
  return {.cameras = {"front"}, .states = {"arm"}, .checkpoint = "runs/echo"};
}

/// Options of a test: any free port.
inline ServeOptions free_port() {
  ServeOptions options;
  options.port = 0;
  return options;
}

/// A server of an EchoPolicy.
struct World {
  explicit World(const ServeOptions& options = free_port(), int64_t horizon = 1,
                 const ServedPolicy& needs = echo_needs())
      : policy(horizon), server(std::make_unique<Server>(policy, options, needs)) {}
  int64_t port() const { return server->port(); }
  EchoPolicy policy;
  std::unique_ptr<Server> server;
};

inline wire::Array picture_array(uint8_t value, int64_t height = 4, int64_t width = 6) {
  return {.dtype = wire::Dtype::u1,
          .shape = {height, width, 3},
          .data = std::string(static_cast<size_t>(height * width * 3), static_cast<char>(value))};
}

/// A whole request; `more` is put behind it.
inline wire::Map request_map(uint8_t brightness, float arm, wire::Map more = {}) {
  wire::Map map = {{"observation/image", picture_array(brightness)},
                   {"observation/state", wire::array(std::vector<float>{arm, 0.5f})},
                   {"prompt", "lift the cube"}};
  for (wire::Member& member : more) map.push_back(std::move(member));
  return map;
}

/// A socket that sends and receives bytes as they are.
class RawClient {
 public:
  explicit RawClient(int64_t port) : socket_(io_) {
    socket_.connect({net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
  }
  void send(const std::string& bytes) {
    error_code ignored;  // the server may have closed
    net::write(socket_, net::buffer(bytes), ignored);
  }
  /// What comes until the other side closes, or `seconds` pass.
  std::string receive_all(double seconds = 10) {
    std::string all;
    char block[4096];
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    socket_.non_blocking(true);
    while (std::chrono::steady_clock::now() < until) {
      error_code error;
      const size_t read = socket_.read_some(net::buffer(block), error);
      if (error == net::error::would_block) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        continue;
      }
      if (error) {
        closed_ = true;
        break;
      }
      all.append(block, read);
    }
    return all;
  }
  bool closed() const { return closed_; }
  tcp::socket& socket() { return socket_; }

 private:
  net::io_context io_;
  tcp::socket socket_;
  bool closed_ = false;
};

/// One request over HTTP, alone on its connection.
inline HttpResponse ask_http(int64_t port, HttpRequest request) {
  net::io_context io;
  beast::tcp_stream stream(io);
  stream.connect({net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
  if (request.find(http::field::host) == request.end()) request.set(http::field::host, "127.0.0.1");
  request.prepare_payload();
  http::write(stream, request);
  beast::flat_buffer buffer;
  HttpResponse response;
  http::read(stream, buffer, response);
  return response;
}
inline HttpRequest http_get(const std::string& target) { return {http::verb::get, target, 11}; }
inline HttpRequest http_post(const std::string& target, std::string body,
                             const std::string& content_type = "application/json") {
  HttpRequest request(http::verb::post, target, 11);
  request.set(http::field::content_type, content_type);
  request.body() = std::move(body);
  return request;
}

struct Received {
  std::string bytes;
  bool is_text = false;
  std::optional<uint16_t> close_code;  ///< instead of a frame
  bool broken = false;                 ///< the connection was lost
};

/// A client of openpi's protocol.
class WebClient {
 public:
  using Head = std::vector<std::pair<std::string, std::string>>;
  explicit WebClient(int64_t port, const std::string& path = "/", const Head& head = {},
                     const std::string& host = "127.0.0.1")
      : socket_(io_) {
    beast::get_lowest_layer(socket_).connect(
        {net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
    socket_.set_option(websocket::stream_base::decorator([head](websocket::request_type& request) {
      for (const auto& [name, value] : head) request.set(name, value);
    }));
    socket_.handshake(response_, host, path, error_);
    if (!error_) metadata = receive().bytes;
  }
  unsigned status() const { return response_.result_int(); }
  const websocket::response_type& response() const { return response_; }
  bool connected() const { return !error_; }

  void send(const wire::Value& value) { send_bytes(wire::to_msgpack(value)); }
  void send_bytes(const std::string& bytes, bool is_text = false) {
    socket_.text(is_text);
    socket_.binary(!is_text);
    socket_.write(net::buffer(bytes), error_);
  }
  Received receive() {
    Received got;
    beast::flat_buffer buffer;
    error_code error;
    socket_.read(buffer, error);
    got.is_text = socket_.got_text();
    got.bytes = beast::buffers_to_string(buffer.data());
    if (error == websocket::error::closed)
      got.close_code = static_cast<uint16_t>(socket_.reason().code);
    else if (error)
      got.broken = true;
    return got;
  }
  /// Sends and receives.
  wire::Value ask(const wire::Value& value) {
    send(value);
    const Received got = receive();
    EXPECT_FALSE(got.is_text) << got.bytes;
    EXPECT_FALSE(got.close_code || got.broken);
    return got.close_code || got.broken || got.is_text ? wire::Value()
                                                       : wire::from_msgpack(got.bytes, "answer");
  }
  /// What the server says against it before it closes with 1011.
  std::string complaint() {
    const Received sentence = receive(), end = receive();
    EXPECT_TRUE(sentence.is_text) << sentence.bytes;
    EXPECT_EQ(end.close_code, 1011);
    return sentence.bytes;
  }
  void close() {
    error_code ignored;
    socket_.close(websocket::close_code::normal, ignored);
  }
  /// Gone without a word.
  void vanish() { beast::get_lowest_layer(socket_).socket().close(); }
  WebSocket& socket() { return socket_; }

  std::string metadata;

 private:
  net::io_context io_;
  WebSocket socket_;
  websocket::response_type response_;
  error_code error_;
};

/// actions[h][d] of an answer; 99 where there is none.
inline float action_of(const wire::Value& answer, int64_t h = 0, int64_t d = 0) {
  const wire::Value* actions = answer.find("actions");
  const auto* array = actions != nullptr ? actions->as<wire::Array>() : nullptr;
  if (array == nullptr || array->shape.size() != 2) return 99;
  return wire::tensor(*array)[h][d].item<float>();
}

/// Until `condition` holds, 10 s at most.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

}  // namespace apo::serving::testing
