// The layouts of the released APO code: one group a timestep.
//
//   released-demo         /demo_N/timestep_T/{action [A], third_obs [Y, X, 3]}, no instruction in the file
//   released-interaction  /data/task_description, /data/timestep_T/{action, third_obs, is_human}, one episode
//                         a file
//
// Source  released dataset/balance_apo_dataset.py.
// Differs the released loader leaves out the last timestep of every demonstration (it counts keys minus
//         one); here all are read.
#include <torch/types.h>

#include <algorithm>
#include <map>

#include "apo/base/error.h"
#include "data/layouts.h"
#include "data/stored_pictures.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

constexpr std::string_view kImageEnd = "_obs";

struct TimestepEpisode {
  EpisodeRecord record;
  std::vector<std::string> groups;                // path of each timestep
  std::map<std::string, StoredPictures> cameras;  // "third" is stored as third_obs
};

// timestep_T in order of T. A gap means that steps are lost, and with them who took over when.
std::vector<std::string> timestep_names(const Group& group) {
  std::vector<std::string> names = group.names();
  std::erase_if(names, [](const std::string& name) {
    return !name.starts_with("timestep_") || name.size() == 9 || name.size() > 18 ||
           name.find_first_not_of("0123456789", 9) != std::string::npos;
  });
  APO_CHECK(DataError, !names.empty(), group.where(),
            ": expected groups timestep_0, timestep_1, ..., found none");
  const auto number = [](const std::string& name) {
    return whole_number(std::string_view(name).substr(9)).value();
  };
  const int64_t first = number(names[0]);
  for (size_t i = 0; i < names.size(); ++i)
    APO_CHECK(DataError, number(names[i]) == first + static_cast<int64_t>(i), group.where(),
              ": expected timestep_", first + static_cast<int64_t>(i), ", found ", names[i]);
  return names;
}

Action read_action(const Array& array, size_t size) {
  array.expect(Kind::floating, 1, "a floating-point action [A]");
  Action action = array.floats();
  APO_CHECK(DataError, !action.empty() && action.size() <= 4096 && (size == 0 || action.size() == size),
            array.where(), ": expected ",
            size ? concat(size, " numbers as in the first timestep") : "an action [A]", ", found ",
            array.describe());
  return action;
}

int64_t read_is_human(const Array& array) {
  const bool scalar = array.shape().empty() || (array.shape().size() == 1 && array.shape()[0] == 1);
  APO_CHECK(DataError, scalar && (array.kind() == Kind::integer || array.kind() == Kind::floating),
            array.where(), ": expected 0 (skip), 1 (human) or 2 (policy), found ", array.describe());
  const float value = array.floats().at(0);
  APO_CHECK(DataError, value == 0 || value == 1 || value == 2, array.where(),
            ": expected 0 (skip), 1 (human) or 2 (policy), found ", value);
  return static_cast<int64_t>(value);
}

// What the first timestep shows; what of it is not read goes into the record.
std::map<std::string, StoredPictures> find_cameras(const Group& timestep, EpisodeRecord& record) {
  std::map<std::string, StoredPictures> cameras;
  std::string bad_camera;
  for (const std::string& name : timestep.names()) {
    if (name == "action" || name == "is_human") continue;
    const std::string path = concat("timestep_*/", name);
    if (timestep.is_group(name)) {
      record.unused[path] = "a group";
      continue;
    }
    const Array array = timestep.array(name);
    record.unused[path] = array.describe();
    if (name.size() <= kImageEnd.size() || !name.ends_with(kImageEnd)) continue;
    const std::string camera = name.substr(0, name.size() - kImageEnd.size());
    const PictureFinding found = find_pictures(camera + "_image", array, false, true);
    if (!found.pictures) {
      if (!found.problem.empty()) record.unused[path] = found.problem;
      if (found.is_camera && bad_camera.empty()) bad_camera = concat(array.where(), ": ", found.problem);
      continue;
    }
    record.unused.erase(path);
    if (const std::string remark = found.pictures->remark(); !remark.empty()) record.remarks[path] = remark;
    cameras.emplace(camera, *found.pictures);
  }
  APO_CHECK(DataError, !cameras.empty(), bad_camera.empty() ? timestep.where("third_obs") : bad_camera,
            bad_camera.empty() ? ": expected a dataset, found nothing" : "");
  return cameras;
}

// Every timestep must store its pictures as the first one does.
void expect_as_first(const Array& array, const std::string& camera, const StoredPictures& first) {
  const PictureFinding found = find_pictures(camera + "_image", array, false, true);
  APO_CHECK(DataError, found.problem.empty(), array.where(), ": ", found.problem);
  APO_CHECK(DataError, found.pictures && found.pictures->size == first.size, array.where(),
            ": expected the first timestep's size ", first.size.height, "x", first.size.width, ", found ",
            array.describe());
  APO_CHECK(DataError,
            found.pictures->encoded == first.encoded && found.pictures->floating == first.floating &&
                found.pictures->channels_first == first.channels_first &&
                found.pictures->alpha == first.alpha,
            array.where(), ": expected pictures stored as in the first timestep, found ", array.describe());
}

