// What both encodings have of numpy: a dtype, a shape and the bytes become an array, or a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wire/value.h"

namespace apo::wire {

/// "[224, 224, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

/// num_elements() of elements of so many bytes.
int64_t num_elements(const std::vector<int64_t>& shape, size_t bytes_each);

/// The value that an array of this descr stands for: an Array with the bytes swapped where they are
/// big-endian, or the text (or bytes) of an array of dtype U (or S) that holds one.
///
/// Errors  DataError "expected ..., found ...": a dtype without plain numbers, a shape that is none, or bytes
///         that do not fit it
Value numpy_array(const Value& dtype, const Value& shape, std::string data);

/// The plain number, or text, that a single one of this descr stands for. DataError "expected ..., found ..."
/// where it is of another kind, or beyond the dtype's range.
Value numpy_scalar(const Value& dtype, const Value& data);

}  // namespace apo::wire
