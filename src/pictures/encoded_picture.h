// JPEG and PNG pictures, as recorders keep them in arrays of bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "apo/pictures/transforms.h"

namespace apo::pictures {

enum class Encoding { jpeg, png };

/// By the first bytes; nothing for what is neither.
std::optional<Encoding> encoding_of(std::span<const uint8_t> bytes);

struct EncodedHeader {
  ImageSize size;
  bool has_alpha = false;
};

/// What the header says. DataError naming `where`: neither JPEG nor PNG, damaged, without color, 16 bits a
/// channel, or more than 2^24 pixels.
EncodedHeader read_encoded_header(std::span<const uint8_t> bytes, const std::string& where);
/// [Y, X, 3] uint8; alpha is left out. DataError as above, and for a picture that is cut short or damaged.
at::Tensor decode_picture(std::span<const uint8_t> bytes, const std::string& where);

}  // namespace apo::pictures
