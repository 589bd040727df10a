#include "wire/field.h"

#include <c10/util/Half.h>
#include <torch/types.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "wire/tensors.h"

namespace apo::wire {
namespace {

constexpr size_t kLongestKey = 60;      // in a message
constexpr double kLargestWhole = 9e15;  // of the whole numbers that a double tells apart
constexpr float kHalfAStep = 0.5f / 255;

template <class T>
T element(const Array& array, size_t i) {
  T number;
  std::memcpy(&number, &array.data[i * sizeof(T)], sizeof(T));
  return number;
}

// One number of an array as a plain one.
Value plain(const Array& array, size_t i) {
  switch (array.dtype) {
    case Dtype::b1:
      return array.data[i] != 0;
    case Dtype::i1:
      return element<int8_t>(array, i);
    case Dtype::u1:
      return element<uint8_t>(array, i);
    case Dtype::i2:
      return element<int16_t>(array, i);
    case Dtype::u2:
      return element<uint16_t>(array, i);
    case Dtype::i4:
      return element<int32_t>(array, i);
    case Dtype::u4:
      return element<uint32_t>(array, i);
    case Dtype::i8:
      return element<int64_t>(array, i);
    case Dtype::u8:
      return element<uint64_t>(array, i);
    case Dtype::f2:
      return static_cast<float>(c10::Half(element<uint16_t>(array, i), c10::Half::from_bits()));
    case Dtype::f4:
      return element<float>(array, i);
    case Dtype::f8:
      break;
  }
  return element<double>(array, i);
}

// An array of one number as that number; other values as they are.
Value single(const Value& value) {
  const auto* array = value.as<Array>();
  return array != nullptr && array->data.size() == size_of(array->dtype) ? plain(*array, 0) : value;
}

std::optional<double> number_of(const Value& value) {
  if (const auto* number = value.as<double>()) return *number;
  if (const auto* number = value.as<int64_t>()) return static_cast<double>(*number);
  if (const auto* number = value.as<uint64_t>()) return static_cast<double>(*number);
  return std::nullopt;
}

bool is_channels(int64_t size) { return size == 1 || size == 3 || size == 4; }

}  // namespace

std::string Field::place() const { return concat(where_, where_.empty() || key_.empty() ? "" : ": ", key_); }

const Value& Field::raw() const {
  static const Value kNil;
  return value_ == nullptr ? kNil : *value_;
}

Field Field::operator[](std::string_view key) const {
  std::string name = concat(key_, key_.empty() ? "" : ".", shortened(key, kLongestKey));
  if (!present()) return Field(nullptr, where_, std::move(name));
  expect(value_->as<Map>() != nullptr, "a map");
  return Field(value_->find(key), where_, std::move(name));
}

std::vector<Field> Field::list() const {
  std::vector<Field> fields;
  if (!present()) return fields;
  const auto* list = value_->as<List>();
  expect(list != nullptr, "a list");
  for (size_t i = 0; i < list->size(); ++i)
    fields.emplace_back(&(*list)[i], where_, concat(key_, "[", i, "]"));
  return fields;
}

std::vector<std::pair<std::string, Field>> Field::entries() const {
  std::vector<std::pair<std::string, Field>> fields;
  if (!present()) return fields;
  const auto* map = value_->as<Map>();
  expect(map != nullptr, "a map");
  for (const auto& [key, value] : *map)
    fields.emplace_back(
        key, Field(&value, where_, concat(key_, key_.empty() ? "" : ".", shortened(key, kLongestKey))));
  return fields;
}

bool Field::boolean() const {
  const Value value = single(raw());
  expect(value.as<bool>() != nullptr, "true or false");
  return *value.as<bool>();
}

int64_t Field::integer(int64_t min, int64_t max) const {
  const Value value = single(raw());
  std::optional<int64_t> whole;
  if (const auto* number = value.as<int64_t>()) whole = *number;
  if (const auto* number = value.as<double>())
    if (std::abs(*number) < kLargestWhole && *number == std::floor(*number))
      whole = static_cast<int64_t>(*number);
  if (!whole || *whole < min || *whole > max) {
    const auto limits = std::numeric_limits<int64_t>();
    if (min == limits.min() && max == limits.max()) fail("a whole number");
    fail(max == limits.max() ? concat("a whole number, at least ", min)
                             : concat("a whole number from ", min, " to ", max));
  }
  return *whole;
}

uint64_t Field::unsigned_integer() const {
  const Value value = single(raw());
  if (const auto* number = value.as<uint64_t>()) return *number;
  return static_cast<uint64_t>(integer(0));
}

double Field::number() const {
  const std::optional<double> number = number_of(single(raw()));
  expect(number.has_value(), "a number");
  return *number;
}

std::string Field::text() const {
  if (const auto* text = raw().as<std::string>()) return *text;
  const auto* bytes = raw().as<Bytes>();
  expect(bytes != nullptr && is_utf8(bytes->data), "a text");
  return bytes->data;
}

template <class T>
std::vector<T> Field::numbers() const {
  std::vector<T> numbers;
  const auto* array = raw().as<Array>();
  if (array != nullptr) {
    expect(array->shape.size() <= 1 && array->dtype != Dtype::b1, "a list of numbers");
    const size_t count = array->data.size() / size_of(array->dtype);
    numbers.reserve(count);
    for (size_t i = 0; i < count; ++i) numbers.push_back(static_cast<T>(*number_of(plain(*array, i))));
  } else if (const std::optional<double> number = number_of(raw())) {
    numbers.push_back(static_cast<T>(*number));
  } else {
    expect(raw().as<List>() != nullptr, "a list of numbers");
    for (const Field& field : list()) numbers.push_back(static_cast<T>(field.number()));
  }
  return numbers;
}

std::vector<float> Field::floats() const { return numbers<float>(); }
std::vector<double> Field::doubles() const { return numbers<double>(); }

at::Tensor Field::picture() const {
  const auto* array = raw().as<Array>();
  expect(array != nullptr, "a picture, an array [Y, X, 3] of uint8");
  const std::vector<int64_t>& shape = array->shape;
  const bool grey = shape.size() == 2;
  const bool channels_last = shape.size() == 3 && is_channels(shape[2]);
  expect(grey || channels_last || (shape.size() == 3 && is_channels(shape[0])),
         "a picture [Y, X, 3], [3, Y, X] or [Y, X]");
  expect(!array->data.empty(), "a picture that is not empty");
  expect(array->dtype == Dtype::u1 || is_floating(array->dtype),
         "a picture of uint8, or of floating point from 0 to 1");
  at::Tensor picture = tensor(*array);
  if (is_floating(array->dtype)) {
    picture = picture.to(at::kFloat);
    const auto [low, high] = picture.aminmax();
    const float least = low.item<float>(), most = high.item<float>();  // NaN where one is
    if (std::isnan(least)) fail("a picture without NaN");
    APO_CHECK(DataError, least >= -kHalfAStep && most <= 1 + kHalfAStep, place(),
              ": expected a picture of floating point from 0 to 1, found ", least, " to ", most);
    picture = picture.mul(255).round().clamp(0, 255).to(at::kByte);
  }
  if (grey)
    picture = picture.unsqueeze(2);
  else if (!channels_last)
    picture = picture.permute({1, 2, 0});
  if (picture.size(2) == 1) picture = picture.expand({-1, -1, 3});
  return picture.slice(2, 0, 3).contiguous();
}

void Field::fail(std::string_view what) const {
  const std::string at = place();
  throw DataError(concat(at, at.empty() ? "" : ": ", "expected ", what, ", found ",
                         value_ == nullptr ? "nothing" : excerpt(*value_)));
}

}  // namespace apo::wire
