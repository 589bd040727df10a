// Whether a refined policy takes the place of the one in use.
#pragma once

#include "apo/deploy/evaluator.h"
#include "apo/loop/refine.h"

namespace apo::loop {

/// The rule: on the trials that both were evaluated on (the same seeds), the refined policy succeeds in a
/// share that is not lower than the other's minus `tolerance`, a share. Of unequal numbers of trials the end
/// is left out (`paired_test`); without any, it is promoted. The test beside it says how much of the
/// difference may be chance; it does not decide.
Promotion judge_promotion(const EvalResult& refined, const EvalResult& in_use, double tolerance);

/// "+41.0 points against the policy in use (84 trials won, 2 lost of 200, p < 0.001)"
std::string promotion_text(const Promotion& promotion);

}  // namespace apo::loop
