// A picture to draw on: rectangles, pictures and small capital letters.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>

#include "apo/base/types.h"

namespace apo::pictures {

using Color = std::array<uint8_t, 3>;

/// Of who acted, wherever pictures show it: green expert, blue policy, orange human.
Color source_color(ActionSource source);

class Canvas {
 public:
  Canvas(int64_t height, int64_t width, Color background);
  void fill(int64_t y, int64_t x, int64_t height, int64_t width, Color color);
  /// `image` [Y, X, 3] uint8 with its upper left corner at (y, x).
  void paste(int64_t y, int64_t x, const at::Tensor& image);
  /// Capital letters, digits and some signs of 5 by 7 pixels, `scale` times enlarged; what lies outside is
  /// cut off, and what the font lacks is a small box.
  void write(int64_t y, int64_t x, const std::string& text, Color color, int64_t scale = 1);
  static int64_t text_width(const std::string& text, int64_t scale = 1);
  const at::Tensor& image() const { return image_; }

 private:
  at::Tensor image_;
};

}  // namespace apo::pictures
