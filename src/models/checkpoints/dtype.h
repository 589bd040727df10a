// Number types by the names that options give them.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string_view>

namespace apo::models {

/// "float32", "bfloat16" or "float16"; nothing for any other name.
inline std::optional<at::ScalarType> dtype_named(std::string_view name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  return std::nullopt;
}

}  // namespace apo::models
