// Pictures of trials for the loop's report: what the policy in use learned, and what it still fails.
#pragma once

#include <vector>

#include "loop/stages.h"
#include "results/summary.h"

namespace apo::loop {

/// Draws up to refine.animations trials of each kind into dir/animations and returns the summary's
/// `animations`, relative to the loop's directory.
///   solved  the base failed, the policy in use does not: the base alone, with the human, the policy in use
///   failed  the policy in use fails, whatever the base did: the base, the policy in use
/// Trials are taken in the order of their seeds. What is drawn is played anew, one episode at a time: where
/// rounding makes it end otherwise than in the evaluation, the title tells of the picture and the caption of
/// both.
std::vector<results::Animation> draw_examples(const Stages& stages, const RoundResult& base,
                                              const RoundResult& current);

}  // namespace apo::loop
