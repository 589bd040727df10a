// data/demo_N with one array a quantity: our own layout, robomimic's, and its relatives (LIBERO, MimicGen, Sirius).
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "data/layouts.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

constexpr int64_t kMaxPixels = 16384;   // a side
constexpr int64_t kMaxActionSize = 4096;

struct State {
  int64_t width = 0;
  std::vector<float> values;  // [S, width]
};

struct Demo {
  EpisodeRecord record;
  std::map<std::string, std::string> cameras;  // camera -> path of its array
  std::map<std::string, State> states;
};

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void expect_length(const Array& array, int64_t steps) {
  APO_CHECK(DataError, array.shape().at(0) == steps, array.where(), ": expected ", steps,
            " rows, one for each action, found ", array.describe());
}

std::vector<Action> read_rows(const Array& array, int64_t steps, const char* what) {
  array.expect(Kind::floating, 2, what);
  if (steps >= 0) expect_length(array, steps);
  const int64_t rows = array.shape()[0], width = array.shape()[1];
  APO_CHECK(DataError, rows > 0 && width > 0 && width <= kMaxActionSize, array.where(), ": expected ", what, ", found ",
            array.describe());
  const std::vector<float> values = array.floats();
  std::vector<Action> actions;
  actions.reserve(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) actions.emplace_back(values.begin() + i * width, values.begin() + (i + 1) * width);
  return actions;
}

std::vector<int64_t> read_codes(const Array& array, int64_t steps, std::initializer_list<int64_t> allowed) {
  array.expect(Kind::integer, 1, "integers [S]");
  expect_length(array, steps);
  std::vector<int64_t> codes = array.integers();
  for (size_t i = 0; i < codes.size(); ++i) {
    if (std::find(allowed.begin(), allowed.end(), codes[i]) != allowed.end()) continue;
    std::string valid;
    for (const int64_t a : allowed) valid += concat(valid.empty() ? "" : ", ", a);
    throw DataError(concat(array.where(), " row ", i, ": expected one of ", valid, ", found ", codes[i]));
  }
  return codes;
}

// {"language_instruction": ...} inside a JSON text attribute, if that is what it is.
std::optional<std::string> json_entry(const std::optional<std::string>& text, const char* key) {
  if (!text) return std::nullopt;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains(key) || !json[key].is_string()) return std::nullopt;
  std::string value = json[key].get<std::string>();
  if (value.size() > 1 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
  return value;
}

class DemoFile : public TrajectoryFile {
 public:
  DemoFile(Group root, const fs::path& path, TrajectoryFormat format, const std::string& instruction);

  const fs::path& path() const override { return path_; }
  TrajectoryFormat format() const override { return format_; }
  int64_t num_episodes() const override { return static_cast<int64_t>(demos_.size()); }
  EpisodeRecord episode(int64_t index) const override { return at(index).record; }
  Observation observation(int64_t episode, int64_t timestep) const override;
  Observation state(int64_t episode, int64_t timestep) const override;
  std::vector<std::pair<std::string, std::string>> attributes() const override;

 private:
  const Demo& at(int64_t index) const {
    APO_ASSERT(index >= 0 && index < num_episodes());
    return demos_[static_cast<size_t>(index)];
  }
  Demo read_demo(const Group& data, const std::string& name, const std::string& instruction) const;
  std::string read_instruction(const Group& data, const Group& demo, const std::string& instruction) const;
  void read_sources(const Group& demo, EpisodeRecord& record) const;
  void read_choices(const Group& demo, EpisodeRecord& record) const;
  void read_observations(const Group& demo, const std::string& path, Demo& out) const;

  fs::path path_;
  TrajectoryFormat format_;
  Group root_;
  bool flip_ = false;  // LIBERO stores pictures bottom row first
  std::vector<Demo> demos_;
};

DemoFile::DemoFile(Group root, const fs::path& path, TrajectoryFormat format, const std::string& instruction)
    : path_(path), format_(format), root_(std::move(root)) {
  const Group data = root_.group("data");
  const auto version = data.integer_attribute(kSchemaAttribute);
  APO_CHECK(DataError, !version || *version <= kSchemaVersion, data.where(), ": expected schema version ",
            kSchemaVersion, " or older, found ", version.value_or(0));
  if (format == TrajectoryFormat::libero)
    flip_ = data.text_attribute("macros_image_convention").value_or("opengl") == "opengl";
  for (const std::string& name : data.names())
    if (name.starts_with("demo_") && name.size() > 5 && name.find_first_not_of("0123456789", 5) == std::string::npos)
      demos_.push_back(read_demo(data, name, instruction));
  APO_CHECK(DataError, version || !demos_.empty(), data.where(), ": expected groups demo_0, demo_1, ..., found none");
}

