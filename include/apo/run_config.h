// The roof: every room's options as the one config file that all programs read.
#pragma once

#include "apo/loop/refine.h"
#include "apo/serving/options.h"

namespace apo {

/// The whole config: run, policy, reference, data, objective, optimizer, schedule, train, logging,
/// environment, deploy, eval, refine, serve. Each program uses the sections that concern it.
struct RunConfig : loop::RefineSetup {
  serving::ServeOptions serve;
  void visit(config::Visitor& v);
};

}  // namespace apo
