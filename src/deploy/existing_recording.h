// The output file of a collection and the summary beside it, started fresh or taken up again.
#pragma once

#include <filesystem>
#include <string_view>

#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"

namespace apo::deploy {

/// The outcome of an episode that was lost before its end.
inline constexpr std::string_view kInterruptedEpisode = "interrupted";

/// Where the summary of `output` is kept: output + ".json".
std::filesystem::path summary_path(const std::filesystem::path& output);

/// Makes the directory of `output`, then refuses, removes or reads what is there. Returns the summary so far
/// (empty for a fresh file). Episodes that reached the file but not the summary (a crash between the two) are
/// counted from the file.
CollectionSummary prepare_output(const std::filesystem::path& output, ExistingFile existing);

/// Adds what a recorded episode says to the summary; of an interrupted one only its steps and that it was.
void count_record(const data::EpisodeRecord& record, CollectionSummary& summary);

}  // namespace apo::deploy
