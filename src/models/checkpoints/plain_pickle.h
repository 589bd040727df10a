// Python pickles that hold tensors, read as data: nothing that they name is ever run.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace apo::models {

/// A tensor as a pickle describes it: a view of the numbers that the archive keeps under `storage`.
struct PickledTensor {
  at::ScalarType type = at::kFloat;
  std::string storage;       ///< the name of its record
  int64_t storage_size = 0;  ///< numbers in it
  int64_t offset = 0;        ///< of its first number
  std::vector<int64_t> sizes, strides;
};

/// The tensors of a pickled dictionary by their keys.
///
/// Understands what torch.save writes of a state_dict: dictionaries, texts, numbers, tuples, storages and
/// tensors (torch._utils._rebuild_tensor_v2, with or without _rebuild_parameter). `pickle` is data.pkl of the
/// archive, `where` what messages call it.
/// Errors  DataError naming `where` and what was found: anything else that the pickle would have Python run,
///         an unknown instruction, what is truncated, nested too deeply, or no dictionary of tensors
std::map<std::string, PickledTensor> read_plain_pickle(std::string_view pickle, const std::string& where);

}  // namespace apo::models
