#include "environments/remote_link.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/text.h"
#include "apo/base/version.h"
#include "wire/field.h"
#include "wire/msgpack.h"

namespace apo::environments {

using namespace wire;  // NOLINT: the network's names, as in wire/net.h

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLargestFrame = size_t{64} << 20;
constexpr auto kSlice = std::chrono::milliseconds(50);   // of waiting, between looks for a signal
constexpr auto kGrace = std::chrono::milliseconds(400);  // after a signal, shorter than interrupt.cpp's
constexpr double kGoodBye_s = 2;
constexpr size_t kLongestText = 500;  // of a server's sentence in a message

std::string sentence(std::string_view text) { return printable(shortened(text, kLongestText)); }

}  // namespace

RemoteLink::RemoteLink(const RemoteOptions& options, std::string name) : name_(std::move(name)) {
  const RemoteUrl url = RemoteUrl::parse(options.url);
  const std::string token = token_of(options.token);
  net::co_spawn(
      io_, [this, url, token] { return live(url, token); }, net::detached);
  thread_ = std::thread([this] { io_.run(); });
  try {
    std::unique_lock lock(mutex_);
    const bool greeted = wait(lock, options.timeouts.connect_s, [this] { return greeting_.has_value(); });
    if (!greeted && failure_) throw_failure();
    if (!greeted)
      throw EpisodeLost(concat(name_, ": expected the server's metadata within ", options.timeouts.connect_s,
                               " s (environment.remote.timeouts.connect_s), found nothing"));
    metadata_ = read_metadata(*greeting_, concat(name_, ": metadata"));
  } catch (...) {
    cut_off();
    throw;
  }
}

RemoteLink::~RemoteLink() { cut_off(); }

void RemoteLink::cut_off() {
  if (!thread_.joinable()) return;
  net::post(io_, [this] { beast::get_lowest_layer(socket_).close(); });
  // whatever a resolver still does is waited for by nobody
  net::post(io_, [this] { io_.stop(); });
  thread_.join();
}

template <class Ready>
bool RemoteLink::wait(std::unique_lock<std::mutex>& lock, double seconds, Ready&& ready) {
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  std::optional<Clock::time_point> signal;
  while (!ready()) {
    if (failure_) return false;
    const auto now = Clock::now();
    if (now >= until) return false;
    // who waits for a step stops by himself after it, with what he has
    if (!signal && interrupted()) signal = now;
    APO_CHECK(Interrupted, !signal || now - *signal < kGrace, "interrupted while waiting for ", name_);
    changed_.wait_for(
        lock, std::min<Clock::duration>(kSlice, std::chrono::duration_cast<Clock::duration>(until - now)));
  }
  return true;
}

void RemoteLink::throw_failure() const {
  if (failure_->kind == Kind::unreachable) throw CannotConnect(failure_->message);
  if (failure_->kind == Kind::lost) throw EpisodeLost(failure_->message);
  throw RunError(failure_->message);
}

bool RemoteLink::alive() const {
  const std::lock_guard lock(mutex_);
  return !failure_;
}

net::awaitable<void> RemoteLink::connect(const RemoteUrl& url, const std::string& token) {
  tcp::resolver resolver(io_);
  const auto endpoints = co_await resolver.async_resolve(url.host, url.port, net::use_awaitable);
  co_await beast::get_lowest_layer(socket_).async_connect(endpoints, net::use_awaitable);
  beast::get_lowest_layer(socket_).socket().set_option(tcp::no_delay(true));
  socket_.set_option(websocket::stream_base::decorator([&](websocket::request_type& request) {
    request.set(http::field::user_agent, concat("apo/", version()));
    if (!token.empty()) request.set(http::field::authorization, "Bearer " + token);
  }));
  socket_.read_message_max(kLargestFrame);
  websocket::response_type response;
  error_code error;
  co_await socket_.async_handshake(response, concat(url.host, ":", url.port), url.path, caught(error));
  if (error == websocket::error::upgrade_declined) {
    const auto status = response.result_int();
    if (status == 401 || status == 403) {
      fail(Kind::wrong, concat(name_, ": the server refuses (HTTP ", status,
                               "): expected environment.remote.token to be the server's token"));
    } else {
      fail(status >= 500 ? Kind::lost : Kind::wrong,
           concat(name_, ": expected a WebSocket of an apo-environment, found HTTP ", status));
    }
  } else if (error) {
    throw boost::system::system_error(error);
  }
}

