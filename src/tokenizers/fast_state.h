// What a FAST tokenizer holds.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "apo/tokenizers/fast.h"
#include "tokenizers/byte_bpe.h"

namespace apo::tokenizers {

struct FastTokenizer::State {
  FastConfig config;
  ByteBpe bpe;
};

/// [H · A] coefficients of a chunk, times scale and rounded half to even. DataError for what is not finite or
/// beyond all reason.
std::vector<int64_t> rounded_coefficients(std::span<const double> chunk, int64_t horizon, double scale);

}  // namespace apo::tokenizers
