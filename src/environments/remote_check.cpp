// apo-data check-remote: what a server of the protocol gets wrong.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/environments/remote.h"
#include "environments/remote_link.h"
#include "wire/tensors.h"

namespace apo::environments {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<uint64_t, 2> kSeeds = {1, 2};
constexpr int64_t kRenderSize = 128;
constexpr double kLeastSpread = 1;  // standard deviation of a picture that shows something

double median(std::vector<double> numbers) {
  if (numbers.empty()) return 0;
  std::ranges::nth_element(numbers, numbers.begin() + std::ssize(numbers) / 2);
  return numbers[numbers.size() / 2];
}

struct Played {
  std::vector<RemoteReply> replies;  // after the reset and after each step
  std::vector<Action> actions;
};

class Checker {
 public:
  Checker(const RemoteOptions& options, int64_t steps)
      : options_(options), steps_(steps), name_(options.url) {}

  RemoteCheck run() {
    try {
      link_ = std::make_unique<RemoteLink>(options_, name_);
    } catch (const CannotConnect& error) {
      throw RunError(concat(error.what(), "; expected a server of the protocol apo-environment there"));
    } catch (const EpisodeLost& error) {
      return failed(error.what());
    } catch (const RunError& error) {
      return failed(error.what());
    }
    APO_CHECK(RunError, !link_->metadata().busy, name_, ": another client drives this server");
    try {
      tell();
      refused("step", {{"action", wire::array(metadata().idle)}}, 0, "NOT_RESET", "a step before any reset");
      play_seeds();
      refuse();
      look_beyond_limits();
      look_at_extras();
      look_at_environments();
      second_client();
      link_->exchange("close", {}, 0, options_.timeouts.step_s);
    } catch (const RunError& error) {
      return failed(error.what());
    }
    return std::move(check_);
  }

 private:
  const RemoteMetadata& metadata() const { return link_->metadata(); }
  RemoteCheck failed(const std::string& what) {
    error(what);
    return std::move(check_);
  }
  template <class... Pieces>
  void error(const Pieces&... pieces) {
    check_.findings.push_back({true, concat(pieces...)});
  }
  template <class... Pieces>
  void warn(const Pieces&... pieces) {
    check_.findings.push_back({false, concat(pieces...)});
  }
  template <class... Pieces>
  void fact(const Pieces&... pieces) {
    check_.facts.push_back(concat(pieces...));
  }

  void tell() {
    const RemoteMetadata& m = metadata();
    fact("server       ", m.server.empty() ? "(unnamed)" : m.server, ", ", m.name, ", ", m.num_envs,
         m.num_envs == 1 ? " environment, " : " environments, ", m.control_hz, " Hz, ", m.max_steps, " steps",
         m.realtime ? ", real time" : "");
    fact("action       ", m.action_size, " numbers",
         m.action_names.empty() ? std::string() : concat(" (", join(m.action_names), ")"));
    std::string cameras, states;
    for (const auto& [name, size] : m.cameras)
      append_item(cameras, ", ", name, " ", size.first, "x", size.second);
    for (const auto& [name, count] : m.states) append_item(states, ", ", name, " ", count);
    fact("cameras      ", cameras.empty() ? "none" : cameras);
    fact("states       ", states.empty() ? "none" : states);
    fact("can          ", m.capabilities.empty() ? "nothing more" : join(m.capabilities));
    fact("disruptions  ", m.disruptions.empty() ? "none" : join(m.disruptions));
    if (m.cameras.empty()) error("metadata: cameras: expected at least one, found none");
    const std::vector<std::string> known = simulation::scene_disruption_names();
    for (const std::string& name : m.disruptions)
      if (std::ranges::find(known, name) == known.end())
        warn("metadata: disruptions: ", name, " is none of environment.disruptions (", join(known),
             "), so no config can ask for it");
  }

  wire::Value want() const {
    wire::List names = {"facts"};
    for (const char* extra : {"expert", "concern"})
      if (metadata().can(extra)) names.push_back(extra);
    if (metadata().can("state"))
      for (const char* extra : {"state", "model"}) names.push_back(extra);
    return names;
  }

  RemoteReply reset(uint64_t seed, int64_t env = 0, wire::Map options = {}) {
    wire::Map fields = {{"seed", seed}, {"want", want()}};
    if (!options.empty()) fields.push_back({"options", std::move(options)});
    const wire::Value reply =
        link_->request("reset", std::move(fields), env, "observation", options_.timeouts.reset_s);
    RemoteReply read = read_observation(reply, {.metadata = metadata(), .wants_state = wants_state()},
                                        concat(name_, ": reply to reset, seed ", seed));
    state_size_ = std::ssize(read.state);
    return read;
  }

  RemoteReply step(const Action& action, int64_t number) {
    const auto start = Clock::now();
    const wire::Value reply =
        link_->request("step", {{"action", wire::array(action)}}, 0, "observation", options_.timeouts.step_s);
    milliseconds_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    return read_observation(reply,
                            {.metadata = metadata(),
                             .step = number,
                             .asked = &action,
                             .wants_state = wants_state(),
                             .state_size = state_size_},
                            concat(name_, ": reply to step ", number));
  }

