// Tensors in content hashes.
#pragma once

#include <ATen/core/Tensor.h>

#include "apo/base/hash.h"

namespace apo {

/// Its shape and its numbers, wherever it lies.
inline void add_tensor(ContentHash& hash, const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().cpu().contiguous();
  for (const int64_t size : values.sizes()) hash.add_number(size);
  hash.add(values.const_data_ptr(), values.nbytes());
}

}  // namespace apo
