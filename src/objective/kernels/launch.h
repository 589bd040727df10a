// What the row kernels take: plain pointers and sizes, no tensors, so that CUDA sources compile in a second.
// The same functions exist twice: `cpu_*` on host memory, `launch_*` on device memory and a CUDA stream.
#pragma once

#include <cstdint>

#include "objective/kernels/row_math.h"

namespace apo::objective {

enum class Element { float32, float64, bfloat16 };

/// `count` rows of `width` logits. Row r = (b, t) = (r / columns, r % columns) begins at element
/// b · outer_stride + t · inner_stride; within a row the logits are contiguous.
struct LogitRows {
  const void* data = nullptr;
  Element element = Element::float32;
  int64_t count = 0, columns = 1, outer_stride = 0, inner_stride = 0, width = 0;
};

/// One token a row; rows whose mask is false are not read and get score 0.
struct Labels {
  const int64_t* tokens = nullptr;  ///< [count]; null: no labels
  const bool* mask = nullptr;       ///< [count]
};

/// Scores of one or two sets of labels on the same logits, read once.
/// Outputs are float32 for float32 and bfloat16 logits, float64 for float64. A token outside 0..width-1 gives
/// NaN.
struct ScoreJob {
  LogitRows logits;
  SmoothLabel label;
  Labels own, other;               ///< `other` may be empty
  void* score = nullptr;           ///< [count]
  void* other_score = nullptr;     ///< [count], with `other`
  void* log_normalizer = nullptr;  ///< [count], log Σ_v exp(logit_v); for the gradient
};

/// d Σ score_gradient · score / d logits for `own` labels; writes every element (zeros where masked).
struct GradientJob {
  LogitRows logits;
  SmoothLabel label;
  Labels own;
  const void* log_normalizer = nullptr;  ///< [count]
  const void* score_gradient = nullptr;  ///< [count]
  void* logits_gradient = nullptr;       ///< [count, width], the logits' type
};

/// KL(policy‖reference) of every row, >= 0; 0 where masked.
struct KlJob {
  LogitRows policy, reference;  ///< of the same element type
  const bool* mask = nullptr;   ///< [count]
  void* kl = nullptr;           ///< [count]
};

/// d Σ kl_gradient · KL(reference‖policy) / d policy logits = kl_gradient · (π − π_ref); writes every element
/// (zeros where masked).
struct KlGradientJob {
  LogitRows policy, reference;        ///< of the same element type
  const bool* mask = nullptr;         ///< [count]
  const void* kl_gradient = nullptr;  ///< [count]
  void* policy_gradient = nullptr;    ///< [count, width], the logits' type
};

void cpu_scores(const ScoreJob& job);
void cpu_score_gradient(const GradientJob& job);
void cpu_kl(const KlJob& job);
void cpu_kl_gradient(const KlGradientJob& job);  // (on other devices: two softmaxes)

/// Whether the CUDA kernels can be loaded; where they cannot, a warning says why, once.
bool cuda_kernels_are_there();
/// Queued on `stream`, a cudaStream_t of the current device. RunError when the CUDA kernels are not there
/// (they are loaded at the first call) or a launch fails.
void launch_scores(const ScoreJob& job, void* stream);
void launch_score_gradient(const GradientJob& job, void* stream);
void launch_kl(const KlJob& job, void* stream);

}  // namespace apo::objective
