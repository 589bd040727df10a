#include "serving/requests.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::serving {
namespace {

constexpr std::array<std::string_view, 12> kControlKeys = {
    "prompt", "instruction", "episode_id", "intervention_action", "event",   "success",
    "seed",   "reason",      "request_id", "timestamp",           "outcome", "unnorm_key"};
constexpr std::array<std::string_view, 4> kMainCameras = {"image", "full_image", "observation/image",
                                                          "observation/exterior_image_1_left"};
constexpr size_t kLongestId = 200;

bool is_control(std::string_view key) { return std::ranges::find(kControlKeys, key) != kControlKeys.end(); }
bool has_wrist(std::string_view name) { return name.find("wrist") != std::string_view::npos; }

// Numbers in one row: a number, a list of numbers, an array of at most one dimension.
bool is_numbers(const wire::Value& value) {
  if (const auto* array = value.as<wire::Array>()) return array->shape.size() <= 1;
  if (const auto* list = value.as<wire::List>())
    return !list->empty() && std::ranges::all_of(*list, [](const wire::Value& each) {
      return each.as<double>() || each.as<int64_t>() || each.as<uint64_t>();
    });
  return value.as<double>() || value.as<int64_t>() || value.as<uint64_t>();
}

// A camera's picture; other arrays of two or three dimensions are nobody's business unless they are asked
// for.
bool is_picture(const wire::Value& value) {
  const auto* array = value.as<wire::Array>();
  if (array == nullptr || array->shape.size() < 2 || array->shape.size() > 3) return false;
  if (array->dtype == wire::Dtype::u1) return true;
  const auto is_channels = [](int64_t n) { return n == 1 || n == 3 || n == 4; };
  return array->shape.size() == 3 && wire::is_floating(array->dtype) &&
         (is_channels(array->shape.front()) || is_channels(array->shape.back()));
}

// "observation/wrist_image" -> "wrist": how a recording calls what the policy does not need.
std::string recorded_name(std::string key, bool picture) {
  for (const std::string_view head : {"observation/", "observation.", "images/", "images."})
    if (key.starts_with(head)) key.erase(0, head.size());
  std::ranges::replace(key, '/', '_');
  constexpr std::string_view kTail = "_image";
  if (picture && key.size() > kTail.size() && key.ends_with(kTail)) key.resize(key.size() - kTail.size());
  return key;
}

std::vector<std::string> candidates(const std::string& name, bool picture) {
  if (!picture) return {name, "observation/" + name, "observation.state." + name, "state/" + name};
  return {name,
          name + "_image",
          "observation/" + name,
          "observation/" + name + "_image",
          "observation/images/" + name,
          "observation.images." + name,
          "images/" + name};
}

std::string short_text(const wire::Field& field, size_t longest) {
  const std::string text = field.text();
  field.expect(text.size() <= longest, concat("at most ", longest, " bytes"));
  return text;
}

}  // namespace

// An array of the message and its key.
struct RequestReader::Found {
  std::string key;
  wire::Field field;
  bool taken = false;
};

RequestReader::RequestReader(const ServeOptions& options, PolicyNeeds needs)
    : keys_(options.keys), longest_instruction_(options.limits.instruction_bytes), needs_(std::move(needs)) {}

ClientRequest RequestReader::read(const wire::Value& message) const {
  const wire::Field root(&message, "request");
  root.expect(message.as<wire::Map>() != nullptr, "a map");
  if (!root["event"].present()) return read_step(root);
  const std::string event = root["event"].text();
  root["event"].expect(event == "end", "\"end\"");
  EndRequest end;
  if (root["episode_id"].present()) end.episode_id = short_text(root["episode_id"], kLongestId);
  if (root["success"].present()) end.success = root["success"].boolean();
  if (root["outcome"].present()) end.outcome = short_text(root["outcome"], kLongestId);
  return end;
}

