// Reads data/demo_N with one array a quantity: our own layout, robomimic's and its relatives (LIBERO,
// MimicGen, Sirius).
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "data/demo_parts.h"
#include "data/layouts.h"
#include "data/seal.h"
#include "data/stored_pictures.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

constexpr int64_t kLargestUnwritten = int64_t{1} << 24;  // numbers of a state that was made and never filled

struct State {
  int64_t width = 0;
  std::vector<float> values;  // [S, width]
};

struct Camera {
  std::string name;  // of its array
  Array array;
  StoredPictures stored;
  std::vector<int64_t> hashes = {};  // of each step's picture; of ours only
};

struct Demo {
  EpisodeRecord record;
  std::map<std::string, Camera> cameras;
  std::map<std::string, State> states;
};

// Numbers [S], [S, D] or [S, 1, D] as a state's width; nothing for other arrays.
std::optional<int64_t> state_width(const Array& array) {
  const auto& shape = array.shape();
  if (array.kind() != Kind::floating && array.kind() != Kind::integer) return std::nullopt;
  if (shape.size() == 1) return 1;
  if (shape.size() == 2 && shape[1] > 0) return shape[1];
  if (shape.size() == 3 && shape[1] == 1 && shape[2] > 0) return shape[2];
  return std::nullopt;
}

// Arrays of `obs` that could be a quantity of the steps.
struct Candidates {
  std::vector<std::pair<std::string, Array>> arrays;
  std::map<std::string, StoredPictures> pictures;  // of those that are a camera's
  std::string bad_camera;  // what is wrong with the first array whose name says that it is one

  bool all_have(int64_t rows) const {
    return std::all_of(arrays.begin(), arrays.end(),
                       [rows](const auto& a) { return has_rows(a.second, rows); });
  }
  bool any_has(int64_t rows) const {
    return std::any_of(arrays.begin(), arrays.end(),
                       [rows](const auto& a) { return has_rows(a.second, rows); });
  }
};

class DemoFile : public TrajectoryFile {
 public:
  DemoFile(Group root, const fs::path& path, const Reading& reading);

  const fs::path& path() const override { return path_; }
  TrajectoryFormat format() const override { return reading_.format; }
  int64_t num_episodes() const override { return demos_.size(); }
  EpisodeRecord episode(int64_t index) const override { return demos_.at(index)->record; }
  Observation observation(int64_t episode, int64_t timestep,
                          const std::vector<std::string>& cameras) const override;
  Observation state(int64_t episode, int64_t timestep) const override;
  std::vector<std::pair<std::string, std::string>> attributes() const override;
  std::vector<std::string> left_out() const override { return left_out_; }

 private:
  std::vector<std::string> find_demos();
  std::vector<std::string> demo_names() const;
  void check_total() const;
  Demo read_demo(const std::string& name) const;
  std::string instruction_for(const Group& demo, ReadNames& read) const;
  Candidates find_candidates(const Group& observations, int64_t steps, EpisodeRecord& record) const;
  void read_observations(const Group& demo, Demo& out) const;
  void read_camera(Array array, const std::string& name, const StoredPictures& stored, Demo& out) const;
  void read_state(const Array& array, const std::string& name, Demo& out) const;
  const std::set<std::string>& constants() const;
  std::set<std::string> find_constants() const;

  fs::path path_;
  Reading reading_;
  Group root_, data_;
  ImageOrientation orientation_;  // never automatic
  int64_t version_;               // of our layout; 0 = not ours
  std::vector<std::string> left_out_;
  mutable std::atomic<bool> warned_of_last_row_ = false;
  mutable std::optional<std::set<std::string>> constants_;  // guarded by the library's lock
  Episodes<Demo> demos_;
};

bool is_demo_name(const std::string& name) {
  return name.starts_with("demo_") && name.size() > 5 && name.size() <= 23 &&
         name.find_first_not_of("0123456789", 5) == std::string::npos;
}

DemoFile::DemoFile(Group root, const fs::path& path, const Reading& reading)
    : path_(path),
      reading_(reading),
      root_(std::move(root)),
      data_(root_.group("data")),
      orientation_(orientation_of(data_, reading)),
      version_(data_.integer_attribute(kSchemaAttribute).value_or(0)),
      demos_(find_demos(), reading.lazily, [this](const std::string& name) { return read_demo(name); }) {
  if (!reading.lazily && version_ >= kSealedVersion) check_total();
}

