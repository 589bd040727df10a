#include "models/sequence/quantized.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "apo/base/error.h"
#include "apo/models/lora.h"
#include "models/sequence/elementwise.h"
#include "models/sequence/kernels/elementwise.h"

namespace apo::models {
namespace {

constexpr int64_t kBlock = kUnpackBlock;
constexpr std::array<std::pair<Quantization, std::string_view>, 3> kNames{
    {{Quantization::float8, "float8"}, {Quantization::int8, "int8"}, {Quantization::nf4, "nf4"}}};
constexpr double kLargestInt8 = 127, kLargestFloat8 = 448;

// NF4: quantiles of the normal distribution, brought to [-1, 1] with an exact zero (arXiv 2305.14314,
// appendix E).
constexpr std::array<float, 16> kLevels{
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

at::Tensor midpoints(const at::TensorOptions& options) {
  std::array<float, kLevels.size() - 1> middle{};
  for (size_t i = 0; i < middle.size(); ++i) middle[i] = (kLevels[i] + kLevels[i + 1]) / 2;
  return at::tensor(middle, at::kFloat).to(options.device());
}

// Copied to each device once: a copy in the middle of kernels that are recorded would end the recording.
const at::Tensor& levels_on(at::Device device) {
  static std::mutex mutex;
  static auto* levels = new std::map<std::string, at::Tensor>;  // may outlive static objects
  const std::lock_guard lock(mutex);
  at::Tensor& found = (*levels)[device.str()];
  if (!found.defined()) found = at::tensor(kLevels, at::kFloat).to(device);
  return found;
}

// What the numbers of each row of `x` are divided by; NaN where one is, 1 where all are 0, or so small that
// the quotient would not be a normal number: these become 0.
at::Tensor scales_of(const at::Tensor& x, double largest) {
  const at::Tensor top = std::get<0>(x.abs().max(-1, /*keepdim=*/true));
  return at::where(top.lt(largest * std::numeric_limits<float>::min()), at::ones_like(top), top / largest);
}

QuantizedWeight quantize_nf4(const at::Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const at::Tensor blocks = weight.view({out, in / kBlock, kBlock});
  const at::Tensor scales = scales_of(blocks, 1);
  const at::Tensor codes = at::bucketize(blocks / scales, midpoints(weight.options()), /*out_int32=*/true)
                               .to(at::kByte)
                               .view({out, in / 2, 2});
  return {codes.select(-1, 0).bitwise_left_shift(4).bitwise_or(codes.select(-1, 1)), scales.squeeze(-1)};
}

template <class T>
void decode_nf4(const QuantizedWeight& weight, at::Tensor& into) {
  const uint8_t* codes = weight.codes.const_data_ptr<uint8_t>();
  const float* scales = weight.scales.const_data_ptr<float>();
  T* numbers = into.mutable_data_ptr<T>();
  at::parallel_for(0, weight.scales.numel(), /*grain=*/512, [&](int64_t begin, int64_t end) {
    std::array<T, kLevels.size()> levels;
    for (int64_t block = begin; block < end; ++block) {
      for (size_t i = 0; i < levels.size(); ++i) levels[i] = static_cast<T>(kLevels[i] * scales[block]);
      const uint8_t* from = codes + block * kBlock / 2;
      T* to = numbers + block * kBlock;
      for (int64_t i = 0; i < kBlock / 2; ++i) {
        to[2 * i] = levels[from[i] >> 4];
        to[2 * i + 1] = levels[from[i] & 15];
      }
    }
  });
}

at::Tensor decoded_nf4(const QuantizedWeight& weight, at::ScalarType type) {
  const int64_t out = weight.codes.size(0), in = 2 * weight.codes.size(1);
  if (weight.codes.is_cpu()) {
    at::Tensor result = at::empty({out, in}, type);
    switch (type) {
      case at::kFloat:
        decode_nf4<float>(weight, result);
        return result;
      case at::kBFloat16:
        decode_nf4<at::BFloat16>(weight, result);
        return result;
      case at::kHalf:
        decode_nf4<at::Half>(weight, result);
        return result;
      default:
        break;
    }
  }
  if (const at::Tensor result = unpacked(weight.codes, weight.scales, kLevels, type); result.defined())
    return result;
  const at::Tensor codes = at::stack({weight.codes.bitwise_right_shift(4), weight.codes.bitwise_and(15)}, -1);
  const at::Tensor numbers = levels_on(codes.device())
                                 .index_select(0, codes.flatten().to(at::kInt))
                                 .view({out, in / kBlock, kBlock});
  return (numbers * weight.scales.unsqueeze(-1)).to(type).view({out, in});
}

Quantization quantization_of(const QuantizedWeight& weight) {
  switch (weight.codes.scalar_type()) {
    case at::kByte:
      return Quantization::nf4;
    case at::kChar:
      return Quantization::int8;
    default:
      return Quantization::float8;
  }
}

}  // namespace

std::optional<Quantization> quantization_named(std::string_view name) {
  for (const auto& [quantization, known] : kNames)
    if (name == known) return quantization;
  return std::nullopt;
}

bool can_quantize(const at::Tensor& weight, Quantization quantization) {
  return weight.dim() == 2 && (quantization != Quantization::nf4 || weight.size(1) % kBlock == 0);
}

bool is_quantized_layer(std::string_view name, const Linear& layer, Quantization quantization) {
  return !name.ends_with("lm_head") && can_quantize(layer.weight, quantization);
}

QuantizedWeight quantize(const at::Tensor& weight, Quantization quantization) {
  APO_ASSERT(can_quantize(weight, quantization));
  const at::NoGradGuard no_grad;
  const at::Tensor x = weight.detach().to(at::kFloat).contiguous();
  switch (quantization) {
    case Quantization::nf4:
      return quantize_nf4(x);
    case Quantization::int8: {
      const at::Tensor scales = scales_of(x, kLargestInt8);
      return {(x / scales).round_().to(at::kChar), scales};
    }
    case Quantization::float8:
      break;
  }
  const at::Tensor scales = scales_of(x, kLargestFloat8);
  return {(x / scales).to(at::kFloat8_e4m3fn), scales};
}

void keep_codes_alone(Linear& layer, QuantizedWeight quantized, at::ScalarType type) {
  layer.quantized = std::move(quantized);
  layer.weight = at::empty(layer.weight.sizes(), at::TensorOptions(type).device(at::kMeta));
}

std::string_view quantization_of(const AdapterSlots& slots) {
  for (const auto& [name, linear] : slots.layers())
    for (const auto& [quantization, known] : kNames)
      if (linear->is_quantized() && quantization_of(linear->quantized) == quantization) return known;
  return "none";
}

QuantizedWeight unfilled(int64_t out, int64_t in, Quantization quantization, at::Device device) {
  const bool packed = quantization == Quantization::nf4;
  const at::ScalarType type = packed                               ? at::kByte
                              : quantization == Quantization::int8 ? at::kChar
                                                                   : at::kFloat8_e4m3fn;
  return {at::empty({out, packed ? in / 2 : in}, at::TensorOptions(type).device(device)),
          at::empty({out, packed ? in / kBlock : 1}, at::TensorOptions(at::kFloat).device(device))};
}

QuantizedWeight rows_of(const QuantizedWeight& weight, int64_t begin, int64_t end) {
  return {weight.codes.slice(0, begin, end), weight.scales.slice(0, begin, end)};
}

at::Tensor decoded(const QuantizedWeight& weight, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  if (quantization_of(weight) == Quantization::nf4) return decoded_nf4(weight, type);
  return weight.codes.to(at::kFloat).mul_(weight.scales).to(type);
}

}  // namespace apo::models
