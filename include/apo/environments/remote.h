// An environment behind a WebSocket: any robot or simulator that speaks the protocol of docs/remote.md
// (apo-environment, version 1).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace apo::config {
class Visitor;
}

namespace apo::environments {

/// Config section `environment.remote.timeouts`, seconds.
struct RemoteTimeoutOptions {
  double connect_s = 10;    ///< from the first byte to the server's metadata
  double reset_s = 120;     ///< of a reset; a robot may wait for a person who clears the table
  double step_s = 5;        ///< of everything else; a later answer interrupts the episode
  double reconnect_s = 60;  ///< for all tries after a connection was lost
  void visit(config::Visitor& v);
};

/// Config section `environment.remote`.
struct RemoteOptions {
  std::string url = "ws://127.0.0.1:8765";  ///< of the server
  std::string token;        ///< that the server asks for; "$NAME": the environment variable NAME
  std::string instruction;  ///< in place of the server's own; empty: its own
  int64_t max_steps = 0;    ///< steps that a policy has for the task; 0: what the server advises
  RemoteTimeoutOptions timeouts;
  void visit(config::Visitor& v);
};

/// One thing that a server does wrong, or might.
struct RemoteFinding {
  bool error = false;  ///< false: worth knowing
  std::string what;
};

/// What `check_remote` found.
struct RemoteCheck {
  std::vector<std::string> facts;  ///< lines about the server: its name, action, cameras, states, speed
  std::vector<RemoteFinding> findings;
  int64_t num_errors() const;
  /// A few lines for people.
  std::string text() const;
};

/// Plays the episodes of two seeds, each twice, with the server's expert where it has one and with small
/// actions elsewhere, `steps` steps each at most; looks at every reply, and asks for what a server must
/// refuse. Never throws for what a server does wrong: that is a finding.
///
/// Errors  ConfigError: a URL that is none. RunError: nobody listens there, or another client drives it
RemoteCheck check_remote(const RemoteOptions& options, int64_t steps = 40);

}  // namespace apo::environments
