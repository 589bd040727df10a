// One connection to a remote environment, shared by all environments of its server.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "apo/environments/remote.h"
#include "environments/remote_messages.h"
#include "environments/remote_url.h"
#include "wire/net.h"
#include "wire/value.h"

namespace apo::environments {

/// Nobody listens where a server was expected.
struct CannotConnect : EpisodeLost {
  using EpisodeLost::EpisodeLost;
};

/// The connection is gone, or the answer too late to be of use: EpisodeLost for whoever plays. What a server
/// says wrongly is a RunError instead: asking once more would not help.
class RemoteLink {
 public:
  /// Connects and reads the metadata. EpisodeLost where nobody answers in time, RunError for a server that
  /// speaks something else or refuses the token. `name` is what messages call it.
  RemoteLink(const RemoteOptions& options, std::string name);
  ~RemoteLink();
  RemoteLink(const RemoteLink&) = delete;
  RemoteLink& operator=(const RemoteLink&) = delete;

  const RemoteMetadata& metadata() const { return metadata_; }
  const std::string& name() const { return name_; }
  /// Whether requests can still be answered.
  bool alive() const;
  /// The reply to `message`, a map of `type` and its own fields, for environment `env`: of type `expected`.
  /// Calls of several threads wait side by side. RunError for an error reply, with its code; Interrupted.
  wire::Value request(const char* type, wire::Map fields, int64_t env, const char* expected,
                      double timeout_s);
  /// The same whatever the reply is, an error too.
  wire::Value exchange(const char* type, wire::Map fields, int64_t env, double timeout_s);
  /// Says good-bye, and waits for the answer for a moment.
  void close();

 private:
  enum class Kind { unreachable, lost, wrong };
  struct Failure {
    Kind kind = Kind::lost;
    std::string message;
  };
  struct Waiting {
    int64_t env = 0;
    std::optional<wire::Value> reply;
  };

  wire::net::awaitable<void> live(RemoteUrl url, std::string token);
  wire::net::awaitable<void> connect(const RemoteUrl& url, const std::string& token);
  void received(const std::string& bytes);
  void fail(Kind kind, const std::string& message);
  void write_next();
  /// Until `ready` holds or the link failed; false when time is up. `lock` holds mutex_.
  template <class Ready>
  bool wait(std::unique_lock<std::mutex>& lock, double seconds, Ready&& ready);
  [[noreturn]] void throw_failure() const;
  void cut_off();

  const std::string name_;
  RemoteMetadata metadata_;
  wire::net::io_context io_{1};
  wire::WebSocket socket_{io_};
  std::deque<std::string> outgoing_;  // of the io thread
  bool writing_ = false;              // of the io thread
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<wire::Value> greeting_;
  std::optional<Failure> failure_;
  std::map<uint64_t, Waiting> waiting_;
  uint64_t next_id_ = 1;
  std::thread thread_;
};

}  // namespace apo::environments
