// The names that safetensors files give to element types.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

namespace apo::models {

std::optional<at::ScalarType> scalar_type_of(std::string_view dtype);
/// Empty if the format has no name for it.
std::string_view dtype_of(at::ScalarType type);
/// All names, for messages.
std::string known_dtypes();

}  // namespace apo::models
