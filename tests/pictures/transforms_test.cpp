// Pictures against Pillow and torchvision, and the laws of augmentation.
#include "apo/pictures/transforms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/places.h"

namespace apo::pictures {
namespace {

using apo::testing::message_of;

using ::testing::HasSubstr;

// The same formula as in scripts/goldens/make_data.py.
at::Tensor picture(int64_t height, int64_t width) {
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  auto* p = image.data_ptr<uint8_t>();
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c)
        *p++ = static_cast<uint8_t>((37 * y + 59 * x + 101 * c + 7 * y * x) % 256);
  return image;
}

const nlohmann::json& goldens() {
  static const nlohmann::json json =
      nlohmann::json::parse(std::ifstream(apo::testing::in_source("tests/pictures/goldens/pictures.json")));
  return json;
}

int64_t largest_difference(const at::Tensor& image, const std::vector<int64_t>& expected) {
  EXPECT_EQ(image.numel(), static_cast<int64_t>(expected.size()));
  return (image.flatten().to(at::kLong) - at::tensor(expected)).abs().max().item<int64_t>();
}

TEST(Transforms, ResizesAsPillow) {
  for (const auto& golden : goldens()["resize"]) {
    const auto size = golden["size"].get<std::vector<int64_t>>();
    const bool cubic = golden["interpolation"] == "bicubic";
    const at::Tensor resized = resize(picture(size[0], size[1]), size[2], size[3],
                                      cubic ? Interpolation::bicubic : Interpolation::bilinear);
    EXPECT_EQ(resized.sizes(), (std::vector<int64_t>{size[2], size[3], 3}));
    EXPECT_EQ(largest_difference(resized, golden["pixels"]), 0) << golden["interpolation"] << golden["size"];
  }
}

TEST(Transforms, ResizeKeepsWhatIsRightAndReadsStridedPictures) {
  const at::Tensor image = picture(6, 7);
  EXPECT_EQ(resize(image, 6, 7).data_ptr(), image.data_ptr());
  const at::Tensor part = image.narrow(0, 1, 4).narrow(1, 2, 4);
  EXPECT_TRUE(at::equal(resize(part, 2, 2), resize(part.contiguous(), 2, 2)));
  EXPECT_TRUE(
      at::equal(resize(at::full({5, 5, 3}, 77, at::kByte), 9, 3), at::full({9, 3, 3}, 77, at::kByte)));
}

TEST(Transforms, RefuseWhatIsNoPicture) {
  EXPECT_THAT(message_of<DataError>([] {
                resize(at::zeros({4, 4, 3}), 2, 2);
              }),
              HasSubstr("expected [Y, X, 3] uint8 on the CPU, found Float [4, 4, 3]"));
  EXPECT_THAT(message_of<DataError>([] {
                resize(at::zeros({3, 4, 4}, at::kByte), 2, 2);
              }),
              HasSubstr("found Byte [3, 4, 4]"));
  EXPECT_THAT(message_of<DataError>([] {
                resize(at::zeros({0, 4, 3}, at::kByte), 2, 2);
              }),
              HasSubstr("found Byte [0, 4, 3]"));
  EXPECT_THAT(message_of<DataError>([] { resize(picture(4, 4), 0, 2); }),
              HasSubstr("cannot be resized to 0x2"));
  EXPECT_THAT(message_of<DataError>([] { resize(at::Tensor(), 2, 2); }), HasSubstr("found nothing"));
  Random random(1);
  message_of<DataError>([&] { augment(at::zeros({4, 4}, at::kByte), {}, random); });
}

TEST(Transforms, AdjustsColorsAsTorchvision) {
  const at::Tensor image = picture(6, 7);
  for (const auto& golden : goldens()["adjust"]) {
    const std::string what = golden["what"];
    const double factor = golden["factor"];
    const at::Tensor adjusted =
        adjust_colors(image, what == "brightness" ? factor : 1, what == "contrast" ? factor : 1,
                      what == "saturation" ? factor : 1, what == "hue" ? factor : 0);
    EXPECT_LE(largest_difference(adjusted, golden["pixels"]), what == "hue" ? 1 : 0) << what << " " << factor;
  }
  EXPECT_TRUE(at::equal(image, picture(6, 7)));  // the picture itself is untouched
}

TEST(Transforms, ColorsInOrder) {
  const at::Tensor image = picture(9, 8);
  const at::Tensor one_by_one = adjust_colors(
      adjust_colors(adjust_colors(adjust_colors(image, 1.2, 1, 1, 0), 1, 0.7, 1, 0), 1, 1, 1.3, 0), 1, 1, 1,
      0.1);
  EXPECT_TRUE(at::equal(adjust_colors(image, 1.2, 0.7, 1.3, 0.1), one_by_one));
  EXPECT_EQ(adjust_colors(image, 1, 1, 1, 0).data_ptr(), image.data_ptr());
}

TEST(Transforms, ShiftsAndRepeatsEdges) {
  const at::Tensor image = picture(6, 7);
  for (const int64_t dy : {-9, -2, 0, 1, 6}) {
    for (const int64_t dx : {-8, -1, 0, 3, 7}) {
      const at::Tensor rows = (at::arange(6) - dy).clamp(0, 5), columns = (at::arange(7) - dx).clamp(0, 6);
      EXPECT_TRUE(at::equal(shift(image, dy, dx), image.index_select(0, rows).index_select(1, columns)))
          << dy << " " << dx;
    }
  }
}

TEST(Transforms, AugmentIsAPureFunctionOfItsDraws) {
  const AugmentationOptions options{.random_resized_crop_scale = 0.5,
                                    .shift_px = 3,
                                    .brightness = 0.3,
                                    .contrast = 0.3,
                                    .saturation = 0.3,
                                    .hue = 0.2};
  const at::Tensor image = picture(16, 12);
  Random a(5), b(5), c(6);
  const at::Tensor first = augment(image, options, a);
  EXPECT_EQ(first.sizes(), image.sizes());
  EXPECT_TRUE(at::equal(first, augment(image, options, b)));
  EXPECT_FALSE(at::equal(first, augment(image, options, c)));
  EXPECT_TRUE(at::equal(image, picture(16, 12)));
}

TEST(Transforms, AugmentDrawsAlikeWhateverIsOn) {
  const at::Tensor image = picture(8, 8);
  Random all(1), none(1), some(1);
  augment(image,
          {.random_resized_crop_scale = 0.5,
           .shift_px = 3,
           .brightness = 0.3,
           .contrast = 0.3,
           .saturation = 0.3,
           .hue = 0.2},
          all);
  EXPECT_TRUE(at::equal(augment(image, {}, none), image));
  augment(image, {.shift_px = 2}, some);
  const uint64_t next = all.bits();
  EXPECT_EQ(none.bits(), next);
  EXPECT_EQ(some.bits(), next);
}

TEST(Transforms, AugmentStaysWithinItsOptions) {
  const at::Tensor image = at::full({10, 10, 3}, 100, at::kByte);
  Random random(2);
  int64_t low = 255, high = 0;
  for (int i = 0; i < 300; ++i) {
    const at::Tensor bright = augment(image, {.brightness = 0.2}, random);
    const auto value = bright[0][0][0].item<int64_t>();
    EXPECT_TRUE((bright == value).all().item<bool>());
    low = std::min(low, value);
    high = std::max(high, value);
  }
  EXPECT_GE(low, 80);
  EXPECT_LE(low, 84);
  EXPECT_LE(high, 120);
  EXPECT_GE(high, 116);
  // every shift from -2 to 2 occurs, none beyond: column 5 of a ramp shows columns 3 to 7
  const at::Tensor ramp = at::arange(10, at::kByte).reshape({1, 10, 1}).expand({10, 10, 3}).contiguous();
  std::set<int64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(augment(ramp, {.shift_px = 2}, random)[5][5][0].item<int64_t>());
  EXPECT_EQ(seen, (std::set<int64_t>{3, 4, 5, 6, 7}));
}

}  // namespace
}  // namespace apo::pictures
