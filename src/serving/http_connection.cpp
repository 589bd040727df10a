// A connection as it begins: HTTP, with /act, /healthz and /metrics, until somebody upgrades it.
#include <sys/socket.h>

#include <array>
#include <chrono>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/version.h"
#include "serving/network.h"

namespace apo::serving {
namespace {

constexpr uint32_t kLongestHead = 16 << 10;
constexpr double kLinger = 1;  // seconds

std::chrono::milliseconds of_seconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

std::string text_of(beast::string_view text) { return {text.data(), text.size()}; }

RequestHead head_of(const http::request_header<>& header) {
  RequestHead head;
  if (const auto found = header.find(http::field::host); found != header.end())
    head.host = text_of(found->value());
  if (const auto found = header.find(http::field::origin); found != header.end())
    head.origin = text_of(found->value());
  head.authorization = text_of(header[http::field::authorization]);
  head.query_token = query_value(text_of(header.target()), "token");
  return head;
}

HttpResponse response_of(const HttpAnswer& answer, unsigned version, bool keep_alive) {
  HttpResponse response(static_cast<http::status>(answer.status), version);
  response.set(http::field::server, concat("apo-serve/", apo::version()));
  response.set(http::field::content_type, answer.content_type);
  response.set(http::field::cache_control, "no-store");
  if (answer.status == 401) response.set(http::field::www_authenticate, "Bearer");
  if (!answer.error.empty()) response.set("X-Apo-Error", header_text(answer.error));
  if (!answer.episode_ended.empty()) response.set("X-Apo-Episode-Ended", answer.episode_ended);
  response.keep_alive(keep_alive);
  response.body() = answer.body;
  response.prepare_payload();
  return response;
}

// One connection's reading and writing.
class HttpConnection {
 public:
  HttpConnection(tcp::socket socket, std::shared_ptr<Network> network, uint64_t connection)
      : stream_(std::move(socket)),
        buffer_(kLongestHead + (64 << 10)),
        network_(std::move(network)),
        timer_(stream_.get_executor()) {
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    client_.address = stream_.socket().remote_endpoint(ignored).address().to_string();
    client_.connection = connection;
    network_->on_stop[connection] = [this] {
      if (idle_) stream_.cancel();
    };
  }
  ~HttpConnection() {
    *alive_ = false;
    network_->on_stop.erase(client_.connection);
  }

  net::awaitable<void> serve() {
    bool first = true;
    while (!network_->stopping && co_await serve_one(first)) first = false;
    if (upgraded_) co_return;
    error_code error;
    stream_.socket().shutdown(tcp::socket::shutdown_send, error);
    // what is still on its way would reset the connection and take the last answer along
    limit(kLinger);
    while (!error) co_await stream_.async_read_some(net::buffer(leftover_), caught(error));
    timer_.cancel();
  }

 private:
  const ServeOptions& options() const { return network_->options; }

  // What is awaited fails after so many seconds, but not the socket, on which the reason can still be said.
  void limit(double seconds) {
    expired_ = false;
    timer_.expires_after(of_seconds(seconds));
    timer_.async_wait([this, alive = alive_](error_code error) {
      if (error || !*alive || timer_.expiry() > Clock::now()) return;
      expired_ = true;
      stream_.cancel();
    });
  }

  net::awaitable<bool> write(HttpResponse response) {
    error_code error;
    limit(options().limits.message_s);
    co_await http::async_write(stream_, response, caught(error));
    timer_.cancel();
    co_return !error && response.keep_alive();
  }

  // The answer to a head that cannot be read; nothing if nobody would read it.
  std::optional<HttpAnswer> malformed(error_code error) const {
    if (error == http::error::body_limit)
      return http_failure(413, concat("expected a body of at most ", options().limits.message_bytes,
                                      " bytes (serve.limits.message_bytes)"));
    if (error == http::error::header_limit) return http_failure(431, "the request's head is too long");
    if (expired_) return http_failure(408, "the request took longer than serve.limits allows");
    if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
    if (error.category() == http::make_error_code(http::error::end_of_stream).category())
      return http_failure(400, concat("expected an HTTP request: ", error.message()));
    return std::nullopt;
  }

  net::awaitable<bool> serve_one(bool first) {
    error_code error;
    if (!first && buffer_.size() == 0) {
      idle_ = true;
      limit(options().limits.idle_s);
      const size_t read = co_await stream_.async_read_some(buffer_.prepare(4096), caught(error));
      idle_ = false;
      if (error) co_return false;
      buffer_.commit(read);
    }
    http::request_parser<http::string_body> parser;
    parser.header_limit(kLongestHead);
    parser.body_limit(static_cast<uint64_t>(options().limits.message_bytes));
    idle_ = first;
    limit(options().limits.handshake_s);
    co_await http::async_read_header(stream_, buffer_, parser, caught(error));
    timer_.cancel();
    idle_ = false;
    if (error) {
      if (const auto answer = malformed(error)) {
        network_->refused("protocol");
        HttpResponse response = response_of(*answer, 11, false);
        co_await write(std::move(response));
      }
      co_return false;
    }
    co_return co_await answer(parser);
  }

  net::awaitable<bool> answer(http::request_parser<http::string_body>& parser) {
    const auto& header = parser.get();
    const std::string path(path_of(text_of(header.target())));
    const bool upgrades = websocket::is_upgrade(header);
    const bool is_page =
        network_->pages != nullptr && (network_->pages->owns(path) || (path == "/" && !upgrades));
    const auto refusal = refusal_of(head_of(header), options(), path != "/healthz" && (upgrades || !is_page));
    const bool is_ours = path == "/healthz" || path == "/metrics" || path == "/act";
    const bool served = network_->service != nullptr;
    if (!refusal && upgrades && !is_ours && (served || is_page)) {
      co_await upgrade(parser.release(), is_page);
      co_return false;
    }
    if (!refusal && served && path == "/act" && !upgrades && header.method() == http::verb::post)
      co_return co_await act(parser);
    HttpResponse response = refusal ? refused(*refusal, header.version()) : respond(parser, path, is_page);
    co_return co_await write(std::move(response));
  }

