// A person at a browser as who may take over in collection.
#pragma once

#include <memory>

#include "apo/data/labels.h"
#include "apo/deploy/intervention.h"
#include "apo/serving/options.h"

namespace apo::serving {

/// Serves the console at `options.address` and `options.port` once the first episode begins, and waits for a
/// page; from then on the environment goes at `control_hz` of its spec. While the page pauses, time stands
/// still. The person's keys move the arm as in apo-serve; how an episode ended is the environment's word.
///
/// Errors  of decide: RunError if it cannot listen there; ConfigError as check_options
std::unique_ptr<deploy::InterventionSource> make_browser_human(const ServeOptions& options,
                                                               const data::LabelRules& rules);

/// Registers it as `deploy.intervention.type: browser`.
void register_browser_human(const ServeOptions& options, const data::LabelRules& rules);

}  // namespace apo::serving
