// Resampling in fixed point, row by row and then column by column, bit-equal to Pillow on every machine.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/pictures/transforms.h"
#include "pictures/picture.h"

namespace apo::pictures {
namespace {

constexpr int kFractionBits = 22;  // weights are whole numbers of 2^-22; 255 times their sum fits 31 bits

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys' cubic with a = -1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Which source pixels make one target pixel, and how much each counts.
struct Taps {
  int64_t first = 0;
  std::vector<int32_t> weights;
};

std::vector<Taps> taps(int64_t from, int64_t to, Interpolation interpolation) {
  const bool is_cubic = interpolation == Interpolation::bicubic;
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(scale, 1.0);  // antialias: the filter grows when shrinking
  const double support = (is_cubic ? 2.0 : 1.0) * stretch;
  std::vector<Taps> result(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    Taps& t = result[static_cast<size_t>(i)];
    t.first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), from);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t x = t.first; x < end; ++x) {
      const double place = (static_cast<double>(x) - center + 0.5) / stretch;
      weights.push_back(is_cubic ? cubic(place) : triangle(place));
      sum += weights.back();
    }
    for (const double w : weights)
      t.weights.push_back(
          static_cast<int32_t>(std::lround(w / sum * static_cast<double>(1 << kFractionBits))));
  }
  return result;
}

uint8_t to_gray_level(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

// Whether each row lies in one piece, as in a picture or a part of one.
bool has_whole_rows(const at::Tensor& image) { return image.stride(2) == 1 && image.stride(1) == 3; }

at::Tensor resize_rows(const at::Tensor& image, int64_t width, Interpolation interpolation) {
  const int64_t height = image.size(0);
  const std::vector<Taps> columns = taps(image.size(1), width, interpolation);
  at::Tensor result = at::empty({height, width, 3}, at::kByte);
  const uint8_t* row = image.const_data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  for (int64_t y = 0; y < height; ++y, row += image.stride(0)) {
    for (const Taps& t : columns) {
      int32_t sum[3] = {1 << (kFractionBits - 1), 1 << (kFractionBits - 1), 1 << (kFractionBits - 1)};
      const uint8_t* p = row + 3 * t.first;
      for (const int32_t w : t.weights)
        for (int c = 0; c < 3; ++c) sum[c] += w * *p++;
      for (const int32_t s : sum) *out++ = to_gray_level(s);
    }
  }
  return result;
}

at::Tensor resize_columns(const at::Tensor& image, int64_t height, Interpolation interpolation) {
  const int64_t bytes = 3 * image.size(1);  // of one row
  const std::vector<Taps> rows = taps(image.size(0), height, interpolation);
  at::Tensor result = at::empty({height, image.size(1), 3}, at::kByte);
  const uint8_t* const from = image.const_data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  std::vector<int32_t> sums(static_cast<size_t>(bytes));
  for (const Taps& t : rows) {
    std::fill(sums.begin(), sums.end(), 1 << (kFractionBits - 1));
    const uint8_t* row = from + image.stride(0) * t.first;
    for (const int32_t w : t.weights) {
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += w * row[i];
      row += image.stride(0);
    }
    for (const int32_t s : sums) *out++ = to_gray_level(s);
  }
  return result;
}

}  // namespace

void expect_picture(const at::Tensor& image) {
  APO_CHECK(DataError,
            image.defined() && image.dim() == 3 && image.size(2) == 3 && image.numel() > 0 &&
                image.scalar_type() == at::kByte && image.device().is_cpu(),
            "picture: expected [Y, X, 3] uint8 on the CPU, found ",
            image.defined() ? concat(image.scalar_type(), " ", image.sizes()) : "nothing");
}

at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width, Interpolation interpolation) {
  expect_picture(image);
  APO_CHECK(DataError, height > 0 && width > 0, "picture: cannot be resized to ", height, "x", width);
  if (image.size(0) == height && image.size(1) == width) return image;
  at::Tensor result = has_whole_rows(image) ? image : image.contiguous();
  if (width != image.size(1)) result = resize_rows(result, width, interpolation);
  if (height != image.size(0)) result = resize_columns(result, height, interpolation);
  return result;
}

}  // namespace apo::pictures