  bool wants_state() const { return metadata().can("state"); }

  // Where nobody knows what to do: small waves around doing nothing.
  Action wave(int64_t t) const {
    const RemoteMetadata& m = metadata();
    Action action = m.idle;
    for (size_t d = 0; d < action.size(); ++d)
      action[d] =
          std::clamp(action[d] + 0.1f * (m.high[d] - m.low[d]) * std::sin(0.3f * static_cast<float>(t) + d),
                     m.low[d], m.high[d]);
    return action;
  }

  // `before`: what was done the first time.
  Played play(uint64_t seed, const Played* before) {
    Played played;
    played.replies.push_back(reset(seed));
    const int64_t most = std::min(steps_, metadata().max_steps);
    for (int64_t t = 0; t < most && !played.replies.back().situation.done; ++t) {
      if (metadata().can("expert") && !played.replies.back().expert) {
        error("seed ", seed, ", step ", t, ": expert_action: expected ", metadata().action_size,
              " numbers, as capabilities name expert, found none");
        break;
      }
      Action action = played.replies.back().expert.value_or(wave(t));
      for (size_t d = 0; d < action.size(); ++d)
        action[d] = std::clamp(action[d], metadata().low[d], metadata().high[d]);
      if (before != nullptr && t < std::ssize(before->actions))
        action = before->actions[static_cast<size_t>(t)];
      played.actions.push_back(action);
      played.replies.push_back(step(action, t + 1));
    }
    return played;
  }

  void compare(uint64_t seed, const Played& first, const Played& second) {
    for (size_t t = 0; t < std::min(first.replies.size(), second.replies.size()); ++t) {
      const RemoteReply &a = first.replies[t], &b = second.replies[t];
      const auto where = [&] { return concat("seed ", seed, " played twice, step ", t, ": "); };
      for (const auto& [name, picture] : a.observation.images) {
        const int64_t pixels = (picture != b.observation.images.at(name)).sum().item<int64_t>();
        if (pixels > 0)
          return error(where(), "camera ", name, ": expected the same picture, as capabilities name seed, ",
                       "found ", pixels, " other numbers");
      }
      for (const auto& [name, numbers] : a.observation.state)
        if (numbers != b.observation.state.at(name))
          return error(where(), "state ", name, ": expected the same numbers, as capabilities name seed, ",
                       "found others");
      if (a.state != b.state || a.model != b.model)
        return error(where(), "state: expected the simulator's same state and model, as capabilities name ",
                     "seed, found others");
      if (a.situation.done != b.situation.done || a.situation.success != b.situation.success ||
          a.expert != b.expert || a.situation.concern != b.situation.concern)
        return error(where(), "terminated, success, concern or expert_action differ, though capabilities ",
                     "name seed");
    }
    if (first.replies.size() != second.replies.size())
      error("seed ", seed, " played twice: expected ", first.replies.size() - 1,
            " steps, as capabilities name seed, found ", second.replies.size() - 1);
  }

  void look_at_pictures(uint64_t seed, const Observation& seen) {
    for (const auto& [name, picture] : seen.images)
      if (picture.to(at::kFloat).std().item<double>() < kLeastSpread)
        error("seed ", seed, ": camera ", name, ": expected a picture of something, found one color ",
              "everywhere (what draws with OpenGL draws black in another thread than the one that made it)");
  }

  void play_seeds() {
    std::vector<Played> first;
    int64_t succeeded = 0;
    for (const uint64_t seed : kSeeds) {
      first.push_back(play(seed, nullptr));
      look_at_pictures(seed, first.back().replies.front().observation);
      succeeded += first.back().replies.back().situation.success;
      over_ |= first.back().replies.back().situation.done;
      if (over_ && first.back().replies.back().situation.done)
        refused("step", {{"action", wire::array(metadata().idle)}}, 0, "EPISODE_OVER",
                "a step after the episode's end");
      const Played second = play(seed, &first.back());
      if (metadata().can("seed")) compare(seed, first.back(), second);
    }
    fact("played       ", kSeeds.size(), " seeds twice, ", milliseconds_.size(), " steps, ",
         std::lround(100 * median(milliseconds_)) / 100.0, " ms each (median)");
    if (metadata().can("expert")) fact("expert       ", succeeded, " of ", kSeeds.size(), " episodes");
    const Observation &one = first[0].replies[0].observation, &other = first[1].replies[0].observation;
    const bool same = std::ranges::all_of(
        one.images, [&](const auto& item) { return item.second.equal(other.images.at(item.first)); });
    if (same && one.state == other.state)
      warn("seeds ", kSeeds[0], " and ", kSeeds[1], " begin with the same observation");
  }

