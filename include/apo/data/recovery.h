// What a recording that was killed leaves behind.
#pragma once

#include <cstdint>
#include <filesystem>

namespace apo::data {

/// Removes the episode that never ended from what a stopped recording left beside the trajectory file `path`,
/// so that neither readers nor the next writer see it; returns whether there was one. Finished episodes stay.
/// Without this call it is kept as far as it went, as a failed one (success false, outcome "interrupted").
/// RunError if another process is writing the file.
bool drop_unfinished_episode(const std::filesystem::path& path);

/// Copies the finished episodes of a recording to `to` and, for those that wait beside it, the journal of
/// `to`; what lay there is replaced. Nobody may write `from` meanwhile. RunError naming both files where that
/// cannot be done.
void copy_recording(const std::filesystem::path& from, const std::filesystem::path& to);

/// True for a trajectory file of our own layout that a recording wrote or a conversion made; false for
/// anything else.
bool is_own_recording(const std::filesystem::path& path);

/// Finished episodes in what a stopped recording left beside the trajectory file `path`. DataError if that is
/// no journal.
int64_t num_finished_in_journal(const std::filesystem::path& path);

}  // namespace apo::data
