// How a policy is served: the config section `serve`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/config/gripper.h"

namespace apo::config {
class Visitor;
}

namespace apo::serving {

/// Entry of `serve.keys.cameras` and `serve.keys.states`: which of a client's arrays is which of the
/// policy's.
struct KeyOptions {
  std::string name;  ///< of the camera or state as the policy and the recording call it
  std::string key;   ///< the client's; members of members with "/": "images/cam_high"
  void visit(config::Visitor& v);
};

/// Config section `serve.keys`.
struct KeysOptions {
  std::vector<KeyOptions> cameras, states;
  std::string instruction;          ///< the client's key; empty: prompt or instruction
  std::string default_instruction;  ///< where a request has none
  int64_t rotate = 0;               ///< degrees by which pictures are turned, 0 or 180
  void visit(config::Visitor& v);
};

/// Config section `serve.batch`.
struct BatchOptions {
  int64_t max_size = 8;  ///< requests that one forward pass answers at most
  double wait_ms = 0;    ///< for more of them, once there is one
  int64_t queue = 64;    ///< requests that may wait; one more is refused
  void visit(config::Visitor& v);
};

/// Config section `serve.limits`. Seconds unless it says otherwise.
struct LimitOptions {
  double handshake_s = 15;     ///< from the connection to the end of its request's head
  double message_s = 30;       ///< from the first byte of a message to its last
  double idle_s = 600;         ///< a connection without a request is closed
  double episode_idle_s = 30;  ///< an episode that is no connection ends after so long without a request
  int64_t message_bytes = 32 << 20;  ///< of a frame or body; refused when it is announced
  int64_t connections = 64;          ///< at a time
  int64_t episodes = 256;            ///< that run at a time, of all clients
  double requests_per_second = 0;    ///< of one client address; 0: any number
  int64_t instruction_bytes = 1000;
  void visit(config::Visitor& v);
};

/// What becomes of the arm when the page that held it is gone.
enum class LostPage { hand_back, pause };
std::span<const std::pair<LostPage, std::string_view>> enum_names(LostPage);

/// Config section `serve.console`.
struct ConsoleOptions {
  bool enabled = true;
  /// steps a second that the robot asks for, or that a simulation is played with; the page sends as many
  /// inputs. 0: as the environment says, 10 where it does not
  double control_hz = 0;
  LostPage lost = LostPage::hand_back;
  /// [A] what a page's 1 is in the robot's units; empty: 1 of each. The gripper's is not read.
  std::vector<double> scale;
  /// numbers of an action whose keys and pads are exchanged: where the camera looks at the robot from ahead,
  /// [0, 1] makes W lead away from it and A to the left of its picture
  std::vector<int64_t> reversed;
  double speed = 0.5;  ///< share of full deflection that a page begins with
  void visit(config::Visitor& v);
};

/// Config section `serve.refine`: what "refine now" of the console does.
struct RefineNowOptions {
  /// config of apo-train; empty: the server's own, with its overrides
  std::string config;
  /// runs go to its subdirectories 1, 2, ..; empty: beside the recording, "served-refined" of served.hdf5
  std::string directory;
  void visit(config::Visitor& v);
};

/// What it starts, and where; nothing without a recording or a command.
struct RefinePlan {
  std::vector<std::string> command;  ///< apo-train, its config and overrides; empty: a page cannot refine
  std::filesystem::path directory;
  int64_t updates = 0;    ///< of one training; 0: not known beforehand
  std::string next = {};  ///< the command line that comes after it, but for the policy
};
/// Config section `serve`.
struct ServeOptions {
  std::string address = "127.0.0.1";  ///< to listen on; any but the own machine's needs a token
  int64_t port = 8000;                ///< 0: a free one
  std::string token;                  ///< that every client must show; empty: none
  std::vector<std::string> hosts;     ///< other names by which clients reach it
  std::vector<std::string> origins;   ///< web pages of these origins may connect beside its own
  std::string record;                 ///< HDF5 file to record into; empty: nothing is recorded
  std::string robot = "robot";        ///< recorded as the environment's name
  double deadline_ms = 5000;          ///< a later answer is an error; 0: none
  double temperature = 0;             ///< of decoding; 0 is greedy
  int64_t seed = 0;                   ///< of an episode's decoding where a request names none
  int64_t horizon = 0;                ///< actions in an answer at most; 0: as policy.execute_steps says
  bool strict = false;                ///< failures of /act have status 400 or 500, unlike OpenVLA's
  double hysteresis_s = 0.5;          ///< after the last input of a human the arm is held still for so long
  std::vector<double> idle;           ///< [A] action that does nothing; empty: zeros, the gripper as it was
  config::GripperOptions gripper;     ///< in the robot's actions
  KeysOptions keys;
  BatchOptions batch;
  LimitOptions limits;
  ConsoleOptions console;
  RefineNowOptions refine;
  void visit(config::Visitor& v);
};

/// ConfigError naming the key for what contradicts itself: an address that is not the own machine's without a
/// token, a token of less than 16 characters there, an address that is none, a rotation other than 0 or 180.
void check_options(const ServeOptions& options);

}  // namespace apo::serving
