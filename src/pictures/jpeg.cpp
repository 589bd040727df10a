#include "apo/pictures/jpeg.h"

#include <torch/types.h>
#include <turbojpeg.h>

#include <memory>

#include "apo/base/error.h"

namespace apo::pictures {

std::string encode_jpeg(const at::Tensor& image, int quality) {
  APO_CHECK(DataError,
            image.defined() && image.dim() == 3 && image.size(2) == 3 && image.numel() > 0 &&
                image.scalar_type() == at::kByte,
            "picture: expected [Y, X, 3] uint8, found ", image.defined() ? concat(image.sizes()) : "nothing");
  const at::Tensor plain = image.cpu().contiguous();
  const auto destroy = [](void* handle) { tjDestroy(handle); };
  const std::unique_ptr<void, decltype(destroy)> handle(tjInitCompress(), destroy);
  APO_CHECK(RunError, handle != nullptr, "libjpeg-turbo: cannot begin: ", tjGetErrorStr2(nullptr));
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const int result = tjCompress2(handle.get(), plain.const_data_ptr<uint8_t>(),
                                 static_cast<int>(plain.size(1)), 0, static_cast<int>(plain.size(0)),
                                 TJPF_RGB, &bytes, &size, TJSAMP_420, quality, TJFLAG_FASTDCT);
  const std::unique_ptr<unsigned char, void (*)(unsigned char*)> held(bytes, tjFree);
  APO_CHECK(RunError, result == 0, "libjpeg-turbo: ", tjGetErrorStr2(handle.get()));
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace apo::pictures