// An episode that a damaged name hides is missed.
void DemoFile::check_total() const {
  int64_t found = 0;
  for (int64_t i = 0; i < demos_.size(); ++i) found += demos_.at(i)->record.num_steps();
  const int64_t total = data_.integer_attribute("total").value_or(0);
  APO_CHECK(DataError, found == total, data_.where(), ": expected ", total,
            " steps in its episodes (attribute total), found ", found,
            ": episodes are missing or the file is damaged");
}

std::vector<std::string> DemoFile::find_demos() {
  APO_CHECK(DataError, version_ <= kSchemaVersion, data_.where(), ": expected schema version ",
            kSchemaVersion, " or older, found ", version_);
  check_seal(data_, version_ >= kSealedVersion);
  std::vector<std::string> names = demo_names();
  std::erase_if(names, [this](const std::string& name) {
    if (!has_no_step(data_, name)) return false;
    left_out_.push_back(concat("data/", name, ": no step"));
    return true;
  });
  for (const std::string& name : data_.names())
    if (!is_demo_name(name) && data_.is_group(name))
      left_out_.push_back(concat("data/", name, ": a group that is not named demo_N"));
  APO_CHECK(DataError, version_ > 0 || !names.empty(), data_.where(),
            ": expected groups demo_0, demo_1, ... with steps, found ",
            left_out_.empty() ? "none" : left_out_[0]);
  return names;
}

std::vector<std::string> DemoFile::demo_names() const {
  std::vector<std::string> names = data_.names();
  std::erase_if(names, [](const std::string& name) { return !is_demo_name(name); });
  return names;
}

// Pictures that were recorded with hashes are a camera's, whatever became of their array.
void expect_hashed_cameras(const Group& group, const Demo& demo, ReadNames& read) {
  ReadNames hashed;
  for (const auto& [name, camera] : demo.cameras)
    if (!camera.hashes.empty()) hashed.insert(picture_hash_name(camera.name));
  for (const std::string& name : group.names()) {
    if (!is_picture_hash(group, name)) continue;
    std::string why;
    for (const auto& [array, what] : demo.record.unused)
      if (array.starts_with("obs/") && picture_hash_name(array.substr(4)) == name)
        why = concat(" (", what, ")");
    APO_CHECK(DataError, hashed.contains(name), group.where(name),
              ": the pictures that it is of cannot be read as they were recorded: damaged", why);
  }
  read.insert(hashed.begin(), hashed.end());
}

Demo DemoFile::read_demo(const std::string& name) const {
  hdf5::Session session;
  const Group group = data_.group(name);
  Demo demo;
  EpisodeRecord& record = demo.record;
  record.name = name;
  check_seal(group, version_ >= kSealedVersion);
  record.actions = read_action_rows(group.array("actions"), -1, "floating-point actions [S, A] with S >= 1");
  expect_num_samples(group, record.num_steps());
  ReadNames read{"actions", "obs", "rewards", "dones"};  // the last two go into copies
  read_who_acted(group, reading_.format, record, read);
  read_choices(group, reading_.format, record, read);
  read_take_overs(group, record, read);
  record.success = read_success(group);
  const auto outcome = group.attribute_kind("outcome");
  if (outcome == Kind::text) record.outcome = group.text_attribute("outcome").value_or("");
  if (outcome && outcome != Kind::text) record.unused["attribute outcome"] = "no text";
  read_observations(group, demo);
  expect_hashed_cameras(group, demo, read);
  record.instruction = instruction_for(group, read);
  list_unread(group, "", read, record);
  for (const auto& [camera, size] : record.cameras) record.observation_names.push_back(camera);
  for (const auto& [state, width] : record.states) record.observation_names.push_back(state);
  std::sort(record.observation_names.begin(), record.observation_names.end());
  return demo;
}

std::string DemoFile::instruction_for(const Group& demo, ReadNames& read) const {
  const std::string found = find_instruction(demo, data_, path_, reading_.format, read);
  if (!reading_.instruction.empty()) return reading_.instruction;
  APO_CHECK(DataError, !found.empty(), demo.where(),
            ": expected an attribute task_description; the file has no instruction, so give one with the "
            "option `instruction` of its data source (--instruction for files on the command line)");
  return found;
}

