// What a page of the console says and hears, without a browser.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "serving/net.h"

namespace apo::serving::testing {

using Json = nlohmann::json;

/// A page without a browser.
class FakePage {
 public:
  explicit FakePage(int64_t port) : socket_(io_) {
    beast::get_lowest_layer(socket_).connect(
        {net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
    socket_.handshake("127.0.0.1", "/console/ws");
    say({{"type", "visible"}, {"visible", true}});
  }
  void say(const Json& message) {
    socket_.text(true);
    socket_.write(net::buffer(message.dump()));
  }
  /// Gone without a word.
  void vanish() { beast::get_lowest_layer(socket_).socket().close(); }
  /// The next message of a type for which `wanted` holds; null after 10 s of others.
  Json hear(
      const std::string& type,
      const std::function<bool(const Json&)>& wanted = [](const Json&) { return true; }) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < until) {
      beast::flat_buffer buffer;
      error_code error;
      socket_.read(buffer, error);
      if (error) break;
      if (!socket_.got_text()) continue;
      Json message = parse_json(beast::buffers_to_string(buffer.data()), "message");
      if (message["type"] == type && wanted(message)) return message;
    }
    return nullptr;
  }

 private:
  net::io_context io_;
  WebSocket socket_;
};

}  // namespace apo::serving::testing
