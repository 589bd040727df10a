// What torch.save wrote of plain tensors, without Python and without running anything.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace apo::models {

/// The tensors of a file that torch.save wrote of a state_dict (a dictionary of plain tensors): a zip archive
/// of uncompressed records, whose pickle is read as data (plain_pickle.h).
///
/// Copies, on the CPU, in their stored types; contiguous.
/// Errors  DataError naming the file: no such archive (a pickle of before PyTorch 1.6 among them), truncated,
///         compressed, of the other byte order, a tensor that reaches beyond its record, or what
///         read_plain_pickle refuses
std::map<std::string, at::Tensor> read_torch_archive(const std::filesystem::path& path);

}  // namespace apo::models
