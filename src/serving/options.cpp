#include "apo/serving/options.h"

#include <array>
#include <boost/asio/ip/address.hpp>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::serving {

void KeyOptions::visit(config::Visitor& v) {
  v("name", name, "of the camera or state, as the policy calls it");
  v("key", key, "of the client's array; members of members with '/': images/cam_high");
}

void KeysOptions::visit(config::Visitor& v) {
  v("cameras", cameras,
    "which picture of a request is which camera; those not named here are found by their names "
    "(docs/serving.md)");
  v("states", states, "the same for proprioception");
  v("instruction", instruction, "key of the instruction; empty: prompt or instruction");
  v("default_instruction", default_instruction,
    "for requests without an instruction; empty: they are refused");
  v("rotate", rotate, "degrees by which pictures are turned before the policy sees them: 0 or 180",
    config::between(0, 180));
}

void BatchOptions::visit(config::Visitor& v) {
  v("max_size", max_size, "requests that one forward pass answers at most; more make each wait longer",
    config::at_least(1));
  v("wait_ms", wait_ms, "how long to wait for more requests once there is one", config::at_least(0));
  v("queue", queue, "requests that may wait; one more is refused", config::at_least(1));
}

void LimitOptions::visit(config::Visitor& v) {
  v("handshake_s", handshake_s, "seconds from a connection to the end of its request's head",
    config::positive());
  v("message_s", message_s, "seconds from the first byte of a message to its last", config::positive());
  v("idle_s", idle_s, "a connection without a request for so many seconds is closed", config::positive());
  v("episode_idle_s", episode_idle_s,
    "an episode that is no connection ends after so many seconds without a request", config::positive());
  v("message_bytes", message_bytes, "of a frame or body; a larger one is refused as soon as it is announced",
    config::between(1024, 1 << 30));
  v("episodes", episodes, "that run at a time, of all clients; a request for one more is refused",
    config::at_least(1));
  v("connections", connections, "at a time; one more is closed at once", config::at_least(1));
  v("requests_per_second", requests_per_second, "of one client address; 0: any number", config::at_least(0));
  v("instruction_bytes", instruction_bytes, "of an instruction; a longer one is refused",
    config::at_least(1));
}

std::span<const std::pair<LostPage, std::string_view>> enum_names(LostPage) {
  static constexpr std::array<std::pair<LostPage, std::string_view>, 2> kNames = {
      {{LostPage::hand_back, "hand_back"}, {LostPage::pause, "pause"}}};
  return kNames;
}

void ConsoleOptions::visit(config::Visitor& v) {
  v("enabled", enabled, "serve the page at /console, where a person watches and takes over");
  v("control_hz", control_hz,
    "steps a second that the robot asks for, or that apo-collect plays a simulation with; an input is good "
    "for two of them; 0: as the environment says, 10 where it does not",
    config::at_least(0));
  v("lost", lost,
    "when the page that holds the arm is gone: hand_back to the policy, or pause; a page that was closed, or "
    "that nobody saw when it went, pauses it in any case");
  v("scale", scale,
    "what full deflection of a page is in each number of an action, in the robot's units; none: 1 of each "
    "(actions "
    "within -1 and 1, as in our recordings)",
    config::positive());
  v("reversed", reversed,
    "numbers of an action, from 0, whose keys and pads are exchanged; [0, 1] where the camera looks at the "
    "robot from ahead",
    config::at_least(0));
  v("speed", speed, "share of full deflection that a page begins with", config::between(0.05, 1));
}

void RefineNowOptions::visit(config::Visitor& v) {
  v.path("config", config, "of apo-train; empty: this one, with its overrides");
  v.path(
      "directory", directory,
      "runs go to its subdirectories 1, 2, ..; empty: beside the recording, served-refined of served.hdf5");
}

void ServeOptions::visit(config::Visitor& v) {
  v("address", address, "to listen on; any other than the own machine's (127.0.0.1, ::1) needs a token");
  v("port", port, "to listen on; 0: a free one, which is logged", config::between(0, 65535));
  v("token", token, "that clients show as `Authorization: Bearer TOKEN`; empty: none is asked for");
  v("hosts", hosts, "names besides localhost by which clients may call this machine (header Host)");
  v("origins", origins, "web pages of other origins that may connect: https://robots.example");
  v.path("record", record, "HDF5 file that every episode is recorded into; empty: none");
  v("robot", robot, "name of the environment in the recording");
  v("deadline_ms", deadline_ms, "an answer that takes longer is an error; 0: any time", config::at_least(0));
  v("temperature", temperature, "of the policy's decoding; 0 is greedy", config::at_least(0));
  v("seed", seed, "of an episode's decoding, where a request does not say", config::at_least(0));
  v("horizon", horizon, "actions in an answer at most; 0: as many as policy.execute_steps says",
    config::at_least(0));
  v("strict", strict,
    "what fails inside /act answers with status 400 or 500 instead of 200 as OpenVLA's does");
  v("hysteresis_s", hysteresis_s,
    "seconds after a human's last input in which the arm holds still and is still the human's",
    config::at_least(0));
  v("idle", idle, "action of one step that does nothing; empty: zeros, with the gripper as it was");
  v("gripper", gripper, "where the gripper is in the robot's actions, and how its command is coded");
  v("keys", keys, "what of a client's message is what of the policy's observation");
  v("batch", batch, "requests of several clients in one forward pass");
  v("limits", limits, "what clients may do");
  v("console", console, "the page in the browser");
  v("refine", refine, "what its \"refine now\" does");
}

void check_options(const ServeOptions& options) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(options.address, error);
  APO_CHECK(ConfigError, !error,
            "serve.address: expected an IP address such as 127.0.0.1 or 0.0.0.0, found '", options.address,
            "'");
  APO_CHECK(ConfigError, address.is_loopback() || !options.token.empty(), "serve.address: ", options.address,
            " is open to other machines: expected serve.token, found none");
  constexpr size_t kShortestToken = 16;
  APO_CHECK(ConfigError, options.token.empty() || options.token.size() >= kShortestToken,
            "serve.token: expected at least ", kShortestToken, " characters, found ", options.token.size());
  for (const char c : options.token)
    APO_CHECK(ConfigError, c > ' ' && c < 127, "serve.token: expected printable ASCII without spaces");
  APO_CHECK(ConfigError, options.keys.rotate == 0 || options.keys.rotate == 180,
            "serve.keys.rotate: expected 0 or 180, found ", options.keys.rotate);
  for (const auto* list : {&options.keys.cameras, &options.keys.states})
    for (const KeyOptions& entry : *list)
      APO_CHECK(ConfigError, !entry.name.empty() && !entry.key.empty(), "serve.keys.",
                list == &options.keys.cameras ? "cameras" : "states", ": expected name and key, found '",
                entry.name, "' and '", entry.key, "'");
}

}  // namespace apo::serving
