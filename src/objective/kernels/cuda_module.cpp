// Loads the CUDA kernels when the first tensor on a CUDA device arrives.
#include "objective/kernels/cuda_module.h"

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "base/kernel_library.h"

namespace apo::objective {
namespace {

const KernelTable<CudaKernels>& module() {
  static const KernelTable<CudaKernels> once = load_kernels<CudaKernels>(kCudaKernelsSymbol);
  return once;
}

const CudaKernels& loaded() {
  APO_CHECK(RunError, module().table != nullptr,
            "objective: the CUDA kernels cannot be loaded: ", module().problem);
  return *module().table;
}

void check(const char* kernel, const char* problem) {
  APO_CHECK(RunError, problem == nullptr, "objective: CUDA kernel ", kernel,
            " did not start, or an earlier CUDA call failed: ", problem);
}

}  // namespace

bool cuda_kernels_are_there() {
  static const bool there = [] {
    if (module().table == nullptr)
      log_warn(
          "objective: plain tensor operations on the GPU, slower and with more memory, since the CUDA "
          "kernels cannot be loaded: ",
          module().problem);
    return module().table != nullptr;
  }();
  return there;
}

void launch_scores(const ScoreJob& job, void* stream) { check("scores", loaded().scores(job, stream)); }
void launch_score_gradient(const GradientJob& job, void* stream) {
  check("score_gradient", loaded().score_gradient(job, stream));
}
void launch_kl(const KlJob& job, void* stream) { check("kl", loaded().kl(job, stream)); }

}  // namespace apo::objective
