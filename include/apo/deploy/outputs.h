// What a program is about to write, looked at before its work begins; and what an interrupted one has to
// show.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "apo/base/error.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"

namespace apo::deploy {

/// ConfigError naming what `write_results` would replace that no earlier evaluation wrote; RunError if
/// nothing can be written there. An earlier results.json vouches for itself and disruptions.md. Creates the
/// directory.
void check_results_directory(const std::filesystem::path& directory);

/// ConfigError if collecting into `output` would replace something else than a recording of ours with its
/// summary (output.json), or forget episodes that a journal without its file holds; RunError if nothing can
/// be written there. Creates the directory. Whether an existing recording may be replaced is not looked at.
void check_recording(const std::filesystem::path& output);

/// An evaluation that a signal stopped.
struct InterruptedEvaluation : Interrupted {
  InterruptedEvaluation(const std::string& message, EvalResult result)
      : Interrupted(message), finished(std::move(result)) {}
  /// The first so many trials, every one of them finished, which may be none; with disruptions also those
  /// that were tried out.
  EvalResult finished;
};

}  // namespace apo::deploy
