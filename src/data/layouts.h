// The layouts behind TrajectoryFile, and the one place that writes an episode in ours.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apo/data/trajectory.h"
#include "data/hdf5.h"

namespace apo::data {

/// The version of our layout that we write; larger ones are refused.
inline constexpr int64_t kSchemaVersion = 1;
inline constexpr const char* kSchemaAttribute = "apo_schema_version";

/// data/demo_N with one array a quantity: ours and robomimic's relatives. `format` is not automatic.
std::shared_ptr<TrajectoryFile> open_demos(hdf5::Group root, const std::filesystem::path& path,
                                           TrajectoryFormat format, const std::string& instruction);
/// One group a timestep: the released APO layouts.
std::shared_ptr<TrajectoryFile> open_timesteps(hdf5::Group root, const std::filesystem::path& path,
                                               TrajectoryFormat format, const std::string& instruction);

/// Writes data/demo_`number`. `recorded` (empty = all) marks steps that training leaves out (action_source -1).
void write_episode(hdf5::Group& data, int64_t number, const Episode& episode, const std::string& policy_hash,
                   const std::vector<bool>& recorded = {});
/// The episode without its pictures.
EpisodeRecord record_of(const Episode& episode, const std::string& name);
/// The attributes of `data` in our layout: schema version, env_args, policy, policy_hash; total is 0.
void write_info(hdf5::Group& data, const TrajectoryInfo& info);

/// [Y, X, 3] uint8 from row `row` of `array` (from all of it if `row` < 0); `flip` turns it upside down.
at::Tensor read_image(const hdf5::Array& array, int64_t row, bool flip = false);
/// "agentview_image", "agentview_rgb" -> "agentview"; other names stay.
std::string camera_name(const std::string& dataset);
/// DataError unless the last three dimensions of `array` are a picture of uint8 RGB; `rank` is 3 or 4.
void expect_image(const hdf5::Array& array, size_t rank);
/// DataError for NaN or infinite numbers, naming the row.
void expect_state_finite(const std::vector<float>& values, int64_t width, const std::string& where);

}  // namespace apo::data
