// Lanczos resampling in float32, column by column and then row by row, as TensorFlow's ScaleAndTranslate.
#include "apo/pictures/lanczos.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "apo/base/error.h"
#include "pictures/picture.h"

namespace apo::pictures {
namespace {

constexpr float kRadius = 3;

float lanczos(float x) {
  constexpr auto pi = std::numbers::pi_v<float>;
  x = std::abs(x);
  if (x > kRadius) return 0;
  if (x <= 1e-3f) return 1;
  return kRadius * std::sin(pi * x) * std::sin(pi * x / kRadius) / (pi * pi * x * x);
}

// Which source pixels make one target pixel, and how much each counts.
struct Taps {
  int64_t first = 0;
  std::vector<float> weights;
};

std::vector<Taps> taps(int64_t from, int64_t to) {
  const float inverse = 1.0f / (static_cast<float>(to) / static_cast<float>(from));
  const float stretch = std::max(inverse, 1.0f), reach = kRadius * stretch;
  std::vector<Taps> result(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const float center = (static_cast<float>(i) + 0.5f) * inverse;
    Taps& t = result[static_cast<size_t>(i)];
    t.first = std::clamp<int64_t>(std::llround(std::ceil(center - reach - 0.5f)), 0, from - 1);
    const int64_t last = std::clamp<int64_t>(std::llround(std::floor(center + reach - 0.5f)), 0, from - 1);
    float sum = 0;
    for (int64_t x = t.first; x <= last; ++x) {
      t.weights.push_back(lanczos(std::abs((static_cast<float>(x) + 0.5f - center) * (1.0f / stretch))));
      sum += t.weights.back();
    }
    for (float& weight : t.weights) weight *= 1.0f / sum;
  }
  return result;
}

// `values` [lines, from, stride] -> [lines, to, stride].
std::vector<float> resampled(const std::vector<float>& values, int64_t lines, int64_t from, int64_t to,
                             int64_t stride) {
  const std::vector<Taps> along = taps(from, to);
  std::vector<float> result(static_cast<size_t>(lines * to * stride));
  for (int64_t line = 0; line < lines; ++line) {
    for (int64_t i = 0; i < to; ++i) {
      float* out = result.data() + (line * to + i) * stride;
      const Taps& t = along[static_cast<size_t>(i)];
      const float* in = values.data() + (line * from + t.first) * stride;
      for (const float weight : t.weights)
        for (int64_t s = 0; s < stride; ++s) out[s] += weight * *in++;
    }
  }
  return result;
}

}  // namespace

at::Tensor resize_lanczos(const at::Tensor& image, int64_t height, int64_t width) {
  expect_picture(image);
  APO_CHECK(DataError, height > 0 && width > 0, "picture: cannot be resized to ", height, "x", width);
  if (image.size(0) == height && image.size(1) == width) return image;
  const at::Tensor source = image.contiguous();
  const uint8_t* const pixels = source.const_data_ptr<uint8_t>();
  std::vector<float> values(pixels, pixels + source.numel());
  values = resampled(values, 1, image.size(0), height, 3 * image.size(1));
  values = resampled(values, height, image.size(1), width, 3);
  at::Tensor result = at::empty({height, width, 3}, at::kByte);
  std::ranges::transform(values, result.data_ptr<uint8_t>(), [](float value) {
    return static_cast<uint8_t>(std::clamp(std::nearbyint(value), 0.0f, 255.0f));
  });
  return result;
}

}  // namespace apo::pictures
