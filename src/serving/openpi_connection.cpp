// openpi's protocol on a WebSocket: metadata first and unasked, then an answer to each frame, in order.
//
// Source   openpi, src/openpi/serving/websocket_policy_server.py; openpi-client 0.1.2
// Differs  an error frame is one sentence instead of a Python traceback; pings are answered during inference;
//          requests that a client sends ahead wait for their turn
#include <chrono>
#include <deque>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "serving/network.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace apo::serving {
namespace {

constexpr size_t kReadAtOnce = 256 << 10;
constexpr size_t kSentAhead = 4;  // frames of a client that wait for earlier ones
constexpr size_t kLongestReason = 1000;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

struct Frame {
  std::string bytes;
  Clock::time_point arrived;
};

// [H, A] float32
wire::Array chunk_array(const ActionChunk& chunk) {
  wire::Array array{
      .dtype = wire::Dtype::f4, .shape = {std::ssize(chunk), std::ssize(chunk.front())}, .data = {}};
  for (const Action& action : chunk)
    array.data.append(reinterpret_cast<const char*>(action.data()), action.size() * sizeof(float));
  return array;
}

class OpenpiConnection : public std::enable_shared_from_this<OpenpiConnection> {
 public:
  OpenpiConnection(WebSocket socket, std::shared_ptr<Network> network, Client client)
      : socket_(std::move(socket)),
        network_(std::move(network)),
        client_(std::move(client)),
        tick_(socket_.get_executor()),
        last_request_(Clock::now()) {}

  net::awaitable<void> speak(HttpRequest upgrade) {
    error_code error;
    co_await socket_.async_accept(upgrade, caught(error));
    if (error) co_return;
    network_->on_stop[client_.connection] = [self = shared_from_this()] { self->stop_if_idle(); };
    net::co_spawn(
        socket_.get_executor(), [self = shared_from_this()] { return self->watch(); }, net::detached);
    send(network_->metadata, false);
    while (!error) {
      co_await read_message(error);
      if (!error && !closing_) received();
      while (!error && waiting_.size() >= kSentAhead && !closing_) {
        tick_.expires_after(std::chrono::milliseconds(5));
        error_code ignored;
        co_await tick_.async_wait(caught(ignored));
      }
    }
    if (error == websocket::error::message_too_big || error.category() == protocol_category())
      network_->refused("protocol");
    open_ = false;
    network_->on_stop.erase(client_.connection);
    network_->service->closed(client_);
  }

 private:
  static const boost::system::error_category& protocol_category() {
    return websocket::make_error_code(websocket::error::bad_opcode).category();
  }
  const LimitOptions& limits() const { return network_->options.limits; }

  // Control frames are answered while this waits.
  net::awaitable<void> read_message(error_code& error) {
    incoming_.clear();
    began_.reset();
    do {
      co_await socket_.async_read_some(incoming_, kReadAtOnce, caught(error));
      if (!began_) began_ = Clock::now();
    } while (!error && !socket_.is_message_done());
    began_.reset();
  }

  void received() {
    last_request_ = Clock::now();
    if (socket_.got_text()) return fail("expected a binary frame of msgpack, found a text frame", "request");
    waiting_.push_back({beast::buffers_to_string(incoming_.data()), last_request_});
    ask_next();
  }

  void ask_next() {
    if (asking_ || closing_ || waiting_.empty()) return;
    Frame frame = std::move(waiting_.front());
    waiting_.pop_front();
    asking_ = true;
    wire::Value message;
    try {
      message = wire::from_msgpack(frame.bytes, "request");
    } catch (const std::exception& error) {
      network_->metrics.requests.add("openpi");
      return fail(error.what(), "request");
    }
    network_->service->ask(
        client_, message, frame.arrived, "openpi",
        [self = shared_from_this(), arrived = frame.arrived](Reply reply) {
          net::post(self->socket_.get_executor(),
                    [self, arrived, reply = std::move(reply)] { self->answered(reply, arrived); });
        });
  }

  void answered(const Reply& reply, Clock::time_point arrived) {
    asking_ = false;
    last_request_ = Clock::now();
    if (!open_ || closing_) return;
    if (reply.step.failure != Failure::none) return fail(reply.step.reason, "");
    send(wire::to_msgpack(answer_of(reply)), false);
    previous_s_ = seconds(Clock::now() - arrived);
    if (network_->stopping && waiting_.empty()) return stop_if_idle();
    ask_next();
  }

