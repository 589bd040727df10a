#include "apo/data/trajectory.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "apo/base/error.h"
#include "data/journal.h"
#include "data/layouts.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using hdf5::Group;

bool any_name(const Group& group, std::string_view begin) {
  for (const std::string& name : group.names())
    if (name.starts_with(begin)) return true;
  return false;
}

// What a data/demo_N file is: ours if it says so or records who acted, otherwise robomimic or a relative.
TrajectoryFormat detect_demos(const Group& data) {
  const auto attributes = data.attributes();
  const auto has_attribute = [&attributes](std::string_view name) {
    for (const auto& [key, value] : attributes)
      if (key == name) return true;
    return false;
  };
  if (has_attribute(kSchemaAttribute)) return TrajectoryFormat::apo;
  const bool from_libero = has_attribute("bddl_file_name") || has_attribute("macros_image_convention");
  for (const std::string& name : data.names()) {
    if (!name.starts_with("demo_")) continue;
    const Group demo = data.group(name);
    if (demo.has("action_source")) return TrajectoryFormat::apo;
    if (demo.has("action_modes")) return TrajectoryFormat::sirius;
    if (demo.has("datagen_info")) return TrajectoryFormat::mimicgen;
    // replayed LIBERO files carry no attributes
    if (from_libero || (demo.has("robot_states") && demo.has("obs") && demo.is_group("obs") &&
                        demo.group("obs").has("agentview_rgb")))
      return TrajectoryFormat::libero;
    break;
  }
  return TrajectoryFormat::robomimic;
}

TrajectoryFormat detect(const Group& root) {
  hdf5::Session session;
  if (root.has("data") && root.is_group("data")) {
    const Group data = root.group("data");
    if (any_name(data, "timestep_")) return TrajectoryFormat::released_interaction;
    if (any_name(data, "demo_") || data.integer_attribute(kSchemaAttribute)) return detect_demos(data);
  } else if (any_name(root, "demo_")) {
    return TrajectoryFormat::released_demo;
  }
  std::string found;
  const auto list = [&found](const Group& group) {
    const auto names = group.names();
    for (size_t i = 0; i < names.size() && i < 8; ++i)
      append_item(found, ", ", group.where(names[i]).substr(group.file().size() + 2));
    if (names.size() > 8) found += concat(", and ", names.size() - 8, " more");
  };
  list(root);
  if (root.has("data") && root.is_group("data")) list(root.group("data"));
  throw DataError(concat(
      root.file(), ": expected a known layout (/data/demo_N, /demo_N/timestep_T or /data/timestep_T), found ",
      found.empty() ? "an empty file" : found));
}

// A file of ours together with the episodes that its journal alone holds.
class JournaledFile : public TrajectoryFile {
 public:
  JournaledFile(std::shared_ptr<TrajectoryFile> file, std::vector<JournalEpisode> more,
                const Reading& reading)
      : file_(std::move(file)), more_(std::move(more)), orientation_(reading.orientation) {
    if (reading.instruction.empty()) return;
    for (JournalEpisode& e : more_) {
      e.episode.instruction = reading.instruction;
      for (Step& step : e.episode.steps) step.observation.instruction = reading.instruction;
    }
  }
  const fs::path& path() const override { return file_->path(); }
  TrajectoryFormat format() const override { return file_->format(); }
  int64_t num_episodes() const override { return file_->num_episodes() + static_cast<int64_t>(more_.size()); }
  EpisodeRecord episode(int64_t index) const override {
    if (index < file_->num_episodes()) return file_->episode(index);
    return record_of(at(index).episode, concat("demo_", at(index).number));
  }
  Observation observation(int64_t episode, int64_t timestep,
                          const std::vector<std::string>& cameras) const override {
    if (episode < file_->num_episodes()) return file_->observation(episode, timestep, cameras);
    const auto& steps = at(episode).episode.steps;
    APO_ASSERT(timestep >= 0 && timestep < static_cast<int64_t>(steps.size()));
    Observation observation = steps[static_cast<size_t>(timestep)].observation;
    std::erase_if(observation.images,
                  [&cameras](const auto& image) { return !is_wanted(image.first, cameras); });
    for (auto& [name, image] : observation.images) image = turned(image, orientation_).clone();
    return observation;
  }
  Observation state(int64_t episode, int64_t timestep) const override {
    if (episode < file_->num_episodes()) return file_->state(episode, timestep);
    Observation state = at(episode).episode.steps.at(static_cast<size_t>(timestep)).observation;
    state.images.clear();
    return state;
  }
  std::vector<std::string> left_out() const override { return file_->left_out(); }
  std::vector<std::pair<std::string, std::string>> attributes() const override {
    auto attributes = file_->attributes();
    for (auto& [key, value] : attributes) {
      const auto total = key == "total" ? whole_number(value) : std::nullopt;
      if (!total) continue;
      int64_t steps = *total;
      for (const JournalEpisode& e : more_) steps += static_cast<int64_t>(e.episode.steps.size());
      value = concat(steps);
    }
    return attributes;
  }

