// Loads the CUDA kernels when the first tensor on a CUDA device arrives.
#include "objective/kernels/cuda_module.h"

#include <dlfcn.h>

#include <string>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/version.h"

namespace apo::objective {
namespace {

constexpr const char* kModule = "libapo_cuda.so";

const CudaKernels& load() {
  // beside our own code, or in lib/ beside its folder; else wherever the loader looks
  const std::string path = find_beside({kModule, std::string("../lib/") + kModule}).value_or(kModule);
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  APO_CHECK(RunError, module != nullptr,
            "objective: the tensors are on a CUDA device, but the CUDA kernels cannot be loaded: ", ::dlerror(),
            "; build with -DAPO_CUDA=ON (CUDA 13), or move the tensors to the CPU (run.device: cpu)");
  const auto kernels = reinterpret_cast<CudaKernelsFunction>(::dlsym(module, kCudaKernelsSymbol));
  APO_CHECK(RunError, kernels != nullptr && std::string_view(kernels()->version) == version(), "objective: ", path,
            ": expected the CUDA kernels of apo ", version(), ", found ",
            kernels == nullptr ? "another library" : concat("those of ", kernels()->version));
  return *kernels();
}

const CudaKernels& loaded() {
  static const CudaKernels& kernels = load();
  return kernels;
}

void check(const char* kernel, const char* problem) {
  APO_CHECK(RunError, problem == nullptr, "objective: CUDA kernel ", kernel, " did not start, or an earlier CUDA call failed: ", problem);
}

}  // namespace

void launch_scores(const ScoreJob& job, void* stream) { check("scores", loaded().scores(job, stream)); }
void launch_score_gradient(const GradientJob& job, void* stream) {
  check("score_gradient", loaded().score_gradient(job, stream));
}
void launch_kl(const KlJob& job, void* stream) { check("kl", loaded().kl(job, stream)); }

}  // namespace apo::objective
