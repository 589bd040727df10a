#include "apo/pictures/transforms.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "pictures/picture.h"

namespace apo::pictures {
namespace {

using Table = std::array<uint8_t, 256>;

// torchvision's blend on uint8: ratio * a + (1 - ratio) * b in float32, clamped and cut to a whole grey
// level.
uint8_t blend(float a, float b, float ratio) {
  return static_cast<uint8_t>(std::clamp(ratio * a + (1.0f - ratio) * b, 0.0f, 255.0f));
}

uint8_t gray_of(const uint8_t* p) {
  return static_cast<uint8_t>(0.2989f * static_cast<float>(p[0]) + 0.587f * static_cast<float>(p[1]) +
                              0.114f * static_cast<float>(p[2]));
}

Table brightness_table(float factor) {
  Table table;
  for (size_t v = 0; v < 256; ++v) table[v] = blend(static_cast<float>(v), 0.0f, factor);
  return table;
}

// Turns the color circle of one pixel by `turn` (through HSV, as torchvision).
void turn_hue(uint8_t* p, float turn) {
  const float r = static_cast<float>(p[0]) / 255.0f, g = static_cast<float>(p[1]) / 255.0f,
              b = static_cast<float>(p[2]) / 255.0f;
  const float high = std::max({r, g, b}), low = std::min({r, g, b});
  if (high == low) return;
  const float spread = high - low;
  float hue = high == r ? (g - b) / spread : high == g ? 2.0f + (b - r) / spread : 4.0f + (r - g) / spread;
  hue = hue / 6.0f + 1.0f + turn;
  hue = (hue - std::floor(hue)) * 6.0f;
  const int sector = static_cast<int>(hue) % 6;
  const float part = hue - std::floor(hue), saturation = spread / high;
  const float x = high * (1 - saturation), y = high * (1 - saturation * part),
              z = high * (1 - saturation * (1 - part));
  const std::array<std::array<float, 3>, 6> rgb{
      {{high, z, x}, {y, high, x}, {x, high, z}, {x, y, high}, {z, x, high}, {high, x, y}}};
  for (size_t c = 0; c < 3; ++c)
    p[c] = static_cast<uint8_t>(std::clamp(rgb[static_cast<size_t>(sector)][c], 0.0f, 1.0f) * 255.999f);
}

// Brightness and contrast in place, together one table look-up.
void adjust_light(uint8_t* pixels, int64_t count, float brightness, float contrast) {
  uint8_t* const end = pixels + 3 * count;
  Table table = brightness_table(brightness);
  if (contrast != 1.0f) {
    int64_t sum = 0;
    for (const uint8_t* p = pixels; p != end; p += 3) {
      const uint8_t bright[3] = {table[p[0]], table[p[1]], table[p[2]]};
      sum += gray_of(bright);
    }
    const auto mean = static_cast<float>(static_cast<double>(sum) / static_cast<double>(count));
    for (uint8_t& v : table) v = blend(static_cast<float>(v), mean, contrast);
  }
  for (uint8_t* p = pixels; p != end; ++p) *p = table[*p];
}

at::Tensor cropped(const at::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width,
                   Interpolation interpolation) {
  return resize(image.narrow(0, top, height).narrow(1, left, width), image.size(0), image.size(1),
                interpolation);
}

int64_t kept_pixels(int64_t size, double area_share) {
  return std::clamp<int64_t>(std::llround(static_cast<double>(size) * std::sqrt(area_share)), 1, size);
}

// Of a picture that nobody else has.
void adjust_in_place(const at::Tensor& result, double brightness, double contrast, double saturation,
                     double hue) {
  uint8_t* const pixels = result.data_ptr<uint8_t>();
  uint8_t* const end = pixels + result.numel();
  if (brightness != 1 || contrast != 1)
    adjust_light(pixels, result.size(0) * result.size(1), static_cast<float>(brightness),
                 static_cast<float>(contrast));
  if (saturation != 1) {
    for (uint8_t* p = pixels; p != end; p += 3) {
      const auto gray = static_cast<float>(gray_of(p));
      for (int c = 0; c < 3; ++c)
        p[c] = blend(static_cast<float>(p[c]), gray, static_cast<float>(saturation));
    }
  }
  if (hue != 0)
    for (uint8_t* p = pixels; p != end; p += 3) turn_hue(p, static_cast<float>(hue));
}

}  // namespace

at::Tensor adjust_colors(const at::Tensor& image, double brightness, double contrast, double saturation,
                         double hue) {
  expect_picture(image);
  if (brightness == 1 && contrast == 1 && saturation == 1 && hue == 0) return image;
  const at::Tensor result = image.clone(at::MemoryFormat::Contiguous);
  adjust_in_place(result, brightness, contrast, saturation, hue);
  return result;
}

at::Tensor shift(const at::Tensor& image, int64_t dy, int64_t dx) {
  expect_picture(image);
  const at::Tensor source = image.contiguous();
  const int64_t height = source.size(0), width = source.size(1);
  at::Tensor result = at::empty({height, width, 3}, at::kByte);
  const uint8_t* const from = source.const_data_ptr<uint8_t>();
  uint8_t* const to = result.data_ptr<uint8_t>();
  const int64_t left = std::clamp<int64_t>(dx, 0, width), right = std::clamp<int64_t>(-dx, 0, width);
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* row = from + 3 * width * std::clamp<int64_t>(y - dy, 0, height - 1);
    uint8_t* out = to + 3 * width * y;
    for (int64_t x = 0; x < left; ++x) std::memcpy(out + 3 * x, row, 3);
    std::memcpy(out + 3 * left, row + 3 * right, static_cast<size_t>(3 * (width - left - right)));
    for (int64_t x = width - right; x < width; ++x) std::memcpy(out + 3 * x, row + 3 * (width - 1), 3);
  }
  return result;
}