 private:
  const JournalEpisode& at(int64_t index) const {
    APO_ASSERT(index >= file_->num_episodes() && index < num_episodes());
    return more_[static_cast<size_t>(index - file_->num_episodes())];
  }
  std::shared_ptr<TrajectoryFile> file_;
  std::vector<JournalEpisode> more_;
  ImageOrientation orientation_;
};

}  // namespace

std::span<const std::pair<TrajectoryFormat, std::string_view>> enum_names(TrajectoryFormat) {
  using F = TrajectoryFormat;
  static constexpr std::array<std::pair<F, std::string_view>, 8> names{
      {{F::automatic, "auto"},
       {F::apo, "apo"},
       {F::released_demo, "released-demo"},
       {F::released_interaction, "released-interaction"},
       {F::robomimic, "robomimic"},
       {F::libero, "libero"},
       {F::mimicgen, "mimicgen"},
       {F::sirius, "sirius"}}};
  return names;
}

std::string_view to_string(TrajectoryFormat format) {
  for (const auto& [value, name] : enum_names(format))
    if (value == format) return name;
  return "unknown";
}

std::span<const std::pair<ImageOrientation, std::string_view>> enum_names(ImageOrientation) {
  using O = ImageOrientation;
  static constexpr std::array<std::pair<O, std::string_view>, 4> names{
      {{O::automatic, "auto"}, {O::as_stored, "as-stored"}, {O::flipped, "flip"}, {O::rotated, "rotate"}}};
  return names;
}

std::shared_ptr<TrajectoryFile> TrajectoryFile::open(const fs::path& path, TrajectoryFormat format,
                                                     const std::string& instruction,
                                                     ImageOrientation orientation) {
  return open_trajectories(path, {format, instruction, orientation, false});
}

std::shared_ptr<TrajectoryFile> open_trajectories(const fs::path& path, Reading reading) {
  // The journal first: an episode that moves into the file meanwhile is then seen twice, not missed.
  std::vector<JournalEpisode> journal = read_journal(journal_path(path));
  Group root = Group::open(path);
  if (reading.format == TrajectoryFormat::automatic) reading.format = detect(root);
  if (reading.format == TrajectoryFormat::released_demo ||
      reading.format == TrajectoryFormat::released_interaction)
    return open_timesteps(std::move(root), path, reading);
  auto file = open_demos(std::move(root), path, reading);
  if (journal.empty() || reading.format != TrajectoryFormat::apo) return file;
  int64_t next = 0;  // behind the last episode, one without steps among them
  for (const std::string& name : open_data_group(*file)->names())
    next = std::max(next, episode_number(name).value_or(-1) + 1);
  std::erase_if(journal, [next](const JournalEpisode& e) { return e.number < next; });
  if (journal.empty()) return file;
  APO_CHECK(DataError, journal[0].number == next, journal_path(path).string(), ": goes on at demo_",
            journal[0].number, ", expected demo_", next, " after what ", path.filename().string(),
            " holds; it belongs to another file");
  return std::make_shared<JournaledFile>(std::move(file), std::move(journal), reading);
}

const RecordedTakeOver* find_take_over(const EpisodeRecord& record, int64_t timestep) {
  const RecordedTakeOver* last = nullptr;
  for (const RecordedTakeOver& take_over : record.take_overs)
    if (take_over.timestep <= timestep) last = &take_over;
  if (last == nullptr) return nullptr;
  for (int64_t t = last->timestep; t <= timestep; ++t) {
    const auto i = static_cast<size_t>(t);
    if (record.recorded[i] && record.sources[i] != ActionSource::intervention) return nullptr;
  }
  return last;
}

bool is_observation(std::string_view path) {
  return path.starts_with("obs/") || path.starts_with("timestep_*/");
}

std::string unused_observations(const EpisodeRecord& record) {
  std::string text;
  for (const auto& [array, what] : record.unused)
    if (is_observation(array))
      text += concat(text.empty() ? concat("; not used of ", record.name, ": ") : "; ", array, ": ", what);
  return text;
}

std::optional<Group> open_data_group(const TrajectoryFile& file) {
  if (file.format() == TrajectoryFormat::released_demo ||
      file.format() == TrajectoryFormat::released_interaction)
    return std::nullopt;
  hdf5::Session session;
  return Group::open(file.path()).group("data");
}

std::optional<int64_t> whole_number(std::string_view digits) {
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc() || stop != end || number < 0) return std::nullopt;
  return number;
}

std::optional<int64_t> episode_number(std::string_view name) {
  constexpr std::string_view kBegin = "demo_";
  return name.starts_with(kBegin) ? whole_number(name.substr(kBegin.size())) : std::nullopt;
}

}  // namespace apo::data
