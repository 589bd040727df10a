// Recorded data from one layout to another, and a list of what had no place there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apo/data/dataset.h"

namespace apo::audit {

/// What a conversion wrote, and what it could not take along.
struct Conversion {
  std::vector<std::filesystem::path> written;
  int64_t num_episodes = 0, num_steps = 0;
  /// "data/demo_*/next_obs" or "attribute data/model_file" -> in how many episodes (or files).
  std::map<std::string, int64_t> left_out;
};

/// Writes the episodes of every source, in their order, to another layout: `apo` (ours: one file),
/// `robomimic` (one file without our additions), `released-demo` (one file, one group a timestep) or
/// `released-interaction` (one file an episode, `out` is a directory). Pictures lie upright in what is
/// written, wherever their source says how they lay; episodes of ours and robomimic's are numbered anew from
/// demo_0.
///
/// Actions are those that were recorded: no gripper is recoded, whatever the sources and the policy say of
/// its coding.
/// Nothing is lost silently: arrays, groups and attributes that the new layout has no place for are listed.
/// Reads one episode at a time; what was written before an error is removed.
/// Errors  ConfigError if there is no source, `to` is another layout, `out` exists or is of the wrong kind (a
///         file name ends in .hdf5 or .h5); DataError as TrajectoryFile::open, for episodes that do not fit
///         the new layout (another action size or set of cameras than the first in ours and robomimic's;
///         several instructions in one released-demo file are listed as left out).
Conversion convert(const data::DataOptions& options, data::TrajectoryFormat to,
                   const std::filesystem::path& out);

/// A table for people.
std::string to_text(const Conversion& conversion);

}  // namespace apo::audit