StepRequest RequestReader::read_step(const wire::Field& root) const {
  StepRequest request;
  const wire::Field prompt = !keys_.instruction.empty() ? root[keys_.instruction]
                             : root["prompt"].present() ? root["prompt"]
                                                        : root["instruction"];
  std::string& instruction = request.observation.instruction;
  if (prompt.present()) instruction = prompt.text();
  if (instruction.empty()) instruction = keys_.default_instruction;
  prompt.expect(!instruction.empty(), "an instruction");
  APO_CHECK(DataError, std::ssize(instruction) <= longest_instruction_, prompt.place(), ": expected at most ",
            longest_instruction_, " bytes (serve.limits.instruction_bytes), found ", instruction.size());
  if (root["episode_id"].present()) request.episode_id = short_text(root["episode_id"], kLongestId);
  if (root["reason"].present()) request.reason = short_text(root["reason"], kLongestId);
  if (const wire::Field key = root["unnorm_key"]; key.present() && !needs_.unnorm_key.empty()) {
    const std::string asked = short_text(key, kLongestId);
    key.expect(asked.empty() || asked == needs_.unnorm_key,
               concat("'", needs_.unnorm_key, "' (policy.unnorm_key of the server)"));
  }
  if (root["seed"].present()) request.seed = root["seed"].unsigned_integer();
  for (const char* key : {"request_id", "timestamp"})
    if (const wire::Field echoed = root[key]; echoed.present()) {
      const wire::Value& value = echoed.raw();
      const bool scalar =
          value.as<double>() || value.as<int64_t>() || value.as<uint64_t>() || value.as<bool>();
      if (!scalar) short_text(echoed, kLongestId);  // clients take a second array for actions
      request.echo.push_back({key, value});
    }
  if (const wire::Field human = root["intervention_action"]; human.present()) {
    request.intervention = human.floats();
    human.expect(std::ssize(*request.intervention) == needs_.action_size,
                 concat("an action of ", needs_.action_size, " numbers"));
    for (const float number : *request.intervention) human.expect(std::isfinite(number), "finite numbers");
  }

  std::vector<Found> pictures, states;
  const auto collect = [&](auto&& self, const wire::Field& map, const std::string& head) -> void {
    for (const auto& [key, field] : map.entries()) {
      const std::string whole = head + key;
      if (whole == keys_.instruction || (head.empty() && is_control(key))) continue;
      if (field.raw().template as<wire::Map>() != nullptr)
        self(self, field, whole + "/");
      else if (is_picture(field.raw()))
        pictures.push_back({whole, field});
      else if (is_numbers(field.raw()))
        states.push_back({whole, field});
    }
  };
  collect(collect, root, "");
  take_pictures(pictures, request.observation);
  take_states(states, request.observation);
  return request;
}

namespace {

template <class List>
std::string keys_of(const List& list) {
  std::string keys;
  for (const auto& each : list) append_item(keys, ", ", printable(shortened(each.key, 60)));
  return keys.empty() ? "none" : keys;
}

template <class List>
auto* with_key(List& list, std::string_view key) {
  const auto found =
      std::ranges::find(list, key, [](const auto& each) { return std::string_view(each.key); });
  return found == list.end() ? nullptr : &*found;
}

// The client's key that serve.keys gives for `name`; empty: none.
std::string key_in(const std::vector<KeyOptions>& keys, const std::string& name) {
  for (const KeyOptions& entry : keys)
    if (entry.name == name) return entry.key;
  return "";
}

// What is called `name`: by serve.keys, or by one of the usual names; null: nothing.
template <class List>
auto* find_named(List& list, const std::string& name, const std::vector<KeyOptions>& keys, bool picture) {
  const std::string key = key_in(keys, name);
  if (!key.empty()) return with_key(list, key);
  for (const std::string& candidate : candidates(name, picture))
    if (auto* found = with_key(list, candidate)) return found;
  return decltype(with_key(list, key))(nullptr);
}

}  // namespace

