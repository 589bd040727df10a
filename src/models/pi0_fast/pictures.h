// How pi0-FAST sees pictures: the aspect ratio kept, black borders, numbers within [-1, 1].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace apo::models {

/// openpi's: the longer side to `size` with Pillow's bilinear filter, the rest black.
///
/// Shapes  image [Y, X, 3] uint8, returns [size, size, 3] uint8; the same tensor if nothing changes
/// Source  openpi_client/image_tools.py resize_with_pad
at::Tensor resize_with_border(const at::Tensor& image, int64_t size);

/// LeRobot's: the same in float32, bilinear without antialias.
///
/// Shapes  image [Y, X, 3] uint8, returns [3, size, size] float32 within [0, 1]
/// Source  LeRobot's modeling_pi0_fast.py resize_with_pad_torch
at::Tensor resize_with_border_float(const at::Tensor& image, int64_t size);

}  // namespace apo::models