net::awaitable<void> RemoteLink::live(RemoteUrl url, std::string token) {
  try {
    co_await connect(url, token);
    beast::flat_buffer incoming;
    while (alive()) {
      incoming.clear();
      error_code error;
      co_await socket_.async_read(incoming, caught(error));
      if (error == websocket::error::message_too_big) {
        fail(Kind::wrong,
             concat(name_, ": expected frames of at most ", kLargestFrame >> 20, " MiB, found a larger one"));
      } else if (error == websocket::error::closed) {
        const auto& reason = socket_.reason();
        fail(Kind::lost, concat(name_, ": the server closed the connection (code ", reason.code,
                                reason.reason.empty() ? "" : ", ",
                                sentence(std::string_view(reason.reason.data(), reason.reason.size())), ")"));
      } else if (error) {
        fail(Kind::lost, concat(name_, ": the connection was lost (", error.message(), ")"));
      } else if (socket_.got_text()) {
        fail(Kind::wrong,
             concat(name_, ": the server says: ", sentence(beast::buffers_to_string(incoming.data()))));
      } else {
        received(beast::buffers_to_string(incoming.data()));
      }
    }
  } catch (const boost::system::system_error& error) {
    fail(Kind::unreachable, concat(name_, ": cannot connect: ", error.code().message()));
  } catch (const std::exception& error) {
    fail(Kind::wrong, error.what());
  }
}

void RemoteLink::fail(Kind kind, const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = Failure{kind, message};
  }
  changed_.notify_all();
}

// In the io thread; what it throws is the server's mistake.
void RemoteLink::received(const std::string& bytes) {
  const bool greeting = [this] {
    const std::lock_guard lock(mutex_);
    return !greeting_;
  }();
  const std::string where = concat(name_, greeting ? ": metadata" : ": reply");
  Value message = from_msgpack(bytes, where);
  {
    const std::lock_guard lock(mutex_);
    if (greeting) {
      greeting_ = std::move(message);
    } else {
      const Field field(&message, where);
      const std::string type = field["type"].text();
      if (type == "error" && !field["id"].present())
        throw RunError(concat(name_, ": the server says ", sentence(field["code"].text()), ": ",
                              sentence(field["message"].text())));
      const uint64_t id = field["id"].unsigned_integer();
      const auto found = waiting_.find(id);
      APO_CHECK(RunError, found != waiting_.end() && !found->second.reply, where, ": id: expected that of ",
                "a request without a reply, found ", id, " (", type, ")");
      const int64_t env = field["env"].present() ? field["env"].integer() : 0;
      APO_CHECK(RunError, env == found->second.env, where, " to request ", id, ": env: expected ",
                found->second.env, ", found ", env);
      found->second.reply = std::move(message);
    }
  }
  changed_.notify_all();
}

void RemoteLink::write_next() {
  if (writing_ || outgoing_.empty()) return;
  writing_ = true;
  socket_.binary(true);
  socket_.async_write(net::buffer(outgoing_.front()), [this](error_code error, size_t) {
    writing_ = false;
    outgoing_.pop_front();
    if (error)
      fail(Kind::lost, concat(name_, ": the connection was lost (", error.message(), ")"));
    else
      write_next();
  });
}

Value RemoteLink::exchange(const char* type, Map fields, int64_t env, double timeout_s) {
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) throw_failure();
    id = next_id_++;
    waiting_[id].env = env;
  }
  Map message = {{"type", type}, {"id", id}, {"env", env}};
  for (Member& field : fields) message.push_back(std::move(field));
  net::post(io_, [this, bytes = to_msgpack(message)]() mutable {
    outgoing_.push_back(std::move(bytes));
    write_next();
  });
  std::unique_lock lock(mutex_);
  if (!wait(lock, timeout_s, [&] { return waiting_[id].reply.has_value(); })) {
    waiting_.erase(id);
    // what arrived from now on would belong to a step that is given up
    if (!failure_)
      failure_ = Failure{Kind::lost, concat(name_, ": expected a reply to \"", type, "\" within ", timeout_s,
                                            " s (environment.remote.timeouts), found none")};
    changed_.notify_all();
    throw_failure();
  }
  Value reply = std::move(*waiting_[id].reply);
  waiting_.erase(id);
  return reply;
}

Value RemoteLink::request(const char* type, Map fields, int64_t env, const char* expected, double timeout_s) {
  Value reply = exchange(type, std::move(fields), env, timeout_s);
  const std::string where = concat(name_, ": reply to ", type);
  const Field field(&reply, where);
  try {
    const std::string found = field["type"].text();
    if (found == "error") {
      const std::string code = sentence(field["code"].text());
      const std::string text = concat(name_, ": the server answers \"", type, "\" with ", code, ": ",
                                      sentence(field["message"].text()));
      if (code == "ENVIRONMENT") throw EpisodeLost(text);
      throw RunError(text);
    }
    field["type"].expect(found == expected, concat("\"", expected, "\""));
  } catch (const DataError& error) {
    throw RunError(error.what());
  }
  return reply;
}

void RemoteLink::close() {
  try {
    if (alive()) request("close", {}, 0, "closed", kGoodBye_s);
  } catch (const Error&) {  // it is left anyway
  }
  std::unique_lock lock(mutex_);
  if (failure_) return;
  net::post(io_, [this] {
    socket_.async_close(websocket::close_code::normal, [this](error_code) {
      fail(Kind::lost, concat(name_, ": the connection is closed"));
    });
  });
  wait(lock, kGoodBye_s, [] { return false; });
}

}  // namespace apo::environments
