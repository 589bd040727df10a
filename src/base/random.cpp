#include "apo/base/random.h"

#include <cmath>
#include <sstream>

#include "apo/base/error.h"

namespace apo {
namespace {

// SplitMix64's finaliser.
uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t mix_seed(uint64_t seed, std::string_view stream, uint64_t position) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a of the name
  for (const char c : stream) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return scramble(scramble(scramble(seed) ^ hash) ^ position);
}

uint64_t Random::below(uint64_t n) {
  APO_ASSERT(n > 0);
  // reject the uneven tail
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
  uint64_t x = engine_();
  while (x >= limit) x = engine_();
  return x % n;
}

double Random::normal() {
  // Box-Muller, one of the pair: no hidden state beside the engine
  const double u = 1.0 - uniform();
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
}

std::vector<uint32_t> Random::permutation(uint32_t n) {
  std::vector<uint32_t> order(n);
  for (uint32_t i = 0; i < n; ++i) order[i] = i;
  for (uint32_t i = n; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

std::string Random::state() const {
  std::ostringstream out;
  out << engine_;
  return out.str();
}

void Random::restore(const std::string& state) {
  std::istringstream in(state);
  std::mt19937_64 engine;
  in >> engine;
  const bool whole = !in.fail() && (in >> std::ws).eof();
  APO_CHECK(DataError, whole, "random stream: expected a saved state, found ", state.size(), " other bytes");
  engine_ = engine;
}

}  // namespace apo
