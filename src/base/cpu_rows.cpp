#include "base/cpu_rows.h"

#include <ATen/TensorIterator.h>
#include <torch/types.h>

#include <algorithm>

namespace apo {

Vectors widest_vectors() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512) return Vectors::avx512;
  if (avx2) return Vectors::avx2;
#endif
  return Vectors::baseline;
}

// `at::parallel_for` in a header runs on one thread unless its file is compiled with OpenMP; a
// TensorIterator over the row numbers reaches the threads inside the library.
void for_all_rows(int64_t count, int64_t width, c10::function_ref<void(int64_t begin, int64_t end)> range) {
  if (count == 0) return;
  constexpr int64_t kElementsWorthAThread = 32768;
  at::Tensor begin = at::arange(count, at::kLong);
  at::TensorIterator rows =
      at::TensorIteratorConfig().add_output(begin).check_all_same_dtype(false).resize_outputs(false).build();
  rows.for_each(
      [&range](char** data, const int64_t*, int64_t inner, int64_t outer) {
        const int64_t first = *reinterpret_cast<const int64_t*>(data[0]);
        range(first, first + inner * outer);
      },
      std::max<int64_t>(1, kElementsWorthAThread / std::max<int64_t>(1, width)));
}

}  // namespace apo
