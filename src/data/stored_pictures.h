// How the pictures of one camera lie in an array, and reading one of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "apo/data/trajectory.h"
#include "data/hdf5.h"

namespace apo::data {

/// Pictures [S, Y, X, C], [S, C, Y, X] with C = 3 or 4 (alpha, which is left out), of uint8 or of numbers
/// 0..1; or JPEG or PNG: bytes of any number for each step, or [S, N] with what is behind a picture's end
/// padded.
struct StoredPictures {
  bool encoded = false;
  bool floating = false;
  bool channels_first = false;
  bool alpha = false;
  pictures::ImageSize size;
  /// What the user should know of it, e.g. "RGBA, alpha is left out"; empty for uint8 [S, Y, X, 3].
  std::string remark() const;
};

struct PictureFinding {
  std::optional<StoredPictures> pictures;
  std::string problem;     ///< why pictures that are meant as such cannot be used: "expected ..., found ..."
  bool is_camera = false;  ///< its name says that a camera's color pictures are meant
};

/// What an array of observations is. Neither `pictures` nor `problem`: no pictures at all. `stacked`: the
/// first dimension counts steps. `channels_last`: what writes this layout always writes [Y, X, 3].
PictureFinding find_pictures(const std::string& name, const hdf5::Array& array, bool stacked,
                             bool channels_last);
/// [Y, X, 3] uint8: picture `row`, or the only one if `row` < 0. DataError naming the row: damaged, of
/// another size than the array's first, numbers outside 0..1.
at::Tensor read_picture(const hdf5::Array& array, const StoredPictures& stored, int64_t row);
/// "agentview_image", "agentview_rgb", "agentview_rgb_jpeg" -> "agentview"; other names stay.
std::string camera_name(const std::string& dataset);
/// "FILE: /data/demo_0/actions row 3: found ..." -> "row 3: found ..."
std::string without_place(const std::string& message, const hdf5::Array& array);
/// Whether such an array could be pictures by its name, or by its shape and type.
bool may_be_pictures(const std::string& name, const hdf5::Array& array);

}  // namespace apo::data
