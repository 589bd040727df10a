// A policy behind a port: openpi's WebSocket and OpenVLA's REST, recorded step by step.
//
//   serving::Server server(*policy, options, {.cameras = {"front"}, .states = {}});
//   server.run();  // until SIGINT or SIGTERM
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/labels.h"
#include "apo/models/description.h"
#include "apo/models/policy.h"
#include "apo/serving/options.h"

namespace apo::serving {

/// What a server knows of its policy beside the policy itself.
struct ServedPolicy {
  std::vector<std::string> cameras;  ///< that it needs; empty: any one picture
  std::vector<std::string> states;   ///< that it needs
  std::string checkpoint;            ///< recorded beside what it did
  std::string unnorm_key = {};       ///< of its statistics; requests for others are refused
  /// to be answered before anybody is let in, so that nothing is made on first use; nothing: no warm-up
  std::optional<Observation> warm_up;
  data::LabelRules label_rules = {};  ///< by which the console counts pools
  RefinePlan refine = {};             ///< what its "refine now" starts
};

/// Of a checkpoint's description, with an observation of zeros to warm up on.
ServedPolicy served_policy(const models::PolicyDescription& description, const std::string& checkpoint);

/// Listens from construction to destruction, with threads of its own: one for the network, one for the
/// policy, one for what robots did, one for merging recordings.
class Server {
 public:
  /// `policy` is nobody else's as long as the server lives.
  /// ConfigError as check_options; RunError if it cannot listen there, or as data::EpisodeRecorder.
  Server(models::Policy& policy, const ServeOptions& options, const ServedPolicy& about);
  /// Takes nobody in, answers what was asked, says good-bye (close code 1001), ends every episode as
  /// "interrupted" and brings it into the recording.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int64_t port() const;
  /// Waits for SIGINT, SIGTERM or SIGHUP, or another thread's `stop`. Returns how many requests there were.
  int64_t run();
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apo::serving
