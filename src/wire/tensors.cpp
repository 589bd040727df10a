#include "wire/tensors.h"

#include <torch/types.h>

#include <array>
#include <bit>
#include <cstring>

#include "apo/base/error.h"

namespace apo::wire {
namespace {

static_assert(std::endian::native == std::endian::little);

// in the order of Dtype
constexpr std::array<at::ScalarType, 12> kTypes = {at::kBool,   at::kChar, at::kByte,   at::kShort,
                                                   at::kUInt16, at::kInt,  at::kUInt32, at::kLong,
                                                   at::kUInt64, at::kHalf, at::kFloat,  at::kDouble};

Dtype dtype_of(at::ScalarType type) {
  for (size_t i = 0; i < kTypes.size(); ++i)
    if (kTypes[i] == type) return static_cast<Dtype>(i);
  throw Bug(concat("expected a tensor of numbers that numpy has, found ", type));
}

template <class T>
Array array_of(Dtype dtype, const std::vector<T>& numbers) {
  Array array{dtype, {static_cast<int64_t>(numbers.size())}, std::string(numbers.size() * sizeof(T), '\0')};
  if (!numbers.empty()) std::memcpy(array.data.data(), numbers.data(), array.data.size());
  return array;
}

}  // namespace

Array array(const at::Tensor& tensor) {
  at::Tensor here = tensor.detach().to(at::kCPU);
  if (here.scalar_type() == at::kBFloat16) here = here.to(at::kFloat);
  here = here.contiguous();
  Array array{dtype_of(here.scalar_type()), here.sizes().vec(), std::string(here.nbytes(), '\0')};
  if (here.nbytes() > 0) std::memcpy(array.data.data(), here.const_data_ptr(), here.nbytes());
  return array;
}

Array array(const std::vector<float>& numbers) { return array_of(Dtype::f4, numbers); }
Array array(const std::vector<double>& numbers) { return array_of(Dtype::f8, numbers); }

at::Tensor tensor(const Array& array) {
  at::Tensor tensor = at::empty(array.shape, kTypes.at(static_cast<size_t>(array.dtype)));
  APO_ASSERT(tensor.nbytes() == array.data.size());
  if (tensor.nbytes() > 0) std::memcpy(tensor.mutable_data_ptr(), array.data.data(), tensor.nbytes());
  return tensor;
}

}  // namespace apo::wire
