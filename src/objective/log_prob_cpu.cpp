// The row kernels on the CPU: rows in parallel on torch's own threads, each row with the widest vector
// instructions that the machine has.
#include <algorithm>
#include <limits>

#include "base/cpu_rows.h"
#include "objective/kernels/launch.h"

namespace apo::objective {
namespace {

constexpr int64_t kLanes = 32;    // partial sums in flight
constexpr int64_t kBlock = 4096;  // logits that are read twice while they are in the first cache

template <class T>
APO_INLINE const T* row_of(const LogitRows& rows, int64_t r) {
  return static_cast<const T*>(rows.data) + (r / rows.columns) * rows.outer_stride +
         (r % rows.columns) * rows.inner_stride;
}

// The type that logits of type T are summed in.
template <class T>
using Sum = decltype(load(T{}));

template <class T>
APO_INLINE void add_block(const T* x, int64_t n, ExpSum<Sum<T>>& total) {
  using A = Sum<T>;
  // largest element of the block
  A top[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) top[l] = -std::numeric_limits<A>::infinity();
  int64_t v = 0;
  for (; v + kLanes <= n; v += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) {
      const A value = load(x[v + l]);
      top[l] = value > top[l] ? value : top[l];
    }
  A block_max = -std::numeric_limits<A>::infinity();
  for (int64_t l = 0; l < kLanes; ++l) block_max = top[l] > block_max ? top[l] : block_max;
  for (int64_t tail = v; tail < n; ++tail) block_max = load(x[tail]) > block_max ? load(x[tail]) : block_max;
  // sum of exponentials relative to it; a block of forbidden tokens alone has none and adds nothing
  const A base = block_max == -std::numeric_limits<A>::infinity() ? A(0) : block_max;
  A part[kLanes] = {};
  v = 0;
  for (; v + kLanes <= n; v += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) part[l] += exp_fast(load(x[v + l]) - base);
  A block_sum = 0;
  for (int64_t l = 0; l < kLanes; ++l) block_sum += part[l];
  for (; v < n; ++v) block_sum += exp_fast(load(x[v]) - base);
  total.merge(block_max, block_sum);
}

template <class T>
APO_INLINE Sum<T> log_normalizer_of(const T* row, int64_t width) {
  ExpSum<Sum<T>> total;
  for (int64_t v = 0; v < width; v += kBlock) add_block(row + v, std::min(kBlock, width - v), total);
  return total.log();
}

template <class T>
APO_INLINE Sum<T> checked_score(const T* row, int64_t token, Sum<T> log_normalizer, const ScoreJob& job) {
  if (token < 0 || token >= job.logits.width) return std::numeric_limits<Sum<T>>::quiet_NaN();
  return label_score(row, token, log_normalizer, job.label);
}

template <class T>
APO_INLINE void scores_of_rows(const ScoreJob& job, int64_t begin, int64_t end) {
  using A = Sum<T>;
  auto* score = static_cast<A*>(job.score);
  auto* other_score = static_cast<A*>(job.other_score);
  auto* log_normalizer = static_cast<A*>(job.log_normalizer);
  for (int64_t r = begin; r < end; ++r) {
    const bool own = job.own.mask[r], other = job.other.tokens && job.other.mask[r];
    const T* row = row_of<T>(job.logits, r);
    const A normalizer = own || other ? log_normalizer_of(row, job.logits.width) : A(0);
    log_normalizer[r] = normalizer;
    score[r] = own ? checked_score(row, job.own.tokens[r], normalizer, job) : A(0);
    if (job.other.tokens)
      other_score[r] = other ? checked_score(row, job.other.tokens[r], normalizer, job) : A(0);
  }
}

template <class T>
APO_INLINE void gradient_of_rows(const GradientJob& job, int64_t begin, int64_t end) {
  using A = Sum<T>;
  const int64_t width = job.logits.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* row = row_of<T>(job.logits, r);
    T* out = static_cast<T*>(job.logits_gradient) + r * width;
    const A g = static_cast<const A*>(job.score_gradient)[r];
    if (!job.own.mask[r] || g == A(0)) {
      std::fill_n(out, width, T{});
      continue;
    }
    // −g p_v everywhere
    const A normalizer = static_cast<const A*>(job.log_normalizer)[r];
    for (int64_t v = 0; v < width; ++v) store(out[v], softmax_gradient(load(row[v]), normalizer, g));
    // + g q_v at the label
    const int64_t token = job.own.tokens[r];
    if (token < 0 || token >= width) continue;
    if (!job.label.covers(token)) {
      store(out[token], g + softmax_gradient(load(row[token]), normalizer, g));
      continue;
    }
    const A total = label_total<A>(token, job.label);
    for (int64_t v = job.label.low(token); v <= job.label.high(token); ++v) {
      const A q = job.label.unscaled<A>(v - token) / total;
      store(out[v], g * q + softmax_gradient(load(row[v]), normalizer, g));
    }
  }
}

template <class T>
APO_INLINE void kl_of_rows(const KlJob& job, int64_t begin, int64_t end) {
  using A = Sum<T>;
  const int64_t width = job.policy.width;
  for (int64_t r = begin; r < end; ++r) {
    auto& kl = static_cast<A*>(job.kl)[r];
    kl = 0;
    if (!job.mask[r]) continue;
    const T* policy = row_of<T>(job.policy, r);
    const T* reference = row_of<T>(job.reference, r);
    const A policy_normalizer = log_normalizer_of(policy, width);
    const A reference_normalizer = log_normalizer_of(reference, width);
    A part[kLanes] = {};
    int64_t v = 0;
    for (; v + kLanes <= width; v += kLanes)
      for (int64_t l = 0; l < kLanes; ++l)
        part[l] +=
            kl_term(load(policy[v + l]), policy_normalizer, load(reference[v + l]), reference_normalizer);
    A sum = 0;
    for (int64_t l = 0; l < kLanes; ++l) sum += part[l];
    for (; v < width; ++v)
      sum += kl_term(load(policy[v]), policy_normalizer, load(reference[v]), reference_normalizer);
    kl = sum < A(0) ? A(0) : sum;  // rounding may leave −1e-8; NaN passes
  }
}

template <class T>
APO_INLINE void kl_gradient_of_rows(const KlGradientJob& job, int64_t begin, int64_t end) {
  using A = Sum<T>;
  const int64_t width = job.policy.width;
  for (int64_t r = begin; r < end; ++r) {
    T* out = static_cast<T*>(job.policy_gradient) + r * width;
    const A g = static_cast<const A*>(job.kl_gradient)[r];
    if (!job.mask[r] || g == A(0)) {
      std::fill_n(out, width, T{});
      continue;
    }
    const T* policy = row_of<T>(job.policy, r);
    const T* reference = row_of<T>(job.reference, r);
    const A policy_normalizer = log_normalizer_of(policy, width);
    const A reference_normalizer = log_normalizer_of(reference, width);
    for (int64_t v = 0; v < width; ++v)
      store(out[v], softmax_gradient(load(reference[v]), reference_normalizer, g) -
                        softmax_gradient(load(policy[v]), policy_normalizer, g));
  }
}

// Of the type that the job's logits have.
#define APO_FOR_ELEMENT(element, function)        \
  switch (element) {                              \
    case Element::float32:                        \
      return function<float>(job, begin, end);    \
    case Element::float64:                        \
      return function<double>(job, begin, end);   \
    case Element::bfloat16:                       \
      return function<Bfloat16>(job, begin, end); \
  }

APO_INLINE void scores(const ScoreJob& job, int64_t begin,
                       int64_t end){APO_FOR_ELEMENT(job.logits.element, scores_of_rows)} APO_INLINE
    void score_gradient(const GradientJob& job, int64_t begin,
                        int64_t end){APO_FOR_ELEMENT(job.logits.element, gradient_of_rows)} APO_INLINE
    void kl(const KlJob& job, int64_t begin,
            int64_t end){APO_FOR_ELEMENT(job.policy.element, kl_of_rows)} APO_INLINE
    void kl_gradient(const KlGradientJob& job, int64_t begin,
                     int64_t end){APO_FOR_ELEMENT(job.policy.element, kl_gradient_of_rows)}

APO_FOR_EVERY_TARGET(run_scores, ScoreJob, scores)
    APO_FOR_EVERY_TARGET(run_score_gradient, GradientJob, score_gradient)
        APO_FOR_EVERY_TARGET(run_kl, KlJob, kl)
            APO_FOR_EVERY_TARGET(run_kl_gradient, KlGradientJob, kl_gradient)

}  // namespace

void cpu_scores(const ScoreJob& job) {
  for_all_rows(job.logits.count, job.logits.width, [&](int64_t a, int64_t b) { run_scores(job, a, b); });
}
void cpu_score_gradient(const GradientJob& job) {
  for_all_rows(job.logits.count, job.logits.width,
               [&](int64_t a, int64_t b) { run_score_gradient(job, a, b); });
}
void cpu_kl(const KlJob& job) {
  for_all_rows(job.policy.count, job.policy.width, [&](int64_t a, int64_t b) { run_kl(job, a, b); });
}
void cpu_kl_gradient(const KlGradientJob& job) {
  for_all_rows(job.policy.count, job.policy.width, [&](int64_t a, int64_t b) { run_kl_gradient(job, a, b); });
}

}  // namespace apo::objective
