// Pictures and animations for people, as WebP.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <span>
#include <string>

#include "apo/base/types.h"

namespace apo::pictures {

/// An endless animation of [Y, X, 3] uint8 frames of one size; quality 0..100 (lossy). The last frame stays
/// `hold` seconds. DataError for no frames, another rank or dtype, or frames of different sizes.
std::string encode_animation(std::span<const at::Tensor> frames, double frames_per_second,
                             double quality = 70, double hold = 0.8);
/// One picture, lossless.
std::string encode_picture(const at::Tensor& image);

/// The same into a file, whole or not at all. RunError naming the path if it cannot be written.
void write_animation(const std::filesystem::path& path, std::span<const at::Tensor> frames,
                     double frames_per_second);
void write_picture(const std::filesystem::path& path, const at::Tensor& image);

/// A copy whose outermost 1/32 (at least 2 pixels) says who acted: green expert, blue policy, orange human.
at::Tensor with_border(const at::Tensor& image, ActionSource source);

}  // namespace apo::pictures
