#include "apo/pictures/webp.h"

#include <torch/types.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "pictures/canvas.h"

namespace apo::pictures {
namespace {

struct PictureFree {
  void operator()(WebPPicture* picture) const {
    WebPPictureFree(picture);
    delete picture;
  }
};
struct EncoderDelete {
  void operator()(WebPAnimEncoder* encoder) const { WebPAnimEncoderDelete(encoder); }
};

at::Tensor checked(const at::Tensor& image, const std::string& what) {
  APO_CHECK(DataError,
            image.defined() && image.dim() == 3 && image.size(2) == 3 && image.scalar_type() == at::kByte,
            what, ": expected a picture [Y, X, 3] uint8, found ",
            image.defined() ? concat(image.sizes(), " ", image.scalar_type()) : std::string("none"));
  APO_CHECK(DataError,
            image.size(0) >= 1 && image.size(1) >= 1 && image.size(0) <= WEBP_MAX_DIMENSION &&
                image.size(1) <= WEBP_MAX_DIMENSION,
            what, ": expected between 1 and ", WEBP_MAX_DIMENSION, " pixels a side, found ", image.sizes());
  return image.contiguous();
}

std::unique_ptr<WebPPicture, PictureFree> to_picture(const at::Tensor& image) {
  auto* raw = new WebPPicture;
  APO_ASSERT(WebPPictureInit(raw));
  std::unique_ptr<WebPPicture, PictureFree> picture(raw);
  picture->use_argb = 1;
  picture->height = static_cast<int>(image.size(0));
  picture->width = static_cast<int>(image.size(1));
  APO_CHECK(RunError, WebPPictureImportRGB(raw, image.data_ptr<uint8_t>(), 3 * raw->width),
            "WebP: out of memory");
  return picture;
}

}  // namespace

std::string encode_animation(std::span<const at::Tensor> frames, double frames_per_second, double quality,
                             double hold) {
  APO_CHECK(DataError, !frames.empty(), "animation: expected at least one frame");
  APO_CHECK(DataError, frames_per_second > 0 && frames_per_second <= 1000 && quality >= 0 && quality <= 100,
            "animation: expected 0 < frames a second <= 1000 and quality within [0, 100], found ",
            frames_per_second, " and ", quality);
  const at::Tensor first = checked(frames[0], "animation, frame 0");
  WebPAnimEncoderOptions options;
  APO_ASSERT(WebPAnimEncoderOptionsInit(&options));
  options.anim_params.loop_count = 0;
  std::unique_ptr<WebPAnimEncoder, EncoderDelete> encoder(
      WebPAnimEncoderNew(static_cast<int>(first.size(1)), static_cast<int>(first.size(0)), &options));
  APO_CHECK(RunError, encoder != nullptr, "WebP: out of memory");
  WebPConfig config;
  APO_ASSERT(WebPConfigInit(&config));
  config.quality = static_cast<float>(quality);
  config.method = 3;
  double time_ms = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    const std::string what = concat("animation, frame ", i);
    const at::Tensor frame = checked(frames[i], what);
    APO_CHECK(DataError, frame.sizes() == first.sizes(), what, ": expected the size of frame 0, ",
              first.sizes(), ", found ", frame.sizes());
    const auto picture = to_picture(frame);
    APO_CHECK(
        RunError,
        WebPAnimEncoderAdd(encoder.get(), picture.get(), static_cast<int>(std::lround(time_ms)), &config),
        "WebP: ", what, ": ", WebPAnimEncoderGetError(encoder.get()));
    time_ms += 1000.0 / frames_per_second + (i + 1 == frames.size() ? 1000.0 * hold : 0);
  }
  APO_CHECK(RunError,
            WebPAnimEncoderAdd(encoder.get(), nullptr, static_cast<int>(std::lround(time_ms)), nullptr),
            "WebP: ", WebPAnimEncoderGetError(encoder.get()));
  WebPData data;
  WebPDataInit(&data);
  const bool assembled = WebPAnimEncoderAssemble(encoder.get(), &data);
  std::string bytes(reinterpret_cast<const char*>(data.bytes), assembled ? data.size : 0);
  WebPDataClear(&data);
  APO_CHECK(RunError, assembled, "WebP: ", WebPAnimEncoderGetError(encoder.get()));
  return bytes;
}

std::string encode_picture(const at::Tensor& image) {
  const at::Tensor whole = checked(image, "picture");
  uint8_t* output = nullptr;
  const int width = static_cast<int>(whole.size(1)), height = static_cast<int>(whole.size(0));
  const size_t size = WebPEncodeLosslessRGB(whole.data_ptr<uint8_t>(), width, height, 3 * width, &output);
  APO_CHECK(RunError, size > 0, "WebP: cannot encode a picture of ", height, "x", width);
  std::string bytes(reinterpret_cast<const char*>(output), size);
  WebPFree(output);
  return bytes;
}

void write_animation(const std::filesystem::path& path, std::span<const at::Tensor> frames,
                     double frames_per_second) {
  write_file_atomic(path, encode_animation(frames, frames_per_second));
}

void write_picture(const std::filesystem::path& path, const at::Tensor& image) {
  write_file_atomic(path, encode_picture(image));
}

at::Tensor with_border(const at::Tensor& image, ActionSource source) {
  at::Tensor framed = checked(image, "picture").clone();
  const int64_t height = framed.size(0), width = framed.size(1);
  const int64_t border = std::max<int64_t>(2, std::min(height, width) / 32);
  const Color color = source_color(source);
  auto pixels = framed.accessor<uint8_t, 3>();
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const bool inside = y >= border && y < height - border && x >= border && x < width - border;
      for (int64_t c = 0; c < 3 && !inside; ++c) pixels[y][x][c] = color[static_cast<size_t>(c)];
    }
  }
  return framed;
}

}  // namespace apo::pictures
