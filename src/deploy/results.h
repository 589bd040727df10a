// What the trials add up to.
#pragma once

#include <vector>

#include "apo/deploy/evaluator.h"

namespace apo::deploy {

/// Rates, counts and means over the trials, which are kept in the result.
EvalResult summarize_trials(std::vector<Trial> trials);

}  // namespace apo::deploy
