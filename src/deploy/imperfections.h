// What an imperfect human does to his own corrections, and when he corrects for no reason.
#pragma once

#include <cstdint>

#include "apo/base/random.h"
#include "apo/base/types.h"
#include "apo/deploy/scripted_human.h"
#include "apo/environments/environment.h"

namespace apo::deploy {

/// Every imperfection has a random stream of its own, begun anew with the episode's seed: switching one on
/// changes neither another nor the environment.
class Imperfections {
 public:
  /// ConfigError naming the key that is out of range, for callers that fill the struct themselves.
  explicit Imperfections(const ImperfectionOptions& options);
  void reset(uint64_t seed);
  /// Of any kind; a needless one does not come after it.
  void begin_take_over();

  int64_t delay_steps() const { return options_.delay_steps; }
  /// Whether this episode's needless take-over is due, `step` steps after the calm ones.
  bool needless(int64_t step) const { return step == needless_step_; }
  /// What he does in step `step` (from 0) of the take-over where the expert would do `expert`; `executed` is
  /// the action before it.
  Action spoiled(Action expert, int64_t step, const environments::EnvironmentSpec& spec,
                 const Action& executed);

 private:
  ImperfectionOptions options_;
  Random wrong_random_{0}, tremor_random_{0};
  int64_t needless_step_ = -1;  // after the calm ones; -1: none in this episode
  bool wrong_ = false;          // the running take-over begins wrongly
};

}  // namespace apo::deploy
