// A FAST tokenizer made of recorded actions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "apo/data/dataset.h"

namespace apo::audit {

struct FitFastOptions {
  int64_t horizon = 0;        ///< H, actions of a chunk
  int64_t vocabulary = 1024;  ///< pieces at most
  double scale = 10;          ///< coefficients are rounded after multiplication with it: larger is finer
  bool z_score = false;       ///< normalise actions by mean and deviation, not by quantiles
};

struct FitFastSummary {
  int64_t num_chunks = 0, horizon = 0, action_size = 0;
  int64_t num_codes = 0;   ///< pieces that there are
  double mean_length = 0;  ///< codes of a chunk
  double mean_error = 0;   ///< mean |decoded − recorded| action, normalised
};

/// Fits a tokenizer on the chunks of every kept step (of the demonstrations, if there are any), normalised by
/// the data's own statistics as openpi does (quantiles or z-score, nothing clipped), and writes it into a new
/// directory, whole or not at all.
///
/// Errors  ConfigError for a horizon < 1, an output that is not empty and as FastTokenizer::fit; DataError as
///         data::Dataset
FitFastSummary fit_fast(const data::DataOptions& data, const FitFastOptions& options,
                        const std::filesystem::path& output);

std::string to_text(const FitFastSummary& summary);

}  // namespace apo::audit
