#include <torch/types.h>

#include <map>
#include <set>

#include "apo/audit/inspect.h"
#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "audit/extras.h"
#include "base/paths.h"
#include "data/reading_process.h"
#include "data/seal.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kReplaceSeconds = 20;  // of a processor, and a second more for each 4 MiB

// 0 undesirable, 1 desirable (human corrections included), -2 neither, -1 where nothing was recorded.
std::vector<int8_t> codes_of(const Dataset& dataset, int32_t f, int32_t e) {
  std::vector<int8_t> codes;
  for (int32_t t = 0; t < dataset.record(f, e).num_steps(); ++t) {
    const StepLabel label = dataset.label({f, e, t}).label;
    const bool recorded = dataset.record(f, e).recorded[static_cast<size_t>(t)];
    codes.push_back(!recorded ? -1 : label == StepLabel::skipped ? -2 : label != StepLabel::undesirable);
  }
  return codes;
}

// A file of ours: all that it holds, with the labels replaced.
void copy_with_labels(const Dataset& dataset, int32_t f, const fs::path& out) {
  std::error_code error;
  fs::copy_file(dataset.file_path(f), out, fs::copy_options::overwrite_existing, error);
  if (error && fs::space(parent_of(out)).available < fs::file_size(dataset.file_path(f)))
    // some systems call it an input/output error
    error = std::make_error_code(std::errc::no_space_on_device);
  APO_CHECK(RunError, !error, out.string(), ": cannot write: ", error.message());
  fs::permissions(out, fs::perms::owner_write, fs::perm_options::add, error);
  hdf5::run_apart(
      [&] {
        hdf5::Group data = hdf5::Group::open_for_writing(out).group("data");
        for (int32_t e = 0; e < dataset.num_episodes(f); ++e) {
          hdf5::Group demo = data.group(dataset.episode_name(f, e));
          const std::vector<int8_t> codes = codes_of(dataset, f, e);
          if (demo.has("desirable")) demo.remove("desirable");
          demo.write("desirable", codes, {static_cast<int64_t>(codes.size())});
          seal_array(demo, "desirable");
        }
        data.flush();
      },
      out.string(), kReplaceSeconds + static_cast<int64_t>(fs::file_size(out) >> 22));
}

// The numbers of a file's episodes, where all have one and no two the same; otherwise they are counted anew.
std::vector<int64_t> numbers_of(const Dataset& dataset, int32_t f) {
  std::vector<int64_t> counted, numbers;
  for (int32_t e = 0; e < dataset.num_episodes(f); ++e) {
    counted.push_back(e);
    if (const auto number = episode_number(dataset.episode_name(f, e))) numbers.push_back(*number);
  }
  const std::set<int64_t> distinct(numbers.begin(), numbers.end());
  return distinct.size() == counted.size() ? numbers : counted;
}

// Another layout: what we read of it, in ours.
void rewrite_with_labels(const Dataset& dataset, int32_t f, const fs::path& out) {
  const TrajectoryFile& file = dataset.file(f);
  const ExtrasReader reader(file);
  TrajectoryInfo info;
  for (const auto& [key, value] : file.attributes()) {
    if (key == "environment_name") info.environment_name = value;
    if (key == "environment_config") info.environment_config = value;
    if (key == "policy") info.policy = value;
    if (key == "policy_hash") info.policy_hash = value;
  }
  hdf5::Group data = hdf5::Group::create(out).create_group("data");
  write_info(data, info);
  if (const auto environment = reader.data() ? reader.data()->text_attribute("env_args") : std::nullopt)
    if (environment->size() < kLongestAttribute) data.set_attribute("env_args", *environment);
  seal_info(data);
  const std::vector<int64_t> numbers = numbers_of(dataset, f);
  int64_t total = 0;
  for (int32_t e = 0; e < dataset.num_episodes(f); ++e) {
    const EpisodeRecord record = file.episode(e);  // as recorded, the gripper not recoded
    const std::vector<int8_t> codes = codes_of(dataset, f, e);
    const Extras extras = reader.read(record);
    for (const std::string& name : extras.of_another_shape)
      log_warn(file.path().string(), ": ", record.name, ": ", name,
               " are not one number for each action and are left out");
    Episode episode = read_episode(file, e, record, extras);
    std::vector<bool> neither;
    for (size_t t = 0; t < codes.size(); ++t) {
      episode.steps[t].desirable = codes[t] >= 0 ? std::optional(codes[t] == 1) : std::nullopt;
      neither.push_back(codes[t] == -2);
    }
    write_episode(data, numbers[static_cast<size_t>(e)], episode, extras.policy_hash, record.recorded,
                  neither);
    total += record.num_steps();
  }
  data.set_attribute("total", total);
  data.flush();
}

// Where the copy of each file goes.
std::vector<fs::path> targets(const Dataset& dataset, const fs::path& out) {
  if (hdf5::names_a_file(out)) {
    APO_CHECK(ConfigError, dataset.num_files() == 1, out.string(),
              ": expected a directory for the copies of ", dataset.num_files(),
              " files, found the name of a file");
    return {out};
  }
  std::vector<fs::path> paths;
  std::map<fs::path, fs::path> taken;
  for (int32_t f = 0; f < dataset.num_files(); ++f) {
    const fs::path& from = dataset.file_path(f);
    const auto [other, fresh] = taken.emplace(from.filename(), from);
    APO_CHECK(ConfigError, fresh, out.string(), ": ", from.string(), " and ", other->second.string(),
              " would have the same name there");
    paths.push_back(out / from.filename());
  }
  return paths;
}

}  // namespace

std::vector<fs::path> write_labels(const DataOptions& options, const fs::path& out) {
  const Dataset dataset(options);
  APO_CHECK(ConfigError, dataset.num_files() > 0, "no data to label: give data.expert or data.interactions");
  const std::vector<fs::path> paths = targets(dataset, out);
  for (const fs::path& path : paths)
    APO_CHECK(ConfigError, !fs::exists(path), path.string(),
              ": exists already; copies are never written over a file");
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto f = static_cast<int32_t>(i);
    const fs::path partial = paths[i].string() + ".partial";
    check_writable(paths[i]);
    const Unfinished unfinished(partial);
    try {
      const bool ours = dataset.file(f).format() == TrajectoryFormat::apo &&
                        !fs::exists(journal_path(dataset.file_path(f)));
      ours ? copy_with_labels(dataset, f, partial) : rewrite_with_labels(dataset, f, partial);
      put_in_place(partial, paths[i]);
    } catch (...) {
      std::error_code ignored;
      fs::remove(partial, ignored);
      throw;
    }
  }
  return paths;
}

}  // namespace apo::audit
