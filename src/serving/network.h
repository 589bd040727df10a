// What all connections of a server share, and their kinds. All of it is the network thread's own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "apo/serving/options.h"
#include "serving/admission.h"
#include "serving/net.h"
#include "serving/rest.h"
#include "serving/service.h"

namespace apo::serving {

/// What a server has beside the policy's protocols: the console's page and its socket.
class Pages {
 public:
  virtual ~Pages() = default;
  /// True for paths that are the console's.
  virtual bool owns(std::string_view path) const = 0;
  /// The page at a path that it owns.
  virtual HttpResponse get(const HttpRequest& request) = 0;
  /// Speaks with the page, from the upgrade on, until the connection ends.
  virtual net::awaitable<void> speak(WebSocket socket, HttpRequest upgrade, std::string address) = 0;
  /// A few times a second.
  virtual void tick() = 0;
  /// The server stops: its pages are told good-bye.
  virtual void stop() = 0;
};

struct Network {
  const ServeOptions& options;
  Metrics& metrics;
  Service* service = nullptr;  ///< null: there are only pages
  std::string metadata;        ///< what openpi's clients get first
  Pages* pages = nullptr;
  bool stopping = false;
  uint64_t next_connection = 0;
  /// what each connection does when the server stops, by its number
  std::map<uint64_t, std::function<void()>> on_stop = {};

  void refused(const std::string& kind) { metrics.errors.add(kind); }
};

/// Speaks HTTP on a fresh connection until it ends or becomes a WebSocket.
net::awaitable<void> serve_http(tcp::socket socket, std::shared_ptr<Network> network, uint64_t connection);

/// Speaks openpi's protocol, from the upgrade on, until the connection ends.
net::awaitable<void> serve_openpi(WebSocket socket, HttpRequest upgrade, std::shared_ptr<Network> network,
                                  Client client);

/// Waits in a coroutine for what another thread tells.
template <class T>
class Awaited {
 public:
  explicit Awaited(net::any_io_executor executor) : state_(std::make_shared<State>(executor)) {}
  /// From any thread, once; also after the waiting ended.
  std::function<void(T)> setter() const {
    return [state = state_](T value) {
      net::post(state->timer.get_executor(), [state, value = std::move(value)]() mutable {
        state->value = std::move(value);
        state->timer.cancel();
      });
    };
  }
  net::awaitable<T> get() {
    error_code ignored;
    while (!state_->value) co_await state_->timer.async_wait(caught(ignored));
    co_return std::move(*state_->value);
  }

 private:
  struct State {
    explicit State(net::any_io_executor executor) : timer(executor, net::steady_timer::time_point::max()) {}
    net::steady_timer timer;
    std::optional<T> value;
  };
  std::shared_ptr<State> state_;
};

}  // namespace apo::serving
