// Pictures of any shape to the square that a vision tower sees, against Pillow, torchvision and TensorFlow's
// crop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/pictures/lanczos.h"
#include "apo/pictures/transforms.h"
#include "support/message_of.h"
#include "support/places.h"

namespace apo::pictures {
namespace {

using apo::testing::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

// The same formula as in scripts/goldens/make_openvla_inputs.py.
at::Tensor picture(int64_t height, int64_t width) {
  const at::Tensor y = at::arange(height).view({-1, 1, 1}), x = at::arange(width).view({1, -1, 1}),
                   c = at::arange(3);
  return ((37 * y + 59 * x + 101 * c + 7 * y * x) % 256).to(at::kByte);
}

at::Tensor gray(std::vector<int64_t> rows_of_levels, int64_t height, int64_t width) {
  return at::tensor(rows_of_levels)
      .to(at::kByte)
      .view({height, width, 1})
      .expand({height, width, 3})
      .contiguous();
}

const nlohmann::json& goldens() {
  static const nlohmann::json json =
      nlohmann::json::parse(std::ifstream(apo::testing::in_source("tests/pictures/goldens/geometry.json")));
  return json;
}

at::Tensor pixels(const nlohmann::json& list, int64_t height, int64_t width) {
  return at::tensor(list.get<std::vector<int64_t>>()).to(at::kByte).view({height, width, 3});
}

// numpy's sums may be rounded otherwise: a grey level in few of the values.
TEST(Geometry, ResizesAsTensorFlowDoesWithLanczos) {
  const auto all =
      nlohmann::json::parse(std::ifstream(apo::testing::in_source("tests/pictures/goldens/lanczos.json")));
  int64_t differ = 0, compared = 0;
  for (const auto& golden : all) {
    const auto from = golden.at("from").get<std::vector<int64_t>>();
    const auto size = golden.at("size").get<int64_t>();
    const at::Tensor found = resize_lanczos(picture(from[0], from[1]), size, size);
    const at::Tensor off = (found.to(at::kInt) - pixels(golden.at("pixels"), size, size).to(at::kInt)).abs();
    EXPECT_LE(off.max().item<int64_t>(), 1) << from[0] << "x" << from[1];
    differ += off.sum().item<int64_t>();
    compared += off.numel();
  }
  EXPECT_GT(compared, 2000);
  EXPECT_LE(differ, compared / 1000);
}

TEST(Geometry, LanczosKeepsWhatIsFlatAndRefusesWhatIsNoPicture) {
  const at::Tensor flat = at::full({9, 13, 3}, 77, at::kByte);
  EXPECT_TRUE(resize_lanczos(flat, 20, 5).eq(77).all().item<bool>());
  EXPECT_TRUE(resize_lanczos(flat, 9, 13).is_same(flat));
  EXPECT_THAT(message_of<DataError>([&] { resize_lanczos(flat.to(at::kFloat), 4, 4); }), HasSubstr("uint8"));
  EXPECT_THAT(message_of<DataError>([&] { resize_lanczos(flat, 0, 4); }), HasSubstr("0x4"));
}

TEST(Geometry, ResizesAsPrismaticDoesWithPillow) {
  size_t checked = 0;
  for (const auto& golden : goldens().at("resize")) {
    const auto from = golden.at("from").get<std::vector<int64_t>>();
    const auto size = golden.at("size").get<int64_t>();
    const auto fill = golden.at("fill").get<std::array<uint8_t, 3>>();
    const auto name = golden.at("strategy").get<std::string>();
    const ResizeStrategy strategy = resize_strategy_from(name, "golden");
    EXPECT_EQ(to_string(strategy), name);
    const at::Tensor found =
        resize_picture(picture(from[0], from[1]), size, strategy, Interpolation::bicubic, fill);
    EXPECT_TRUE(found.equal(pixels(golden.at("pixels"), size, size)))
        << name << " " << from[0] << "x" << from[1];
    ++checked;
  }
  EXPECT_EQ(checked, 21u);
}

TEST(Geometry, LeavesAPictureOfTheRightSizeAlone) {
  const at::Tensor image = picture(14, 14);
  for (const auto strategy :
       {ResizeStrategy::letterbox, ResizeStrategy::resize_naive, ResizeStrategy::resize_crop})
    EXPECT_EQ(resize_picture(image, 14, strategy).data_ptr(), image.data_ptr());
}

// A 2x6 picture lies on rows 2 and 3 of the 6x6 letterbox; the rest is the fill color.
TEST(Geometry, LetterboxPadsByHand) {
  const at::Tensor image = picture(2, 6);
  const at::Tensor boxed =
      resize_picture(image, 6, ResizeStrategy::letterbox, Interpolation::bicubic, {1, 2, 3});
  EXPECT_TRUE(boxed.narrow(0, 2, 2).equal(image));
  const at::Tensor fill = at::tensor({1, 2, 3}).to(at::kByte);
  for (const int64_t row : {0, 1, 4, 5}) EXPECT_TRUE(boxed[row].equal(fill.expand({6, 3}))) << row;
}

// 4x9 to 4: nothing is resized, and columns round(2.5) = 2 to 5 stay (half-way to even).
TEST(Geometry, ResizeCropTakesTheMiddleByHand) {
  const at::Tensor image = picture(4, 9);
  EXPECT_TRUE(resize_picture(image, 4, ResizeStrategy::resize_crop).equal(image.narrow(1, 2, 4)));
  // 4x11: (11 - 4) / 2 = 3.5 -> 4
  EXPECT_TRUE(
      resize_picture(picture(11, 4), 4, ResizeStrategy::resize_crop).equal(picture(11, 4).narrow(0, 4, 4)));
}

TEST(Geometry, CenterCropIsBitEqualToTensorFlow) {
  size_t checked = 0;
  for (const auto& golden : goldens().at("crop")) {
    const auto from = golden.at("from").get<std::vector<int64_t>>(),
               to = golden.at("to").get<std::vector<int64_t>>();
    const at::Tensor found =
        center_crop(picture(from[0], from[1]), golden.at("share").get<double>(), to[0], to[1]);
    EXPECT_TRUE(found.equal(pixels(golden.at("pixels"), to[0], to[1]))) << from[0] << "x" << from[1];
    ++checked;
  }
  EXPECT_EQ(checked, 5u);
}

// A quarter of the area of a row of 5 reaches from place 1 to place 3. Three samples: 1, 2, 3; five: 1, 1.5,
// 2, 2.5, 3.
// Level v becomes floor(v/255 * 255.5): 100 -> 100.196 -> 100; half-way between 100 and 201: 150.795 -> 150.
TEST(Geometry, CenterCropByHand) {
  const at::Tensor row = gray({0, 100, 201, 255, 9}, 1, 5);
  EXPECT_TRUE(center_crop(row, 0.25, 1, 3).equal(gray({100, 201, 255}, 1, 3)));
  EXPECT_TRUE(center_crop(row, 0.25, 1, 5).equal(gray({100, 150, 201, 228, 255}, 1, 5)));
}

TEST(Geometry, CenterCropOfEverythingIsThePicture) {
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 9}, {224, 224}}) {
    const at::Tensor image = picture(height, width);
    EXPECT_TRUE(center_crop(image, 1, height, width).equal(image))
        << height;  // and never black at the far edge
  }
}