Candidates DemoFile::find_candidates(const Group& observations, int64_t steps, EpisodeRecord& record) const {
  Candidates found;
  for (const std::string& name : observations.names()) {
    const std::string path = "obs/" + name;
    if (observations.is_group(name)) {
      record.unused[path] = "a group";
      continue;
    }
    Array array = observations.array(name);
    const PictureFinding pictures =
        find_pictures(name, array, true, reading_.format == TrajectoryFormat::apo);
    const bool one_for_all = pictures.pictures && steps > 2 && has_rows(array, 1);
    if (pictures.pictures && !one_for_all) {
      found.pictures.emplace(name, *pictures.pictures);
      found.arrays.emplace_back(name, std::move(array));
    } else if (!pictures.problem.empty()) {
      record.unused[path] = pictures.problem;
      if (pictures.is_camera && found.bad_camera.empty())
        found.bad_camera = concat(array.where(), ": ", pictures.problem);
    } else if (!pictures.pictures && state_width(array)) {
      found.arrays.emplace_back(name, std::move(array));
    } else {
      record.unused[path] = concat(array.describe(), one_for_all ? ", one picture for all steps" : "");
    }
  }
  return found;
}

void DemoFile::read_observations(const Group& demo, Demo& out) const {
  EpisodeRecord& record = out.record;
  const int64_t steps = record.num_steps();
  APO_CHECK(DataError, demo.has("obs") || !demo.has("states"), demo.where("obs"),
            ": expected a group, found nothing: the file "
            "holds the simulator's states and no observations; render them first (robomimic's "
            "dataset_states_to_obs.py)");
  Candidates found = find_candidates(demo.group("obs"), steps, record);
  if (!found.all_have(steps) && !found.all_have(steps + 1))
    std::erase_if(found.arrays, [&](const auto& a) {
      if (!constants().contains(a.first)) return false;
      record.unused["obs/" + a.first] = concat(a.second.describe(), ", not one row for each action");
      return true;
    });
  // the observation after the last action is there, too; ours are never written so
  const bool one_more =
      reading_.format != TrajectoryFormat::apo && found.any_has(steps + 1) && !found.any_has(steps);
  for (auto& [name, array] : found.arrays) {
    const auto pictures = found.pictures.find(name);
    const bool is_camera = pictures != found.pictures.end();
    if (!has_rows(array, one_more ? steps + 1 : steps)) {
      const std::string problem =
          concat("expected ", steps, " rows, one for each action, found ", array.describe());
      record.unused["obs/" + name] = problem;
      if (is_camera && found.bad_camera.empty()) found.bad_camera = concat(array.where(), ": ", problem);
    } else if (is_camera) {
      read_camera(std::move(array), name, pictures->second, out);
    } else {
      read_state(array, name, out);
    }
  }
  APO_CHECK(DataError, !record.cameras.empty() || found.bad_camera.empty(), found.bad_camera);
  if (one_more && !warned_of_last_row_.exchange(true))
    log_warn(demo.where("obs"),
             ": one row more than actions; the observation after the last action is not used");
}

void DemoFile::read_camera(Array array, const std::string& name, const StoredPictures& stored,
                           Demo& out) const {
  EpisodeRecord& record = out.record;
  const std::string camera = camera_name(name);
  if (const auto other = out.cameras.find(camera); other != out.cameras.end()) {
    APO_CHECK(DataError, stored.encoded && !other->second.stored.encoded, array.where(),
              ": a second array for camera ", camera);
    // kept beside the pictures themselves
    record.unused["obs/" + name] = concat(array.describe(), ", a second array for camera ", camera);
    return;
  }
  Camera& entry = out.cameras.emplace(camera, Camera{name, std::move(array), stored}).first->second;
  record.cameras[camera] = stored.size;
  const Group demo = data_.group(record.name);
  if (const std::string hash = picture_hash_name(name); demo.has(hash)) {
    const Array hashes = demo.array(hash);
    hashes.expect(Kind::integer, 1, "a hash for each picture [S]");
    expect_length(hashes, record.num_steps());
    entry.hashes = hashes.integers();
  }
  if (const std::string remark = stored.remark(); !remark.empty()) record.remarks["obs/" + name] = remark;
}

