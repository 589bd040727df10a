#include "environments/remote_messages.h"

#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "apo/base/text.h"
#include "base/json.h"

namespace apo::environments {
namespace {

using wire::Field;

constexpr int64_t kMostEnvironments = 4096, kLargestAction = 1000, kLargestState = 100'000,
                  kLargestSide = 8192;
constexpr size_t kLargestText = size_t{8} << 20;  // of a model
constexpr size_t kLongestEnvArgs = 60'000;        // an attribute of recordings
constexpr float kSameAction = 1e-3f;              // of what was asked for, once more through float32
constexpr const char* kImage = "_image";
constexpr const char* kDefaultReason = "took over at the robot";

std::vector<float> finite(const Field& field, int64_t size) {
  std::vector<float> numbers = field.floats();
  if (std::ssize(numbers) != size)
    throw DataError(concat(field.place(), ": expected ", size, " numbers, found ", numbers.size()));
  for (size_t i = 0; i < numbers.size(); ++i)
    if (!std::isfinite(numbers[i]))
      throw DataError(concat(field.place(), "[", i, "]: expected a finite number, found ", numbers[i]));
  return numbers;
}

std::vector<double> state_of(const Field& field, const ReplyContext& context) {
  field.expect(field.present(), "the simulator's state, as capabilities name state");
  std::vector<double> numbers = field.doubles();
  const auto size = std::ssize(numbers);
  APO_CHECK(DataError, size >= 1 && size <= kLargestState, field.place(), ": expected 1 to ", kLargestState,
            " numbers, found ", size);
  APO_CHECK(DataError, context.state_size == 0 || size == context.state_size, field.place(), ": expected ",
            context.state_size, " numbers as after the reset, found ", size);
  for (int64_t i = 0; i < size; ++i)
    APO_CHECK(DataError, std::isfinite(numbers[static_cast<size_t>(i)]), field.place(), "[", i,
              "]: expected a finite number, found ", numbers[static_cast<size_t>(i)]);
  return numbers;
}

std::string long_text(const Field& field) {
  if (!field.present()) return "";
  std::string text = field.text();
  APO_CHECK(DataError, text.size() <= kLargestText && text.find('\0') == text.npos, field.place(),
            ": expected text without NUL of at most ", kLargestText, " bytes, found ", text.size());
  return text;
}

// What robomimic's tools make the environment from.
std::string env_args_of(const Field& field) {
  std::string text = long_text(field);
  if (text.empty()) return text;
  const auto json = parse_if_json(text, field.place());
  const bool plain = json && json->is_object() && json->contains("env_name") &&
                     json->at("env_name").is_string() && json->contains("type") &&
                     json->at("type").is_number_integer() && json->contains("env_kwargs") &&
                     json->at("env_kwargs").is_object() && text.size() < kLongestEnvArgs;
  APO_CHECK(DataError, plain, field.place(),
            ": expected robomimic's JSON with env_name, type and env_kwargs, ", "below ", kLongestEnvArgs,
            " bytes, found ", json ? json_excerpt(*json) : "no JSON");
  return text;
}

std::string text_or(const Field& field, const std::string& otherwise) {
  return field.present() ? field.text() : otherwise;
}
bool flag(const Field& field) { return field.present() && field.boolean(); }

std::vector<std::string> texts(const Field& field) {
  std::vector<std::string> all;
  for (const Field& each : field.list()) all.push_back(each.text());
  return all;
}

void check_name(const Field& field, const std::string& name) {
  const bool plain =
      !name.empty() && name.size() <= 100 && name.find('/') == std::string::npos && name != ".";
  if (!plain) field.fail("a name without \"/\", of 1 to 100 bytes");
}

RemoteMetadata metadata_of(const Field& message) {
  RemoteMetadata metadata;
  const Field protocol = message["protocol"], version = message["version"];
  protocol.expect(protocol.present() && protocol.text() == kRemoteProtocol,
                  concat("\"", kRemoteProtocol, "\""));
  version.expect(version.integer() == kRemoteVersion,
                 concat("version ", kRemoteVersion, ", which is what this program speaks"));
  metadata.server = text_or(message["server"], "");
  metadata.busy = flag(message["busy"]);
  if (metadata.busy) return metadata;
  metadata.name = text_or(message["name"], "remote");
  metadata.instruction = text_or(message["instruction"], "");
  metadata.env_args = env_args_of(message["env_args"]);
  if (message["num_envs"].present()) metadata.num_envs = message["num_envs"].integer(1, kMostEnvironments);
  metadata.control_hz = message["control_hz"].number();
  message["control_hz"].expect(metadata.control_hz > 0 && std::isfinite(metadata.control_hz),
                               "steps a second, more than 0");
  metadata.max_steps = message["max_steps"].integer(1);
  metadata.realtime = flag(message["realtime"]);

  const Field action = message["action"];
  metadata.action_size = action["size"].integer(1, kLargestAction);
  const auto size = static_cast<size_t>(metadata.action_size);
  const auto numbers = [&](const char* key, float otherwise) {
    return action[key].present() ? finite(action[key], metadata.action_size) : Action(size, otherwise);
  };
  metadata.low = numbers("low", -1);
  metadata.high = numbers("high", 1);
  metadata.idle = numbers("idle", 0);
  for (size_t d = 0; d < size; ++d)
    if (!(metadata.low[d] < metadata.high[d])) action["low"].fail("less than action.high in every number");
  metadata.action_names = texts(action["names"]);
  action["names"].expect(metadata.action_names.empty() || metadata.action_names.size() == size,
                         "one for each number of an action");
  if (const Field gripper = action["gripper"]; gripper.present()) {
    for (const Field& dimension : gripper["dimension"].list())
      metadata.gripper.dimension.push_back(
          dimension.integer(-metadata.action_size, metadata.action_size - 1));
    if (gripper["open"].present()) metadata.gripper.open = gripper["open"].number();
    if (gripper["closed"].present()) metadata.gripper.closed = gripper["closed"].number();
  }

  for (const auto& [name, shape] : message["cameras"].entries()) {
    check_name(shape, name);
    const std::vector<Field> sides = shape.list();
    shape.expect(sides.size() == 2, "[height, width]");
    metadata.cameras[name] = {sides[0].integer(1, kLargestSide), sides[1].integer(1, kLargestSide)};
  }
  for (const auto& [name, count] : message["states"].entries()) {
    check_name(count, name);
    metadata.states[name] = count.integer(1, kLargestState);
  }
  for (const std::string& name : texts(message["capabilities"])) metadata.capabilities.insert(name);
  metadata.disruptions = texts(message["disruptions"]);
  return metadata;
}

void read_camera(const Field& obs, const std::string& name, std::pair<int64_t, int64_t> size,
                 Observation& observation) {
  const Field field = obs[name + kImage];
  if (!field.present()) field.fail(concat("the picture of camera ", name));
  at::Tensor picture = field.picture();
  if (picture.size(0) != size.first || picture.size(1) != size.second)
    field.fail(concat("[", size.first, ", ", size.second, ", 3] as the metadata say"));
  observation.images[name] = std::move(picture);
}

// Device buttons decide where the server itself cannot.
void apply_events(RemoteReply& reply) {
  Situation& now = reply.situation;
  for (const std::string& event : reply.events) {
    if (now.done || (event != "success" && event != "failure" && event != "reset")) continue;
    now.done = true;
    now.success = event == "success";
    now.judged = true;
    now.outcome = event == "reset" ? "given up" : event;
  }
}

void read_who_acted(const Field& message, const ReplyContext& context, Situation& now) {
  const Field source = message["action_source"], executed = message["executed_action"];
  if (!source.present()) source.fail("1 as asked, 2 a human at the robot, 3 changed by a limit");
  const int64_t who = source.integer(1, 3);
  if (!executed.present() && who == 1) return;
  if (!executed.present()) executed.fail("what was executed, as action_source is not 1");
  Action action = finite(executed, context.metadata.action_size);
  if (who != 1) {
    now.executed = Executed{.action = std::move(action),
                            .by_human = who == 2,
                            .reason = text_or(message["reason"], kDefaultReason)};
    return;
  }
  for (size_t d = 0; d < action.size(); ++d)
    if (std::abs(action[d] - (*context.asked)[d]) > kSameAction)
      throw DataError(concat(executed.place(), "[", d, "]: expected what was asked for, ",
                             (*context.asked)[d], ", as action_source is 1, found ", action[d]));
}

RemoteReply reply_of(const Field& message, const ReplyContext& context) {
  const RemoteMetadata& metadata = context.metadata;
  RemoteReply reply;
  const Field obs = message["obs"];
  if (!obs.present()) obs.fail("a map of pictures and states");
  for (const auto& [name, size] : metadata.cameras) read_camera(obs, name, size, reply.observation);
  for (const auto& [name, count] : metadata.states) {
    if (!obs[name].present()) obs[name].fail(concat("the state ", name));
    reply.observation.state[name] = finite(obs[name], count);
  }
  reply.observation.instruction = text_or(message["instruction"], metadata.instruction);
  const Field step = message["step"];
  if (!step.present() || step.integer() != context.step)
    step.fail(concat(context.step, ", the steps since the reset"));

  Situation& now = reply.situation;
  const bool terminated = flag(message["terminated"]);
  reply.truncated = flag(message["truncated"]);
  now.done = terminated || reply.truncated;
  now.judged = message["success"].present();
  now.success = now.judged && message["success"].boolean();
  if (now.success && !terminated) message["success"].fail("false or nil before the episode is terminated");
  now.troubled = message["flawless"].present() && !message["flawless"].boolean();
  now.outcome = text_or(message["outcome"], "");
  if (reply.truncated && !terminated && now.outcome.empty()) now.outcome = "timeout";
  if (terminated && !now.judged && now.outcome.empty()) now.outcome = "unknown";
  if (message["concern"].present()) now.concern = message["concern"].text();
  if (message["concern_steps"].present()) now.concern_steps = message["concern_steps"].integer(0);
  for (const auto& [name, fact] : message["facts"].entries()) now.facts[name] = fact.text();
  if (message["expert_action"].present())
    reply.expert = finite(message["expert_action"], metadata.action_size);
  reply.events = texts(message["events"]);
  if (message["held_steps"].present()) reply.held_steps = message["held_steps"].integer(0);
  if (context.wants_state) {
    reply.state = state_of(message["state"], context);
    reply.model = long_text(message["model"]);
  }
  if (context.asked != nullptr) read_who_acted(message, context, now);
  apply_events(reply);
  return reply;
}

// The mistakes of a server are failures while running.
template <class Read>
auto of_server(Read&& read) {
  try {
    return read();
  } catch (const DataError& error) {
    throw RunError(error.what());
  }
}

wire::Map magnitudes(const simulation::ObjectMovedOptions& o) { return {{"distance_m", o.distance_m}}; }
wire::Map magnitudes(const simulation::LightingOptions& o) {
  return {{"brightness", o.brightness}, {"direction_deg", o.direction_deg}, {"color", o.color}};
}
wire::Map magnitudes(const simulation::BackgroundOptions& o) {
  wire::Map map = {{"color", o.color}};
  for (const auto& [texture, name] : enum_names(o.texture))
    if (texture == o.texture) map.push_back({"texture", name});
  return map;
}
wire::Map magnitudes(const simulation::DistractorsOptions& o) { return {{"count", o.count}}; }
wire::Map magnitudes(const simulation::CameraMovedOptions& o) {
  return {{"distance_m", o.distance_m}, {"angle_deg", o.angle_deg}};
}

}  // namespace

std::string RemoteMetadata::difference(const RemoteMetadata& other) const {
  const auto differs = [](const char* key, const auto& mine, const auto& theirs) {
    return mine == theirs ? std::string() : std::string(key);
  };
  std::string all;
  for (const std::string& key :
       {differs("name", name, other.name), differs("num_envs", num_envs, other.num_envs),
        differs("action.size", action_size, other.action_size), differs("action.low", low, other.low),
        differs("action.high", high, other.high), differs("action.idle", idle, other.idle),
        differs("control_hz", control_hz, other.control_hz), differs("cameras", cameras, other.cameras),
        differs("states", states, other.states), differs("capabilities", capabilities, other.capabilities)})
    if (!key.empty()) append_item(all, ", ", key);
  return all;
}

RemoteMetadata read_metadata(const wire::Value& message, const std::string& where) {
  return of_server([&] {
    const Field field(&message, where);
    field.expect(message.as<wire::Map>() != nullptr, "the metadata of an apo-environment, a map");
    return metadata_of(field);
  });
}

RemoteReply read_observation(const wire::Value& message, const ReplyContext& context,
                             const std::string& where) {
  return of_server([&] { return reply_of(Field(&message, where), context); });
}

wire::Value disruptions_of_episode(const simulation::SceneDisruptionOptions& options, uint64_t seed,
                                   std::set<std::string>& met) {
  wire::Map all;
  met.clear();
  simulation::SceneDisruptionOptions(options).for_each([&](const std::string& name, const auto& section) {
    if (!(Random(seed, concat("disruption/", name)).uniform() < section.probability)) return;
    all.push_back({name, magnitudes(section)});
    met.insert(name);
  });
  return all;
}

}  // namespace apo::environments
