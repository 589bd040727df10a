#include "apo/pictures/webp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <webp/decode.h>
#include <webp/mux.h>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo::pictures {
namespace {

using apo::testing::message_of;

using ::testing::HasSubstr;

at::Tensor decode(const uint8_t* bytes, size_t size) {
  int width = 0, height = 0;
  uint8_t* pixels = WebPDecodeRGB(bytes, size, &width, &height);
  if (!pixels) return {};
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  std::copy(pixels, pixels + image.numel(), image.data_ptr<uint8_t>());
  WebPFree(pixels);
  return image;
}

at::Tensor bytes_of(const std::string& text) {
  return decode(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

struct Frame {
  at::Tensor image;
  int duration_ms = 0;
};
std::vector<Frame> frames_of(const std::string& animation) {
  const WebPData data = {reinterpret_cast<const uint8_t*>(animation.data()), animation.size()};
  std::vector<Frame> frames;
  WebPMux* mux = WebPMuxCreate(&data, 1);
  if (!mux) return frames;
  WebPMuxFrameInfo info;
  for (uint32_t n = 1; WebPMuxGetFrame(mux, n, &info) == WEBP_MUX_OK; ++n) {
    frames.push_back({decode(info.bitstream.bytes, info.bitstream.size), info.duration});
    WebPDataClear(&info.bitstream);
  }
  WebPMuxDelete(mux);
  return frames;
}

TEST(Picture, IsLossless) {
  const at::Tensor image =
      at::arange(5 * 7 * 3, at::kLong).mul(17).remainder(251).to(at::kByte).reshape({5, 7, 3});
  EXPECT_TRUE(bytes_of(encode_picture(image)).equal(image));
}

TEST(Picture, TakesAViewThatIsNotContiguous) {
  const at::Tensor image = at::arange(6 * 4 * 3, at::kLong).to(at::kByte).reshape({6, 4, 3}).transpose(0, 1);
  EXPECT_TRUE(bytes_of(encode_picture(image)).equal(image));
}

TEST(Animation, DecodesBackToItsFramesAndTimes) {
  std::vector<at::Tensor> frames;
  for (const int64_t level : {30, 130, 230}) frames.push_back(at::full({32, 48, 3}, level, at::kByte));
  const std::vector<Frame> decoded = frames_of(encode_animation(frames, 10, 90, 0.5));
  ASSERT_EQ(decoded.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(decoded[i].image.defined());
    EXPECT_EQ(decoded[i].image.sizes(), frames[i].sizes());
    EXPECT_LE((decoded[i].image.to(at::kInt) - frames[i].to(at::kInt)).abs().max().item<int64_t>(), 4)
        << "frame " << i;
  }
  EXPECT_EQ(decoded[0].duration_ms, 100);  // 10 frames a second
  EXPECT_EQ(decoded[1].duration_ms, 100);
  EXPECT_EQ(decoded[2].duration_ms, 600);  // and half a second longer at the end
}

TEST(Animation, OfRepeatedFramesIsSmall) {
  const at::Tensor frame =
      at::arange(64 * 64 * 3, at::kLong).remainder(200).to(at::kByte).reshape({64, 64, 3});
  const std::vector<at::Tensor> one = {frame}, many(20, frame);
  EXPECT_LT(encode_animation(many, 10).size(), 2 * encode_animation(one, 10).size() + 2000);
}

TEST(Animation, ReportsWhatIsWrongWithTheFrames) {
  EXPECT_THAT(message_of<DataError>([] { encode_animation({}, 10); }), HasSubstr("at least one frame"));
  const std::vector<at::Tensor> sizes = {at::zeros({8, 8, 3}, at::kByte), at::zeros({8, 9, 3}, at::kByte)};
  EXPECT_THAT(message_of<DataError>([&] { encode_animation(sizes, 10); }), HasSubstr("frame 1"));
  const std::vector<at::Tensor> floats = {at::zeros({8, 8, 3})};
  EXPECT_THAT(message_of<DataError>([&] { encode_animation(floats, 10); }), HasSubstr("uint8"));
  const std::vector<at::Tensor> channels_first = {at::zeros({3, 8, 8}, at::kByte)};
  EXPECT_THAT(message_of<DataError>([&] { encode_animation(channels_first, 10); }), HasSubstr("[Y, X, 3]"));
  EXPECT_THAT(message_of<DataError>([] { encode_picture({}); }), HasSubstr("none"));
  const std::vector<at::Tensor> fine = {at::zeros({8, 8, 3}, at::kByte)};
  EXPECT_THAT(message_of<DataError>([&] { encode_animation(fine, 0); }), HasSubstr("frames a second"));
}

TEST(Animation, IsWrittenWhole) {
  const apo::testing::TempDir dir;
  const std::vector<at::Tensor> frames(2, at::zeros({8, 8, 3}, at::kByte));
  write_animation(dir / "a.webp", frames, 10);
  EXPECT_EQ(read_file(dir / "a.webp"), encode_animation(frames, 10));
  EXPECT_THAT(message_of<RunError>([&] { write_animation(dir / "none" / "a.webp", frames, 10); }),
              HasSubstr("none"));
}

TEST(Border, HasTheColorOfWhoActs) {
  const at::Tensor image = at::zeros({64, 96, 3}, at::kByte);
  const at::Tensor policy = with_border(image, ActionSource::policy),
                   human = with_border(image, ActionSource::intervention);
  EXPECT_EQ(image.sum().item<int64_t>(), 0);  // a copy
  const auto corner_p = policy.accessor<uint8_t, 3>(), corner_h = human.accessor<uint8_t, 3>();
  EXPECT_GT(corner_p[0][0][2], corner_p[0][0][0]);      // blue
  EXPECT_GT(corner_h[63][95][0], corner_h[63][95][2]);  // orange
  // 2 pixels (64 / 32) on each side, nothing inside
  EXPECT_EQ(policy.slice(0, 2, 62).slice(1, 2, 94).sum().item<int64_t>(), 0);
  EXPECT_EQ((policy.sum(2) > 0).sum().item<int64_t>(), 64 * 96 - 60 * 92);
}

}  // namespace
}  // namespace apo::pictures
