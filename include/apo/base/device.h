// The device that tensors live on, and CUDA as something that may or may not be there: one build serves
// machines with and without a GPU, so the driver is asked first and the CUDA half of LibTorch is loaded only
// where it can be used.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace apo {

/// What this machine offers.
struct CudaState {
  int64_t devices = 0;       ///< that this process may use; 0: none, and `problem` says why
  bool driver = false;       ///< an NVIDIA driver with a device is there, whether or not it can be used
  std::string problem = {};  ///< empty if `devices` > 0
};

/// Asks the driver, and where it has a device loads the CUDA half of LibTorch into the process: once, at the
/// first call. It must be the first that touches CUDA: LibTorch remembers for good that there is none. Never
/// throws.
const CudaState& cuda_state();

/// The device that `run.device` means: auto | cpu | cuda | cuda:N. "auto" is the first CUDA device if there
/// is a usable one; where there is a device that cannot be used, a warning says why and it is the CPU.
/// ConfigError for an unknown name or a device that this machine lacks or cannot use, saying why.
at::Device select_device(const std::string& device);

}  // namespace apo
