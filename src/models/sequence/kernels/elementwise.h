// Element-by-element steps of a Llama as single kernels: what the library of CUDA kernels hands to whoever
// loads it. Plain pointers and sizes, no tensors, so that CUDA sources compile in a second.
#pragma once

#include <math.h>

#include <cstdint>

#include "base/kernel_numbers.h"

namespace apo::models {

enum class KernelNumber { float32, bfloat16 };

/// Heads [batch, length, heads, size] turned by the angles of their positions; strides in numbers, the last
/// one 1.
struct RotationJob {
  KernelNumber type = KernelNumber::float32;
  const void *heads = nullptr, *cos = nullptr, *sin = nullptr;
  void* out = nullptr;  ///< contiguous
  int64_t batch = 0, length = 0, count = 0, size = 0;
  int64_t batch_stride = 0, length_stride = 0, count_stride = 0;  ///< of the heads
  int64_t angle_batch_stride = 0,
          angle_length_stride = 0;  ///< of both halves of cos and sin, which are equal
  float direction = 1;              ///< -1 turns back
};

/// silu(gate) up, or with a gradient those of gate and up.
struct GatedJob {
  KernelNumber type = KernelNumber::float32;
  int64_t count = 0;
  const void *gate = nullptr, *up = nullptr;
  void* out = nullptr;
  const void* gradient = nullptr;
  void *gate_gradient = nullptr, *up_gradient = nullptr;
};

/// x / rms(x) times offset + weight, rows of `width` numbers; with a gradient that of x instead. Float32 on
/// the CPU alone: on CUDA LibTorch has a kernel of its own.
struct RmsNormJob {
  int64_t count = 0, width = 0;
  float epsilon = 0, offset = 0;
  const float *x = nullptr, *weight = nullptr;
  float* scale = nullptr;  ///< [count], 1 / rms: written on the way there, read on the way back
  float* out = nullptr;
  const float* gradient = nullptr;
  float* x_gradient = nullptr;
};

/// Four-bit codes, the first of a byte in its high bits, each one of `levels` times the scale of its block.
struct UnpackJob {
  KernelNumber type = KernelNumber::float32;
  int64_t count = 0;  ///< numbers, a multiple of kUnpackBlock
  const uint8_t* codes = nullptr;
  const float* scales = nullptr;
  void* out = nullptr;
  float levels[16] = {};
};
inline constexpr int64_t kUnpackBlock = 64;  ///< numbers that share a scale

/// How many numbers a thread takes at a time: sizes, strides and addresses must be whole multiples of these
/// 16 bytes.
inline constexpr int64_t kKernelBytes = 16;

/// Each launch is queued on `stream` (a cudaStream_t) of the current device and returns null, or what went
/// wrong.
struct CudaElementwise {
  const char* version;
  const char* (*rotate)(const RotationJob&, void* stream);
  const char* (*gated)(const GatedJob&, void* stream);
  const char* (*gated_gradient)(const GatedJob&, void* stream);
  const char* (*unpack)(const UnpackJob&, void* stream);
};
inline constexpr const char* kCudaElementwiseSymbol = "apo_cuda_elementwise";

/// The same on the CPU, float32 only, and the norm.
void cpu_rotate(const RotationJob& job);
void cpu_gated(const GatedJob& job);
void cpu_gated_gradient(const GatedJob& job);
void cpu_rms_norm(const RmsNormJob& job);
void cpu_rms_norm_gradient(const RmsNormJob& job);

/// One element of each, as host and device compute it; of the gated ones `s` is the gate's sigmoid, for which
/// the CPU's loops have an e^x of their own.
struct Turned {
  float first, second;
};
APO_KERNEL_MATH Turned turned(float first, float second, float cos, float sin) {
  return {first * cos - second * sin, second * cos + first * sin};
}
APO_KERNEL_MATH float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
APO_KERNEL_MATH float gated(float gate, float up, float s) { return gate * s * up; }
APO_KERNEL_MATH float gated(float gate, float up) { return gated(gate, up, sigmoid(gate)); }
struct GatedGradient {
  float gate, up;
};
APO_KERNEL_MATH GatedGradient gated_gradient(float gradient, float gate, float up, float s) {
  return {gradient * up * s * (1.0f + gate * (1.0f - s)), gradient * gate * s};
}
APO_KERNEL_MATH GatedGradient gated_gradient(float gradient, float gate, float up) {
  return gated_gradient(gradient, gate, up, sigmoid(gate));
}

}  // namespace apo::models
