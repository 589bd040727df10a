// Picture transforms on [Y, X, 3] uint8 tensors: resize with antialias, and the training augmentations.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "apo/base/random.h"

namespace apo::config {
class Visitor;
}

namespace apo::data {

struct AugmentationOptions {
  bool enabled = true;
  double random_resized_crop_scale = 1.0;   ///< smallest area kept, (0, 1]; 1 = no crop; the released code uses 0.9
  int64_t shift_px = 0;                     ///< random shift of up to so many pixels, edges replicated
  double brightness = 0, contrast = 0, saturation = 0;  ///< factor drawn from [1 − x, 1 + x]
  double hue = 0;                           ///< turn drawn from [−x, x], x in [0, 0.5]
  void visit(config::Visitor& v);
};

enum class Interpolation { bilinear, bicubic };

/// Resizes with antialias, as PIL does (support widened when shrinking, rounding to the nearest grey level).
///
/// Shapes   image [Y, X, 3] uint8, returns [height, width, 3] uint8; the same tensor if the size is already right
/// Errors   DataError for another rank, dtype or an empty image
/// Numeric  equal to PIL.Image.resize, on every machine (Pillow before 12: rows first; later ones may take columns
///          first where one side grows and the other shrinks, which differs by a few grey levels)
at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width,
                  Interpolation interpolation = Interpolation::bilinear);

/// The centre part with `area_share` of the area, resized back to the full size, for policies that are evaluated on it.
at::Tensor center_crop(const at::Tensor& image, double area_share, Interpolation interpolation = Interpolation::bilinear);

/// Colour changes in this order: brightness, contrast, saturation (factors; 1 = none), hue (a turn in [-0.5, 0.5];
/// 0 = none). Returns a new picture, or the same one if nothing changes.
/// Numeric  torchvision's adjust_* on uint8 tensors one after the other (hue within one grey level)
/// Errors   as resize
at::Tensor adjust_colors(const at::Tensor& image, double brightness, double contrast, double saturation, double hue);

/// Moves the picture down by `dy` and right by `dx` pixels (negative: up, left); what appears repeats the edge.
at::Tensor shift(const at::Tensor& image, int64_t dy, int64_t dx);

/// Crop, shift and colour jitter, in this order, with draws from `random`: always the same number of draws, whatever
/// the options are.
/// The picture itself stays as it is; the result may be the same tensor where nothing changed.
at::Tensor augment(const at::Tensor& image, const AugmentationOptions& options, Random& random);

}  // namespace apo::data
