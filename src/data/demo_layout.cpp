// Reads data/demo_N with one array a quantity: our own layout, robomimic's and its relatives (LIBERO, MimicGen, Sirius).
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "base/json_depth.h"
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

bool has_rows(const Array& array, int64_t rows) { return !array.shape().empty() && array.shape()[0] == rows; }

void expect_length(const Array& array, int64_t steps) {
  APO_CHECK(DataError, has_rows(array, steps), array.where(), ": expected ", steps,
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

// The same, but floating-point and [S, 1] will do: people fill such arrays with numpy.ones.
std::vector<int64_t> read_loose_codes(const Array& array, int64_t steps, std::initializer_list<int64_t> allowed) {
  const auto& shape = array.shape();
  const bool column = shape.size() == 2 && shape[1] == 1;
  APO_CHECK(DataError, (shape.size() == 1 || column) && (array.kind() == Kind::integer || array.kind() == Kind::floating),
            array.where(), ": expected numbers [S], found ", array.describe());
  expect_length(array, steps);
  const std::vector<float> values = array.floats();
  std::vector<int64_t> codes;
  std::string valid;
  for (const int64_t a : allowed) valid += concat(valid.empty() ? "" : ", ", a);
  for (size_t i = 0; i < values.size(); ++i) {
    const bool known = std::any_of(allowed.begin(), allowed.end(),
                                   [x = values[i]](int64_t a) { return x == static_cast<float>(a); });
    APO_CHECK(DataError, known, array.where(), " row ", i, ": expected one of ", valid, ", found ", values[i]);
    codes.push_back(static_cast<int64_t>(values[i]));
  }
  return codes;
}

bool is_picture(const std::string& name, const Array& array) {
  const auto& shape = array.shape();
  return ends_with(name, "_image") || ends_with(name, "_rgb") ||
         (shape.size() == 4 && array.is_byte() && shape[3] == 3);
}

// Pictures and vectors; depth, masks and the like are not used.
bool is_observation(const std::string& name, const Array& array) {
  const size_t rank = array.shape().size();
  return is_picture(name, array) ||
         ((rank == 1 || rank == 2) && (array.kind() == Kind::floating || array.kind() == Kind::integer));
}

// A text attribute as JSON; of another kind than any if it is none. DataError if it is nested too deeply.
nlohmann::json json_attribute(const Group& group, const char* name) {
  const auto text = group.text_attribute(name);
  if (!text) return {};
  return nlohmann::json::parse(*text, depth_guard(concat(group.where(), " attribute ", name)), false);
}

// {"language_instruction": ...} inside such an attribute, if that is what it is.
std::optional<std::string> json_entry(const nlohmann::json& json, const char* key) {
  if (!json.is_object() || !json.contains(key)) return std::nullopt;
  std::string value;
  if (json[key].is_array()) {  // LIBERO: a list of words or of letters
    bool letters = true;
    for (const auto& part : json[key]) letters = letters && part.is_string() && part.get<std::string>().size() == 1;
    for (const auto& part : json[key]) {
      if (!part.is_string()) return std::nullopt;
      value += letters || value.empty() ? "" : " ";
      value += part.get<std::string>();
    }
  } else if (json[key].is_string()) {
    value = json[key].get<std::string>();
  }
  if (value.size() > 1 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
  return value;
}

// "KITCHEN_SCENE10_close_the_top_drawer_demo" -> "close the top drawer": how LIBERO names its files.
std::optional<std::string> instruction_in_name(const fs::path& path) {
  std::string text = path.stem().string();
  if (!ends_with(text, "_demo")) return std::nullopt;
  text.resize(text.size() - 5);
  if (const size_t scene = text.find("SCENE"); scene != std::string::npos) {
    const size_t end = text.find_first_not_of("0123456789", scene + 5);
    if (end != std::string::npos && text[end] == '_') text = text.substr(end + 1);
  }
  std::replace(text.begin(), text.end(), '_', ' ');
  return is_utf8(text) ? std::optional(text) : std::nullopt;
}

class DemoFile : public TrajectoryFile {
 public:
  DemoFile(Group root, const fs::path& path, const Reading& reading);

  const fs::path& path() const override { return path_; }
  TrajectoryFormat format() const override { return reading_.format; }
  int64_t num_episodes() const override { return demos_.size(); }
  EpisodeRecord episode(int64_t index) const override { return demos_.at(index)->record; }
  Observation observation(int64_t episode, int64_t timestep) const override;
  Observation state(int64_t episode, int64_t timestep) const override;
  std::vector<std::pair<std::string, std::string>> attributes() const override;

 private:
  std::vector<std::string> demo_names() const;
  Demo read_demo(const std::string& name) const;
  std::string read_instruction(const Group& demo) const;
  void read_sources(const Group& demo, EpisodeRecord& record) const;
  void read_choices(const Group& demo, EpisodeRecord& record) const;
  void read_observations(const Group& demo, const std::string& path, Demo& out) const;
  void read_observation(const Array& array, const std::string& name, const std::string& path, Demo& out) const;
  const std::set<std::string>& constants() const;
  std::set<std::string> find_constants() const;

  fs::path path_;
  Reading reading_;
  Group root_, data_;
  ImageOrientation orientation_;   // never automatic
  std::optional<std::string> file_instruction_;
  mutable std::atomic<bool> warned_of_last_row_ = false;
  mutable std::optional<std::set<std::string>> constants_;   // guarded by the library's lock
  Episodes<Demo> demos_;
};

// LIBERO stores pictures as OpenGL renders them, bottom row first, unless it says otherwise.
ImageOrientation orientation_of(const Group& data, const Reading& reading) {
  if (reading.orientation != ImageOrientation::automatic) return reading.orientation;
  if (reading.format != TrajectoryFormat::libero) return ImageOrientation::as_stored;
  const std::string convention = data.text_attribute("macros_image_convention").value_or("opengl");
  APO_CHECK(DataError, convention == "opengl" || convention == "opencv", data.where(),
            " attribute macros_image_convention: expected opengl or opencv, found ", convention);
  return convention == "opengl" ? ImageOrientation::flipped : ImageOrientation::as_stored;
}

DemoFile::DemoFile(Group root, const fs::path& path, const Reading& reading)
    : path_(path),
      reading_(reading),
      root_(std::move(root)),
      data_(root_.group("data")),
      orientation_(orientation_of(data_, reading)),
      file_instruction_(data_.text_attribute("task_description")),
      demos_(demo_names(), reading.lazily, [this](const std::string& name) { return read_demo(name); }) {}

std::vector<std::string> DemoFile::demo_names() const {
  const auto version = data_.integer_attribute(kSchemaAttribute);
  APO_CHECK(DataError, !version || *version <= kSchemaVersion, data_.where(), ": expected schema version ",
            kSchemaVersion, " or older, found ", version.value_or(0));
  std::vector<std::string> names = data_.names();
  std::erase_if(names, [](const std::string& name) {
    return !name.starts_with("demo_") || name.size() == 5 || name.size() > 23 ||
           name.find_first_not_of("0123456789", 5) != std::string::npos;
  });
  APO_CHECK(DataError, version || !names.empty(), data_.where(), ": expected groups demo_0, demo_1, ..., found none");
  return names;
}

Demo DemoFile::read_demo(const std::string& name) const {
  hdf5::Session session;
  const Group group = data_.group(name);
  Demo demo;
  EpisodeRecord& record = demo.record;
  record.name = name;
  record.instruction = read_instruction(group);
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
  for (const auto& [camera, size] : record.cameras) record.observation_names.push_back(camera);
  for (const auto& [state, width] : record.states) record.observation_names.push_back(state);
  std::sort(record.observation_names.begin(), record.observation_names.end());
  return demo;
}

std::string DemoFile::read_instruction(const Group& demo) const {
  if (!reading_.instruction.empty()) return reading_.instruction;
  for (const auto& found : {demo.text_attribute("task_description"), file_instruction_,
                            json_entry(json_attribute(demo, "ep_meta"), "lang"),
                            json_entry(json_attribute(data_, "problem_info"), "language_instruction")})
    if (found && !found->empty()) return *found;
  if (reading_.format == TrajectoryFormat::libero)
    if (const auto found = instruction_in_name(path_); found && !found->empty()) return *found;
  throw DataError(concat(demo.where(), ": expected an attribute task_description; the file has no instruction, so give "
                         "one with the option `instruction` of its data source (--instruction for files on the command line)"));
}

void DemoFile::read_sources(const Group& demo, EpisodeRecord& record) const {
  const int64_t steps = record.num_steps();
  record.recorded.assign(static_cast<size_t>(steps), true);
  record.sources.assign(static_cast<size_t>(steps), ActionSource::expert);
  if (reading_.format == TrajectoryFormat::apo || demo.has("action_source")) {
    const auto codes = read_codes(demo.array("action_source"), steps, {-1, 0, 1, 2});
    for (size_t i = 0; i < codes.size(); ++i) {
      record.recorded[i] = codes[i] >= 0;
      record.sources[i] = codes[i] >= 0 ? static_cast<ActionSource>(codes[i]) : ActionSource::policy;
    }
  } else if (reading_.format == TrajectoryFormat::sirius || demo.has("action_modes")) {
    const auto codes = read_loose_codes(demo.array("action_modes"), steps, {-1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i) record.sources[i] = static_cast<ActionSource>(codes[i] + 1);
  }
}

// Explicit labels, and what the policy wanted.
void DemoFile::read_choices(const Group& demo, EpisodeRecord& record) const {
  const int64_t steps = record.num_steps();
  record.desirable.assign(static_cast<size_t>(steps), std::nullopt);
  record.policy_actions.assign(static_cast<size_t>(steps), std::nullopt);
  if (demo.has("desirable")) {
    const auto codes = read_codes(demo.array("desirable"), steps, {-2, -1, 0, 1});
    record.neither.assign(codes.size(), false);
    for (size_t i = 0; i < codes.size(); ++i) {
      if (codes[i] >= 0) record.desirable[i] = codes[i] == 1;
      record.neither[i] = codes[i] == -2;
    }
  } else if (reading_.format == TrajectoryFormat::sirius && demo.has("intv_labels")) {
    const auto codes = read_loose_codes(demo.array("intv_labels"), steps, {-10, -1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i)
      if (codes[i] == -10) record.desirable[i] = false;
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
  std::vector<std::pair<std::string, Array>> arrays;
  const auto all_have = [&arrays](int64_t rows) {
    return std::all_of(arrays.begin(), arrays.end(), [rows](const auto& a) { return has_rows(a.second, rows); });
  };
  for (const std::string& name : observations.names()) {
    if (observations.is_group(name)) continue;
    Array array = observations.array(name);
    if (is_observation(name, array)) arrays.emplace_back(name, std::move(array));
  }
  if (!all_have(steps) && !all_have(steps + 1))
    std::erase_if(arrays, [this](const auto& a) { return constants().contains(a.first); });
  // every array has the observation after the last action; ours are never written so
  const bool one_more = reading_.format != TrajectoryFormat::apo && !arrays.empty() && all_have(steps + 1);
  for (const auto& [name, array] : arrays) {
    if (!one_more) expect_length(array, steps);
    read_observation(array, name, path, out);
  }
  if (one_more && !warned_of_last_row_.exchange(true))
    log_warn(demo.where("obs"), ": one row more than actions; the observation after the last action is not used");
}

void DemoFile::read_observation(const Array& array, const std::string& name, const std::string& path, Demo& out) const {
  EpisodeRecord& record = out.record;
  const auto& shape = array.shape();
  if (is_picture(name, array)) {
    expect_image(array, 4);
    const auto [entry, fresh] = out.cameras.emplace(camera_name(name), path + "/" + name);
    APO_CHECK(DataError, fresh, array.where(), ": a second array for camera ", entry->first);
    record.cameras[entry->first] = {shape[1], shape[2]};
  } else {
    State state{shape.size() == 2 ? shape[1] : 1, {}};
    APO_CHECK(DataError, state.width > 0, array.where(), ": expected numbers, found ", array.describe());
    state.values = array.floats();
    expect_state_finite(state.values, state.width, array.where());
    record.states[name] = state.width;
    out.states.emplace(name, std::move(state));
  }
}

const std::set<std::string>& DemoFile::constants() const {
  if (!constants_) constants_ = find_constants();
  return *constants_;
}

// Numbers that belong to no step, e.g. the calibration of a camera: in most episodes of the file they have another
// number of rows than the actions. What is one row off everywhere was meant to be a quantity of the steps, and so are
// pictures of any length.
std::set<std::string> DemoFile::find_constants() const {
  std::map<std::string, int64_t> votes;   // > 0: more episodes where it is of a step
  for (const std::string& name : demo_names()) {
    try {
      const Group demo = data_.group(name);
      const std::vector<int64_t> actions = demo.array("actions").shape();
      const Group observations = demo.group("obs");
      for (const std::string& observation : observations.names()) {
        if (observations.is_group(observation)) continue;
        const Array array = observations.array(observation);
        if (!is_observation(observation, array) || is_picture(observation, array)) continue;
        const bool fits = has_rows(array, actions.at(0)) || has_rows(array, actions.at(0) + 1) || has_rows(array, actions.at(0) - 1);
        votes[observation] += fits ? 1 : -1;
      }
    } catch (const std::exception&) {   // told when that episode is read
    }
  }
  std::set<std::string> constants;
  std::string all;
  for (const auto& [name, balance] : votes) {
    if (balance >= 0) continue;
    constants.insert(name);
    all += concat(all.empty() ? "" : ", ", name);
  }
  if (!all.empty())
    log_info(data_.where("demo_*/obs"), ": not used, for they are not one row for each action: ", all);
  return constants;
}

Observation DemoFile::state(int64_t episode, int64_t timestep) const {
  const auto demo = demos_.at(episode);
  APO_ASSERT(timestep >= 0 && timestep < demo->record.num_steps());
  Observation observation;
  observation.instruction = demo->record.instruction;
  for (const auto& [name, state] : demo->states) {
    const auto begin = state.values.begin() + timestep * state.width;
    observation.state[name] = {begin, begin + state.width};
  }
  return observation;
}

Observation DemoFile::observation(int64_t episode, int64_t timestep) const {
  Observation observation = state(episode, timestep);
  const auto demo = demos_.at(episode);
  hdf5::Session session;
  for (const auto& [name, path] : demo->cameras)
    observation.images[name] = turned(read_image(root_.array(path), timestep), orientation_);
  return observation;
}

std::vector<std::pair<std::string, std::string>> DemoFile::attributes() const {
  hdf5::Session session;
  auto attributes = data_.attributes();
  if (root_.has("mask") && root_.is_group("mask")) {   // robomimic's lists of demonstrations
    std::string keys;
    for (const std::string& key : root_.group("mask").names()) keys += concat(keys.empty() ? "" : ", ", key);
    if (!keys.empty()) attributes.emplace_back("filter_keys", keys);
  }
  const nlohmann::json environment = json_attribute(data_, "env_args");
  if (const auto name = json_entry(environment, "env_name")) attributes.emplace_back("environment_name", *name);
  if (environment.is_object() && environment.contains("env_kwargs"))
    if (const auto config = json_entry(environment["env_kwargs"], "config"))
      attributes.emplace_back("environment_config", *config);
  return attributes;
}

}  // namespace

std::shared_ptr<TrajectoryFile> open_demos(Group root, const fs::path& path, const Reading& reading) {
  hdf5::Session session;
  return std::make_shared<DemoFile>(std::move(root), path, reading);
}

at::Tensor read_image(const Array& array, int64_t row) {
  const auto& shape = array.shape();
  const size_t first = row < 0 ? 0 : 1;
  at::Tensor image = at::empty({shape[first], shape[first + 1], 3}, at::kByte);
  const std::span<uint8_t> bytes(image.data_ptr<uint8_t>(), static_cast<size_t>(image.numel()));
  row < 0 ? array.read_bytes(bytes) : array.read_row(row, bytes);
  return image;
}

at::Tensor turned(const at::Tensor& image, ImageOrientation orientation) {
  switch (orientation) {
    case ImageOrientation::automatic:
    case ImageOrientation::as_stored: return image;
    case ImageOrientation::flipped: return image.flip({0});
    case ImageOrientation::rotated: return image.flip({0, 1});
  }
  return image;
}

std::string camera_name(const std::string& dataset) {
  for (const std::string_view end : {"_image", "_rgb"})
    if (ends_with(dataset, end)) return dataset.substr(0, dataset.size() - end.size());
  return dataset;
}

std::vector<std::string> unused_observations(const Group& demo, const EpisodeRecord& record) {
  std::vector<std::string> names = demo.group("obs").names();
  std::erase_if(names, [&record](const std::string& name) {
    return record.states.contains(name) || record.cameras.contains(camera_name(name));
  });
  return names;
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
