#include "deploy/losses.h"

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::deploy {

void note_loss(const environments::EpisodeLost& error, const std::string& what, int64_t losses_in_a_row) {
  APO_CHECK(RunError, losses_in_a_row <= kMostLosses, what, ": interrupted ", losses_in_a_row,
            " times in a row, at last: ", error.what());
  log_warn(what, ": interrupted, and played again: ", error.what());
}

}  // namespace apo::deploy
