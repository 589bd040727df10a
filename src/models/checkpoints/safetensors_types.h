// How safetensors files say things: the names of element types, and whole small files.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

#include "apo/models/named_tensors.h"

namespace apo::models {

std::optional<at::ScalarType> scalar_type_of(std::string_view dtype);
/// Empty if the format has no name for it.
std::string_view dtype_of(at::ScalarType type);
/// All names, for messages.
std::string known_dtypes();

/// The bytes of the file that write_safetensors would write.
std::string safetensors_text(const NamedTensors& tensors);

}  // namespace apo::models
