// What a simulator's own tools play an episode back from.
#pragma once

#include <string>
#include <vector>

namespace apo::environments {

/// Of an environment whose simulator can be put back to where an episode was (Environment::playback). What is
/// not empty is recorded.
class PlaybackSource {
 public:
  virtual ~PlaybackSource() = default;
  /// robomimic's JSON by which its tools make the environment again.
  virtual std::string env_args() const = 0;
  /// The running episode's model, XML.
  virtual std::string simulator_model() const = 0;
  /// The simulator's whole state that `observe` shows, [D].
  virtual std::vector<double> simulator_state() const = 0;
};

}  // namespace apo::environments
