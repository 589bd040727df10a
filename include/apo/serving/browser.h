// A person at a browser as who may take over in collection.
#pragma once

#include <filesystem>
#include <memory>

#include "apo/data/labels.h"
#include "apo/deploy/intervention.h"
#include "apo/serving/options.h"

namespace apo::serving {

/// What "refine now" learns from: the file that is being collected into.
struct RefineFrom {
  RefinePlan plan = {};  ///< without a command a page cannot refine
  std::filesystem::path recording = {};
};

/// Serves the console at `options.address` and `options.port` once the first episode begins, and waits for a
/// page; from then on the environment goes at `control_hz` of its spec. While the page pauses, time stands
/// still. The person's keys move the arm as in apo-serve, and can end an episode ("reset"); whether it
/// succeeded is the environment's word.
///
/// Errors  of decide: RunError if it cannot listen there; ConfigError as check_options
std::unique_ptr<deploy::InterventionSource> make_browser_human(const ServeOptions& options,
                                                               const data::LabelRules& rules,
                                                               const RefineFrom& refine = {});

/// Registers it as `deploy.intervention.type: browser`.
void register_browser_human(const ServeOptions& options = {}, const data::LabelRules& rules = {},
                            const RefineFrom& refine = {});

}  // namespace apo::serving
