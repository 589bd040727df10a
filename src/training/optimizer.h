// Adam and AdamW over named parameters; the state is keyed by name, so that it survives a reload.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "apo/distributed/group.h"
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
  /// `sharded_over`: each rank of it holds the moments of a share of the parameters (the largest first, each
  /// to the rank that has least) and updates those for all (ZeRO stage 1, arXiv 1910.02054); the same to the
  /// bit. Then all ranks call `update` and `state` together.
  Adam(const OptimizerOptions& options, models::NamedTensors parameters,
       const distributed::Group* sharded_over = nullptr);

  void zero_gradients();
  /// √Σ g² over all parameters, before clipping. Waits for the device.
  double gradient_norm() const;
  /// Scales all gradients by min(1, max_norm / (norm + 1e-6)), as torch's clip_grad_norm_.
  void clip_gradients(double norm, double max_norm);
  void update(double learning_rate);

  const models::NamedTensors& parameters() const { return parameters_; }
  /// Of those that this rank holds.
  int64_t moment_bytes() const;
  /// What a checkpoint keeps: "exp_avg.<name>", "exp_avg_sq.<name>", "updates.<name>" and "parameter.<name>".
  /// Sharded: whole on the first rank, whose host's memory then holds the others' moments; empty elsewhere.
  models::NamedTensors state() const;
  /// Copies moments, counts and parameters from a file that holds `state()` among others, of any number of
  /// ranks. DataError naming the file and the tensors that are missing or of another shape.
  void restore(const models::SafetensorsReader& file);

 private:
  bool holds(size_t parameter) const;
  std::vector<at::Tensor> gradients() const;
  models::NamedTensors held() const;
  void send_updated() const;

  OptimizerOptions options_;
  models::NamedTensors parameters_;
  const distributed::Group& group_;               // of one where nothing is sharded
  std::vector<int64_t> owner_;                    // as parameters_: the rank that updates each
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // as parameters_; empty where another rank holds them
  std::vector<at::Tensor> updates_;               // [1] float32 each, on the parameter's device
};

}  // namespace apo::training
