// What a recording that was killed leaves behind.
#pragma once

#include <filesystem>

namespace apo::data {

/// Removes the episode that never ended from what a stopped recording left beside the trajectory file `path`, so that
/// neither readers nor the next writer see it; returns whether there was one. Finished episodes stay. Without this call
/// it is kept as far as it went, as a failed one (success false, outcome "interrupted").
/// RunError if another process is writing the file.
bool drop_unfinished_episode(const std::filesystem::path& path);

}  // namespace apo::data