Demo DemoFile::read_demo(const Group& data, const std::string& name, const std::string& instruction) const {
  const Group group = data.group(name);
  Demo demo;
  EpisodeRecord& record = demo.record;
  record.name = name;
  record.instruction = read_instruction(data, group, instruction);
  record.actions = read_rows(group.array("actions"), -1, "floating-point actions [S, A] with S >= 1");
  const int64_t steps = record.num_steps();
  const auto num_samples = group.integer_attribute("num_samples");
  APO_CHECK(DataError, !num_samples || *num_samples == steps, group.where("actions"), ": expected ",
            num_samples.value_or(0), " rows (attribute num_samples), found ", steps);
  read_sources(group, record);
  read_choices(group, record);
  if (const auto success = group.integer_attribute("success")) {
    APO_CHECK(DataError, *success == 0 || *success == 1, group.where(), ": attribute success: expected 0 or 1, found ",
              *success);
    record.success = *success == 1;
  }
  record.outcome = group.text_attribute("outcome").value_or("");
  read_observations(group, "data/" + name + "/obs", demo);
  for (const auto& [camera, path] : demo.cameras) record.observation_names.push_back(camera);
  for (const auto& [state, values] : demo.states) record.observation_names.push_back(state);
  std::sort(record.observation_names.begin(), record.observation_names.end());
  return demo;
}

std::string DemoFile::read_instruction(const Group& data, const Group& demo, const std::string& instruction) const {
  if (!instruction.empty()) return instruction;
  for (const auto& found : {demo.text_attribute("task_description"), data.text_attribute("task_description"),
                            json_entry(demo.text_attribute("ep_meta"), "lang"),
                            json_entry(data.text_attribute("problem_info"), "language_instruction")})
    if (found && !found->empty()) return *found;
  throw DataError(concat(demo.where(), ": expected an attribute task_description; the file has no instruction, so give "
                         "one with the option `instruction` of its data source"));
}

