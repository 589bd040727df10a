#include "loop/resume.h"

#include <algorithm>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/provenance.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/environments/remote.h"
#include "apo/models/options.h"
#include "apo/training/run_files.h"
#include "base/manifest.h"
#include "config/value.h"
#include "loop/loop_state.h"
#include "results/file_names.h"
#include "training/resume.h"

namespace apo::loop {
namespace {

namespace fs = std::filesystem;
using training::ExistingRun;

const std::vector<std::string> kFiles = {results::kConfigFile,     results::kStateFile,
                                         results::kSummaryFile,    "report.html",
                                         results::kComparisonFile, "comparison.md"};

// What a loop writes into its directory, directories included.
std::vector<std::string> all_written(const fs::path& dir) {
  std::vector<std::string> names = kFiles;
  for (const char* name : {"policy", "base", "methods", "animations"}) names.emplace_back(name);
  std::error_code error;
  for (fs::directory_iterator entry(dir, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("round-") || name.starts_with("demonstrations.hdf5")) names.push_back(name);
  }
  return names;
}

// The names that loops had before there were manifests.
bool is_loop_file(const fs::path& dir, const std::string& name, bool is_link) {
  constexpr std::string_view kTraining = "/training/";
  if (const size_t at = name.find(kTraining); at != std::string::npos) {
    const std::string run = name.substr(0, at + kTraining.size()), below = name.substr(run.size());
    return below == ".lock" || training::is_run_file(dir / run, below, is_link);
  }
  if (is_link || name == "policy") return is_link && name == "policy";
  const std::string file = fs::path(name).filename().string();
  for (const char* recording : {"demonstrations.hdf5", "interactions.hdf5", "deployment"})
    if (file.starts_with(recording)) return true;
  if (file == name) return std::ranges::find(kFiles, name) != kFiles.end();
  return file == results::kResultsFile || file == "disruptions.md" || file.ends_with(".webp");
}

// Loops were begun with deploy.demonstrations.habit before it became the tabletop's own option.
std::string with_the_tabletops_habit(std::string printed) {
  constexpr std::string_view kKey = "\n    habit: ";
  const auto line_of_habit = [&](const char* section, const char* part) {
    size_t at = ("\n" + printed).find(concat("\n", section, ":\n"));
    for (const std::string_view next : {std::string_view(part), kKey})
      if (at != std::string::npos) at = printed.find(next, at);
    return at;
  };
  const auto value_at = [&](size_t line) {
    const size_t begin = line + kKey.size();
    return printed.substr(begin, printed.find('\n', begin) - begin);
  };
  if (!config::is_written(printed, "deploy.demonstrations.habit")) return printed;
  const size_t demonstrations = line_of_habit("deploy", "\n  demonstrations:\n");
  if (demonstrations == std::string::npos) return printed;  // a program did not print this
  std::string habit = value_at(demonstrations);
  printed.erase(demonstrations, kKey.size() + habit.size());
  if (!config::is_written(printed, "environment.tabletop.habit")) return printed;
  const size_t tabletop = line_of_habit("environment", "\n  tabletop:\n");
  if (habit == "null") habit = value_at(tabletop);  // as it was
  return printed.insert(tabletop, concat("\n    demonstration_habit: ", habit));
}

// A stopped loop goes on with the config that it was begun with; of any number of rounds with more of them;
// faster or slower, more or less talkative, and wherever its server is now.
void check_resumed_config(const fs::path& config, const RefineSetup& setup) {
  const std::string text = with_the_tabletops_habit(models::with_kinds_apart(read_file(config)));
  auto before =
      config::load<RefineSetup>(config::Document::from_text(text, {}, config.parent_path(), config.string()));
  training::as_before_the_hold(text, "objective", before.training.objective);
  training::as_before_the_hold(text, "refine.base.objective", before.refine.base.objective);
  std::vector<MethodOptions>& methods = before.refine.comparison.methods;
  for (size_t i = 0; i < methods.size(); ++i)
    training::as_before_the_hold(text, concat("refine.comparison.methods.", i, ".objective"),
                                 methods[i].objective);
  RefineSetup allowed = before;
  allowed.training = training::relocated(before.training, setup.training);
  allowed.training.run.dir = setup.training.run.dir;  // it may have been moved
  if (setup.refine.rounds > before.refine.rounds) allowed.refine.rounds = setup.refine.rounds;
  allowed.training.run.threads = setup.training.run.threads;
  allowed.eval.threads = setup.eval.threads;
  if (setup.environment.type == "remote") {  // where its server is now, and how patient one is
    const auto now = setup.environment.of<environments::RemoteOptions>();
    auto& then = allowed.environment.of<environments::RemoteOptions>();
    then.url = now.url, then.token = now.token, then.timeouts = now.timeouts;
  }
  allowed.training.logging = setup.training.logging;
  allowed.training.reference.cache = setup.training.reference.cache;
  allowed.training.train.guard = setup.training.train.guard;
  allowed.refine.base.train.guard = setup.refine.base.train.guard;
  std::vector<std::string> changed = config::differences(allowed, setup);
  // a preset is no more than the values that it gives, and these are compared
  std::erase_if(changed, [](const std::string& difference) {
    return difference.find("objective.preset: ") != std::string::npos;
  });
  constexpr size_t kMostNamed = 8;
  const size_t more = changed.size() > kMostNamed ? changed.size() - kMostNamed : 0;
  changed.resize(changed.size() - more);
  const std::string differences = join(changed) + (more > 0 ? concat(", and ", more, " more") : "");
  APO_CHECK(ConfigError, changed.empty(), config.string(),
            ": the loop in this directory was begun with another config (", differences,
            "); only refine.rounds may grow, and threads, logging, train.guard, reference.cache and a remote "
            "environment's url, "
            "token and timeouts may change: expected the same, --overwrite or another run.dir");
}

}  // namespace

void open_directory(const fs::path& dir, ExistingRun existing, const RefineSetup& setup,
                    const std::string& config_yaml) {
  const fs::path config = dir / results::kConfigFile;
  Manifest manifest(dir, "run.dir: " + dir.string());
  const bool is_loop = fs::exists(dir / results::kStateFile), is_used = is_loop || fs::exists(config);
  APO_CHECK(ConfigError, !is_used || existing != ExistingRun::refuse, dir.string(),
            ": run.dir is already used; expected an empty directory, --resume or --overwrite");
  const bool goes_on = is_used && existing == ExistingRun::resume;
  if (is_used && existing == ExistingRun::overwrite) {
    APO_CHECK(
        ConfigError, is_loop || manifest.found(), dir.string(),
        ": --overwrite: expected the directory of an earlier loop (with a state.json), found other files");
    manifest.refuse_strangers(all_written(dir));
    manifest.remove(all_written(dir));
  }
  if (goes_on && !manifest.found() && is_loop) {
    const LoopState ours(dir);  // DataError otherwise
    manifest.adopt(all_written(dir), [&dir](const std::string& name, bool is_link) {
      return is_loop_file(dir, name, is_link);
    });
  }
  manifest.refuse_strangers(goes_on ? kFiles : all_written(dir));
  if (goes_on && fs::exists(config)) check_resumed_config(config, setup);
  std::vector<std::string> written = kFiles;
  written.emplace_back("policy@");
  manifest.claim(written);
  write_file_atomic(config,
                    with_provenance(config_yaml, goes_on && fs::exists(config) ? read_file(config) : ""));
  if (!goes_on || !is_loop) LoopState::create(dir);
}

}  // namespace apo::loop