// A state that cannot be used is an error only for who asks for it.
void DemoFile::read_state(const Array& array, const std::string& name, Demo& out) const {
  EpisodeRecord& record = out.record;
  State state{state_width(array).value(), {}};
  try {
    const int64_t numbers = array.shape()[0] * state.width;
    if (array.is_written() || numbers > kLargestUnwritten) {
      state.values = array.floats();
      state.values.resize(static_cast<size_t>(record.num_steps() * state.width));
      expect_state_finite(state.values, state.width, array.where());
    } else {
      state.values.assign(static_cast<size_t>(numbers), array.fill());
      record.remarks["obs/" + name] = kUnwritten;
    }
  } catch (const DataError& error) {
    record.unused["obs/" + name] = concat(array.describe(), ", ", without_place(error.what(), array));
    return;
  }
  record.states[name] = state.width;
  out.states.emplace(name, std::move(state));
}

const std::set<std::string>& DemoFile::constants() const {
  if (!constants_) constants_ = find_constants();
  return *constants_;
}

// Numbers that belong to no step, e.g. the calibration of a camera: in most episodes of the file they have
// another number of rows than the actions. What is one row off everywhere was meant to be a quantity of the
// steps, and so are pictures of any length.
std::set<std::string> DemoFile::find_constants() const {
  std::map<std::string, int64_t> votes;  // > 0: more episodes where it is of a step
  for (const std::string& name : demo_names()) {
    try {
      const Group demo = data_.group(name);
      const std::vector<int64_t> actions = demo.array("actions").shape();
      const Group observations = demo.group("obs");
      for (const std::string& observation : observations.names()) {
        if (observations.is_group(observation)) continue;
        const Array array = observations.array(observation);
        if (!state_width(array) || may_be_pictures(observation, array)) continue;
        const bool fits = has_rows(array, actions.at(0)) || has_rows(array, actions.at(0) + 1) ||
                          has_rows(array, actions.at(0) - 1);
        votes[observation] += fits ? 1 : -1;
      }
    } catch (const Interrupted&) {
      throw;
    } catch (const std::exception&) {  // told when that episode is read
    }
  }
  std::set<std::string> constants;
  std::string all;
  for (const auto& [name, balance] : votes) {
    if (balance >= 0) continue;
    constants.insert(name);
    append_item(all, ", ", name);
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

Observation DemoFile::observation(int64_t episode, int64_t timestep,
                                  const std::vector<std::string>& cameras) const {
  Observation observation = state(episode, timestep);
  const auto demo = demos_.at(episode);
  // the library's lock is held while bytes are read, not while they are decoded
  for (const auto& [name, camera] : demo->cameras) {
    if (!is_wanted(name, cameras)) continue;
    const at::Tensor image = read_picture(camera.array, camera.stored, timestep);
    if (!camera.hashes.empty())
      check_picture(image, camera.hashes.at(static_cast<size_t>(timestep)), camera.array.where(), timestep);
    observation.images[name] = turned(image, orientation_);
  }
  return observation;
}

std::vector<std::pair<std::string, std::string>> DemoFile::attributes() const {
  hdf5::Session session;
  auto attributes = data_.attributes();
  if (root_.has("mask") && root_.is_group("mask")) {  // robomimic's lists of demonstrations
    std::string keys;
    for (const std::string& key : root_.group("mask").names()) append_item(keys, ", ", key);
    if (!keys.empty()) attributes.emplace_back("filter_keys", keys);
  }
  const nlohmann::json environment = json_attribute(data_, "env_args");
  if (const auto name = json_entry(environment, "env_name"))
    attributes.emplace_back("environment_name", *name);
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

bool is_wanted(const std::string& camera, const std::vector<std::string>& cameras) {
  return cameras.empty() || std::find(cameras.begin(), cameras.end(), camera) != cameras.end();
}

at::Tensor turned(const at::Tensor& image, ImageOrientation orientation) {
  switch (orientation) {
    case ImageOrientation::automatic:
    case ImageOrientation::as_stored:
      return image;
    case ImageOrientation::flipped:
      return image.flip({0});
    case ImageOrientation::rotated:
      return image.flip({0, 1});
  }
  return image;
}

void expect_state_finite(const std::vector<float>& values, int64_t width, const std::string& where) {
  for (size_t i = 0; i < values.size(); ++i)
    APO_CHECK(DataError, std::isfinite(values[i]), where, " row ", i / static_cast<size_t>(width),
              ": expected finite numbers, found ", values[i]);
}

}  // namespace apo::data
