#include "apo/deploy/outputs.h"

#include "apo/base/files.h"
#include "apo/base/output.h"
#include "apo/data/recovery.h"
#include "base/paths.h"
#include "deploy/existing_recording.h"
#include "results/file_names.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResultsBegin = "{\n  \"provenance\"";

bool is_plain(const fs::path& path) { return fs::is_regular_file(status_of(path)); }

// True where `read` understands the file.
template <class Read>
bool is_ours(const fs::path& path, Read&& read) {
  if (!is_plain(path)) return false;
  try {
    read(read_file(path));
    return true;
  } catch (const DataError&) {
    return false;
  }
}

void make_directory_of(const fs::path& output) {
  APO_CHECK(ConfigError, !output.empty() && output.has_filename(),
            "output: expected the path of an HDF5 file, found \"", output.string(), "\"");
  make_directory(parent_of(output));
}

}  // namespace

void check_results_directory(const fs::path& directory) {
  std::error_code ignored;
  APO_CHECK(ConfigError, !fs::exists(directory, ignored) || fs::is_directory(directory, ignored),
            directory.string(),
            ": expected a directory for results.json (--output, or below run.dir), found a file");
  make_directory(directory);
  const fs::path table = directory / "disruptions.md";
  bool has_table = false;
  for (const char* name : {results::kResultsFile, "interrupted.json"}) {
    const fs::path results = directory / name;
    const bool ours = is_ours(results, [&](const std::string& text) {
      has_table |=
          !EvalResult::from_json(text, results.string()).disruptions.empty() && results.stem() == "results";
    });
    APO_CHECK(ConfigError, ours || !lies_there(results), results.string(),
              ": would be replaced, and is not the result of an evaluation; choose another --output");
  }
  APO_CHECK(ConfigError, !lies_there(table) || (has_table && is_plain(table)), table.string(),
            ": would be replaced or removed, and no results.json beside it speaks of disruptions; choose "
            "another --output");
  check_kind("--output", table.string() + ".partial", text_beginning("an earlier table", "|"));
  for (const std::string& name : names_in(directory))
    if (name.find("trial-") != std::string::npos &&
        (name.ends_with(".webp") || name.ends_with(".webp.partial")))
      check_kind("--output", directory / name, webp_picture());
  check_kind("--output", directory / "interrupted.json.partial", begun_like(EvalResult().json()));
  check_kind("--output", directory / concat(results::kResultsFile, ".partial"), begun_like(kResultsBegin));
  check_writable(directory / results::kResultsFile, begun_like(kResultsBegin));
}

void check_recording(const fs::path& output) {
  make_directory_of(output);
  const fs::path summary = summary_path(output), journal = output.string() + ".journal";
  const bool exists = lies_there(output);
  APO_CHECK(ConfigError, !exists || is_plain(output), output.string(),
            ": expected a file, found something else (links are not followed)");
  APO_CHECK(ConfigError, !exists || data::is_own_recording(output), output.string(),
            ": exists already, and is no recording of ours, so it is neither replaced nor appended to; "
            "choose another name");
  const bool ours = is_ours(
      summary, [&](const std::string& text) { CollectionSummary::from_json(text, summary.string()); });
  APO_CHECK(ConfigError, ours || !lies_there(summary), summary.string(),
            ": would be replaced by the summary of ", output.filename().string(),
            ", and is none; choose another name");
  APO_CHECK(ConfigError, !lies_there(journal) || is_plain(journal), journal.string(),
            ": expected a file, found something else (links are not followed)");
  const int64_t left = exists || !lies_there(journal) ? 0 : data::num_finished_in_journal(output);
  APO_CHECK(ConfigError, left == 0, journal.string(), ": holds ", left,
            " finished episodes of a recording whose file, ", output.filename().string(),
            ", is gone; put the file back beside it, or remove the journal");
  check_kind("--output", summary.string() + ".partial", begun_like(CollectionSummary().json()));
  check_kind("--output", output.string() + ".partial", hdf5_file());
  check_writable(output);
}

}  // namespace apo::deploy
