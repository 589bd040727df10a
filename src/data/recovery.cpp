#include "apo/data/recovery.h"

#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "data/hdf5.h"
#include "data/journal.h"
#include "data/layouts.h"

namespace apo::data {

bool is_own_recording(const std::filesystem::path& path) {
  try {
    hdf5::Group root = hdf5::Group::open(path);
    return root.has("data") && root.group("data").integer_attribute(kSchemaAttribute).has_value();
  } catch (const DataError&) {
    return false;
  }
}

int64_t num_finished_in_journal(const std::filesystem::path& path) {
  const std::vector<JournalEpisode> episodes = JournalReader(journal_path(path)).episodes();
  return std::ranges::count_if(episodes, [](const JournalEpisode& episode) { return episode.ended; });
}

}  // namespace apo::data
