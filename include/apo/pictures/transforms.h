// Picture transforms on [Y, X, 3] uint8 tensors: resize with antialias, and the training augmentations.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "apo/base/random.h"

namespace apo::config {
class Visitor;
}

namespace apo::pictures {

struct ImageSize {
  int64_t height = 0, width = 0;
  auto operator<=>(const ImageSize&) const = default;
};

struct AugmentationOptions {
  bool enabled = true;
  /// smallest area kept, (0, 1]; 1 = no crop; the released code uses 0.9
  double random_resized_crop_scale = 1.0;
  int64_t shift_px = 0;  ///< random shift of up to so many pixels, edges replicated
  double brightness = 0, contrast = 0, saturation = 0;  ///< factor drawn from [1 − x, 1 + x]
  double hue = 0;                                       ///< turn drawn from [−x, x], x in [0, 0.5]
  /// ways that each sample's pictures are changed in, drawn once for all runs; 0 = anew in every batch
  int64_t draws = 0;
  void visit(config::Visitor& v);
};

enum class Interpolation { bilinear, bicubic };

/// Resizes with antialias, as PIL does (support widened when shrinking, rounding to the nearest grey level).
///
/// Shapes   image [Y, X, 3] uint8, returns [height, width, 3] uint8; the same tensor if the size is already
///          right
/// Errors   DataError for another rank, dtype or an empty image
/// Numeric  equal to PIL.Image.resize, on every machine (Pillow before 12: rows first; later ones may take
///          columns first where one side grows and the other shrinks, which differs by a few grey levels)
at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width,
                  Interpolation interpolation = Interpolation::bilinear);

/// How a picture of any shape becomes the square that a vision tower sees.
enum class ResizeStrategy {
  letterbox,     ///< pad to a square with a fill color, then as resize_crop
  resize_naive,  ///< both sides forced to the size: the aspect ratio is lost
  resize_crop,   ///< the shorter side to the size, the aspect ratio kept; then the centre square
};
/// "letterbox", "resize-naive", "resize-crop", as `image_resize_strategy` of a checkpoint says.
std::string_view to_string(ResizeStrategy strategy);
/// DataError naming `where` and the valid names.
ResizeStrategy resize_strategy_from(std::string_view name, const std::string& where);

/// The geometry of Prismatic's (OpenVLA's) image processor.
///
/// letterbox    adds floor(difference / 2) pixels of `fill` on both sides of the shorter side: a difference
///              that is odd leaves the padded picture one pixel short of a square, and the centre crop then
///              takes the rest
/// resize_crop  the longer side becomes floor(size · longer / shorter); the crop begins at
///              round-half-even((side − size) / 2)
///
/// Shapes   image [Y, X, 3] uint8, returns [size, size, 3] uint8; the same tensor if nothing changes
/// Errors   DataError as resize
/// Numeric  equal to torchvision's transforms on Pillow before 12; a later one differs by a grey level on
///          tall pictures
/// Source   PrismaticImageProcessor.apply_transform. Its letterbox fills all towers' pictures with the last
///          tower's mean color, int(255 · mean): that is `fill`
at::Tensor resize_picture(const at::Tensor& image, int64_t size, ResizeStrategy strategy,
                          Interpolation interpolation = Interpolation::bicubic,
                          std::array<uint8_t, 3> fill = {127, 127, 127});

/// The centre part with `area_share` of the area, resampled to [height, width] with bilinear interpolation
/// and no antialias, for policies that were trained on random crops and are evaluated on the centre.
///
/// Along each side, of `from` source and `to` target pixels, with all numbers in float32:
///   low = (1 − sqrt(area_share)) / 2, high = low + sqrt(area_share)
///   place_i = low · (from − 1) + i · (high − low) · (from − 1) / (to − 1), or for to = 1 the middle
///             of low and high
/// A pixel is the blend of its four neighbours (columns first) of value/255, v; the result is
/// floor(255.5 · v), at most 255.
///
/// Shapes   image [Y, X, 3] uint8, returns [height, width, 3] uint8
/// Errors   DataError as resize; ConfigError for a share outside (0, 1]
/// Source   OpenVLA's evaluation (tf.image.crop_and_resize, area_share 0.9, 224 x 224, on float32 images and
///          convert_image_dtype(saturate)); the released APO code does the same on float16 images
at::Tensor center_crop(const at::Tensor& image, double area_share, int64_t height, int64_t width);

/// Color changes in this order: brightness, contrast, saturation (factors; 1 = none), hue (a turn in [-0.5,
/// 0.5]; 0 = none). Returns a new picture, or the same one if nothing changes.
/// Numeric  torchvision's adjust_* on uint8 tensors one after the other (hue within one grey level)
/// Errors   as resize
at::Tensor adjust_colors(const at::Tensor& image, double brightness, double contrast, double saturation,
                         double hue);

/// Moves the picture down by `dy` and right by `dx` pixels (negative: up, left); what appears repeats the
/// edge.
at::Tensor shift(const at::Tensor& image, int64_t dy, int64_t dx);

/// Crop, shift and color jitter, in this order, with draws from `random`: always the same number of draws,
/// whatever the options are.
/// The picture itself stays as it is; the result may be the same tensor where nothing changed.
at::Tensor augment(const at::Tensor& image, const AugmentationOptions& options, Random& random);

}  // namespace apo::pictures