void RequestReader::take_pictures(std::vector<Found>& pictures, Observation& observation) const {
  const auto take = [&](Found& found, const std::string& name) {
    found.taken = true;
    at::Tensor picture = found.field.picture();
    if (keys_.rotate == 180) picture = picture.flip({0, 1}).contiguous();
    observation.images[name] = std::move(picture);
  };
  const auto main_camera = [&]() -> Found* {
    for (const std::string_view key : kMainCameras)
      if (Found* found = with_key(pictures, key)) return found;
    // whatever it is called, but no wrist's, and not one camera's picture for another
    const bool is_the_only_one = pictures.size() == 1 && needs_.cameras.size() <= 1;
    return is_the_only_one && !has_wrist(pictures.front().key) ? &pictures.front() : nullptr;
  };
  const auto wrist = [&](size_t n) -> Found* {
    for (Found& found : pictures)
      if (has_wrist(found.key) && n-- == 0) return &found;
    return nullptr;
  };
  const auto others =
      std::ranges::count_if(needs_.cameras, [](const auto& name) { return !has_wrist(name); });
  size_t num_wrists = 0;
  for (const std::string& name : needs_.cameras) {
    Found* found = find_named(pictures, name, keys_.cameras, true);
    if (found == nullptr && key_in(keys_.cameras, name).empty()) {
      if (has_wrist(name))
        found = wrist(num_wrists);
      else if (others == 1)
        found = main_camera();
    }
    if (has_wrist(name)) ++num_wrists;
    APO_CHECK(
        DataError, found != nullptr, "request: camera ", name, ": expected a picture under ",
        key_in(keys_.cameras, name).empty() ? join(candidates(name, true)) : key_in(keys_.cameras, name),
        " (or another key in serve.keys.cameras), found the pictures ", keys_of(pictures));
    take(*found, name);
  }
  if (needs_.cameras.empty()) {
    std::vector<std::string> named;
    for (const KeyOptions& entry : keys_.cameras) {
      Found* found = with_key(pictures, entry.key);
      APO_CHECK(DataError, found != nullptr, "request: camera ", entry.name, ": expected a picture under ",
                entry.key, ", found the pictures ", keys_of(pictures));
      take(*found, entry.name);
    }
    if (keys_.cameras.empty()) {
      Found* found = main_camera();
      APO_CHECK(DataError, found != nullptr, "request: expected a picture under ",
                join(std::vector<std::string>(kMainCameras.begin(), kMainCameras.end())),
                ", or one in all that is no wrist's (or a key in serve.keys.cameras), found the pictures ",
                keys_of(pictures));
      take(*found, recorded_name(found->key, true));
    }
  }
  for (Found& found : pictures) {
    const std::string name = recorded_name(found.key, true);
    if (!found.taken && !observation.images.contains(name)) take(found, name);
  }
}

void RequestReader::take_states(std::vector<Found>& states, Observation& observation) const {
  const auto take = [&](Found& found, const std::string& name) {
    found.taken = true;
    std::vector<float> numbers = found.field.floats();
    for (const float number : numbers) found.field.expect(std::isfinite(number), "finite numbers");
    observation.state[name] = std::move(numbers);
  };
  for (const std::string& name : needs_.states) {
    Found* found = find_named(states, name, keys_.states, false);
    if (found == nullptr && key_in(keys_.states, name).empty() && needs_.states.size() == 1) {
      found = with_key(states, "observation/state");
      if (found == nullptr) found = with_key(states, "state");
      if (found == nullptr && states.size() == 1) found = &states.front();
    }
    APO_CHECK(DataError, found != nullptr, "request: state ", name, ": expected numbers under ",
              key_in(keys_.states, name).empty() ? join(candidates(name, false)) : key_in(keys_.states, name),
              " (or another key in serve.keys.states), found the numbers ", keys_of(states));
    take(*found, name);
  }
  for (Found& found : states) {
    const std::string name = recorded_name(found.key, false);
    const auto* array = found.field.raw().as<wire::Array>();
    if (array != nullptr && array->data.empty()) continue;
    if (!found.taken && !observation.state.contains(name)) take(found, name);
  }
}

}  // namespace apo::serving
