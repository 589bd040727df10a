// Frozen weights in few bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "apo/models/linear.h"

namespace apo::models {

enum class Quantization { float8, int8, nf4 };

/// "float8", "int8" or "nf4"; nothing for any other name.
std::optional<Quantization> quantization_named(std::string_view name);

/// Whether a weight of this shape can be: a matrix, for NF4 with rows of whole blocks.
bool can_quantize(const at::Tensor& weight, Quantization quantization);

/// Whether a network's layer is: every linear one but the head, whose rows decide between tokens.
bool is_quantized_layer(std::string_view name, const Linear& layer, Quantization quantization);

/// The nearest codes. Shapes  weight [out, in], floating point and finite, on any device.
QuantizedWeight quantize(const at::Tensor& weight, Quantization quantization);
/// Makes a layer hold codes and scales, and of its weight the shape and the type `type` alone.
void keep_codes_alone(Linear& layer, QuantizedWeight quantized, at::ScalarType type);
/// "float8", "int8" or "nf4", of the first layer that is quantized; "none": none is.
std::string_view quantization_of(const AdapterSlots& slots);
/// Memory for the codes of a weight [out, in], not filled.
QuantizedWeight unfilled(int64_t out, int64_t in, Quantization quantization, at::Device device);

/// Rows [begin, end).
QuantizedWeight rows_of(const QuantizedWeight& weight, int64_t begin, int64_t end);

/// [out, in] in `type`, each number the float32 product of level and scale, rounded once.
at::Tensor decoded(const QuantizedWeight& weight, at::ScalarType type);

}  // namespace apo::models
