// The tensor library's own random streams (dropout), as tensors that a checkpoint can hold.
#pragma once

#include <ATen/core/Tensor.h>

#include "apo/models/policy.h"

namespace apo::training {

/// Seeds the default generators of the CPU and of `device`.
void seed_generators(uint64_t seed, at::Device device);
/// "random.cpu" and, on an accelerator, its stream under the name of its kind, "random.cuda".
models::NamedTensors generator_states(at::Device device);
void restore_generators(const models::NamedTensors& states, at::Device device);

/// Puts the streams back to where they were when the scope began.
class GeneratorScope {
 public:
  explicit GeneratorScope(at::Device device) : device_(device), before_(generator_states(device)) {}
  ~GeneratorScope() { restore_generators(before_, device_); }
  GeneratorScope(const GeneratorScope&) = delete;
  GeneratorScope& operator=(const GeneratorScope&) = delete;

 private:
  at::Device device_;
  models::NamedTensors before_;
};

}  // namespace apo::training
