// What a client's message asks for, whatever bytes it came in: one step of a robot, or an episode's end.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "apo/base/types.h"
#include "apo/serving/options.h"
#include "wire/field.h"
#include "wire/value.h"

namespace apo::serving {

using Clock = std::chrono::steady_clock;

/// What a policy must be given.
struct PolicyNeeds {
  std::vector<std::string> cameras;  ///< by name; empty: any one picture
  std::vector<std::string> states;
  int64_t action_size = 0;
  std::string unnorm_key = {};  ///< of the statistics that it acts by; empty: whatever is asked for
};

/// One step: what is seen, and perhaps what a human does in it.
struct StepRequest {
  /// pictures and states by the policy's names; what the policy does not need by the client's, "/" as "_"
  Observation observation;
  std::string episode_id;              ///< empty: as the protocol says
  std::optional<Action> intervention;  ///< [A] what a human executes in this step
  std::string reason;                  ///< why he took over
  std::optional<uint64_t> seed;        ///< of the episode's decoding
  wire::Map echo;                      ///< request_id, timestamp: given back with the answer
  std::string asked_for;  ///< the robot's instruction, where a person's stands in the observation
};

/// {"event": "end", "episode_id": ..., "success": ...}
struct EndRequest {
  std::string episode_id;
  std::optional<bool> success;
  std::string outcome;
};

using ClientRequest = std::variant<StepRequest, EndRequest>;

/// Reads messages of one policy's clients by `serve.keys`.
class RequestReader {
 public:
  RequestReader(const ServeOptions& options, PolicyNeeds needs);

  /// A picture or state is that of the policy which serve.keys names. Those that it does not name are found
  /// by their names: NAME, NAME_image, observation/NAME, observation/NAME_image, observation/images/NAME,
  /// observation.images.NAME, images/NAME (states: NAME, observation/NAME, observation.state.NAME). The only
  /// picture is the only camera (unless its key says that it is a wrist's, and the camera's name does not),
  /// the only state the only state; where one camera is needed that is no
  /// wrist's, it is image, full_image, observation/image or observation/exterior_image_1_left; the n-th
  /// camera with "wrist" in its name is the n-th picture with "wrist" in its key.
  ///
  /// Errors  DataError naming key, expected and found: a camera or state that is missing (with the keys that
  ///         there are), a picture that is none, a number that is not finite, no instruction or one that is
  ///         too long, an intervention of another size, an event that is none
  ClientRequest read(const wire::Value& message) const;

  const PolicyNeeds& needs() const { return needs_; }

 private:
  struct Found;
  StepRequest read_step(const wire::Field& root) const;
  void take_pictures(std::vector<Found>& pictures, Observation& observation) const;
  void take_states(std::vector<Found>& states, Observation& observation) const;

  KeysOptions keys_;
  int64_t longest_instruction_;
  PolicyNeeds needs_;
};

}  // namespace apo::serving
