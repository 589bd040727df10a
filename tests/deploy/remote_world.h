// A walk along a line behind a real port, and servers that get one thing wrong.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apo/environments/environment.h"
#include "apo/environments/remote.h"
#include "deploy/fakes.h"
#include "wire/field.h"
#include "wire/msgpack.h"
#include "wire/net.h"
#include "wire/tensors.h"

namespace apo::deploy::testing {

/// What a server gets wrong; the first reply to a `step` unless it says otherwise.
enum class Spoil {
  nothing,
  other_version,   // of the metadata
  wrong_id,        //
  lying_shape,     // a state with fewer bytes than its shape needs
  not_a_number,    // in a state
  missing_camera,  //
  other_size,      // of a picture than the metadata say
  never_answers,   //
  dies,            //
  answers_twice,   //
  huge,            // a frame that announces 1 GB
  black,           // pictures of one color, always
  random,          // another state in every episode, though it says seed
  lets_anything,   // refuses nothing
  no_state,        // of the simulator, though it says state
  other_length,    // of that state than after the reset
  endless_state,   // with infinity in it
};

inline constexpr const char* kWalkEnvArgs = R"({"env_name": "Walk", "type": 1, "env_kwargs": {"flag": 3}})";
inline constexpr const char* kWalkModel = "<mujoco model=\"walk\"/>";

/// One of the walks behind the protocol.
struct WalkSession {
  Walk walk;
  int64_t step = -1;
  bool over = false, wants_facts = false, wants_state = false;
};

/// The server runs in a thread until it is destroyed, one client after the other.
class WalkServer {
 public:
  explicit WalkServer(Spoil spoil = Spoil::nothing, int64_t num_envs = 1, std::string token = "",
                      unsigned short port = 0)
      : spoil_(spoil),
        token_(std::move(token)),
        num_envs_(num_envs),
        acceptor_(io_, {wire::net::ip::make_address("127.0.0.1"), port}) {
    thread_ = std::thread([this] { listen(); });
  }
  ~WalkServer() {
    stopping = true;
    wire::error_code ignored;
    wire::tcp::socket waker(io_);
    waker.connect(acceptor_.local_endpoint(), ignored);  // wakes up who waits for a client
    cut_off();
    thread_.join();
  }

  unsigned short port() const { return acceptor_.local_endpoint().port(); }
  environments::EnvironmentOptions options() const {
    environments::EnvironmentOptions made;
    made.type = "remote";
    made.of<environments::RemoteOptions>() = remote();
    return made;
  }
  environments::RemoteOptions remote() const {
    environments::RemoteOptions made;
    made.url = concat("ws://127.0.0.1:", port());
    made.token = token_;
    made.timeouts = {.connect_s = 1, .reset_s = 5, .step_s = 1, .reconnect_s = 5};
    return made;
  }

  std::atomic<bool> stopping = false;
  std::atomic<int64_t> resets = 0, steps = 0, connections = 0;
  std::atomic<int64_t> die_every = 0;    ///< the connection is cut before every so many-th step's reply
  std::atomic<int64_t> human_from = -1;  ///< from this step of an episode on a human at the robot acts
  std::atomic<bool> repeats = true;      ///< capability seed

 private:
  void cut_off() {
    const std::lock_guard lock(mutex_);
    wire::error_code ignored;
    if (client_ != nullptr) client_->shutdown(wire::tcp::socket::shutdown_both, ignored);
  }

  void listen() {
    while (!stopping) {
      wire::error_code error;
      wire::tcp::socket socket(io_);
      acceptor_.accept(socket, error);
      if (error || stopping) continue;
      {
        const std::lock_guard lock(mutex_);
        client_ = &socket;
      }
      try {
        speak(socket);
      } catch (const std::exception&) {  // the client has gone
      }
      const std::lock_guard lock(mutex_);
      client_ = nullptr;
    }
  }

