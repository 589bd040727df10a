// What every picture transform asks of its input.
#pragma once

#include <ATen/core/Tensor.h>

namespace apo::data {

/// DataError unless `image` is [Y, X, 3] uint8 on the CPU with at least one pixel.
void expect_picture(const at::Tensor& image);

}  // namespace apo::data
