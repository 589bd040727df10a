// The same small policy on the CPU and on the simulated device, and how their tensors are compared.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <memory>
#include <string>

#include "apo/models/lora.h"
#include "models/small_world.h"
#include "support/near.h"
#include "support/simulated_device.h"

namespace apo::models::testing {

struct Both {
  std::unique_ptr<Policy> host, device;
};

/// With random weights; with a rank, only an adapter trains.
inline Both small_on_both(const LoraOptions& lora = {}) {
  using apo::testing::simulated_device;
  Both both{small_policy(), nullptr};
  both.device = std::make_unique<SmallPolicy>(
      small_shape(), small_preprocessing(),
      Vocabulary({"<pad>", "<unk>", "block", "blue", "pick", "red", "the"}, "test"), 3, simulated_device());
  for (Policy* policy : {both.host.get(), both.device.get()})
    if (lora.rank > 0) {
      for (auto& [name, tensor] : policy->named_parameters()) tensor.set_requires_grad(false);
      add_adapter(*policy->adapter_slots(), kTrainedSlot, lora, 5);
      policy->adapter_slots()->activate(kTrainedSlot);
    }
  randomize(*both.host, 2);  // B of an adapter too, which begins at zero
  const NamedTensors from = both.host->named_parameters(), to = both.device->named_parameters();
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < from.size(); ++i) at::Tensor(to[i].second).copy_(from[i].second);
  return both;
}

/// `device` lies on the simulated device and holds what `host` holds, up to `tolerance` of the largest number
/// (or of 1).
inline void expect_near(const at::Tensor& device, const at::Tensor& host, double tolerance,
                        const std::string& what) {
  ASSERT_EQ(device.defined(), host.defined()) << what;
  if (!host.defined()) return;
  EXPECT_EQ(device.device(), apo::testing::simulated_device()) << what;
  EXPECT_EQ(device.scalar_type(), host.scalar_type()) << what;
  const at::Tensor a = device.detach().cpu().to(at::kDouble), b = host.detach().to(at::kDouble);
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_LE(apo::testing::distance(a, b), tolerance * std::max(1.0, b.abs().max().item<double>())) << what;
}

}  // namespace apo::models::testing