  void speak(wire::tcp::socket& socket) {
    namespace websocket = wire::websocket;
    wire::beast::flat_buffer head;
    wire::HttpRequest upgrade;
    wire::http::read(socket, head, upgrade);
    if (!token_.empty() && upgrade[wire::http::field::authorization] != "Bearer " + token_) {
      wire::HttpResponse refused(wire::http::status::unauthorized, upgrade.version());
      refused.prepare_payload();
      wire::http::write(socket, refused);
      return;
    }
    socket.set_option(wire::tcp::no_delay(true));
    websocket::stream<wire::tcp::socket&> stream(socket);
    stream.accept(upgrade);
    stream.binary(true);
    ++connections;
    sessions_ = std::vector<WalkSession>(static_cast<size_t>(num_envs_));
    send(stream, metadata());
    while (!stopping) {
      wire::beast::flat_buffer frame;
      stream.read(frame);
      const wire::Value request = wire::from_msgpack(wire::beast::buffers_to_string(frame.data()), "request");
      const wire::Field field(&request);
      wire::Map reply = answer(field);
      const bool first_step =
          field["type"].text() == "step" && reply.front().value == wire::Value("observation");
      if (first_step && die_every > 0 && ++stepped_ % die_every == 0) return;
      if (first_step && spoil_ == Spoil::dies) return;
      if (first_step && spoil_ == Spoil::never_answers) continue;
      if (first_step && spoil_ == Spoil::huge) {
        const unsigned char announced[10] = {0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0};
        wire::net::write(socket, wire::net::buffer(announced));
        continue;
      }
      send(stream, reply);
      if (first_step && spoil_ == Spoil::answers_twice) send(stream, reply);
      if (field["type"].text() == "close") return;
    }
  }

  template <class Stream>
  void send(Stream& stream, const wire::Value& message) {
    std::string bytes = wire::to_msgpack(message);
    if (spoil_ == Spoil::lying_shape && lying_) {
      // [1] becomes [9]; the state is the last array with one dimension of one number
      const std::string truth = std::string("\xc4\x05shape\x91\x01", 9);
      const size_t place = bytes.rfind(truth);
      if (place != std::string::npos) bytes[place + truth.size() - 1] = 9;
    }
    stream.write(wire::net::buffer(bytes));
  }

  wire::Map metadata() const {
    wire::List capabilities = {"expert", "concern", "state"};
    if (repeats) capabilities.push_back("seed");
    return {{"protocol", "apo-environment"},
            {"version", spoil_ == Spoil::other_version ? 2 : 1},
            {"server", "walk server"},
            {"name", "walk"},
            {"num_envs", num_envs_},
            {"control_hz", 10},
            {"max_steps", 12},
            {"action", wire::Map{{"size", 2}, {"low", wire::List{-1, -1}}, {"high", wire::List{1, 1}}}},
            {"cameras", wire::Map{{"front", wire::List{4, 4}}}},
            {"states", wire::Map{{"position", 1}, {"seed", 1}}},
            {"capabilities", std::move(capabilities)},
            {"disruptions", wire::List{"lighting"}},
            {"env_args", kWalkEnvArgs},
            {"from the future", 1}};
  }

  static wire::Map error(const char* code) {
    return {{"type", "error"}, {"code", code}, {"message", concat("this is ", code)}};
  }

  wire::Map answer(const wire::Field& request) {
    wire::Map reply = reply_to(request);
    reply.push_back({"id", request["id"].raw()});
    reply.push_back({"env", request["env"].raw()});
    if (reply.front().value == wire::Value("observation") && request["type"].text() == "step" &&
        spoil_ == Spoil::wrong_id)
      for (wire::Member& member : reply)
        if (member.key == "id") member.value = request["id"].integer() + 1;
    return reply;
  }

