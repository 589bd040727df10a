// Numbers as kernels read and write them, and e^x, compiled by the host's and the device's compiler alike.
#pragma once

#include <cmath>
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

/// e^x without branches, so that compilers turn loops over it into vector instructions.
///
/// e^x = 2^n · e^f with n = round(x / ln 2), |f| <= ln 2 / 2, and a polynomial of degree 6 for e^f.
/// Numeric  at most 2 units in the last place for x in [-87.33, 88.37]; 0 below (no subnormal results), +inf
///          above (no softmax gets there); exact at 0; NaN stays NaN. Float64 takes the library's exp.
APO_KERNEL_MATH float exp_fast(float x) {
  constexpr float kLog2E = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer and leaves it in the low bits
  constexpr float kSmallest = -87.336544f, kLargest = 88.376f;  // n in [-126, 127]
  const float inside = x < kSmallest ? kSmallest : (x > kLargest ? kLargest : x);
  const float shifted = inside * kLog2E + kRound;
  const float n = shifted - kRound;
  const float f = (inside - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f + 1.0f;
  // 2^n from its exponent bits
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  float power;
  memcpy(&power, &bits, sizeof(power));
  const float result = p * power;
  const float not_tiny = x < kSmallest ? 0.0f : result;
  return x > kLargest ? INFINITY : not_tiny;
}
APO_KERNEL_MATH double exp_fast(double x) { return exp(x); }

}  // namespace apo