void DemoFile::read_sources(const Group& demo, EpisodeRecord& record) const {
  const int64_t steps = record.num_steps();
  record.recorded.assign(static_cast<size_t>(steps), true);
  record.sources.assign(static_cast<size_t>(steps), ActionSource::expert);
  if (format_ == TrajectoryFormat::apo || demo.has("action_source")) {
    const auto codes = read_codes(demo.array("action_source"), steps, {-1, 0, 1, 2});
    for (size_t i = 0; i < codes.size(); ++i) {
      record.recorded[i] = codes[i] >= 0;
      record.sources[i] = codes[i] >= 0 ? static_cast<ActionSource>(codes[i]) : ActionSource::policy;
    }
  } else if (format_ == TrajectoryFormat::sirius || demo.has("action_modes")) {
    const auto codes = read_codes(demo.array("action_modes"), steps, {-1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i) record.sources[i] = static_cast<ActionSource>(codes[i] + 1);
  }
}

// Explicit labels, and what the policy wanted.
void DemoFile::read_choices(const Group& demo, EpisodeRecord& record) const {
  const int64_t steps = record.num_steps();
  record.desirable.assign(static_cast<size_t>(steps), std::nullopt);
  record.policy_actions.assign(static_cast<size_t>(steps), std::nullopt);
  if (demo.has("desirable")) {
    const auto codes = read_codes(demo.array("desirable"), steps, {-1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i)
      if (codes[i] >= 0) record.desirable[i] = codes[i] == 1;
  }
  if (!demo.has("policy_action")) return;
  const auto actions = read_rows(demo.array("policy_action"), steps, "floating-point actions [S, A]");
  APO_CHECK(DataError, actions[0].size() == record.actions[0].size(), demo.where("policy_action"), ": expected ",
            record.actions[0].size(), " columns as in actions, found ", actions[0].size());
  std::vector<int64_t> valid;
  if (demo.has("policy_action_valid")) valid = read_codes(demo.array("policy_action_valid"), steps, {0, 1});
  for (size_t i = 0; i < actions.size(); ++i) {
    if (valid.empty() ? record.sources[i] != ActionSource::intervention : valid[i] == 0) continue;
    for (const float a : actions[i])
      APO_CHECK(DataError, std::isfinite(a), demo.where("policy_action"), " row ", i, ": expected finite numbers, found ", a);
    record.policy_actions[i] = actions[i];
  }
}

void DemoFile::read_observations(const Group& demo, const std::string& path, Demo& out) const {
  const int64_t steps = out.record.num_steps();
  const Group observations = demo.group("obs");
  for (const std::string& name : observations.names()) {
    if (observations.is_group(name)) continue;
    const Array array = observations.array(name);
    const size_t rank = array.shape().size();
    const bool named_image = ends_with(name, "_image") || ends_with(name, "_rgb");
    if (named_image || (rank == 4 && array.is_byte() && array.shape()[3] == 3)) {
      expect_image(array, 4);
      expect_length(array, steps);
      const bool fresh = out.cameras.emplace(camera_name(name), path + "/" + name).second;
      APO_CHECK(DataError, fresh, array.where(), ": a second array for camera ", camera_name(name));
    } else if ((rank == 1 || rank == 2) && (array.kind() == Kind::floating || array.kind() == Kind::integer)) {
      expect_length(array, steps);
      State state{rank == 2 ? array.shape()[1] : 1, {}};
      APO_CHECK(DataError, state.width > 0, array.where(), ": expected numbers, found ", array.describe());
      state.values = array.floats();
      expect_state_finite(state.values, state.width, array.where());
      out.states.emplace(name, std::move(state));
    }  // depth, masks and the like are not used
  }
}

Observation DemoFile::state(int64_t episode, int64_t timestep) const {
  const Demo& demo = at(episode);
  APO_ASSERT(timestep >= 0 && timestep < demo.record.num_steps());
  Observation observation;
  observation.instruction = demo.record.instruction;
  for (const auto& [name, state] : demo.states) {
    const auto begin = state.values.begin() + timestep * state.width;
    observation.state[name] = {begin, begin + state.width};
  }
  return observation;
}

Observation DemoFile::observation(int64_t episode, int64_t timestep) const {
  Observation observation = state(episode, timestep);
  hdf5::Session session;
  for (const auto& [name, path] : at(episode).cameras)
    observation.images[name] = read_image(root_.array(path), timestep, flip_);
  return observation;
}

std::vector<std::pair<std::string, std::string>> DemoFile::attributes() const {
  auto attributes = root_.group("data").attributes();
  for (const auto& [key, value] : std::vector(attributes)) {
    if (key != "env_args") continue;
    if (const auto name = json_entry(value, "env_name")) attributes.emplace_back("environment_name", *name);
    const auto json = nlohmann::json::parse(value, nullptr, false);
    if (json.is_object() && json.contains("env_kwargs") && json["env_kwargs"].is_object())
      if (const auto config = json_entry(json["env_kwargs"].dump(), "config"))
        attributes.emplace_back("environment_config", *config);
  }
  return attributes;
}

template <class T, class Get>
std::vector<T> column(const Episode& episode, Get get) {
  std::vector<T> values;
  for (const Step& step : episode.steps) get(step, values);
  return values;
}

void write_observations(Group& demo, const Episode& episode) {
  const auto steps = static_cast<int64_t>(episode.steps.size());
  Group observations = demo.create_group("obs");
  for (const auto& [name, image] : episode.steps[0].observation.images) {
    const int64_t height = image.size(0), width = image.size(1);
    const size_t bytes = static_cast<size_t>(height * width * 3);
    std::vector<uint8_t> pixels(bytes * episode.steps.size());
    for (size_t i = 0; i < episode.steps.size(); ++i) {
      const at::Tensor plain = episode.steps[i].observation.images.at(name).contiguous();
      memcpy(pixels.data() + i * bytes, plain.const_data_ptr(), bytes);
    }
    observations.write(name + "_image", std::span<const uint8_t>(pixels), {steps, height, width, 3}, true);
  }
  for (const auto& [name, first] : episode.steps[0].observation.state) {
    const auto values = column<float>(episode, [&name = name](const Step& step, auto& out) {
      const auto& state = step.observation.state.at(name);
      out.insert(out.end(), state.begin(), state.end());
    });
    observations.write(name, values, {steps, static_cast<int64_t>(first.size())});
  }
}

// policy_action [S, A] with zeros and policy_action_valid 0 where there is none: no NaN ever reaches a file.
void write_policy_actions(Group& demo, const Episode& episode) {
  const auto steps = static_cast<int64_t>(episode.steps.size());
  const size_t width = episode.steps[0].action.size();
  const auto valid = column<int8_t>(
      episode, [](const Step& step, auto& out) { out.push_back(static_cast<int8_t>(step.policy_action.has_value())); });
  if (std::count(valid.begin(), valid.end(), 0) == steps) return;
  const auto values = column<float>(episode, [width](const Step& step, auto& out) {
    const Action action = step.policy_action.value_or(Action(width, 0.0f));
    out.insert(out.end(), action.begin(), action.end());
  });
  demo.write("policy_action", values, {steps, static_cast<int64_t>(width)});
  demo.write("policy_action_valid", valid, {steps});
}

}  // namespace

std::shared_ptr<TrajectoryFile> open_demos(Group root, const fs::path& path, TrajectoryFormat format,
                                           const std::string& instruction) {
  hdf5::Session session;
  return std::make_shared<DemoFile>(std::move(root), path, format, instruction);
}

void write_episode(Group& data, int64_t number, const Episode& episode, const std::string& policy_hash,
                   const std::vector<bool>& recorded) {
  APO_ASSERT(!episode.steps.empty());
  hdf5::Session session;
  const auto steps = static_cast<int64_t>(episode.steps.size());
  Group demo = data.create_group(concat("demo_", number));
  demo.set_attribute("num_samples", steps);
  demo.set_attribute("task_description", episode.instruction);
  demo.set_attribute("outcome", episode.outcome);
  if (!policy_hash.empty()) demo.set_attribute("policy_hash", policy_hash);
  if (episode.success) demo.set_attribute("success", static_cast<int64_t>(*episode.success));
  demo.write("actions", column<float>(episode, [](const Step& step, auto& out) {
    out.insert(out.end(), step.action.begin(), step.action.end());
  }), {steps, static_cast<int64_t>(episode.steps[0].action.size())});
  demo.write("rewards", column<float>(episode, [](const Step& step, auto& out) { out.push_back(step.reward); }), {steps});
  demo.write("dones", column<int8_t>(episode, [](const Step& step, auto& out) { out.push_back(step.done); }), {steps});
  auto sources = column<int8_t>(
      episode, [](const Step& step, auto& out) { out.push_back(static_cast<int8_t>(step.source)); });
  for (size_t i = 0; i < recorded.size(); ++i)
    if (!recorded[i]) sources[i] = -1;
  demo.write("action_source", sources, {steps});
  const auto labels = column<int8_t>(episode, [](const Step& step, auto& out) {
    out.push_back(step.desirable ? static_cast<int8_t>(*step.desirable) : int8_t{-1});
  });
  if (std::count(labels.begin(), labels.end(), -1) != steps) demo.write("desirable", labels, {steps});
  write_policy_actions(demo, episode);
  write_observations(demo, episode);
}

EpisodeRecord record_of(const Episode& episode, const std::string& name) {
  EpisodeRecord record;
  record.name = name;
  record.instruction = episode.instruction;
  record.success = episode.success;
  record.outcome = episode.outcome;
  for (const Step& step : episode.steps) {
    record.actions.push_back(step.action);
    record.sources.push_back(step.source);
    record.recorded.push_back(true);
    record.desirable.push_back(step.desirable);
    record.policy_actions.push_back(step.policy_action);
  }
  return record;
}

void write_info(Group& data, const TrajectoryInfo& info) {
  hdf5::Session session;
  // robomimic wants env_name, type and env_kwargs; type 2 is "a gym-like environment"
  const nlohmann::json arguments = {{"env_name", info.environment_name},
                                    {"type", 2},
                                    {"env_version", ""},
                                    {"env_kwargs", {{"config", info.environment_config}}}};
  data.set_attribute("total", int64_t{0});
  data.set_attribute("env_args", arguments.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  data.set_attribute("policy", info.policy);
  data.set_attribute("policy_hash", info.policy_hash);
  data.set_attribute(kSchemaAttribute, kSchemaVersion);
}

at::Tensor read_image(const Array& array, int64_t row, bool flip) {
  const auto& shape = array.shape();
  const size_t first = row < 0 ? 0 : 1;
  at::Tensor image = at::empty({shape[first], shape[first + 1], 3}, at::kByte);
  const std::span<uint8_t> bytes(image.data_ptr<uint8_t>(), static_cast<size_t>(image.numel()));
  row < 0 ? array.read_bytes(bytes) : array.read_row(row, bytes);
  return flip ? image.flip({0}) : image;
}

std::string camera_name(const std::string& dataset) {
  for (const std::string_view end : {"_image", "_rgb"})
    if (ends_with(dataset, end)) return dataset.substr(0, dataset.size() - end.size());
  return dataset;
}

void expect_image(const Array& array, size_t rank) {
  const char* what = rank == 4 ? "uint8 pictures [S, Y, X, 3]" : "a uint8 picture [Y, X, 3]";
  array.expect(Kind::integer, rank, what);
  const auto& shape = array.shape();
  APO_CHECK(DataError, array.is_byte() && shape[rank - 1] == 3 && shape[rank - 2] > 0 && shape[rank - 3] > 0 &&
                           shape[rank - 2] <= kMaxPixels && shape[rank - 3] <= kMaxPixels,
            array.where(), ": expected ", what, ", found ", array.describe());
}

void expect_state_finite(const std::vector<float>& values, int64_t width, const std::string& where) {
  for (size_t i = 0; i < values.size(); ++i)
    APO_CHECK(DataError, std::isfinite(values[i]), where, " row ", i / static_cast<size_t>(width),
              ": expected finite numbers, found ", values[i]);
}

}  // namespace apo::data
