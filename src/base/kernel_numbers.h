// Numbers as kernels read and write them, compiled by the host's and the device's compiler alike.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define APO_KERNEL_MATH __host__ __device__ __forceinline__
#else
#define APO_KERNEL_MATH [[gnu::always_inline]] inline
#endif

namespace apo {

/// A bfloat16 number as it lies in memory: the upper half of a float32.
struct Bfloat16 {
  uint16_t bits;
};

/// Reads a number in the type that it is computed in: float32 for float32 and bfloat16, float64 for float64.
APO_KERNEL_MATH float load(float x) { return x; }
APO_KERNEL_MATH double load(double x) { return x; }
APO_KERNEL_MATH float load(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Writes a number; float32 to bfloat16 rounds to nearest even, NaN stays NaN.
APO_KERNEL_MATH void store(float& to, float x) { to = x; }
APO_KERNEL_MATH void store(double& to, double x) { to = x; }
APO_KERNEL_MATH void store(Bfloat16& to, float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

}  // namespace apo
