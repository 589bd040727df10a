// Pictures for people who watch while they are made, as JPEG: small and quick, not exact.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace apo::pictures {

/// [Y, X, 3] uint8 RGB, row 0 at the top; quality 1..100. DataError for another shape or type.
std::string encode_jpeg(const at::Tensor& image, int quality = 85);

}  // namespace apo::pictures