  wire::Map reply_to(const wire::Field& request) {
    lying_ = false;
    const std::string type = request["type"].text();
    const bool strict = spoil_ != Spoil::lets_anything;
    const int64_t env = request["env"].integer();
    if (type == "close") return {{"type", "closed"}};
    if (strict && env >= num_envs_) return error("UNKNOWN_ENV");
    WalkSession& session = sessions_.at(static_cast<size_t>(std::min(env, num_envs_ - 1)));
    if (type == "reset") {
      for (const auto& [name, magnitudes] : request["options"]["disruptions"].entries())
        if (strict && name != "lighting") return error("UNSUPPORTED");
      ++resets;
      session.walk.reset(request["seed"].unsigned_integer());
      session.step = 0;
      session.over = false;
      session.wants_facts = request["want"].present();
      session.wants_state = false;
      for (const wire::Field& wanted : request["want"].list())
        session.wants_state |= wanted.text() == "state";
      return observation(session, nullptr, 1);
    }
    if (strict && type != "step" && type != "observe") return error("UNKNOWN_TYPE");
    if (strict && session.step < 0) return error("NOT_RESET");
    if (type != "step") return observation(session, nullptr, 1);
    if (strict && session.over) return error("EPISODE_OVER");
    const Action asked = request["action"].floats();
    if (strict && (asked.size() != 2 || !std::isfinite(asked[0]) || !std::isfinite(asked[1])))
      return error("BAD_ACTION");
    Action executed = {std::clamp(asked[0], -1.0f, 1.0f), std::clamp(asked[1], -1.0f, 1.0f)};
    int64_t source = executed == asked ? 1 : 3;
    if (human_from >= 0 && session.step >= human_from) executed = {1.0f, -0.5f}, source = 2;
    session.walk.step(executed);
    ++session.step;
    ++steps;
    return observation(session, &executed, source);
  }

  wire::Map observation(WalkSession& session, const Action* executed, int64_t source) {
    const bool spoiled = executed != nullptr;
    const Observation seen = session.walk.observe();
    const environments::Situation now = session.walk.situation();
    session.over = now.done;
    wire::Map obs;
    at::Tensor picture = seen.images.at("front").clone();
    if (spoil_ != Spoil::black) picture.select(1, 0).fill_(0);  // shows something
    if (spoiled && spoil_ == Spoil::other_size) picture = picture.slice(0, 0, 3);
    if (!spoiled || spoil_ != Spoil::missing_camera) obs.push_back({"front_image", wire::array(picture)});
    for (const auto& [name, numbers] : seen.state) {
      std::vector<float> sent = numbers;
      if (spoiled && spoil_ == Spoil::not_a_number) sent[0] = std::numeric_limits<float>::quiet_NaN();
      if (spoil_ == Spoil::random && name == "position") sent[0] += static_cast<float>(resets) / 100;
      obs.push_back({name, wire::array(sent)});
    }
    lying_ = spoiled;
    wire::Map reply = {{"type", "observation"},
                       {"obs", std::move(obs)},
                       {"instruction", "walk to the flag"},
                       {"step", session.step},
                       {"terminated", now.done},
                       {"success", now.success},
                       {"outcome", now.done ? now.outcome : ""},
                       {"flawless", !now.troubled},
                       {"expert_action", wire::array(std::vector<float>{1.0f, 0.25f})}};
    if (session.wants_state && spoil_ != Spoil::no_state) {
      std::vector<double> state = {static_cast<double>(seen.state.at("position")[0]),
                                   static_cast<double>(session.step) / 4};
      if (spoiled && spoil_ == Spoil::other_length) state.push_back(0);
      if (spoiled && spoil_ == Spoil::endless_state) state[1] = std::numeric_limits<double>::infinity();
      reply.push_back({"state", wire::array(state)});
      if (executed == nullptr) reply.push_back({"model", kWalkModel});
    }
    if (now.concern) reply.push_back({"concern", *now.concern});
    if (session.wants_facts) reply.push_back({"facts", wire::Map{{"start", now.facts.at("start")}}});
    if (executed != nullptr) {
      reply.push_back({"executed_action", wire::array(*executed)});
      reply.push_back({"action_source", source});
      if (source == 2) reply.push_back({"reason", "saw a hole"});
    }
    return reply;
  }

  const Spoil spoil_;
  const std::string token_;
  const int64_t num_envs_;
  std::atomic<int64_t> stepped_ = 0;
  bool lying_ = false;
  std::vector<WalkSession> sessions_;
  wire::net::io_context io_;
  wire::tcp::acceptor acceptor_;
  std::mutex mutex_;
  wire::tcp::socket* client_ = nullptr;
  std::thread thread_;
};

}  // namespace apo::deploy::testing
