// The words of a loop's page that a newcomer does not know.
#pragma once

#include <string>

#include "report/loop_summary.h"
#include "report/page.h"

namespace apo::report {

/// A folded list that explains those of the known words that stand in the page's sentences, tiles or body;
/// words of the built-in environment only where that was the environment. Nothing if there are none.
std::string words_on(const Page& page, const LoopSummary& summary);

}  // namespace apo::report
