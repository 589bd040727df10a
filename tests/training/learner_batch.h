// What a learner learns from in tests, and a policy that has something to learn.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <vector>

#include "apo/data/dataset.h"
#include "training/linear_policy.h"
#include "training/reference_scorer.h"

namespace apo::training {

// Sample i of a batch: states and actions that differ, every third one undesirable.
inline data::Sample sample(int i) {
  data::Sample s;
  s.index.timestep = i;
  const auto x = static_cast<float>(i);
  s.observation.state["pose"] = {std::sin(x), std::cos(2 * x), 0.1f * x};
  s.actions = {{std::sin(3 * x), std::cos(x)}};
  s.desirable = i % 3 != 2;
  s.source = i % 3 == 0   ? ActionSource::expert
             : i % 3 == 1 ? ActionSource::intervention
                          : ActionSource::policy;
  if (!s.desirable) s.dimension_credit = {0.25f, 1.0f};
  if (i % 3 == 1) s.policy_actions = {{0.5f, std::sin(x)}};
  if (i % 3 != 0) s.take_over_number = i / 3;
  return s;
}
inline std::vector<data::Sample> batch_of(int size) {
  std::vector<data::Sample> samples;
  for (int i = 0; i < size; ++i) samples.push_back(sample(i));
  return samples;
}

// A policy that has moved away from its reference.
struct Pair {
  testing::LinearPolicy policy{1};
  testing::LinearPolicy start{1};
  LiveReference reference;
  explicit Pair(bool moved = true) : reference(start, {.mode = models::ReferenceMode::copy}) {
    if (!moved) return;
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : policy.named_parameters()) tensor.add_(at::cos(tensor * 9), 0.2);
  }
};

}  // namespace apo::training
