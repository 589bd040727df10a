// Loads the CUDA kernels when the first tensor on a CUDA device arrives.
#include "objective/kernels/cuda_module.h"

#include <string>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/log.h"
#include "apo/base/version.h"
#include "base/shared_library.h"

namespace apo::objective {
namespace {

constexpr const char* kModule = "libapo_cuda.so";

struct Module {
  const CudaKernels* kernels = nullptr;
  std::string problem = {};
};

Module load() {
  try {
    // beside our own code, or in lib/ beside its folder; else wherever the loader looks
    SharedLibrary library(find_beside({kModule, std::string("../lib/") + kModule}).value_or(kModule));
    CudaKernelsFunction kernels = nullptr;
    library.find(kernels, kCudaKernelsSymbol);
    APO_CHECK(RunError, kernels()->version == version(), library.name(), ": expected the kernels of apo ",
              version(), ", found those of ", kernels()->version);
    library.keep();
    return {.kernels = kernels()};
  } catch (const RunError& error) {
    return {.problem = error.what()};
  }
}

const Module& module() {
  static const Module once = load();
  return once;
}

const CudaKernels& loaded() {
  APO_CHECK(RunError, module().kernels != nullptr,
            "objective: the CUDA kernels cannot be loaded: ", module().problem);
  return *module().kernels;
}

void check(const char* kernel, const char* problem) {
  APO_CHECK(RunError, problem == nullptr, "objective: CUDA kernel ", kernel,
            " did not start, or an earlier CUDA call failed: ", problem);
}

}  // namespace

bool cuda_kernels_are_there() {
  static const bool there = [] {
    if (module().kernels == nullptr)
      log_warn(
          "objective: plain tensor operations on the GPU, slower and with more memory, since the CUDA "
          "kernels cannot be loaded: ",
          module().problem);
    return module().kernels != nullptr;
  }();
  return there;
}

void launch_scores(const ScoreJob& job, void* stream) { check("scores", loaded().scores(job, stream)); }
void launch_score_gradient(const GradientJob& job, void* stream) {
  check("score_gradient", loaded().score_gradient(job, stream));
}
void launch_kl(const KlJob& job, void* stream) { check("kl", loaded().kl(job, stream)); }

}  // namespace apo::objective
