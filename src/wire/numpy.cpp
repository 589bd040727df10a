#include "wire/numpy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::wire {
namespace {

constexpr size_t kLongestDescr = 60;

constexpr std::array<std::pair<std::string_view, Dtype>, 12> kNames = {{{"bool", Dtype::b1},
                                                                        {"int8", Dtype::i1},
                                                                        {"uint8", Dtype::u1},
                                                                        {"int16", Dtype::i2},
                                                                        {"uint16", Dtype::u2},
                                                                        {"int32", Dtype::i4},
                                                                        {"uint32", Dtype::u4},
                                                                        {"int64", Dtype::i8},
                                                                        {"uint64", Dtype::u8},
                                                                        {"float16", Dtype::f2},
                                                                        {"float32", Dtype::f4},
                                                                        {"float64", Dtype::f8}}};

struct Descr {
  std::string text;         // as it came
  char kind = 0;            // b, i, u, f, U (characters of 4 bytes), S (bytes)
  size_t size = 0;          // bytes of an element
  bool big_endian = false;  // only where an element has several bytes
  Dtype dtype = Dtype::u1;  // of numbers
  bool is_text() const { return kind == 'U' || kind == 'S'; }
};

[[noreturn]] void refuse_dtype(std::string_view found) {
  throw DataError(concat("expected a dtype of plain numbers, such as |u1 or <f4, found ", found));
}

Descr parse_descr(const Value& value) {
  const auto* bytes = value.as<Bytes>();
  const std::string* given = bytes != nullptr ? &bytes->data : value.as<std::string>();
  if (given == nullptr) refuse_dtype(excerpt(value));
  Descr descr{.text = shortened(printable(*given), kLongestDescr)};
  for (const auto& [name, dtype] : kNames) {
    // "<f4" without its order is "f4"
    const std::string_view order_and_kind = wire::descr(dtype);
    std::string_view rest = *given;
    const bool ordered = !rest.empty() && std::string_view("<>|=").find(rest[0]) != std::string_view::npos;
    if (ordered) rest.remove_prefix(1);
    if (*given != name && rest != order_and_kind.substr(1)) continue;
    descr.kind = order_and_kind[1];
    descr.size = size_of(dtype);
    descr.big_endian = given->front() == '>';
    descr.dtype = dtype;
    return descr;
  }
  std::string_view rest = *given;
  if (!rest.empty() && std::string_view("<>|=").find(rest[0]) != std::string_view::npos)
    rest.remove_prefix(1);
  uint32_t length = 0;
  if (rest.size() < 2 || (rest[0] != 'U' && rest[0] != 'S')) refuse_dtype(descr.text);
  const char* const end = rest.data() + rest.size();
  const auto [stop, error] = std::from_chars(rest.data() + 1, end, length);
  if (error != std::errc() || stop != end) refuse_dtype(descr.text);
  descr.kind = rest[0];
  descr.size = size_t{length} * (descr.kind == 'U' ? 4 : 1);
  descr.big_endian = given->front() == '>';
  return descr;
}

std::vector<int64_t> parse_shape(const Value& value) {
  const auto* list = value.as<List>();
  APO_CHECK(DataError, list != nullptr, "expected a list of sizes as the shape, found ", excerpt(value));
  std::vector<int64_t> shape;
  shape.reserve(list->size());
  for (const Value& size : *list) {
    const auto* number = size.as<int64_t>();
    APO_CHECK(DataError, number != nullptr, "expected whole numbers in the shape, found ", excerpt(size));
    shape.push_back(*number);
  }
  return shape;
}

void swap_bytes(std::string& data, size_t unit) {
  for (size_t i = 0; i + unit <= data.size(); i += unit) std::reverse(&data[i], &data[i] + unit);
}

void append_utf8(std::string& text, uint32_t point) {
  const auto add = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (point < 0x80) return add(point);
  if (point < 0x800) {
    add(0xc0 | point >> 6);
  } else {
    if (point < 0x10000) {
      add(0xe0 | point >> 12);
    } else {
      add(0xf0 | point >> 18);
      add(0x80 | (point >> 12 & 0x3f));
    }
    add(0x80 | (point >> 6 & 0x3f));
  }
  add(0x80 | (point & 0x3f));
}

// Characters of four bytes, little-endian, filled up with zeros.
std::string text_of_characters(const std::string& data) {
  std::string text;
  size_t end = 0;  // numpy's texts end at their last character that is not 0
  for (size_t i = 0; i + 4 <= data.size(); i += 4) {
    uint32_t point = 0;
    for (size_t k = 4; k-- > 0;) point = point << 8 | static_cast<unsigned char>(data[i + k]);
    APO_CHECK(DataError, point < 0xd800 || (point >= 0xe000 && point <= 0x10ffff),
              "expected characters of Unicode, found the code ", point);
    append_utf8(text, point);
    if (point != 0) end = text.size();
  }
  text.resize(end);
  return text;
}

}  // namespace

Value numpy_array(const Value& dtype, const Value& shape, std::string data) {
  const Descr descr = parse_descr(dtype);
  Array array{descr.dtype, parse_shape(shape), std::move(data)};
  const int64_t count = num_elements(array.shape, descr.size);
  APO_CHECK(DataError, !descr.is_text() || count == 1, "expected an array of numbers, or of one text, found ",
            descr.text, " ", shape_text(array.shape));
  const size_t wanted = static_cast<size_t>(count) * descr.size;
  APO_CHECK(DataError, array.data.size() == wanted, "expected ", wanted, " bytes for an array ", descr.text,
            " ", shape_text(array.shape), ", found ", array.data.size());
  if (descr.kind == 'S') {
    array.data.resize(array.data.find_last_not_of('\0') + 1);
    return Bytes{std::move(array.data)};
  }
  if (descr.big_endian) swap_bytes(array.data, descr.kind == 'U' ? 4 : descr.size);
  if (descr.kind == 'U') return text_of_characters(array.data);
  if (descr.kind == 'b')
    for (char& truth : array.data) truth = truth != 0 ? 1 : 0;
  return array;
}

Value numpy_scalar(const Value& dtype, const Value& data) {
  const Descr descr = parse_descr(dtype);
  const auto expect = [&](bool condition) {
    APO_CHECK(DataError, condition, "expected a single ", descr.text, ", found ", excerpt(data));
  };
  const auto* whole = data.as<int64_t>();
  switch (descr.kind) {
    case 'b':
      expect(data.as<bool>() != nullptr);
      return data;
    case 'f':
      expect(data.as<double>() != nullptr || whole != nullptr);
      return whole != nullptr ? Value(static_cast<double>(*whole)) : data;
    case 'i':
    case 'u': {
      if (data.as<uint64_t>() != nullptr && descr.dtype == Dtype::u8) return data;
      const auto bits = static_cast<int>(8 * descr.size);
      const bool is_signed = descr.kind == 'i';
      const int64_t max = bits == 64 ? std::numeric_limits<int64_t>::max()
                                     : (int64_t{1} << (is_signed ? bits - 1 : bits)) - 1;
      expect(whole != nullptr && *whole <= max && *whole >= (is_signed ? -max - 1 : 0));
      return data;
    }
    case 'U':
      expect(data.as<std::string>() != nullptr);
      return data;
    default:
      expect(data.as<std::string>() != nullptr || data.as<Bytes>() != nullptr);
      return data;
  }
}

}  // namespace apo::wire
