#include "pictures/encoded_picture.h"

#include <png.h>
#include <torch/types.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <memory>

#include "apo/base/error.h"

namespace apo::pictures {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 24;  // a few kilobytes could ask for any number
constexpr size_t kMaxBytes = size_t{1} << 28;
constexpr std::array<uint8_t, 3> kJpegBegin{0xff, 0xd8, 0xff};
constexpr std::array<uint8_t, 8> kPngBegin{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

template <size_t N>
bool begins_with(std::span<const uint8_t> bytes, const std::array<uint8_t, N>& begin) {
  return bytes.size() >= N && std::equal(begin.begin(), begin.end(), bytes.begin());
}

ImageSize expect_size(int64_t height, int64_t width, const char* what, const std::string& where) {
  APO_CHECK(DataError, height > 0 && width > 0 && height <= kMaxPixels / width, where,
            ": expected a picture of at most ", kMaxPixels, " pixels, found a ", what, " of ", height, "x",
            width);
  return {height, width};
}

class Jpeg {
 public:
  Jpeg(std::span<const uint8_t> bytes, const std::string& where)
      : bytes_(bytes), where_(where), handle_(tjInitDecompress()) {
    APO_CHECK(RunError, handle_ != nullptr, "libjpeg-turbo: cannot begin: ", tjGetErrorStr2(nullptr));
    int width = 0, height = 0, sampling = 0, colors = 0;
    expect_good(tjDecompressHeader3(handle_.get(), bytes_.data(), bytes_.size(), &width, &height, &sampling,
                                    &colors));
    APO_CHECK(DataError, colors == TJCS_YCbCr || colors == TJCS_RGB, where_,
              ": expected a picture of three colors, found a ", colors == TJCS_GRAY ? "gray" : "CMYK",
              " JPEG of ", height, "x", width);
    size_ = expect_size(height, width, "JPEG", where_);
  }
  ImageSize size() const { return size_; }
  at::Tensor pixels() const {
    at::Tensor image = at::empty({size_.height, size_.width, 3}, at::kByte);
    expect_good(tjDecompress2(handle_.get(), bytes_.data(), bytes_.size(), image.data_ptr<uint8_t>(),
                              static_cast<int>(size_.width), 0, static_cast<int>(size_.height), TJPF_RGB,
                              TJFLAG_LIMITSCANS));
    return image;
  }

 private:
  struct Destroy {
    void operator()(void* handle) const { tjDestroy(handle); }
  };
  // A warning, too, means pixels that nobody took: the file is cut short or its bytes were changed.
  void expect_good(int result) const {
    APO_CHECK(DataError, result == 0, where_, ": damaged JPEG: ", tjGetErrorStr2(handle_.get()));
  }
  const std::span<const uint8_t> bytes_;
  const std::string& where_;
  std::unique_ptr<void, Destroy> handle_;
  ImageSize size_;
};

class Png {
 public:
  Png(std::span<const uint8_t> bytes, const std::string& where) : where_(where) {
    png_image& png = owned_.png;
    png.version = PNG_IMAGE_VERSION;
    expect_good(png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()));
    const bool deep = (png.format & PNG_FORMAT_FLAG_LINEAR) != 0,
               color = (png.format & PNG_FORMAT_FLAG_COLOR) != 0;
    APO_CHECK(DataError, color && !deep, where_, ": expected a picture of three colors of 8 bits, found a ",
              deep ? "PNG of 16 bits a channel and " : "gray PNG of ", png.height, "x", png.width);
    has_alpha_ = (png.format & PNG_FORMAT_FLAG_ALPHA) != 0;
    size_ = expect_size(png.height, png.width, "PNG", where_);
  }
  ImageSize size() const { return size_; }
  bool has_alpha() const { return has_alpha_; }
  at::Tensor pixels() {
    owned_.png.format = PNG_FORMAT_RGBA;  // with RGB, libpng would lay the picture on a background
    const at::Tensor pixels = at::empty({size_.height, size_.width, 4}, at::kByte);
    expect_good(png_image_finish_read(&owned_.png, nullptr, pixels.data_ptr<uint8_t>(), 0, nullptr));
    return pixels.narrow(2, 0, 3).contiguous();
  }

 private:
  struct Owned {
    png_image png = {};
    Owned() = default;
    ~Owned() { png_image_free(&png); }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
  };
  // What libpng only warns of (a color profile that it does not like) leaves the pixels as they are.
  void expect_good(int good) const {
    APO_CHECK(DataError, good != 0, where_, ": damaged PNG: ", owned_.png.message);
  }
  const std::string& where_;
  Owned owned_;
  ImageSize size_;
  bool has_alpha_ = false;
};

Encoding expect_encoding(std::span<const uint8_t> bytes, const std::string& where) {
  const auto encoding = encoding_of(bytes);
  APO_CHECK(DataError, encoding.has_value() && bytes.size() <= kMaxBytes, where,
            ": expected a JPEG or PNG, found ", bytes.size(), " other bytes");
  return *encoding;
}

}  // namespace

std::optional<Encoding> encoding_of(std::span<const uint8_t> bytes) {
  if (begins_with(bytes, kJpegBegin)) return Encoding::jpeg;
  if (begins_with(bytes, kPngBegin)) return Encoding::png;
  return std::nullopt;
}

EncodedHeader read_encoded_header(std::span<const uint8_t> bytes, const std::string& where) {
  if (expect_encoding(bytes, where) == Encoding::jpeg) return {Jpeg(bytes, where).size(), false};
  const Png png(bytes, where);
  return {png.size(), png.has_alpha()};
}

at::Tensor decode_picture(std::span<const uint8_t> bytes, const std::string& where) {
  return expect_encoding(bytes, where) == Encoding::jpeg ? Jpeg(bytes, where).pixels()
                                                         : Png(bytes, where).pixels();
}

}  // namespace apo::pictures
