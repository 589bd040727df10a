#include "training/resume.h"

#include <algorithm>
#include <array>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/models/options.h"
#include "config/value.h"
#include "results/file_names.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

// What options meant before there were groups: weights of the whole batch, an anchor beside the whole sum.
void as_before_groups(TrainingOptions& options) {
  objective::ObjectiveOptions& o = options.objective;
  if (o.needs_action_l1() && !o.released_code() &&
      o.weights.normalization == objective::WeightNormalization::sum)
    o.weights.group_size = 0;
  if (o.needs_reference() && o.reduction_used() == objective::Reduction::sum)
    o.sft_weight = o.anchor() / static_cast<double>(options.train.batch_size);
}

bool is_below(std::string_view key, std::string_view section) {
  return key == section || (key.starts_with(section) && key[section.size()] == '.');
}

}  // namespace

void as_before_the_hold(std::string_view config_yaml, std::string_view section,
                        objective::ObjectiveOptions& options) {
  if (!config::is_written(config_yaml, concat(section, ".reference_kl_weight")))
    options.reference_kl_weight = 0;
}

TrainingOptions read_options(const fs::path& checkpoint) {
  try {
    const fs::path file = checkpoint / results::kConfigFile;
    const std::string text = models::with_kinds_apart(read_file(file));
    auto options =
        config::load<TrainingOptions>(config::Document::from_text(text, {}, checkpoint, file.string()));
    if (!config::is_written(text, "objective.weights.group_size")) as_before_groups(options);
    as_before_the_hold(text, "objective", options.objective);
    return options;
  } catch (const ConfigError& error) {
    throw DataError(concat(checkpoint.string(), ": damaged checkpoint: ", error.what()));
  }
}

void check_same_run(const TrainingOptions& before, const TrainingOptions& now) {
  // a preset is no more than the values that it gives, and these are compared
  static constexpr std::array<std::string_view, 9> kFree = {
      "run.dir",     "train.keep",  "train.checkpoint_every", "train.eval_every", "train.guard", "logging",
      "distributed", "data.loader", "objective.preset"};
  static constexpr std::array<std::string_view, 4> kEqualUpToRounding = {
      "run.device", "run.threads", "train.micro_batch_size", "reference.cache"};
  static constexpr std::array<std::string_view, 2> kDuration = {"train.max_steps", "train.epochs"};
  std::string conflicts;
  for (const std::string& difference : config::differences(before, now)) {
    const std::string key = difference.substr(0, difference.find(':'));
    const auto in = [&key](const auto& sections) {
      return std::ranges::any_of(sections,
                                 [&key](std::string_view section) { return is_below(key, section); });
    };
    if (in(kFree) || (in(kDuration) && now.schedule.type == "constant")) continue;
    if (in(kEqualUpToRounding)) {
      log_warn("resume with another ", difference, ": equal up to rounding only");
      continue;
    }
    append_item(conflicts, ", ", difference);
  }
  APO_CHECK(ConfigError, conflicts.empty(), now.run.dir,
            ": cannot resume with other options than the run began with: ", conflicts,
            "; use the old values, or another run.dir, or --overwrite to begin anew");
}

}  // namespace apo::training
