// What the library of CUDA kernels (libapo_cuda.so, log_prob.cu) hands to whoever loads it. It links neither
// torch nor the rest of this library, so that one build runs with and without CUDA.
#pragma once

#include "objective/kernels/launch.h"

namespace apo::objective {

/// Each launch is queued on `stream` (a cudaStream_t) of the current device and returns null, or what went
/// wrong.
struct CudaKernels {
  const char* version;  ///< of the library that it was built with; another one's is refused
  const char* (*scores)(const ScoreJob&, void* stream);
  const char* (*score_gradient)(const GradientJob&, void* stream);
  const char* (*kl)(const KlJob&, void* stream);
};

/// What the module exports for these; those of other rooms stand beside them.
inline constexpr const char* kCudaKernelsSymbol = "apo_cuda_kernels";

}  // namespace apo::objective
