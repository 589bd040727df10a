// A port, and the one thread in which everything of the network happens.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "apo/serving/options.h"
#include "serving/network.h"

namespace apo::serving {

class Listener {
 public:
  /// `options` and `metrics` must outlive it.
  Listener(const ServeOptions& options, Metrics& metrics);
  /// As `stop`.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// For what speaks on it; runs from `open` to `stop`.
  net::io_context& io() { return io_; }
  /// Lets clients in. Without a service there are only pages. RunError naming address and port.
  void open(Service* service, Pages* pages, const std::string& metadata);
  int64_t port() const { return acceptor_.local_endpoint().port(); }
  /// Takes nobody in and waits until those who are in have their answers and are gone, 10 s at most.
  void stop();

 private:
  net::awaitable<void> accept();
  net::awaitable<void> tick();
  void ended(std::exception_ptr problem);
  void end_when_nobody_is_left();

  const ServeOptions& options_;
  Metrics& metrics_;
  net::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  net::steady_timer ticks_{io_}, last_moment_{io_};
  std::shared_ptr<Network> network_;
  std::thread thread_;
};

}  // namespace apo::serving
