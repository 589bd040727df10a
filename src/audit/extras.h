// What a recording holds of its steps besides what TrajectoryFile gives: for programs that copy episodes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "audit/names.h"
#include "data/journal.h"
#include "data/layouts.h"

namespace apo::audit {

struct Extras {
  std::vector<float> rewards, dones;  ///< [S]; empty = none
  std::string policy_hash;            ///< of the episode, or else of the file
  /// "rewards", "dones" that are there, but not one number for each action
  std::vector<std::string> of_another_shape;
};

class ExtrasReader {
 public:
  explicit ExtrasReader(const TrajectoryFile& file);
  /// The group `data`; null for the layouts with one group a timestep, which have no extras.
  const hdf5::Group* data() const { return data_ ? &*data_ : nullptr; }
  /// From data/demo_N, or from the journal if only that holds the episode.
  Extras read(const EpisodeRecord& record) const;

 private:
  std::vector<JournalEpisode> journal_;
  std::optional<hdf5::Group> data_;
  std::string policy_hash_;
};

/// One whole episode, pictures and extras included. Without stored `dones` the last step ends the episode.
Episode read_episode(const TrajectoryFile& file, int64_t index, const EpisodeRecord& record,
                     const Extras& extras);

}  // namespace apo::audit
