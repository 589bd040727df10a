// What a remote environment says, read and held against what it said of itself: docs/remote.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apo/environments/environment.h"
#include "wire/field.h"

namespace apo::environments {

inline constexpr const char* kRemoteProtocol = "apo-environment";
inline constexpr int64_t kRemoteVersion = 1;

/// The first message of a server.
struct RemoteMetadata {
  std::string server, name, instruction, env_args;
  int64_t num_envs = 1;
  double control_hz = 0;
  int64_t max_steps = 0;  ///< advice
  bool realtime = false;  ///< time runs on without steps
  bool busy = false;      ///< another client drives
  int64_t action_size = 0;
  Action low, high, idle;  ///< [A]
  std::vector<std::string> action_names;
  config::GripperOptions gripper;                              ///< of `action.gripper`, an extra
  std::map<std::string, std::pair<int64_t, int64_t>> cameras;  ///< name -> height, width
  std::map<std::string, int64_t> states;                       ///< name -> count of numbers
  std::set<std::string> capabilities;
  std::vector<std::string> disruptions;

  bool can(const std::string& capability) const { return capabilities.contains(capability); }
  /// What another server than this one would say otherwise; empty where it is the same robot or simulator.
  std::string difference(const RemoteMetadata& other) const;
};

/// RunError "WHERE: KEY: expected ..., found ..." for another protocol or version, or what makes no sense.
RemoteMetadata read_metadata(const wire::Value& message, const std::string& where);

/// What is asked of a reply beside its own fields.
struct ReplyContext {
  const RemoteMetadata& metadata;
  int64_t step = 0;               ///< since the reset, which the reply must name
  const Action* asked = nullptr;  ///< of a `step`; null: of a reset or a look, when nothing was executed
  bool wants_state = false;       ///< `state` was asked for
  int64_t state_size = 0;         ///< of the reset's `state`; 0: not known
};

/// A whole `observation`.
struct RemoteReply {
  Observation observation;
  Situation situation;           ///< with what was executed, where that was not what was asked for
  std::optional<Action> expert;  ///< what the server's expert would do now
  bool truncated = false;        ///< by the server's own limit
  std::vector<std::string> events;
  int64_t held_steps = 0;
  std::string model;          ///< what the simulator's own tools play back from; empty: not told
  std::vector<double> state;  ///< [D]
};

/// RunError "WHERE: KEY: expected ..., found ..." for a missing camera or state, a size unlike the metadata,
/// a number that is not finite, another step than asked for, and who acted unless that makes sense; for a
/// `state` that was asked for and is missing, of another length than the reset's or beyond 100000 numbers,
/// and a `model` beyond 8 MiB.
RemoteReply read_observation(const wire::Value& message, const ReplyContext& context,
                             const std::string& where);

/// `options.disruptions` of a reset: those of the config that the episode of `seed` meets, with their
/// magnitudes; draws each from a stream of its own. `met` names them.
wire::Value disruptions_of_episode(const simulation::SceneDisruptionOptions& options, uint64_t seed,
                                   std::set<std::string>& met);

}  // namespace apo::environments
