#include "environments/remote_server.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"

namespace apo::environments {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestPause_s = 30;
constexpr double kBusyFor_s = 3;  // a client that has just left may still be counted

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void pause(double seconds, const std::string& name) {
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < until) {
    APO_CHECK(Interrupted, !interrupted(), "interrupted while waiting for ", name);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::mutex& registry_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

}  // namespace

std::shared_ptr<RemoteServer> RemoteServer::of(const RemoteOptions& options) {
  using Key = std::pair<std::string, std::string>;
  static auto* const known = new std::map<Key, std::weak_ptr<RemoteServer>>;
  const std::lock_guard lock(registry_mutex());
  std::weak_ptr<RemoteServer>& place = (*known)[{options.url, options.token}];
  std::shared_ptr<RemoteServer> server = place.lock();
  if (!server) {
    server = std::shared_ptr<RemoteServer>(new RemoteServer(options));
    place = server;
  }
  return server;
}

RemoteServer::RemoteServer(const RemoteOptions& options)
    : options_(options), name_(concat("environment.remote ", options.url)) {
  const auto start = Clock::now();
  while (true) {
    try {
      link_ = connected();
    } catch (const EpisodeLost& error) {
      throw RunError(concat(error.what(), "; expected a server of the protocol apo-environment there"));
    }
    if (!link_->metadata().busy) break;
    link_.reset();
    APO_CHECK(RunError, seconds_since(start) < kBusyFor_s, name_,
              ": another client drives this server; expected it to be free");
    pause(0.2, name_);
  }
  metadata_ = link_->metadata();
}

RemoteServer::~RemoteServer() {
  if (link_) link_->close();
}

std::shared_ptr<RemoteLink> RemoteServer::connected() const {
  return std::make_shared<RemoteLink>(options_, name_);
}

int64_t RemoteServer::claim() {
  const std::lock_guard lock(mutex_);
  int64_t env = 0;
  while (taken_.contains(env)) ++env;
  APO_CHECK(RunError, env < metadata_.num_envs, name_, ": expected at most ", metadata_.num_envs,
            " environments at a time (num_envs of the server), found one more");
  taken_.insert(env);
  return env;
}

void RemoteServer::give_back(int64_t env) {
  const std::lock_guard lock(mutex_);
  taken_.erase(env);
}

std::shared_ptr<RemoteLink> RemoteServer::link() {
  const std::lock_guard lock(mutex_);
  if (link_ && link_->alive()) return link_;
  link_.reset();
  const auto start = Clock::now();
  std::string last = "it stayed busy with another client";
  for (double wait = 1;; wait = std::min(2 * wait, kLongestPause_s)) {
    try {
      const std::shared_ptr<RemoteLink> made = connected();
      if (!made->metadata().busy) {
        const std::string other = metadata_.difference(made->metadata());
        APO_CHECK(RunError, other.empty(), name_, ": expected the server of before, found another ", other);
        log_info(name_, ": connected again");
        return link_ = made;
      }
    } catch (const EpisodeLost& error) {
      last = error.what();
    }
    const double left = options_.timeouts.reconnect_s - seconds_since(start);
    APO_CHECK(RunError, left > 0, last, "; given up after ", options_.timeouts.reconnect_s,
              " s (environment.remote.timeouts.reconnect_s)");
    pause(std::min(wait, left), name_);
  }
}

}  // namespace apo::environments
