#include "serving/listener.h"

#include <chrono>
#include <exception>

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::serving {
namespace {

constexpr auto kTick = std::chrono::milliseconds(500);
constexpr auto kGrace = std::chrono::seconds(10);  // for connections to end after `stop`

}  // namespace

Listener::Listener(const ServeOptions& options, Metrics& metrics) : options_(options), metrics_(metrics) {}

Listener::~Listener() { stop(); }

void Listener::open(Service* service, Pages* pages, const std::string& metadata) {
  network_ = std::make_shared<Network>(Network{
      .options = options_, .metrics = metrics_, .service = service, .metadata = metadata, .pages = pages});
  error_code error;
  const tcp::endpoint endpoint(net::ip::make_address(options_.address),
                               static_cast<unsigned short>(options_.port));
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(net::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(net::socket_base::max_listen_connections, error);
  APO_CHECK(RunError, !error, "serve.address ", options_.address, ", serve.port ", options_.port,
            ": cannot listen: ", error.message(),
            error == net::error::address_in_use ? "; set another serve.port" : "");
  net::co_spawn(io_, accept(), net::detached);
  net::co_spawn(io_, tick(), net::detached);
  thread_ = std::thread([this] { io_.run(); });
}

net::awaitable<void> Listener::accept() {
  while (!network_->stopping) {
    error_code error;
    tcp::socket socket(io_);
    co_await acceptor_.async_accept(socket, caught(error));
    if (network_->stopping) break;
    if (error) {  // no descriptors left, or the client was gone again
      net::steady_timer pause(io_, std::chrono::milliseconds(50));
      co_await pause.async_wait(caught(error));
      continue;
    }
    if (metrics_.connections >= options_.limits.connections) {
      network_->refused("refused");
      continue;
    }
    ++metrics_.connections;
    const uint64_t number = network_->next_connection++;
    net::co_spawn(io_, serve_http(std::move(socket), network_, number),
                  [this](std::exception_ptr problem) { ended(problem); });
  }
}

void Listener::ended(std::exception_ptr problem) {
  --metrics_.connections;
  try {
    if (problem) std::rethrow_exception(problem);
  } catch (const std::exception& error) {
    network_->refused("protocol");
    log_warn("a connection failed: ", error.what());
  }
  end_when_nobody_is_left();
}

void Listener::end_when_nobody_is_left() {
  if (network_->stopping && metrics_.connections == 0) last_moment_.cancel();
}

net::awaitable<void> Listener::tick() {
  while (!network_->stopping) {
    error_code ignored;
    ticks_.expires_after(kTick);
    co_await ticks_.async_wait(caught(ignored));
    try {
      if (network_->service != nullptr) network_->service->tick();
      if (network_->pages != nullptr) network_->pages->tick();
    } catch (const std::exception& error) {  // what looks for lost pages goes on
      log_error("serving: ", error.what());
    }
  }
}

void Listener::stop() {
  if (!thread_.joinable()) return;
  net::post(io_, [this] {
    network_->stopping = true;
    error_code ignored;
    acceptor_.close(ignored);
    ticks_.cancel();
    if (network_->pages != nullptr) network_->pages->stop();
    const auto all = network_->on_stop;  // which these may change
    for (const auto& [connection, tell] : all) tell();
    last_moment_.expires_after(kGrace);
    last_moment_.async_wait([this](error_code error) {
      if (!error) io_.stop();
    });
    end_when_nobody_is_left();
  });
  thread_.join();
}

}  // namespace apo::serving
