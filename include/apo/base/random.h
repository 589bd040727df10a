// Random streams by name: each consumer has its own, derived from one seed, so that adding one disturbs no
// other.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace apo {

/// A 64-bit hash of a seed, a stream's name and a position; equal on every machine.
uint64_t mix_seed(uint64_t seed, std::string_view stream, uint64_t position = 0);

/// A random stream whose numbers depend only on (seed, stream, position).
class Random {
 public:
  explicit Random(uint64_t seed, std::string_view stream = "", uint64_t position = 0)
      : engine_(mix_seed(seed, stream, position)) {}

  uint64_t bits() { return engine_(); }
  /// In [0, 1), 53 bits.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// In [0, n), unbiased; n >= 1.
  uint64_t below(uint64_t n);
  /// Standard normal.
  double normal();
  /// 0 .. n-1 in random order.
  std::vector<uint32_t> permutation(uint32_t n);

  /// The whole state as text; `restore` gives the same numbers again.
  std::string state() const;
  void restore(const std::string& state);

 private:
  std::mt19937_64 engine_;
};

}  // namespace apo
