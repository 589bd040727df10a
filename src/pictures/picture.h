// What every picture transform asks of its input.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace apo::pictures {

/// Of any picture that a transform makes.
inline constexpr int64_t kLargestSide = 1 << 16;

/// DataError unless `image` is [Y, X, 3] uint8 on the CPU with at least one pixel.
void expect_picture(const at::Tensor& image);

}  // namespace apo::pictures
