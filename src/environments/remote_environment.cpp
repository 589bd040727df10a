#include "environments/remote_environment.h"

#include <torch/types.h>

#include <algorithm>
#include <set>
#include <utility>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/environments/playback.h"
#include "apo/environments/remote.h"
#include "environments/remote_server.h"
#include "wire/tensors.h"

namespace apo::environments {
namespace {

// Tokens stay out of recordings.
std::string recorded_config(EnvironmentOptions options) {
  options.of<RemoteOptions>().token.clear();
  return config::print(options);
}

EnvironmentSpec spec_of(const EnvironmentOptions& options, const RemoteMetadata& metadata) {
  const RemoteOptions own = options.of<RemoteOptions>();
  EnvironmentSpec spec{.name = metadata.name,
                       .config = recorded_config(options),
                       .action_size = metadata.action_size,
                       .max_steps = own.max_steps > 0 ? own.max_steps : metadata.max_steps,
                       .control_hz = metadata.control_hz,
                       .idle = metadata.idle,
                       .disruptions = metadata.disruptions,
                       .gripper = metadata.gripper};
  spec.instances = metadata.num_envs;
  spec.repeatable = metadata.can("seed");
  return spec;
}

// [size, size, 3] of a picture of any size, each pixel the nearest one.
at::Tensor enlarged(const at::Tensor& picture, int64_t size) {
  const auto nearest = [size](int64_t from) {
    return at::arange(size, at::kLong).mul(from).div(size, "floor");
  };
  return picture.index_select(0, nearest(picture.size(0))).index_select(1, nearest(picture.size(1)));
}

class RemoteEnvironment : public Environment, public PlaybackSource {
 public:
  RemoteEnvironment(const EnvironmentOptions& options, std::shared_ptr<RemoteServer> server)
      : Environment(spec_of(options, server->metadata())),
        options_(options.of<RemoteOptions>()),
        scene_(options.disruptions.scene),
        server_(std::move(server)),
        env_(server_->claim()) {}
  ~RemoteEnvironment() override { server_->give_back(env_); }

  Situation reset(uint64_t seed) override {
    link_.reset();
    std::set<std::string> met;
    wire::Map options, fields = {{"seed", seed}};
    const wire::Value disruptions = disruptions_of_episode(scene_, seed, met);
    if (!disruptions.as<wire::Map>()->empty()) options.push_back({"disruptions", disruptions});
    if (!options_.instruction.empty()) options.push_back({"instruction", options_.instruction});
    if (!options.empty()) fields.push_back({"options", std::move(options)});
    fields.push_back({"want", wanted()});
    std::shared_ptr<RemoteLink> link = server_->link();
    const wire::Value reply =
        link->request("reset", std::move(fields), env_, "observation", options_.timeouts.reset_s);
    drawn_.clear();
    scene_.for_each([&](const std::string& name, const auto& section) {
      if (section.probability > 0) drawn_[name] = met.contains(name) ? "yes" : "no";
    });
    steps_ = state_size_ = 0;
    take(reply, nullptr);
    model_ = std::move(now_.model);
    state_size_ = std::ssize(now_.state);
    link_ = std::move(link);
    return now_.situation;
  }

  Observation observe() override { return now_.observation; }

  Situation step(const Action& action) override {
    const wire::Value reply = playing().request("step", {{"action", wire::array(action)}}, env_,
                                                "observation", options_.timeouts.step_s);
    ++steps_;
    take(reply, &action);
    return now_.situation;
  }

  at::Tensor render(int64_t size) override {
    if (!server_->metadata().can("render")) return drawn(size);
    const wire::Value reply =
        playing().request("render", {{"size", size}}, env_, "picture", options_.timeouts.step_s);
    try {
      const wire::Field field(&reply, concat(server_->name(), ": reply to render"));
      at::Tensor picture = field["picture"].picture();
      if (picture.size(0) != size || picture.size(1) != size)
        field["picture"].fail(concat("[", size, ", ", size, ", 3]"));
      return picture;
    } catch (const DataError& error) {
      throw RunError(error.what());
    }
  }

  std::optional<Action> expert() override { return now_.expert; }

  const PlaybackSource* playback() const override { return this; }
  std::string env_args() const override { return server_->metadata().env_args; }
  std::string simulator_model() const override { return model_; }
  std::vector<double> simulator_state() const override { return now_.state; }

 private:
  wire::List wanted() const {
    wire::List want = {"facts"};
    for (const char* extra : {"expert", "concern"})
      if (server_->metadata().can(extra)) want.push_back(extra);
    if (plays_back())
      for (const char* extra : {"state", "model"}) want.push_back(extra);
    return want;
  }

  bool plays_back() const { return server_->metadata().can("state"); }

  RemoteLink& playing() {
    if (!link_) throw RunError(concat(server_->name(), ": expected a reset before anything else"));
    return *link_;
  }

  void take(const wire::Value& reply, const Action* asked) {
    now_ = read_observation(reply,
                            {.metadata = server_->metadata(),
                             .step = steps_,
                             .asked = asked,
                             .wants_state = plays_back(),
                             .state_size = state_size_},
                            concat(server_->name(), ", environment ", env_, ", step ", steps_));
    for (const auto& [name, met] : drawn_) now_.situation.facts[name] = met;
  }

  at::Tensor drawn(int64_t size) const {
    const auto& images = now_.observation.images;
    if (images.empty()) return at::zeros({size, size, 3}, at::kByte);
    return enlarged(images.begin()->second, size);
  }

  const RemoteOptions options_;
  simulation::SceneDisruptionOptions scene_;
  std::shared_ptr<RemoteServer> server_;
  const int64_t env_;
  std::shared_ptr<RemoteLink> link_;  // of the running episode: after another one it has to begin anew
  int64_t steps_ = 0, state_size_ = 0;
  std::string model_;
  RemoteReply now_;
  Facts drawn_;
};

}  // namespace

void RemoteTimeoutOptions::visit(config::Visitor& v) {
  v("connect_s", connect_s, "from the first byte to the server's metadata, seconds", config::positive());
  v("reset_s", reset_s, "of a reset, seconds; a robot may wait for a person who clears the table",
    config::positive());
  v("step_s", step_s, "of a step, seconds; a later answer interrupts the episode, which is played again",
    config::positive());
  v("reconnect_s", reconnect_s, "for all tries after a connection was lost, seconds", config::at_least(0));
}

void RemoteOptions::visit(config::Visitor& v) {
  v("url", url, "of a server of the protocol of docs/remote.md: ws://HOST[:PORT][/PATH]");
  v("token", token, "that the server asks for; \"$NAME\" is the environment variable NAME");
  v("instruction", instruction, "in place of the server's own; empty: its own");
  v("max_steps", max_steps, "steps that a policy has for the task; 0: what the server advises",
    config::at_least(0));
  v("timeouts", timeouts, "how long an answer may take");
}

std::unique_ptr<Environment> make_remote_environment(const EnvironmentOptions& options) {
  return std::make_unique<RemoteEnvironment>(options, RemoteServer::of(options.of<RemoteOptions>()));
}

}  // namespace apo::environments
