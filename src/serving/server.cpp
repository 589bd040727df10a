#include "apo/serving/server.h"

#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/base/version.h"
#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "serving/batcher.h"
#include "serving/console_pages.h"
#include "serving/listener.h"
#include "serving/service.h"
#include "wire/msgpack.h"

namespace apo::serving {
namespace {

constexpr int64_t kPictureSize = 224;

std::string metadata_of(const models::Policy& policy, int64_t steps, const ServedPolicy& about) {
  wire::List cameras(about.cameras.begin(), about.cameras.end());
  wire::List states(about.states.begin(), about.states.end());
  return wire::to_msgpack(wire::Map{{"server", concat("apo-serve ", apo::version())},
                                    {"action_size", policy.action_size()},
                                    {"action_horizon", steps},
                                    {"cameras", std::move(cameras)},
                                    {"states", std::move(states)}});
}

// A name that the policy does not have is never looked for. Of a policy that knows no names, any may be one.
void warn_of_unknown(const char* key, const std::vector<KeyOptions>& entries,
                     const std::vector<std::string>& known) {
  for (const KeyOptions& entry : entries) {
    if (known.empty() || std::ranges::find(known, entry.name) != known.end()) continue;
    const auto near = config::nearest(entry.name, known);
    log_warn(key, ": ", entry.name, ": nothing that the policy needs is called so",
             near ? concat(" (did you mean ", *near, "?)") : "", "; it needs: ", join(known));
  }
}

}  // namespace

ServedPolicy served_policy(const models::PolicyDescription& description, const std::string& checkpoint) {
  ServedPolicy about{.cameras = description.cameras,
                     .states = description.state_keys,
                     .checkpoint = checkpoint,
                     .warm_up = Observation{}};
  const int64_t size = description.image_size > 0 ? description.image_size : kPictureSize;
  const at::Tensor picture = at::zeros({size, size, 3}, at::kByte);
  for (const std::string& camera : about.cameras) about.warm_up->images[camera] = picture;
  if (about.cameras.empty()) about.warm_up->images["image"] = picture;
  for (const std::string& name : about.states) {
    const auto found = description.statistics.state.find(name);
    const int64_t numbers = found == description.statistics.state.end() ? 1 : found->second.size();
    about.warm_up->state[name].assign(static_cast<size_t>(numbers), 0.0f);
  }
  about.warm_up->instruction = description.words.empty() ? "warm up" : description.words.front();
  return about;
}

struct Server::State {
  State(models::Policy& policy, const ServeOptions& given, const ServedPolicy& about)
      : options(given), finishing("requests, and what was recorded of them") {
    check_options(options);
    if (!options.idle.empty())
      APO_CHECK(ConfigError, std::ssize(options.idle) == policy.action_size(), "serve.idle: expected ",
                policy.action_size(), " numbers, found ", options.idle.size());
    check_console(options.console, policy.action_size());
    const deploy::Robot robot = robot_of(policy, options);
    const std::vector<int64_t> grippers = deploy::grippers_of(robot, policy);
    const int64_t steps = deploy::steps_of(robot, policy);
    if (steps > 1 && (options.console.enabled || !options.record.empty()))
      log_warn("an answer holds ", steps,
               " steps: who plays them all cannot be corrected within them, and only the first is "
               "recorded; serve.horizon=1 answers one at a time");
    if (about.warm_up) warm_up_or_say(policy, *about.warm_up);
    warn_of_unknown("serve.keys.cameras", options.keys.cameras, about.cameras);
    warn_of_unknown("serve.keys.states", options.keys.states, about.states);
    if (options.keys.rotate != 0)
      log_info("pictures of clients are turned by ", options.keys.rotate, " degrees (serve.keys.rotate)");
    if (options.console.enabled) open_console(policy, grippers, about);
    const std::string hash = options.record.empty() ? "" : models::parameter_hash(policy);
    service = std::make_unique<Service>(policy, options, metrics,
                                        PolicyNeeds{.cameras = about.cameras,
                                                    .states = about.states,
                                                    .action_size = policy.action_size(),
                                                    .unnorm_key = about.unnorm_key},
                                        Episodes::Recording{.path = options.record,
                                                            .info = {.environment_name = options.robot,
                                                                     .environment_config = "",
                                                                     .policy = about.checkpoint,
                                                                     .policy_hash = hash}},
                                        console.get());
    if (const data::EpisodeRecorder* recorder = service->episodes().recorder(); console && recorder)
      console->begin_at(recorder->num_episodes());
    listener.open(service.get(), console.get(), metadata_of(policy, steps, about));
  }

  ~State() {
    listener.stop();
    if (console) console->stop_training();
    service.reset();
  }

  void open_console(const models::Policy& policy, const std::vector<int64_t>& grippers,
                    const ServedPolicy& about) {
    const config::GripperOptions gripper = config::or_else(options.gripper, policy.gripper());
    const bool can_refine = !options.record.empty() && !about.refine.command.empty();
    const double hz = steps_a_second(options.console);
    console = std::make_unique<Console>(
        listener.io(),
        ConsoleContract{.action_size = policy.action_size(),
                        .control_hz = hz,
                        .grippers = grippers,
                        .gripper = gripper,
                        .cameras = about.cameras,
                        .reversed = options.console.reversed,
                        .speed = options.console.speed,
                        .token_needed = !options.token.empty(),
                        .can_reset = true,
                        .can_replay = !options.record.empty(),
                        .can_instruct = true,
                        .can_refine = can_refine,
                        .recording = options.record},
        DeskOptions{.action_size = policy.action_size(),
                    .control_hz = hz,
                    .grippers = grippers,
                    .idle = Action(options.idle.begin(), options.idle.end()),
                    .rules = with_gripper(about.label_rules, gripper),
                    .scale = options.console.scale,
                    .lost_pauses = options.console.lost == LostPage::pause,
                    .can_reset = true,
                    .can_instruct = true,
                    .instruction_bytes = options.limits.instruction_bytes},
        [this](const std::string& episode, std::optional<bool> success, const std::string& outcome) {
          service->episodes().end_by_person(episode, success, outcome);
        });
    if (can_refine)
      console->refine_by(about.refine, [this](const std::filesystem::path& target) {
        service->episodes().copy_recording(target);
      });
  }

  static void warm_up_or_say(models::Policy& policy, const Observation& observation) {
    try {
      warm_up(policy, observation);
    } catch (const std::exception& error) {
      log_warn("no warm-up, the first answer will take longer: ", error.what());
    }
  }

  ServeOptions options;
  Finishing finishing;  // a signal waits until what was asked is answered
  Metrics metrics;
  Listener listener{options, metrics};
  std::unique_ptr<Console> console;  // whom the service asks, and who speaks by the listener's thread
  std::unique_ptr<Service> service;
  std::atomic<bool> stopped = false;
};

Server::Server(models::Policy& policy, const ServeOptions& options, const ServedPolicy& about)
    : state_(std::make_unique<State>(policy, options, about)) {}
Server::~Server() = default;

int64_t Server::port() const { return state_->listener.port(); }

int64_t Server::run() {
  while (!state_->stopped && !interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Metrics& metrics = state_->metrics;
  return static_cast<int64_t>(metrics.requests.of("openpi") + metrics.requests.of("act"));
}

void Server::stop() { state_->stopped = true; }

}  // namespace apo::serving
