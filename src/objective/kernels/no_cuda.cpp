// Stands in for the CUDA kernels in a build without CUDA.
#include "apo/base/error.h"
#include "objective/kernels/launch.h"

namespace apo::objective {
namespace {

[[noreturn]] void absent() {
  throw RunError(
      "objective: the tensors are on a CUDA device, but this build has no CUDA kernels; "
      "configure with -DAPO_CUDA=ON, or move the tensors to the CPU");
}

}  // namespace

void launch_scores(const ScoreJob&, void*) { absent(); }
void launch_score_gradient(const GradientJob&, void*) { absent(); }
void launch_kl(const KlJob&, void*) { absent(); }

}  // namespace apo::objective
