#include "data/stored_pictures.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "apo/base/error.h"
#include "pictures/encoded_picture.h"

namespace apo::data {
namespace {

using hdf5::Array;
using hdf5::Kind;

constexpr int64_t kMaxSide = 16384;
constexpr float kRounding = 1e-3f;  // by which float pictures may leave 0..1
constexpr std::array<std::string_view, 5> kCodings{"_jpeg", "_jpg", "_png", "_compressed", "_encoded"};
constexpr std::array<std::string_view, 2> kColors{"_image", "_rgb"};
// Words of arrays that look like pictures and show no color.
constexpr std::array<std::string_view, 12> kNoColor{"depth",     "segmentation", "seg",      "mask",
                                                    "masks",     "semantic",     "normal",   "normals",
                                                    "disparity", "flow",         "instance", "confidence"};

template <class Ends>
bool strip(std::string& name, const Ends& ends) {
  for (const std::string_view end : ends) {
    if (name.size() <= end.size() || !name.ends_with(end)) continue;
    name.erase(name.size() - end.size());
    return true;
  }
  return false;
}

bool shows_no_color(const std::string& name) {
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find_first_of("_./-", begin), name.size());
    if (std::find(kNoColor.begin(), kNoColor.end(), std::string_view(name).substr(begin, end - begin)) !=
        kNoColor.end())
      return true;
    begin = end + 1;
  }
  return false;
}

bool names_a_camera(const std::string& name) {
  std::string rest = name;
  const bool coded = strip(rest, kCodings);
  return !shows_no_color(name) && (coded || strip(rest, kColors));
}

std::vector<int64_t> shape_of_one(const Array& array, bool stacked) {
  const auto& shape = array.shape();
  return {shape.begin() + (stacked && !shape.empty() ? 1 : 0), shape.end()};
}

// Bytes that may hold a JPEG or PNG for each step.
bool may_be_encoded(const Array& array, bool stacked) {
  const size_t rank = shape_of_one(array, stacked).size();
  return (array.holds_bytes() && rank == 0) || (array.is_byte() && rank == 1);
}

struct Layout {
  bool channels_first = false, alpha = false;
};

// Which of the three dimensions holds the colors; nothing if none does.
std::optional<Layout> layout_of(const std::vector<int64_t>& one) {
  if (one.size() != 3) return std::nullopt;
  if (one[2] == 3) return Layout{false, false};
  if (one[0] == 3) return Layout{true, false};
  if (one[2] == 4) return Layout{false, true};
  if (one[0] == 4) return Layout{true, true};
  return std::nullopt;
}

std::string expected(bool stacked) {
  const char* steps = stacked ? "S, " : "";
  return concat("expected color pictures [", steps, "Y, X, 3] or [", steps,
                "3, Y, X] of uint8 or of numbers 0..1, or JPEG or PNG");
}

std::string range_problem(std::span<const float> values) {
  for (const float x : values)
    if (!(x >= -kRounding && x <= 1 + kRounding)) return concat("a value of ", x);
  return "";
}

class Finder {
 public:
  Finder(const std::string& name, const Array& array, bool stacked, bool channels_last)
      : array_(array), stacked_(stacked), channels_last_(channels_last), one_(shape_of_one(array, stacked)) {
    finding_.is_camera = names_a_camera(name);
    no_color_ = shows_no_color(name);
  }

  PictureFinding run() {
    if (may_be_encoded(array_, stacked_) && find_encoded()) return finding_;
    const bool numbers = array_.is_byte() || array_.kind() == Kind::floating;
    const auto layout = numbers ? layout_of(one_) : std::nullopt;
    const bool plain = layout && array_.is_byte() && !layout->channels_first && !layout->alpha;
    if (!layout || (no_color_ && !plain)) {
      if (finding_.is_camera) refuse(concat(expected(stacked_), ", found ", array_.describe()));
      return finding_;
    }
    find_plain(*layout);
    return finding_;
  }

 private:
  void refuse(const std::string& problem) { finding_.problem = problem; }
  void refuse(const DataError& error) { refuse(without_place(error.what(), array_)); }
  int64_t first_row() const { return stacked_ ? 0 : -1; }
  bool is_empty() const { return stacked_ && (array_.shape().empty() || array_.shape()[0] == 0); }

  // True if that is what it is, or what it was meant to be.
  bool find_encoded() {
    if (is_empty()) return false;
    if (!array_.is_written()) {
      if (finding_.is_camera || array_.holds_bytes())
        refuse(concat(expected(stacked_), ", found ", array_.describe(), ", never written"));
      return !finding_.problem.empty();
    }
    try {
      const std::vector<uint8_t> first = array_.row_bytes(first_row());
      if (!pictures::encoding_of(first)) return false;
      const pictures::EncodedHeader header =
          pictures::read_encoded_header(first, concat(array_.where(), stacked_ ? " row 0" : ""));
      finding_.pictures = StoredPictures{true, false, false, header.has_alpha, header.size};
    } catch (const DataError& error) {
      refuse(error);
    }
    return true;
  }

