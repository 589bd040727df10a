// Loops over rows on the CPU: shared out among torch's threads, and compiled for each width of vectors.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

// Of everything that is compiled behind this header: with floating-point traps, which nobody here wants,
// the clamps of exp_fast become jumps where vectors have no masks (AVX2), and the loop no vectors at all.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

// What the loops below are made of is inlined into each of the targets. Written in place of vector
// intrinsics: loops over a fixed number of lanes without branches, which the compiler vectorises for each
// of them.
#define APO_INLINE [[gnu::always_inline]] inline

namespace apo {

/// Calls `range(begin, end)` for ranges that together are rows 0..count-1, of `width` numbers each, on as
/// many of torch's threads as that is worth.
void for_all_rows(int64_t count, int64_t width, c10::function_ref<void(int64_t begin, int64_t end)> range);

enum class Vectors { baseline, avx2, avx512 };
/// The widest that this machine has, and that the targets below have been compiled for.
Vectors widest_vectors();

}  // namespace apo

// Defines `void name(const Job& job, int64_t begin, int64_t end)`, which runs `body`, an APO_INLINE
// function of the same parameters, with the widest vectors that the machine has.
#if defined(__x86_64__) && defined(__GNUC__)
#define APO_FOR_EVERY_TARGET(name, Job, body)                                                                \
  __attribute__((target(                                                                                     \
      "avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"))) void name##_avx512(const Job& job, \
                                                                                             int64_t begin,  \
                                                                                             int64_t end) {  \
    body(job, begin, end);                                                                                   \
  }                                                                                                          \
  __attribute__((target("avx2,fma"))) void name##_avx2(const Job& job, int64_t begin, int64_t end) {         \
    body(job, begin, end);                                                                                   \
  }                                                                                                          \
  void name(const Job& job, int64_t begin, int64_t end) {                                                    \
    const Vectors widest = widest_vectors();                                                                 \
    if (widest == Vectors::avx512) return name##_avx512(job, begin, end);                                    \
    if (widest == Vectors::avx2) return name##_avx2(job, begin, end);                                        \
    body(job, begin, end);                                                                                   \
  }
#else
#define APO_FOR_EVERY_TARGET(name, Job, body) \
  void name(const Job& job, int64_t begin, int64_t end) { body(job, begin, end); }
#endif
