// What goes over the network, as a tree: numbers, text, lists, maps and arrays of numbers, whatever the bytes
// around it are (msgpack.h, json_numpy.h).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace apo::wire {

/// Kinds of numbers, named as numpy names them without the order of the bytes.
enum class Dtype : uint8_t { b1, i1, u1, i2, u2, i4, u4, i8, u8, f2, f4, f8 };

/// Bytes of one number.
size_t size_of(Dtype dtype);
bool is_floating(Dtype dtype);
/// numpy's descr, little-endian: "|b1", "|u1", "<i8", "<f4".
std::string_view descr(Dtype dtype);

/// Numbers in C order, little-endian; numpy's ndarray.
struct Array {
  Dtype dtype = Dtype::u1;
  std::vector<int64_t> shape;  ///< none: a single number
  std::string data;            ///< as many bytes as dtype and shape need

  bool operator==(const Array&) const = default;
};

/// How many numbers an array of this shape has. DataError "expected ..., found ..." for a negative size, more
/// than 32 dimensions, or more bytes than an address can name.
int64_t num_elements(const std::vector<int64_t>& shape, Dtype dtype);

/// Bytes that are no text.
struct Bytes {
  std::string data;
  bool operator==(const Bytes&) const = default;
};

class Value;
/// A template because a Value holds them before it is a whole type.
template <class V>
struct BasicMember {
  std::string key;
  V value;
  bool operator==(const BasicMember&) const = default;
};
using Member = BasicMember<Value>;
using List = std::vector<Value>;
using Map = std::vector<Member>;  ///< in the order of the wire, each key once

/// One value of the tree; nil by default. Text is UTF-8. A whole number is uint64_t only beyond int64_t's
/// range, so that equal numbers are equal values.
class Value {
 public:
  using Data =
      std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Bytes, List, Map, Array>;

  Value() = default;
  template <std::same_as<bool> T>
  Value(T truth) : data_(truth) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T number) {
    if (std::in_range<int64_t>(number))
      data_ = static_cast<int64_t>(number);
    else
      data_ = static_cast<uint64_t>(number);
  }
  template <std::floating_point T>
  Value(T number) : data_(static_cast<double>(number)) {}
  Value(std::string text) : data_(std::move(text)) {}
  Value(std::string_view text) : data_(std::string(text)) {}
  Value(const char* text) : data_(std::string(text)) {}
  Value(std::nullptr_t) = delete;
  Value(Bytes bytes) : data_(std::move(bytes)) {}
  Value(List list) : data_(std::move(list)) {}
  Value(Map map) : data_(std::move(map)) {}
  Value(Array array) : data_(std::move(array)) {}

  bool is_nil() const { return data_.index() == 0; }
  /// Null for a value of another kind: `as<Array>()`.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  template <class T>
  T* as() {
    return std::get_if<T>(&data_);
  }
  const Data& data() const { return data_; }
  /// The member of a map; null where there is none, and for what is no map.
  const Value* find(std::string_view key) const;

  bool operator==(const Value&) const;

 private:
  Data data_;
};

/// A value as a message shows it: "2.5", "the text \"lift\"", "a list of 3", "an array |u1 [224, 224, 3]".
std::string excerpt(const Value& value);

}  // namespace apo::wire