  // That the server answers `type` with an error of this code, and goes on.
  void refused(const char* type, wire::Map fields, int64_t env, const std::string& code,
               const std::string& what) {
    const wire::Value reply = link_->exchange(type, std::move(fields), env, options_.timeouts.step_s);
    const wire::Field field(&reply, name_);
    const bool is_error = field["type"].present() && field["type"].text() == "error";
    const std::string found = is_error ? field["code"].text() : field["type"].text();
    if (found != code) error(what, ": expected the error ", code, ", found ", found);
  }

  void refuse() {
    reset(kSeeds[0]);
    Action longer = metadata().idle, broken = metadata().idle;
    longer.push_back(0);
    broken[0] = std::numeric_limits<float>::quiet_NaN();
    refused("step", {{"action", wire::array(longer)}}, 0, "BAD_ACTION", "an action with a number too many");
    refused("step", {{"action", wire::array(broken)}}, 0, "BAD_ACTION", "an action with NaN");
    refused("jump", {}, 0, "UNKNOWN_TYPE", "a request of the type jump");
    refused("observe", {}, metadata().num_envs, "UNKNOWN_ENV", "an environment beyond num_envs");
    wire::Map options = {{"disruptions", wire::Map{{"no such disruption", wire::Map{}}}}};
    refused("reset", {{"seed", uint64_t{1}}, {"options", std::move(options)}}, 0, "UNSUPPORTED",
            "a reset with a disruption that there is not");
  }

  void look_beyond_limits() {
    reset(kSeeds[0]);
    Action action = metadata().high;
    for (size_t d = 0; d < action.size(); ++d) action[d] += metadata().high[d] - metadata().low[d];
    const RemoteReply reply = step(action, 1);
    if (!reply.situation.executed)
      return error("an action beyond action.high: expected action_source 3 with what was executed instead, ",
                   "found 1");
    const Action& executed = reply.situation.executed->action;
    for (size_t d = 0; d < executed.size(); ++d)
      if (executed[d] > metadata().high[d] || executed[d] < metadata().low[d])
        return error("an action beyond action.high: executed_action[", d, "]: expected a number from ",
                     metadata().low[d], " to ", metadata().high[d], ", found ", executed[d]);
  }

  void look_at_extras() {
    const RemoteReply before = reset(kSeeds[0]);
    const wire::Value seen = link_->request("observe", {}, 0, "observation", options_.timeouts.step_s);
    const RemoteReply again =
        read_observation(seen, {.metadata = metadata()}, concat(name_, ": reply to observe"));
    if (metadata().can("seed") && before.observation.state != again.observation.state)
      error("observe after a reset: expected the same states, found others");
    if (metadata().can("render")) {
      const wire::Value reply =
          link_->request("render", {{"size", kRenderSize}}, 0, "picture", options_.timeouts.step_s);
      const auto* picture = reply.find("picture") ? reply.find("picture")->as<wire::Array>() : nullptr;
      if (picture == nullptr || picture->dtype != wire::Dtype::u1 ||
          picture->shape != std::vector<int64_t>{kRenderSize, kRenderSize, 3})
        error("render of ", kRenderSize, ": picture: expected uint8 [", kRenderSize, ", ", kRenderSize,
              ", 3], found ", picture == nullptr ? "none" : wire::excerpt(*reply.find("picture")));
    }
    for (const std::string& name : metadata().disruptions)
      reset(kSeeds[0], 0, {{"disruptions", wire::Map{{name, wire::Map{}}}}});
  }

  void look_at_environments() {
    const RemoteReply first = reset(kSeeds[1]);
    for (int64_t env = 1; env < metadata().num_envs; ++env) {
      const RemoteReply reply = reset(kSeeds[1], env);
      if (metadata().can("seed") && reply.observation.state != first.observation.state)
        error("environment ", env, ", seed ", kSeeds[1], ": expected the states that environment 0 has, ",
              "found others");
    }
  }

  void second_client() {
    try {
      const RemoteLink second(options_, name_);
      if (!second.metadata().busy) warn("a second client is let in: expected busy, and the close code 1013");
    } catch (const RunError& error) {
      warn("a second client: expected metadata with busy, found: ", error.what());
    }
  }

  const RemoteOptions options_;
  const int64_t steps_;
  const std::string name_;
  std::unique_ptr<RemoteLink> link_;
  std::vector<double> milliseconds_;
  int64_t state_size_ = 0;
  bool over_ = false;
  RemoteCheck check_;
};

}  // namespace

int64_t RemoteCheck::num_errors() const {
  return std::ranges::count_if(findings, [](const RemoteFinding& finding) { return finding.error; });
}

std::string RemoteCheck::text() const {
  std::string text;
  for (const std::string& line : facts) text += line + "\n";
  for (const RemoteFinding& finding : findings)
    text += concat(finding.error ? "error        " : "warning      ", finding.what, "\n");
  if (findings.empty()) text += "nothing is wrong\n";
  return text;
}

RemoteCheck check_remote(const RemoteOptions& options, int64_t steps) {
  APO_CHECK(ConfigError, steps >= 1, "check-remote: expected at least 1 step, found ", steps);
  return Checker(options, steps).run();
}

}  // namespace apo::environments
