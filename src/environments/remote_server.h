// What the environments of one remote server share in this process: its connection, made again when it is
// lost, and who of them is which.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "apo/environments/remote.h"
#include "environments/remote_link.h"

namespace apo::environments {

class RemoteServer {
 public:
  /// That of this URL and token; connects where none of this process does yet. RunError naming the URL.
  static std::shared_ptr<RemoteServer> of(const RemoteOptions& options);
  /// Says good-bye.
  ~RemoteServer();
  RemoteServer(const RemoteServer&) = delete;
  RemoteServer& operator=(const RemoteServer&) = delete;

  const std::string& name() const { return name_; }
  const RemoteMetadata& metadata() const { return metadata_; }
  /// A free one of the server's environments. RunError if all are taken.
  int64_t claim();
  void give_back(int64_t env);
  /// The connection, made anew where it was lost: tries for `timeouts.reconnect_s`. RunError when nobody
  /// answered until then, or another server does.
  std::shared_ptr<RemoteLink> link();

 private:
  explicit RemoteServer(const RemoteOptions& options);
  std::shared_ptr<RemoteLink> connected() const;

  const RemoteOptions options_;
  const std::string name_;
  RemoteMetadata metadata_;
  std::mutex mutex_;
  std::shared_ptr<RemoteLink> link_;
  std::set<int64_t> taken_;
};

}  // namespace apo::environments
