// The row kernels on CUDA: one block a row, the arithmetic of row_math.h. A library of its own
// (cuda_module.h).
#include <cuda_runtime.h>

#include "objective/kernels/cuda_module.h"

namespace apo::objective {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

template <class T>
using Sum = decltype(load(T{}));

template <class T>
__device__ const T* row_of(const LogitRows& rows, int64_t r) {
  return static_cast<const T*>(rows.data) + (r / rows.columns) * rows.outer_stride +
         (r % rows.columns) * rows.inner_stride;
}

// Every thread's part becomes the whole block's, in an order that depends on nothing but the block's size.
template <class A>
__device__ void merge_block(ExpSum<A>& part) {
  __shared__ A maxima[kThreads / kWarp], sums[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const A other_max = __shfl_down_sync(0xffffffffu, part.max, offset);
    const A other_sum = __shfl_down_sync(0xffffffffu, part.sum, offset);
    part.merge(other_max, other_sum);
  }
  __syncthreads();  // the arrays may still be read by the merge before
  if (threadIdx.x % kWarp == 0) {
    maxima[threadIdx.x / kWarp] = part.max;
    sums[threadIdx.x / kWarp] = part.sum;
  }
  __syncthreads();
  part = ExpSum<A>{};
  for (int w = 0; w < kThreads / kWarp; ++w) part.merge(maxima[w], sums[w]);
}

// The block's sum of one number a thread, valid in thread 0.
template <class A>
__device__ A add_block(A value) {
  __shared__ A parts[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  A sum = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) sum += parts[w];
  return sum;
}

template <class T>
__device__ Sum<T> log_normalizer_of(const T* row, int64_t width) {
  ExpSum<Sum<T>> part;
  for (int64_t v = threadIdx.x; v < width; v += kThreads) part.push(load(row[v]));
  merge_block(part);
  return part.log();
}

template <class T>
__device__ Sum<T> checked_score(const T* row, int64_t token, Sum<T> log_normalizer, const ScoreJob& job) {
  if (token < 0 || token >= job.logits.width) return static_cast<Sum<T>>(NAN);
  return label_score(row, token, log_normalizer, job.label);
}

template <class T>
__global__ void __launch_bounds__(kThreads) scores_of_rows(const ScoreJob job) {
  using A = Sum<T>;
  const int64_t r = blockIdx.x;
  const bool own = job.own.mask[r], other = job.other.tokens != nullptr && job.other.mask[r];
  const T* row = row_of<T>(job.logits, r);
  const A normalizer = own || other ? log_normalizer_of(row, job.logits.width) : A(0);
  if (threadIdx.x != 0) return;
  static_cast<A*>(job.log_normalizer)[r] = normalizer;
  static_cast<A*>(job.score)[r] = own ? checked_score(row, job.own.tokens[r], normalizer, job) : A(0);
  if (job.other.tokens != nullptr)
    static_cast<A*>(job.other_score)[r] =
        other ? checked_score(row, job.other.tokens[r], normalizer, job) : A(0);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gradient_of_rows(const GradientJob job) {
  using A = Sum<T>;
  const int64_t r = blockIdx.x, width = job.logits.width;
  const T* row = row_of<T>(job.logits, r);
  T* out = static_cast<T*>(job.logits_gradient) + r * width;
  const A g = static_cast<const A*>(job.score_gradient)[r];
  if (!job.own.mask[r] || g == A(0)) {
    for (int64_t v = threadIdx.x; v < width; v += kThreads) store(out[v], Sum<T>(0));
    return;
  }
  const A normalizer = static_cast<const A*>(job.log_normalizer)[r];
  const int64_t token = job.own.tokens[r];
  const bool smooth = job.label.covers(token);
  const int64_t low = smooth ? job.label.low(token) : token, high = smooth ? job.label.high(token) : token;
  const A total = smooth ? label_total<A>(token, job.label) : A(1);
  for (int64_t v = threadIdx.x; v < width; v += kThreads) {
    A gradient = softmax_gradient(load(row[v]), normalizer, g);
    if (v >= low && v <= high) gradient += g * (smooth ? job.label.unscaled<A>(v - token) / total : A(1));
    store(out[v], gradient);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) kl_of_rows(const KlJob job) {
  using A = Sum<T>;
  const int64_t r = blockIdx.x, width = job.policy.width;
  auto& kl = static_cast<A*>(job.kl)[r];
  if (!job.mask[r]) {
    if (threadIdx.x == 0) kl = 0;
    return;
  }
  const T* policy = row_of<T>(job.policy, r);
  const T* reference = row_of<T>(job.reference, r);
  const A policy_normalizer = log_normalizer_of(policy, width);
  const A reference_normalizer = log_normalizer_of(reference, width);
  A part = 0;
  for (int64_t v = threadIdx.x; v < width; v += kThreads)
    part += kl_term(load(policy[v]), policy_normalizer, load(reference[v]), reference_normalizer);
  const A sum = add_block(part);
  if (threadIdx.x == 0) kl = sum < A(0) ? A(0) : sum;  // rounding may leave −1e-8; NaN passes
}

// Launches `kernel` for the job's element type, one block a row.
#define APO_LAUNCH(kernel, rows, job, stream)                          \
  do {                                                                 \
    const auto blocks = static_cast<unsigned>((rows).count);           \
    if (blocks == 0) return nullptr;                                   \
    const auto on = static_cast<cudaStream_t>(stream);                 \
    switch ((rows).element) {                                          \
      case Element::float32:                                           \
        kernel<float><<<blocks, kThreads, 0, on>>>(job);               \
        break;                                                         \
      case Element::float64:                                           \
        kernel<double><<<blocks, kThreads, 0, on>>>(job);              \
        break;                                                         \
      case Element::bfloat16:                                          \
        kernel<Bfloat16><<<blocks, kThreads, 0, on>>>(job);            \
        break;                                                         \
    }                                                                  \
    const cudaError_t error = cudaGetLastError();                      \
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error); \
  } while (false)

const char* scores(const ScoreJob& job, void* stream) { APO_LAUNCH(scores_of_rows, job.logits, job, stream); }
const char* score_gradient(const GradientJob& job, void* stream) {
  APO_LAUNCH(gradient_of_rows, job.logits, job, stream);
}
const char* kl(const KlJob& job, void* stream) { APO_LAUNCH(kl_of_rows, job.policy, job, stream); }

}  // namespace
}  // namespace apo::objective

extern "C" __attribute__((visibility("default"))) const apo::objective::CudaKernels* apo_cuda_kernels() {
  static const apo::objective::CudaKernels kernels = {
      .version = APO_VERSION,
      .scores = apo::objective::scores,
      .score_gradient = apo::objective::score_gradient,
      .kl = apo::objective::kl,
  };
  return &kernels;
}
