#include "deploy/existing_recording.h"

#include <system_error>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/data/recovery.h"
#include "apo/deploy/outputs.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;

CollectionSummary take_up(const fs::path& output) {
  CollectionSummary summary;
  const fs::path path = summary_path(output);
  if (fs::exists(path)) summary = CollectionSummary::from_json(read_file(path), path.string());
  const auto file = data::TrajectoryFile::open(output, data::TrajectoryFormat::apo);
  APO_CHECK(DataError, file->num_episodes() >= summary.recorded, output.string(), ": expected at least the ",
            summary.recorded, " episodes that ", path.string(), " speaks of, found ", file->num_episodes());
  for (int64_t i = summary.recorded; i < file->num_episodes(); ++i) count_record(file->episode(i), summary);
  log_info("appending to ", output.string(), ": ", summary.recorded, " episodes, ", summary.take_overs,
           " take-overs");
  return summary;
}

// RunError if another process records into `output` right now.
void check_not_in_use(const fs::path& output) {
  try {
    const data::TrajectoryWriter probe(output, {});
  } catch (const DataError&) {  // not ours, so nobody of ours writes it
  }
}

}  // namespace

fs::path summary_path(const fs::path& output) { return output.string() + ".json"; }

void count_record(const data::EpisodeRecord& record, CollectionSummary& summary) {
  ++summary.recorded;
  if (record.outcome == kInterruptedEpisode) {
    ++summary.interrupted;
    for (const ActionSource source : record.sources) ++summary.steps[std::string(to_string(source))];
    return;
  }
  ++summary.episodes;
  bool corrected = false, was_human = false;
  std::vector<std::string>& reasons = summary.take_overs_by_episode.emplace_back();
  for (int64_t t = 0; t < record.num_steps(); ++t) {
    const ActionSource source = record.sources[static_cast<size_t>(t)];
    const bool human = source == ActionSource::intervention;
    if (human && !was_human) {
      const data::RecordedTakeOver* take_over = data::find_take_over(record, t);
      ++summary.take_overs;
      reasons.push_back(take_over != nullptr ? take_over->reason : "unknown");
      ++summary.take_overs_by_reason[reasons.back()];
    }
    if (!human && was_human) ++summary.hand_backs;
    corrected |= human;
    was_human = human;
    ++summary.steps[std::string(to_string(source))];
  }
  const bool success = record.success.value_or(false);
  ++(success ? (corrected ? summary.corrected : summary.alone) : summary.lost);
  ++summary.outcomes[record.outcome.empty() ? "unknown" : record.outcome];
}

CollectionSummary prepare_output(const fs::path& output, ExistingFile existing) {
  check_recording(output);
  if (!fs::exists(output)) {
    std::error_code ignored;
    fs::remove(summary_path(output), ignored);
    return {};
  }
  // its seed is played again
  if (existing == ExistingFile::append && fs::is_regular_file(output) &&
      data::drop_unfinished_episode(output))
    log_warn(output.string(),
             ": the last recording was killed in the middle of an episode; that one is dropped");
  // a recording that goes on is told as such, whatever was asked for
  if (fs::exists(output.string() + ".journal")) check_not_in_use(output);
  APO_CHECK(
      ConfigError, existing != ExistingFile::refuse, output.string(),
      ": exists already; expected a new file, or --set deploy.collect.existing=append or =overwrite (for "
      "demonstrations deploy.demonstrations.existing)");
  if (existing == ExistingFile::append) return take_up(output);
  std::error_code error;
  fs::remove(output, error);
  APO_CHECK(RunError, !error, output.string(), ": cannot remove: ", error.message());
  fs::remove(summary_path(output), error);
  return {};
}

}  // namespace apo::deploy
