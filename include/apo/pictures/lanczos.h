// Resizing as TensorFlow does, for policies whose pictures came through it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace apo::pictures {

/// Resizes with Lanczos' kernel of radius 3 and antialias: columns of the picture first, then rows, in
/// float32 without rounding in between; the result rounded half to even and clipped.
///
/// Shapes   image [Y, X, 3] uint8, returns [height, width, 3] uint8; the same tensor if the size is already
///          right
/// Errors   DataError for another rank, dtype or an empty image
/// Numeric  tf.image.resize(method="lanczos3", antialias=True), rounded, but for one grey level in a few of
///          10^5 values
at::Tensor resize_lanczos(const at::Tensor& image, int64_t height, int64_t width);

}  // namespace apo::pictures