  wire::Value answer_of(const Reply& reply) const {
    wire::Map answer;
    if (reply.ended) {
      answer = {{"event", "end"}, {"steps", std::max<int64_t>(reply.num_steps, 0)}};
    } else {
      wire::Map timing = {{"infer_ms", reply.step.infer_s * 1000}, {"queue_ms", reply.step.queue_s * 1000}};
      if (previous_s_) timing.push_back({"prev_total_ms", *previous_s_ * 1000});
      answer = {{"actions", chunk_array(reply.step.actions)},
                {"server_timing", std::move(timing)},
                {"action_source", static_cast<int64_t>(reply.step.source)}};
      if (!reply.step.ended.empty()) answer.push_back({"episode_ended", reply.step.ended});
      for (const wire::Member& echoed : reply.step.echo) answer.push_back(echoed);
    }
    return answer;
  }

  // The reason as a text frame, then the closing handshake. `kind`: of the error, where nobody counted it
  // yet.
  void fail(const std::string& reason, const std::string& kind) {
    if (!kind.empty()) network_->refused(kind);
    const std::string sentence = printable(shortened(reason, kLongestReason));
    log_warn(client_.address, ": ", sentence);
    waiting_.clear();
    asking_ = false;
    send(sentence, true);
    close(websocket::close_code::internal_error);
  }

  void close(websocket::close_code code) {
    if (closing_) return;
    closing_ = code;
    write_next();
  }

  void stop_if_idle() {
    if (!asking_ && waiting_.empty()) close(websocket::close_code::going_away);
  }

  void send(std::string bytes, bool is_text) {
    if (closing_) return;
    outgoing_.push_back({std::move(bytes), is_text});
    write_next();
  }

  void write_next() {
    if (writing_ || !open_) return;
    if (outgoing_.empty()) {
      if (!closing_) return;
      writing_ = true;
      socket_.async_close(*closing_, [self = shared_from_this()](error_code) {});
      return;
    }
    writing_ = true;
    socket_.text(outgoing_.front().second);
    socket_.binary(!outgoing_.front().second);
    socket_.async_write(net::buffer(outgoing_.front().first),
                        [self = shared_from_this()](error_code error, size_t) {
                          self->writing_ = false;
                          self->outgoing_.pop_front();
                          if (!error) self->write_next();
                        });
  }

  // Slow senders and silent connections.
  net::awaitable<void> watch() {
    net::steady_timer timer(socket_.get_executor());
    error_code ignored;
    const auto self = shared_from_this();
    while (open_ && !closing_) {
      timer.expires_after(std::chrono::milliseconds(200));
      co_await timer.async_wait(caught(ignored));
      const auto now = Clock::now();
      if (!open_ || closing_) break;
      if (began_ && seconds(now - *began_) > limits().message_s)
        fail(concat("a message took longer than ", limits().message_s, " s (serve.limits.message_s)"),
             "protocol");
      else if (!asking_ && seconds(now - last_request_) > limits().idle_s)
        fail(concat("no request for ", limits().idle_s, " s (serve.limits.idle_s)"), "protocol");
    }
    // whoever does not answer the closing handshake is cut off
    timer.expires_after(std::chrono::seconds(10));
    for (int i = 0; open_ && i < 100; ++i) {
      timer.expires_after(std::chrono::milliseconds(100));
      co_await timer.async_wait(caught(ignored));
    }
    if (open_) beast::get_lowest_layer(socket_).close();
  }

  WebSocket socket_;
  std::shared_ptr<Network> network_;
  Client client_;
  net::steady_timer tick_;
  beast::flat_buffer incoming_;
  std::deque<Frame> waiting_;
  std::deque<std::pair<std::string, bool>> outgoing_;
  std::optional<websocket::close_code> closing_;
  std::optional<Clock::time_point> began_;
  Clock::time_point last_request_;
  std::optional<double> previous_s_;
  bool open_ = true, asking_ = false, writing_ = false;
};

}  // namespace

net::awaitable<void> serve_openpi(WebSocket socket, HttpRequest upgrade, std::shared_ptr<Network> network,
                                  Client client) {
  const auto connection =
      std::make_shared<OpenpiConnection>(std::move(socket), std::move(network), std::move(client));
  co_await connection->speak(std::move(upgrade));
}

}  // namespace apo::serving
