#include "models/pi0_fast/pictures.h"

#include <torch/types.h>

#include <algorithm>
#include <vector>

#include "apo/pictures/transforms.h"

namespace apo::models {
namespace {

struct Extent {
  int64_t height, width;
};

// The larger side becomes `size`, the other follows, rounded down.
Extent fitted(const at::Tensor& image, int64_t size) {
  const auto height = static_cast<double>(image.size(0)), width = static_cast<double>(image.size(1));
  const double ratio = std::max(width / static_cast<double>(size), height / static_cast<double>(size));
  return {std::max<int64_t>(1, static_cast<int64_t>(height / ratio)),
          std::max<int64_t>(1, static_cast<int64_t>(width / ratio))};
}

}  // namespace

at::Tensor resize_with_border(const at::Tensor& image, int64_t size) {
  if (image.size(0) == size && image.size(1) == size) return image;
  const Extent extent = fitted(image, size);
  const at::Tensor resized =
      pictures::resize(image, extent.height, extent.width, pictures::Interpolation::bilinear);
  at::Tensor all = at::zeros({size, size, 3}, at::kByte);
  all.narrow(0, (size - extent.height) / 2, extent.height)
      .narrow(1, (size - extent.width) / 2, extent.width)
      .copy_(resized);
  return all;
}

at::Tensor resize_with_border_float(const at::Tensor& image, int64_t size) {
  const at::Tensor numbers = image.permute({2, 0, 1}).contiguous().to(at::kFloat).div_(255);
  if (image.size(0) == size && image.size(1) == size) return numbers;
  const Extent extent = fitted(image, size);
  const at::Tensor resized = at::upsample_bilinear2d(numbers.unsqueeze(0), {extent.height, extent.width},
                                                     /*align_corners=*/false)[0]
                                 .clamp_(0, 1);
  at::Tensor all = at::zeros({3, size, size}, at::kFloat);
  all.narrow(1, (size - extent.height) / 2, extent.height)
      .narrow(2, (size - extent.width) / 2, extent.width)
      .copy_(resized);
  return all;
}

}  // namespace apo::models
