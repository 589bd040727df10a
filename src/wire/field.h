// A value of a message and where it stands in it, so that a wrong one is named.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/value.h"

namespace apo::wire {

/// A value and its place: "request: observation/state[3]". It may be absent, as nil is. What is of another
/// kind than asked for is a DataError "WHERE: KEY: expected WHAT, found ...". The value must outlive it.
class Field {
 public:
  /// `where` is what messages call the whole, `key` the way from there; either may be empty.
  explicit Field(const Value* value, std::string where = "", std::string key = "")
      : value_(value), where_(std::move(where)), key_(std::move(key)) {}

  bool present() const { return value_ != nullptr && !value_->is_nil(); }
  /// "WHERE: KEY".
  std::string place() const;
  /// Nil where absent.
  const Value& raw() const;

  /// The member of a map; absent where the map is, or has none. DataError for what is no map.
  Field operator[](std::string_view key) const;
  /// The elements of a list, the members of a map in their order; none where it is absent.
  std::vector<Field> list() const;
  std::vector<std::pair<std::string, Field>> entries() const;

  bool boolean() const;
  /// A whole number from `min` to `max`.
  int64_t integer(int64_t min = std::numeric_limits<int64_t>::min(),
                  int64_t max = std::numeric_limits<int64_t>::max()) const;
  uint64_t unsigned_integer() const;
  /// Any number, also an array of one; it may be infinite or NaN.
  double number() const;
  /// A text, or bytes that are UTF-8.
  std::string text() const;

  /// The numbers of a list or an array of one dimension; a single number is a list of one. They may be
  /// infinite or NaN.
  std::vector<float> floats() const;
  std::vector<double> doubles() const;

  /// A camera's picture. [Y, X, 3], [Y, X, 1], [Y, X, 4] or [Y, X], or the channels first; a shape that can
  /// be read both ways has them last. Grey is given to all three channels, alpha left out. uint8, or floating
  /// point from 0 to 1 (half a step of 1/255 beyond is cut off), rounded.
  ///
  /// Returns  [Y, X, 3] uint8 on the CPU, contiguous, of its own memory
  /// Differs  openpi's clients and policies cut where this rounds: one step of 255 at most
  at::Tensor picture() const;

  /// DataError "WHERE: KEY: expected WHAT, found ..." unless `condition`.
  void expect(bool condition, std::string_view what) const {
    if (!condition) fail(what);
  }
  [[noreturn]] void fail(std::string_view what) const;

 private:
  template <class T>
  std::vector<T> numbers() const;

  const Value* value_;
  std::string where_, key_;
};

}  // namespace apo::wire