at::Tensor augment(const at::Tensor& image, const AugmentationOptions& options, Random& random) {
  expect_picture(image);
  // every draw is made whatever the options are, so that switching one off leaves the others as they were
  const double area = random.uniform(options.random_resized_crop_scale, 1.0);
  const double crop_y = random.uniform(), crop_x = random.uniform();
  const double shift_y = random.uniform(), shift_x = random.uniform();
  const auto factor = [&random](double x) { return random.uniform(1 - x, 1 + x); };
  const double brightness = factor(options.brightness), contrast = factor(options.contrast),
               saturation = factor(options.saturation), hue = random.uniform(-options.hue, options.hue);

  at::Tensor result = image.contiguous();
  if (options.random_resized_crop_scale < 1) {
    const int64_t height = kept_pixels(image.size(0), area), width = kept_pixels(image.size(1), area);
    const auto place = [](double u, int64_t room) {
      return std::min(static_cast<int64_t>(u * static_cast<double>(room + 1)), room);
    };
    result = cropped(result, place(crop_y, image.size(0) - height), place(crop_x, image.size(1) - width),
                     height, width, Interpolation::bilinear);
  }
  if (options.shift_px > 0) {
    const auto steps = static_cast<double>(2 * options.shift_px + 1);
    const auto pixels = [&](double u) { return static_cast<int64_t>(u * steps) - options.shift_px; };
    result = shift(result, pixels(shift_y), pixels(shift_x));
  }
  if (result.is_alias_of(image)) return adjust_colors(result, brightness, contrast, saturation, hue);
  adjust_in_place(result, brightness, contrast, saturation, hue);
  return result;
}

void AugmentationOptions::visit(config::Visitor& v) {
  v("enabled", enabled, "the switch for all picture augmentation");
  v("random_resized_crop_scale", random_resized_crop_scale,
    "smallest share of the area that a random crop keeps; 1 = no crop, smaller = stronger",
    config::Range{.min = 0.0, .max = 1.0, .open_min = true});
  v("shift_px", shift_px, "random shift of up to so many pixels, edges replicated", config::between(0, 1024));
  v("brightness", brightness, "factor drawn from [1 - x, 1 + x]", config::between(0, 1));
  v("contrast", contrast, "factor drawn from [1 - x, 1 + x]", config::between(0, 1));
  v("saturation", saturation, "factor drawn from [1 - x, 1 + x]", config::between(0, 1));
  v("hue", hue, "turn of the color circle drawn from [-x, x]", config::between(0, 0.5));
  v("draws", draws,
    "ways that each sample's pictures are changed in, drawn once for all runs, of which a batch takes any: "
    "fewer = reference.cache pays sooner; 0 = changed anew in every batch",
    config::at_least(0));
}

}  // namespace apo::pictures
