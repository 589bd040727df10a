// The arithmetic of one row of logits, element by element, compiled by the host's and the device's compiler
// alike: the CPU's tests run the very formulas that the GPU runs.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/kernel_numbers.h"

#define APO_ROW_MATH APO_KERNEL_MATH

namespace apo::objective {

/// Σ exp(x_v) of the elements seen so far, as sum · exp(max), so that nothing overflows.
template <class A>
struct ExpSum {
  A max = -static_cast<A>(INFINITY);
  A sum = 0;

  /// Takes one more element.
  APO_ROW_MATH void push(A x) {
    if (x == -static_cast<A>(INFINITY)) return;  // a forbidden token adds nothing, wherever it stands
    if (x > max) {
      sum = sum * exp_fast(max - x) + exp_fast(x - x);  // 1, or NaN for an infinite logit
      max = x;
    } else {
      sum += exp_fast(x - max);
    }
  }
  /// Takes the elements of another part of the row; an empty part changes nothing.
  APO_ROW_MATH void merge(A other_max, A other_sum) {
    if (other_sum == A(0)) return;
    if (other_max > max) {
      sum = sum * (sum == A(0) ? A(0) : exp_fast(max - other_max)) + other_sum;
      max = other_max;
    } else {
      sum += other_sum * (other_max == max ? A(1) : exp_fast(other_max - max));
    }
  }
  /// log Σ exp(x_v).
  APO_ROW_MATH A log() const { return max + ::log(sum); }
};

/// d score / d logit_v times the gradient of the score: g · (q_v − p_v), here the part −g · p_v that every v
/// has.
template <class A>
APO_ROW_MATH A softmax_gradient(A logit, A log_normalizer, A score_gradient) {
  return -score_gradient * exp_fast(logit - log_normalizer);
}

/// One term of KL(π‖π_ref) = Σ_v p_v (log p_v − log p_ref,v), from raw logits and both normalizers.
template <class A>
APO_ROW_MATH A kl_term(A policy, A policy_log_normalizer, A reference, A reference_log_normalizer) {
  const A log_p = policy - policy_log_normalizer;
  const A p = exp_fast(log_p);
  // p = 0 drops a term whose log-ratio may be infinite
  return p == A(0) ? A(0) : p * (log_p - (reference - reference_log_normalizer));
}

/// A label spread over the neighbouring action bins: q_v ∝ exp(−(v − token)² / 2σ²) for bins first..last of
/// the vocabulary within 6σ of the token, Σ q = 1. A token outside first..last (the end token) keeps its hard
/// label.
struct SmoothLabel {
  double sigma = 0;  ///< in bins; 0: hard label
  int64_t first = 0, last = -1;

  APO_ROW_MATH bool covers(int64_t token) const { return sigma > 0 && token >= first && token <= last; }
  APO_ROW_MATH int64_t radius() const { return static_cast<int64_t>(ceil(6 * sigma)); }
  APO_ROW_MATH int64_t low(int64_t token) const {
    return token - radius() > first ? token - radius() : first;
  }
  APO_ROW_MATH int64_t high(int64_t token) const { return token + radius() < last ? token + radius() : last; }
  template <class A>
  APO_ROW_MATH A unscaled(int64_t distance) const {
    return exp_fast(static_cast<A>(-0.5 * static_cast<double>(distance * distance) / (sigma * sigma)));
  }
};

/// Σ_v q_v logit_v − log Σ exp: the score of a token on one row; log softmax itself for a hard label.
template <class T, class A>
APO_ROW_MATH A label_score(const T* row, int64_t token, A log_normalizer, const SmoothLabel& label) {
  if (!label.covers(token)) return load(row[token]) - log_normalizer;
  A weighted = 0, total = 0;
  for (int64_t v = label.low(token); v <= label.high(token); ++v) {
    const A q = label.unscaled<A>(v - token);
    weighted += q * (load(row[v]) - log_normalizer);
    total += q;
  }
  return weighted / total;
}

/// q_v of one bin; `total` is the sum of `unscaled` over low..high.
template <class A>
APO_ROW_MATH A label_total(int64_t token, const SmoothLabel& label) {
  A total = 0;
  for (int64_t v = label.low(token); v <= label.high(token); ++v) total += label.unscaled<A>(v - token);
  return total;
}

}  // namespace apo::objective
