// How a picture of any shape becomes the square that a vision tower sees.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "apo/base/error.h"
#include "apo/pictures/transforms.h"
#include "pictures/picture.h"

namespace apo::pictures {
namespace {

constexpr std::array<std::pair<std::string_view, ResizeStrategy>, 3> kStrategies{
    {{"letterbox", ResizeStrategy::letterbox},
     {"resize-naive", ResizeStrategy::resize_naive},
     {"resize-crop", ResizeStrategy::resize_crop}}};

// A border of `fill` that makes the picture square, or one pixel short of it where the difference is odd.
at::Tensor padded_to_square(const at::Tensor& image, std::array<uint8_t, 3> fill) {
  const int64_t height = image.size(0), width = image.size(1), side = std::max(height, width);
  const int64_t top = (side - height) / 2, left = (side - width) / 2;
  if (top == 0 && left == 0) return image;
  const at::Tensor color = at::tensor(at::ArrayRef<uint8_t>(fill), at::kByte);
  at::Tensor result = color.expand({height + 2 * top, width + 2 * left, 3}).contiguous();
  result.narrow(0, top, height).narrow(1, left, width).copy_(image);
  return result;
}

// Python's round: half-way cases to the even neighbour.
int64_t half_to_even(int64_t twice) {
  const int64_t half = twice / 2;  // twice >= 0
  return twice % 2 == 0 ? half : half + half % 2;
}

// The shorter side to `size`, then the centre square.
at::Tensor resized_and_cropped(const at::Tensor& image, int64_t size, Interpolation interpolation) {
  const int64_t height = image.size(0), width = image.size(1);
  const auto longer = [size](int64_t shorter_side,
                             int64_t longer_side) {  // in double, as torchvision's int(size * l / s)
    return static_cast<int64_t>(static_cast<double>(size * longer_side) / static_cast<double>(shorter_side));
  };
  const int64_t new_height = height <= width ? size : longer(width, height);
  const int64_t new_width = height <= width ? longer(height, width) : size;
  APO_CHECK(DataError, std::max(new_height, new_width) <= kLargestSide, "picture: ", height, "x", width,
            " is too narrow: its longer side would become ", std::max(new_height, new_width), " pixels");
  const at::Tensor result = resize(image, new_height, new_width, interpolation);
  if (new_height == size && new_width == size) return result;
  return result.narrow(0, half_to_even(new_height - size), size)
      .narrow(1, half_to_even(new_width - size), size)
      .contiguous();
}

// Where one target pixel lies between two source pixels along a side.
struct Place {
  int64_t low = 0, high = 0;
  float share = 0;  // of `high`
};

// In float32 and in this order of operations, as tf.image.crop_and_resize.
std::vector<Place> centre_places(int64_t from, int64_t to, double area_share) {
  const float side = std::sqrt(static_cast<float>(area_share));
  const float begin = (1.0f - side) / 2.0f, end = begin + side;
  const auto last = static_cast<float>(from - 1);
  const float step = to > 1 ? (end - begin) * last / static_cast<float>(to - 1) : 0.0f;
  std::vector<Place> places(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const float place = to > 1 ? begin * last + static_cast<float>(i) * step : 0.5f * (begin + end) * last;
    const float inside =
        std::clamp(place, 0.0f, last);  // rounding may leave the picture by a hair where all is kept
    places[static_cast<size_t>(i)] = {static_cast<int64_t>(std::floor(inside)),
                                      static_cast<int64_t>(std::ceil(inside)), inside - std::floor(inside)};
  }
  return places;
}

}  // namespace

std::string_view to_string(ResizeStrategy strategy) {
  for (const auto& [name, candidate] : kStrategies)
    if (candidate == strategy) return name;
  throw Bug("an unknown resize strategy");
}

ResizeStrategy resize_strategy_from(std::string_view name, const std::string& where) {
  for (const auto& [known, strategy] : kStrategies)
    if (known == name) return strategy;
  throw DataError(concat(where, ": expected letterbox, resize-naive or resize-crop, found \"", name, "\""));
}

at::Tensor resize_picture(const at::Tensor& image, int64_t size, ResizeStrategy strategy,
                          Interpolation interpolation, std::array<uint8_t, 3> fill) {
  expect_picture(image);
  APO_CHECK(DataError, size > 0 && size <= kLargestSide, "picture: cannot be resized to ", size, "x", size);
  switch (strategy) {
    case ResizeStrategy::resize_naive:
      return resize(image, size, size, interpolation);
    case ResizeStrategy::resize_crop:
      return resized_and_cropped(image, size, interpolation);
    case ResizeStrategy::letterbox:
      return resized_and_cropped(padded_to_square(image, fill), size, interpolation);
  }
  throw Bug("an unknown resize strategy");
}

at::Tensor center_crop(const at::Tensor& image, double area_share, int64_t height, int64_t width) {
  expect_picture(image);
  APO_CHECK(ConfigError, area_share > 0 && area_share <= 1, "center_crop: expected a share in (0, 1], found ",
            area_share);
  APO_CHECK(DataError, height > 0 && width > 0, "picture: cannot be resized to ", height, "x", width);
  const at::Tensor source = image.contiguous();
  const std::vector<Place> rows = centre_places(image.size(0), height, area_share),
                           columns = centre_places(image.size(1), width, area_share);
  std::array<float, 256> light;  // of each grey level
  for (size_t level = 0; level < light.size(); ++level)
    light[level] = static_cast<float>(level) * (1.0f / 255.0f);

  at::Tensor result = at::empty({height, width, 3}, at::kByte);
  uint8_t* out = result.data_ptr<uint8_t>();
  const uint8_t* const pixels = source.const_data_ptr<uint8_t>();
  for (const Place& row : rows) {
    const uint8_t* const above = pixels + 3 * source.size(1) * row.low;
    const uint8_t* const below = pixels + 3 * source.size(1) * row.high;
    for (const Place& column : columns) {
      for (int64_t c = 0; c < 3; ++c) {
        const auto between = [&](const uint8_t* line) {
          const float left = light[line[3 * column.low + c]], right = light[line[3 * column.high + c]];
          return left + (right - left) * column.share;
        };
        const float top = between(above), bottom = between(below);
        const float value = std::clamp(top + (bottom - top) * row.share, 0.0f, 1.0f);
        *out++ = static_cast<uint8_t>(std::min(value * 255.5f, 255.0f));
      }
    }
  }
  return result;
}

}  // namespace apo::pictures