// Of the cameras, those that every timestep so far stores alike; the last one of them must.
void keep_as_first(const Group& timestep, std::map<std::string, StoredPictures>& cameras,
                   EpisodeRecord& record) {
  for (auto camera = cameras.begin(); camera != cameras.end();) {
    const std::string name = camera->first + std::string(kImageEnd);
    try {
      expect_as_first(timestep.array(name), camera->first, camera->second);
      ++camera;
    } catch (const DataError& error) {
      if (cameras.size() == 1) throw;
      record.unused[concat("timestep_*/", name)] = error.what();
      record.remarks.erase(concat("timestep_*/", name));
      camera = cameras.erase(camera);
    }
  }
}

class TimestepFile : public TrajectoryFile {
 public:
  TimestepFile(Group root, const fs::path& path, const Reading& reading);

  const fs::path& path() const override { return path_; }
  TrajectoryFormat format() const override { return reading_.format; }
  int64_t num_episodes() const override { return episodes_.size(); }
  EpisodeRecord episode(int64_t index) const override { return episodes_.at(index)->record; }
  Observation observation(int64_t episode, int64_t timestep,
                          const std::vector<std::string>& cameras) const override;
  Observation state(int64_t episode, int64_t timestep) const override {
    const auto kept = episodes_.at(episode);
    APO_ASSERT(timestep >= 0 && timestep < kept->record.num_steps());
    return {.images = {}, .state = {}, .instruction = kept->record.instruction};
  }
  std::vector<std::pair<std::string, std::string>> attributes() const override { return root_.attributes(); }
  std::vector<std::string> left_out() const override { return left_out_; }

 private:
  std::vector<std::string> episode_names();
  TimestepEpisode read_episode(const std::string& name) const;

  fs::path path_;
  Reading reading_;
  Group root_;
  std::vector<std::string> left_out_;
  Episodes<TimestepEpisode> episodes_;
};

// "wipe_the_table" -> "wipe the table"
std::string read_instruction(const Group& root, const Reading& reading) {
  if (!reading.instruction.empty()) return reading.instruction;
  APO_CHECK(DataError, reading.format == TrajectoryFormat::released_interaction, root.file(),
            ": this layout stores no instruction; give one with the option `instruction` of its data source");
  std::string text = root.group("data").array("task_description").text();
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

TimestepFile::TimestepFile(Group root, const fs::path& path, const Reading& reading)
    : path_(path),
      reading_{reading.format, read_instruction(root, reading), reading.orientation, reading.lazily},
      root_(std::move(root)),
      episodes_(episode_names(), reading.lazily,
                [this](const std::string& name) { return read_episode(name); }) {}

std::vector<std::string> TimestepFile::episode_names() {
  if (reading_.format == TrajectoryFormat::released_interaction) return {"data"};
  std::vector<std::string> names = root_.names();
  std::erase_if(names, [this](const std::string& name) {
    if (!root_.is_group(name)) return true;
    const bool other = !name.starts_with("demo_"), empty = !other && root_.group(name).names().empty();
    if (other) left_out_.push_back(name + ": a group that is not named demo_N");
    if (empty) left_out_.push_back(name + ": no step");
    return other || empty;
  });
  APO_CHECK(DataError, !names.empty(), root_.where(), ": expected groups demo_0, demo_1, ..., found none");
  return names;
}

TimestepEpisode TimestepFile::read_episode(const std::string& name) const {
  hdf5::Session session;
  const Group group = root_.group(name);
  TimestepEpisode episode;
  EpisodeRecord& record = episode.record;
  record.name = name;
  record.instruction = reading_.instruction;
  const bool interaction = reading_.format == TrajectoryFormat::released_interaction;
  for (const std::string& step : timestep_names(group)) {
    const Group timestep = group.group(step);
    if (episode.groups.empty()) episode.cameras = find_cameras(timestep, record);
    record.actions.push_back(
        read_action(timestep.array("action"), record.actions.empty() ? 0 : record.actions[0].size()));
    const int64_t is_human = interaction ? read_is_human(timestep.array("is_human")) : -1;
    record.recorded.push_back(is_human != 0);
    record.sources.push_back(!interaction    ? ActionSource::expert
                             : is_human == 1 ? ActionSource::intervention
                                             : ActionSource::policy);
    keep_as_first(timestep, episode.cameras, record);
    episode.groups.push_back(name + "/" + step);
  }
  for (const auto& [camera, stored] : episode.cameras) {
    record.observation_names.push_back(camera);
    record.cameras[camera] = stored.size;
  }
  record.desirable.assign(record.actions.size(), std::nullopt);
  record.policy_actions.assign(record.actions.size(), std::nullopt);
  record.decision_offsets.assign(record.actions.size(), std::nullopt);
  return episode;
}

Observation TimestepFile::observation(int64_t index, int64_t timestep,
                                      const std::vector<std::string>& cameras) const {
  Observation observation = state(index, timestep);
  const auto episode = episodes_.at(index);
  for (const auto& [camera, stored] : episode->cameras) {
    if (!is_wanted(camera, cameras)) continue;
    const Array array =
        root_.array(episode->groups[static_cast<size_t>(timestep)] + "/" + camera + std::string(kImageEnd));
    observation.images[camera] = turned(read_picture(array, stored, -1), reading_.orientation);
  }
  return observation;
}

}  // namespace

std::shared_ptr<TrajectoryFile> open_timesteps(Group root, const fs::path& path, const Reading& reading) {
  hdf5::Session session;
  return std::make_shared<TimestepFile>(std::move(root), path, reading);
}

}  // namespace apo::data
