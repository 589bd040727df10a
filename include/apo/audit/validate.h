// Is recorded data fit for training? What `apo-data validate` looks for, and its verdict.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/tokenizers/statistics.h"

namespace apo::audit {

/// `note`: worth knowing. `warning`: training runs, but probably not as meant. `error`: training refuses or
/// learns nonsense.
enum class Severity { note, warning, error };
std::string_view to_string(Severity severity);

struct Finding {
  Severity severity = Severity::note;
  std::string message;  ///< what, how often, and where first
};

/// One question and what was found.
struct CheckResult {
  std::string name;      ///< e.g. "range"
  std::string question;  ///< what holds if nothing was found
  std::vector<Finding> findings;
};

struct Validation {
  std::vector<CheckResult> checks;
  int64_t num_files = 0, num_episodes = 0, num_steps = 0;
  int64_t count(Severity severity) const;
};

/// What the policy that is to learn looks at. Without anything: a fresh policy's defaults.
struct PolicyInputs {
  std::vector<std::string> cameras;     ///< policy.cameras; empty: all of the first episode
  std::vector<std::string> state_keys;  ///< policy.state_keys
  /// policy.checkpoint is given: it brings cameras and states of its own, which are not known here, so that
  /// what differs from episode to episode is a warning unless `cameras` and `state_keys` name it.
  bool of_checkpoint = false;
  std::string unreadable = {};  ///< why nothing is known of the checkpoint that is given
  std::optional<tokenizers::VectorStatistics> action = {};  ///< what the checkpoint normalises actions by
  config::GripperOptions gripper = {};                      ///< of the policy's actions
  int64_t image_size = 0;                                   ///< square pictures that it sees; 0: not known
  /// The words of an instruction that the checkpoint never learned; unset: not known.
  std::function<std::vector<std::string>(const std::string& instruction)> unknown_words = nullptr;
};

/// Whether the recordings suit the checkpoint that goes on learning from them, for training before its first
/// step: what the check "policy" of `validate` finds. Nothing without `inputs.action`.
std::vector<Finding> compare_with_policy(const data::Dataset& dataset, const PolicyInputs& inputs);

/// Goes through every source of `options` once, in memory that does not grow with their size, and reads on
/// behind what cannot be read. `pools_needed`: an empty pool with a positive share is an error as for
/// apo-train (with a config), else a note. What `inputs` needs and some episode lacks is an error; what
/// nobody uses may differ (a note).
///
/// Checks  readable, shapes (action size, cameras, states), pictures, lengths, duplicates, totals, hashes,
///         finite, range, spread (q01 = q99), units, signs, constant (the policy's own actions), policy (the
///         checkpoint's statistics), pools, windows (cut short), filters, labels, instructions. docs/data.md
///         says what each compares, with its thresholds.
/// Errors  ConfigError if there is no source.
Validation validate(const data::DataOptions& options, bool pools_needed, const PolicyInputs& inputs = {});

/// A table for people, ending in the verdict.
std::string to_text(const Validation& validation);
/// {verdict, errors, warnings, files, episodes, steps, checks: [{name, question, verdict, findings: [...]}]}.
std::string to_json(const Validation& validation);

}  // namespace apo::audit