TEST(Geometry, AcceptsViewsOfAPicture) {
  const at::Tensor image = picture(20, 30);
  const at::Tensor view = image.narrow(0, 3, 12).narrow(1, 5, 16);
  EXPECT_TRUE(center_crop(view, 0.9, 8, 8).equal(center_crop(view.contiguous(), 0.9, 8, 8)));
  for (const auto strategy :
       {ResizeStrategy::letterbox, ResizeStrategy::resize_naive, ResizeStrategy::resize_crop})
    EXPECT_TRUE(resize_picture(view, 8, strategy).equal(resize_picture(view.contiguous(), 8, strategy)));
}

TEST(Geometry, RefusesBadInput) {
  const at::Tensor image = picture(8, 8);
  EXPECT_THAT(message_of<ConfigError>([&] { center_crop(image, 0, 8, 8); }),
              HasSubstr("share in (0, 1], found 0"));
  EXPECT_THAT(message_of<ConfigError>([&] { center_crop(image, 1.5, 8, 8); }), HasSubstr("found 1.5"));
  EXPECT_THAT(message_of<ConfigError>([&] { center_crop(image, NAN, 8, 8); }), HasSubstr("found nan"));
  EXPECT_THAT(message_of<DataError>([&] { center_crop(image, 0.9, 0, 8); }), HasSubstr("resized to 0x8"));
  EXPECT_THAT(message_of<DataError>([&] { center_crop(image.to(at::kFloat), 0.9, 8, 8); }),
              HasSubstr("uint8"));
  EXPECT_THAT(message_of<DataError>([&] { resize_picture(image[0], 8, ResizeStrategy::letterbox); }),
              HasSubstr("[Y, X, 3]"));
  EXPECT_THAT(message_of<DataError>([&] { resize_picture(image, 0, ResizeStrategy::resize_crop); }),
              HasSubstr("resized to 0x0"));
  EXPECT_THAT(
      message_of<DataError>([&] { resize_picture(picture(1, 4000), 224, ResizeStrategy::resize_crop); }),
      AllOf(HasSubstr("1x4000"), HasSubstr("896000")));
  EXPECT_THAT(
      message_of<DataError>([] { resize_strategy_from("stretch", "config.json: image_resize_strategy"); }),
      AllOf(HasSubstr("config.json: image_resize_strategy"), HasSubstr("resize-naive"),
            HasSubstr("\"stretch\"")));
}

}  // namespace
}  // namespace apo::pictures