  void find_plain(const Layout& layout) {
    const int64_t height = one_[layout.channels_first ? 1 : 0], width = one_[layout.channels_first ? 2 : 1];
    const std::string found = concat(", found ", array_.describe());
    if (height <= 0 || width <= 0 || height > kMaxSide || width > kMaxSide)
      return refuse(expected(stacked_) + found);
    if (!channels_last_ && one_[0] == 3 && one_[2] == 3)
      return refuse(concat(expected(stacked_), found, ": either dimension could be the colors"));
    StoredPictures stored{
        false, array_.kind() == Kind::floating, layout.channels_first, layout.alpha, {height, width}};
    if (is_empty()) return;
    if (!array_.is_written()) return refuse(concat(expected(stacked_), found, ", never written"));
    try {
      array_.check_filters();
      if (stored.floating) {
        const std::string problem = range_problem(array_.row_floats(first_row()));
        // numbers of three dimensions without a camera's name: normals, points and the like
        if (!problem.empty())
          return finding_.is_camera ? refuse(concat(expected(stacked_), found, " with ", problem)) : void();
      }
      finding_.pictures = stored;
    } catch (const DataError& error) {
      refuse(error);
    }
  }

  const Array& array_;
  const bool stacked_, channels_last_;
  const std::vector<int64_t> one_;  // the shape of one picture
  bool no_color_ = false;
  PictureFinding finding_;
};

at::Tensor read_floats(const Array& array, const StoredPictures& stored, const std::vector<int64_t>& shape,
                       int64_t row) {
  std::vector<float> values = array.row_floats(row);
  const std::string problem = range_problem(values);
  APO_CHECK(DataError, problem.empty(), array.where(), row < 0 ? "" : concat(" row ", row),
            ": expected numbers 0..1, found ", problem);
  const at::Tensor image = at::from_blob(values.data(), shape, at::kFloat);
  return image.mul(255.0f).round_().clamp_(0, 255).to(at::kByte);
}

}  // namespace

std::string StoredPictures::remark() const {
  std::string text;
  const auto add = [&text](const char* what) { append_item(text, ", ", what); };
  if (encoded) add("encoded as JPEG or PNG");
  if (floating) add("numbers 0..1");
  if (channels_first) add("channels first");
  if (alpha) add("RGBA, alpha is left out");
  return text;
}

PictureFinding find_pictures(const std::string& name, const Array& array, bool stacked, bool channels_last) {
  return Finder(name, array, stacked, channels_last).run();
}

at::Tensor read_picture(const Array& array, const StoredPictures& stored, int64_t row) {
  at::Tensor image;
  if (stored.encoded) {
    const std::string where = row < 0 ? array.where() : concat(array.where(), " row ", row);
    image = pictures::decode_picture(array.row_bytes(row), where);
    APO_CHECK(DataError, image.size(0) == stored.size.height && image.size(1) == stored.size.width, where,
              ": expected ", stored.size.height, "x", stored.size.width, " as the first picture, found ",
              image.size(0), "x", image.size(1));
    return image;
  }
  const std::vector<int64_t> shape = shape_of_one(array, row >= 0);
  if (stored.floating) {
    image = read_floats(array, stored, shape, row);
  } else {
    image = at::empty(shape, at::kByte);
    const std::span<uint8_t> bytes(image.data_ptr<uint8_t>(), static_cast<size_t>(image.numel()));
    row < 0 ? array.read_bytes(bytes) : array.read_row(row, bytes);
  }
  if (stored.channels_first) image = image.permute({1, 2, 0});
  if (stored.alpha) image = image.narrow(2, 0, 3);
  return image.contiguous();
}

std::string camera_name(const std::string& dataset) {
  std::string name = dataset;
  strip(name, kCodings);
  strip(name, kColors);
  return name;
}

std::string without_place(const std::string& message, const Array& array) {
  const std::string place = array.where();
  if (!message.starts_with(place)) return message;
  return message.substr(std::min(message.find_first_not_of(": ", place.size()), message.size()));
}

bool may_be_pictures(const std::string& name, const Array& array) {
  const std::vector<int64_t> one = shape_of_one(array, true);
  return names_a_camera(name) || array.holds_bytes() ||
         (one.size() == 3 && (array.is_byte() || array.kind() == Kind::floating) && layout_of(one));
}

}  // namespace apo::data
