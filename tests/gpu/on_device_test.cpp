// The items of the GPU check on the simulated device, which is as strict as CUDA about what lies where:
// minutes on a real one are few, and a tensor that was left on the host should not cost them.
#include <gmock/gmock.h>
#include <torch/types.h>

#include "gpu/check.h"
#include "support/places.h"
#include "support/simulated_device.h"

namespace apo::gpu {
namespace {

using apo::testing::simulated_device;

class GpuCheckOnDevice : public apo::testing::OnSimulatedDevice {
 protected:
  Options options{.device = "simulated", .data = apo::testing::in_source("tests/gpu/data"), .small = true};
  Item item{"test", "simulated"};  // prints its numbers and complaints
};

TEST_F(GpuCheckOnDevice, Kernels) {
  check_kernels(options, simulated_device(), item);
  EXPECT_EQ(item.finish(), 0);
}

TEST_F(GpuCheckOnDevice, Parity) {
  check_parity(options, simulated_device(), item);
  EXPECT_EQ(item.finish(), 0);
}

TEST_F(GpuCheckOnDevice, OpenVla) {
  check_openvla(options, simulated_device(), item);
  EXPECT_EQ(item.finish(), 0);
}

}  // namespace
}  // namespace apo::gpu
