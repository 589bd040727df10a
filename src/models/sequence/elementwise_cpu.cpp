// The element-by-element steps on the CPU: each reads its numbers once, where a composition of operations
// carries them through memory several times.
#include <algorithm>
#include <cmath>

#include "base/cpu_rows.h"
#include "models/sequence/kernels/elementwise.h"

namespace apo::models {
namespace {

constexpr int64_t kLanes = 32;       // partial sums in flight
constexpr int64_t kGatedRow = 4096;  // what a thread takes at a time, where there are no rows

APO_INLINE float fast_sigmoid(float x) { return 1.0f / (1.0f + exp_fast(-x)); }

APO_INLINE void rotate(const RotationJob& job, int64_t begin, int64_t end) {
  const int64_t half = job.size / 2;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t b = r / (job.length * job.count), t = r / job.count % job.length, h = r % job.count;
    const float* first = static_cast<const float*>(job.heads) + b * job.batch_stride + t * job.length_stride +
                         h * job.count_stride;
    const int64_t angle = b * job.angle_batch_stride + t * job.angle_length_stride;
    const float *second = first + half, *cos = static_cast<const float*>(job.cos) + angle,
                *sin = static_cast<const float*>(job.sin) + angle;
    float* __restrict out_first = static_cast<float*>(job.out) + r * job.size;
    float* __restrict out_second = out_first + half;
    const float direction = job.direction;
    for (int64_t i = 0; i < half; ++i) {
      const Turned pair = turned(first[i], second[i], cos[i], direction * sin[i]);
      out_first[i] = pair.first;
      out_second[i] = pair.second;
    }
  }
}

// Calls `at` with each of a range of numbers, kLanes at a time: a loop of fixed length is what every compiler
// makes vectors of.
template <class At>
APO_INLINE void for_numbers(int64_t begin, int64_t end, const At& at) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) at(i + l);
  for (; i < end; ++i) at(i);
}

APO_INLINE void gated_rows(const GatedJob& job, int64_t begin, int64_t end) {
  const auto *gate = static_cast<const float*>(job.gate), *up = static_cast<const float*>(job.up);
  auto* __restrict out = static_cast<float*>(job.out);
  for_numbers(
      begin * kGatedRow, std::min(job.count, end * kGatedRow), [=](int64_t i) __attribute__((always_inline)) {
        out[i] = gated(gate[i], up[i], fast_sigmoid(gate[i]));
      });
}

APO_INLINE void gated_gradient_rows(const GatedJob& job, int64_t begin, int64_t end) {
  const auto *gate = static_cast<const float*>(job.gate), *up = static_cast<const float*>(job.up),
             *gradient = static_cast<const float*>(job.gradient);
  auto* __restrict of_gate = static_cast<float*>(job.gate_gradient);
  auto* __restrict of_up = static_cast<float*>(job.up_gradient);
  for_numbers(
      begin * kGatedRow, std::min(job.count, end * kGatedRow), [=](int64_t i) __attribute__((always_inline)) {
        const GatedGradient both = gated_gradient(gradient[i], gate[i], up[i], fast_sigmoid(gate[i]));
        of_gate[i] = both.gate;
        of_up[i] = both.up;
      });
}

// Σ of `width` numbers that `at` gives, in an order that depends on nothing but the width.
template <class At>
APO_INLINE float sum_of(int64_t width, const At& at) {
  float part[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) part[l] += at(i + l);
  float sum = 0;
  for (; i < width; ++i) sum += at(i);
  for (int64_t l = 0; l < kLanes; ++l) sum += part[l];
  return sum;
}

APO_INLINE void rms_norm_rows(const RmsNormJob& job, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* x = job.x + r * job.width;
    float* out = job.out + r * job.width;
    const float squares = sum_of(job.width, [x](int64_t i) { return x[i] * x[i]; });
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(job.width) + job.epsilon);
    job.scale[r] = scale;
    for (int64_t i = 0; i < job.width; ++i) out[i] = x[i] * scale * (job.offset + job.weight[i]);
  }
}

// With y = s w x and s = 1 / rms(x): d/dx_i of sum g_i y_i = s w_i g_i - x_i s^3 / n sum_j w_j g_j x_j.
APO_INLINE void rms_norm_gradient_rows(const RmsNormJob& job, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float *x = job.x + r * job.width, *g = job.gradient + r * job.width, *w = job.weight;
    float* out = job.x_gradient + r * job.width;
    const float scale = job.scale[r], offset = job.offset;
    const float dot = sum_of(job.width, [=](int64_t i) { return (offset + w[i]) * g[i] * x[i]; });
    const float along = scale * scale * scale * dot / static_cast<float>(job.width);
    for (int64_t i = 0; i < job.width; ++i) out[i] = scale * (offset + w[i]) * g[i] - along * x[i];
  }
}

APO_FOR_EVERY_TARGET(run_rotate, RotationJob, rotate)
APO_FOR_EVERY_TARGET(run_gated, GatedJob, gated_rows)
APO_FOR_EVERY_TARGET(run_gated_gradient, GatedJob, gated_gradient_rows)
APO_FOR_EVERY_TARGET(run_rms_norm, RmsNormJob, rms_norm_rows)
APO_FOR_EVERY_TARGET(run_rms_norm_gradient, RmsNormJob, rms_norm_gradient_rows)

int64_t gated_rows_of(const GatedJob& job) { return (job.count + kGatedRow - 1) / kGatedRow; }

}  // namespace

void cpu_rotate(const RotationJob& job) {
  for_all_rows(job.batch * job.length * job.count, job.size,
               [&](int64_t a, int64_t b) { run_rotate(job, a, b); });
}
void cpu_gated(const GatedJob& job) {
  for_all_rows(gated_rows_of(job), kGatedRow, [&](int64_t a, int64_t b) { run_gated(job, a, b); });
}
void cpu_gated_gradient(const GatedJob& job) {
  for_all_rows(gated_rows_of(job), kGatedRow, [&](int64_t a, int64_t b) { run_gated_gradient(job, a, b); });
}
void cpu_rms_norm(const RmsNormJob& job) {
  for_all_rows(job.count, job.width, [&](int64_t a, int64_t b) { run_rms_norm(job, a, b); });
}
void cpu_rms_norm_gradient(const RmsNormJob& job) {
  for_all_rows(job.count, job.width, [&](int64_t a, int64_t b) { run_rms_norm_gradient(job, a, b); });
}

}  // namespace apo::models
