// The layouts behind TrajectoryFile, and the one place that writes an episode in ours.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apo/data/trajectory.h"
#include "data/hdf5.h"

namespace apo::data {

/// The version of our layout that we write; larger ones are refused.
inline constexpr int64_t kSchemaVersion = 2;
inline constexpr const char* kSchemaAttribute = "apo_schema_version";
/// Arrays [N] of an episode with N take-overs whose reason is known: the human's first step, the text, and
/// the first step at which it held.
inline constexpr const char* kTakeOverTimestep = "take_over_timestep";
inline constexpr const char* kTakeOverReason = "take_over_reason";
inline constexpr const char* kTakeOverSince = "take_over_since";
inline constexpr size_t kLongestReason = 1000;
/// HDF5 keeps attributes below 64 KiB only.
inline constexpr size_t kLongestAttribute = 60000;

/// How a file is read. `format` is not automatic.
struct Reading {
  TrajectoryFormat format = TrajectoryFormat::automatic;
  std::string instruction = {};
  ImageOrientation orientation = ImageOrientation::automatic;
  /// each episode when it is asked for, and only the last one kept: errors come then, too
  bool lazily = false;
};

/// data/demo_N with one array a quantity: ours and robomimic's relatives.
std::shared_ptr<TrajectoryFile> open_demos(hdf5::Group root, const std::filesystem::path& path,
                                           const Reading& reading);
/// One group a timestep: the released APO layouts.
std::shared_ptr<TrajectoryFile> open_timesteps(hdf5::Group root, const std::filesystem::path& path,
                                               const Reading& reading);
/// TrajectoryFile::open, perhaps lazily, for going through a file once in little memory.
std::shared_ptr<TrajectoryFile> open_trajectories(const std::filesystem::path& path, Reading reading);

/// The episodes of a file: all read at once, or each when it is asked for with the last one kept.
/// Thread-safe.
template <class E>
class Episodes {
 public:
  Episodes() = default;
  Episodes(std::vector<std::string> names, bool lazily, std::function<E(const std::string& name)> read)
      : names_(std::move(names)), read_(std::move(read)) {
    if (lazily) return;
    for (const std::string& name : names_) all_.push_back(std::make_shared<const E>(read_(name)));
  }
  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  const std::string& name(int64_t index) const { return names_.at(static_cast<size_t>(index)); }
  std::shared_ptr<const E> at(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    if (!all_.empty()) return all_.at(i);
    const std::scoped_lock lock(mutex_);
    if (index != kept_) {
      last_ = std::make_shared<const E>(read_(names_.at(i)));
      kept_ = index;
    }
    return last_;
  }

 private:
  std::vector<std::string> names_;
  std::function<E(const std::string&)> read_;
  std::vector<std::shared_ptr<const E>> all_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const E> last_;
  mutable int64_t kept_ = -1;
};

/// Writes data/demo_`number`. `recorded` (empty = all) is false for steps that training leaves out
/// (action_source -1), `neither` (empty = none) true for those that belong to no pool (desirable -2). With
/// `images`, which is asked once for each step, the steps' own pictures are not looked at: so no more than
/// one step's are in memory. `playback`: one state for each step, or none.
using ImagesOfStep = std::function<std::map<std::string, at::Tensor>(size_t step)>;
void write_episode(hdf5::Group& data, int64_t number, const Episode& episode, const std::string& policy_hash,
                   const std::vector<bool>& recorded = {}, const std::vector<bool>& neither = {},
                   const ImagesOfStep& images = {}, const Playback& playback = {});
/// The episode without its pictures.
EpisodeRecord record_of(const Episode& episode, const std::string& name);
/// The attributes of `data` in our layout: schema version, env_args, policy, policy_hash; total is 0.
void write_info(hdf5::Group& data, const TrajectoryInfo& info);

/// True for the paths in an episode of what belongs to its observations: obs/NAME, timestep_*/NAME.
bool is_observation(std::string_view path);
/// Whether `cameras` names this one; empty: all.
bool is_wanted(const std::string& camera, const std::vector<std::string>& cameras);
/// The picture turned; automatic leaves it as stored.
at::Tensor turned(const at::Tensor& image, ImageOrientation orientation);
/// The group `data` of a file of data/demo_N; nothing for the layouts with one group a timestep.
std::optional<hdf5::Group> open_data_group(const TrajectoryFile& file);
/// "17" -> 17; nothing for other texts and for numbers beyond 2^63 - 1.
std::optional<int64_t> whole_number(std::string_view digits);
/// "demo_17" -> 17; nothing for other names.
std::optional<int64_t> episode_number(std::string_view name);
/// DataError for NaN or infinite numbers, naming the row.
void expect_state_finite(const std::vector<float>& values, int64_t width, const std::string& where);

}  // namespace apo::data
