// The step in which a human acts, as it is recorded.
#pragma once

#include <optional>
#include <utility>

#include "apo/base/types.h"

namespace apo::deploy {

/// Makes `step` the human's: `action` is executed; `wanted` is what the policy wanted, nothing where that was
/// not asked or is not kept. It is a take-over unless the human acted in the step before, too.
inline void act_by_human(Step& step, Action action, std::optional<Action> wanted, bool acted_before,
                         TakeOver take_over) {
  step.source = ActionSource::intervention;
  step.action = std::move(action);
  if (!wanted) step.decision_offset.reset();
  step.policy_action = std::move(wanted);
  if (!acted_before) step.take_over = std::move(take_over);
}

}  // namespace apo::deploy
