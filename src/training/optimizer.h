// Adam and AdamW over named parameters; the state is keyed by name, so that it survives a reload.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "apo/models/policy.h"
#include "apo/models/safetensors.h"
#include "apo/training/options.h"

namespace apo::training {

/// One update of all parameters from their gradients:
///
///   m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,
///   θ ← θ − lr · wd · θ − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// (adam: g ← g + wd · θ instead of the first term). A parameter without a gradient is left alone; t counts
/// the updates of each parameter. The moments of parameters in half precision are kept in float32.
/// Source   AdamW, arXiv 1711.05101; equal to torch.optim.AdamW and torch.optim.Adam.
class Adam {
 public:
  /// The tensors are shared with the policy. ConfigError if there is nothing to train.
  Adam(const OptimizerOptions& options, models::NamedTensors parameters);

  void zero_gradients();
  /// √Σ g² over all parameters, before clipping. Waits for the device.
  double gradient_norm() const;
  /// Scales all gradients by min(1, max_norm / (norm + 1e-6)), as torch's clip_grad_norm_.
  void clip_gradients(double norm, double max_norm);
  void update(double learning_rate);

  const models::NamedTensors& parameters() const { return parameters_; }
  /// What a checkpoint keeps: "exp_avg.<name>", "exp_avg_sq.<name>", "updates.<name>" and "parameter.<name>".
  models::NamedTensors state() const;
  /// Copies moments, counts and parameters from a file that holds `state()` among others.
  /// DataError naming the file and the tensors that are missing or of another shape.
  void restore(const models::SafetensorsReader& file);

 private:
  std::vector<at::Tensor> gradients() const;

  OptimizerOptions options_;
  models::NamedTensors parameters_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // as parameters_
  std::vector<at::Tensor> updates_;               // [1] float32 each, on the parameter's device
};

}  // namespace apo::training
