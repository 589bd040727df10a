// What both protocols ask for: a message becomes a request, waits for the policy, is decided and recorded.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "apo/models/policy.h"
#include "apo/serving/options.h"
#include "serving/batcher.h"
#include "serving/episodes.h"
#include "serving/metrics.h"
#include "serving/requests.h"

namespace apo::serving {

/// Who asks.
struct Client {
  std::string address;      ///< of the other machine, without its port
  uint64_t connection = 0;  ///< its number
  bool stream = false;      ///< the connection is an episode, unless requests name another
  /// set once the connection is closed
  std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);
};

/// What is answered to a message.
struct Reply {
  StepReply step;
  bool ended = false;      ///< the message ended an episode
  int64_t num_steps = -1;  ///< that it had; -1: there was none
};

/// All but `ask`'s `done` happens in the thread of whoever calls, which is one: the network's.
class Service {
 public:
  Service(models::Policy& policy, const ServeOptions& options, Metrics& metrics, PolicyNeeds needs,
          const Episodes::Recording& recording, Watcher* watcher);
  /// Answers what was asked.
  ~Service();

  /// `done` is called once, by any thread. `protocol` is what metrics count it by.
  void ask(const Client& client, const wire::Value& message, Clock::time_point arrived,
           const std::string& protocol, std::function<void(Reply)> done);
  /// Its episode, where the connection is one, has ended.
  void closed(const Client& client);
  /// Once a second or so.
  void tick();

  Episodes& episodes() { return *episodes_; }
  const RequestReader& reader() const { return reader_; }

 private:
  struct Budget {
    double left = 0;
    Clock::time_point since;
  };
  bool within_rate(const std::string& address, Clock::time_point now);

  const ServeOptions& options_;
  Metrics& metrics_;
  RequestReader reader_;
  std::map<std::string, Budget> budgets_;
  std::unique_ptr<Episodes> episodes_;
  std::unique_ptr<Batcher> batcher_;
};

}  // namespace apo::serving