  HttpResponse refused(const Refusal& refusal, unsigned version) {
    network_->refused("refused");
    log_warn(client_.address, ": ", refusal.status, ": ", refusal.reason);
    return response_of(http_failure(refusal.status, refusal.reason), version, false);
  }

  // What needs no waiting.
  HttpResponse respond(http::request_parser<http::string_body>& parser, const std::string& path,
                       bool is_page) {
    const auto& header = parser.get();
    const unsigned version = header.version();
    const bool keep_alive = header.keep_alive();
    if (websocket::is_upgrade(header))
      return response_of(http_failure(400, concat(path.substr(0, 100), ": expected no WebSocket here")),
                         version, false);
    if (!parser.is_done() && (parser.chunked() || parser.content_length().value_or(0) > 0))
      return response_of(http_failure(405, concat(path, ": expected no body here")), version, false);
    if (path == "/act") return response_of(http_failure(405, "/act: expected POST"), version, keep_alive);
    if (header.method() == http::verb::get) {
      if (path == "/healthz")
        return response_of({.body = "OK\n", .content_type = "text/plain"}, version, keep_alive);
      if (path == "/metrics")
        return response_of({.body = network_->metrics.text(), .content_type = "text/plain; version=0.0.4"},
                           version, keep_alive);
      if (is_page) {
        HttpResponse response = network_->pages->get(parser.release());
        response.keep_alive(keep_alive);
        response.prepare_payload();
        return response;
      }
    }
    return response_of(http_failure(404, concat("expected /act, /healthz, /metrics or a WebSocket, found '",
                                                path.substr(0, 100), "'")),
                       version, keep_alive);
  }

  net::awaitable<bool> act(http::request_parser<http::string_body>& parser) {
    error_code error;
    const unsigned version = parser.get().version();
    limit(options().limits.message_s);
    if (parser.get()[http::field::expect] == "100-continue") {
      http::response<http::empty_body> go_on(http::status::continue_, version);
      co_await http::async_write(stream_, go_on, caught(error));
    }
    if (!error) co_await http::async_read(stream_, buffer_, parser, caught(error));
    timer_.cancel();
    if (error) {
      network_->refused("protocol");
      if (const auto answer = malformed(error)) {
        HttpResponse response = response_of(*answer, version, false);
        co_await write(std::move(response));
      }
      co_return false;
    }
    const auto arrived = Clock::now();
    const HttpRequest request = parser.release();
    auto read = read_act(text_of(request[http::field::content_type]), request.body(), options().strict);
    HttpAnswer answer;
    if (auto* failed = std::get_if<HttpAnswer>(&read)) {
      network_->metrics.requests.add("act");
      network_->refused("request");
      answer = std::move(*failed);
    } else {
      const auto& asked = std::get<ActRequest>(read);
      client_.gone = std::make_shared<std::atomic<bool>>(false);
      watch_for_end();
      Awaited<Reply> reply(stream_.get_executor());
      network_->service->ask(client_, asked.message, arrived, "act", reply.setter());
      const Reply given = co_await reply.get();
      *watching_ = false;
      stream_.socket().cancel(error);
      answer = act_answer(given, asked, options().strict);
    }
    if (!answer.error.empty()) log_warn(client_.address, ": /act: ", answer.error);
    HttpResponse response = response_of(answer, version, request.keep_alive());
    co_return co_await write(std::move(response));
  }

  // Nobody waits for an answer any more once the other side has closed.
  void watch_for_end() {
    watching_ = std::make_shared<bool>(true);
    stream_.socket().async_wait(
        tcp::socket::wait_read, [this, watching = watching_, gone = client_.gone](error_code error) {
          if (error || !*watching) return;
          char byte = 0;
          const auto got = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
          if (got == 0) gone->store(true);
        });
  }

  net::awaitable<void> upgrade(HttpRequest request, bool is_page) {
    upgraded_ = true;
    network_->on_stop.erase(client_.connection);
    WebSocket socket(std::move(stream_));
    websocket::stream_base::timeout timeout{};
    timeout.handshake_timeout = of_seconds(options().limits.handshake_s);
    timeout.idle_timeout = std::chrono::seconds(40);  // without even an answer to our pings
    timeout.keep_alive_pings = true;
    socket.set_option(timeout);
    socket.set_option(websocket::stream_base::decorator([](websocket::response_type& response) {
      response.set(http::field::server, concat("apo-serve/", apo::version()));
    }));
    socket.read_message_max(static_cast<size_t>(options().limits.message_bytes));
    client_.stream = true;
    if (is_page)
      co_await network_->pages->speak(std::move(socket), std::move(request), client_.address);
    else
      co_await serve_openpi(std::move(socket), std::move(request), network_, client_);
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::shared_ptr<Network> network_;
  Client client_;
  std::shared_ptr<bool> watching_;
  net::steady_timer timer_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::array<char, 4096> leftover_{};
  bool idle_ = false, upgraded_ = false, expired_ = false;
};

}  // namespace

net::awaitable<void> serve_http(tcp::socket socket, std::shared_ptr<Network> network, uint64_t connection) {
  HttpConnection http(std::move(socket), std::move(network), connection);
  co_await http.serve();
}

}  // namespace apo::serving
