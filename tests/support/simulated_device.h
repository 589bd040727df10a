// An accelerator for tests on machines without one: LibTorch's PrivateUse1 device, computed on the host, as
// strict as CUDA.
//
// Tests on it derive from OnSimulatedDevice. It keeps apart what CUDA keeps apart:
//   - an operator that is given tensors of the CPU and of the device together is an error that names the
//     operator, but for what CUDA takes (numbers; tensors of no dimension in pointwise operators; indices;
//     copies);
//   - so is the CPU's random generator for a tensor of the device, which has one of its own;
//   - the address of a tensor's memory lies outside the address space: a host that reads it crashes.
// It counts where CUDA would make the host wait for the device, and notes which operators ran.
//
// Differs  no row kernels (the objective takes the plain composition), attention by matrix products, one
//          stream, memory without a cache. Everything else is the CPU's arithmetic on the same numbers:
//          equal, or nearly.
#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace apo::testing {

/// The one device of its kind, with its index.
at::Device simulated_device();

/// Watches every operator of the test, before any other part of LibTorch sees it. Skipped where there is a
/// CUDA device: LibTorch knows one kind of accelerator in a process.
class OnSimulatedDevice : public ::testing::Test {
 protected:
  OnSimulatedDevice();
  ~OnSimulatedDevice() override;
  void SetUp() override;

 private:
  struct Watch;
  std::unique_ptr<Watch> watch_;
};

/// What happens on the device while it lives, on all threads. Not to be nested.
class DeviceUse {
 public:
  DeviceUse();
  ~DeviceUse();
  DeviceUse(const DeviceUse&) = delete;
  DeviceUse& operator=(const DeviceUse&) = delete;

  /// How often the host had to wait, by cause: "copy to the host", "copy to the device" (of memory that is
  /// not pinned), or the operator ("aten::_local_scalar_dense": a tensor became a number).
  std::map<std::string, int64_t> waits() const;
  int64_t num_waits() const;
  /// Names of the operators, "aten::add.out".
  std::set<std::string> operators() const;
};

}  // namespace apo::testing
