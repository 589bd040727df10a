// JSON as OpenVLA's REST clients and servers speak it: arrays of numpy are objects with a marker key.
//
// Source  json-numpy 2.1.1; openvla, vla-scripts/deploy.py
#pragma once

#include <string>
#include <string_view>

#include "apo/base/error.h"
#include "wire/limits.h"
#include "wire/value.h"

namespace apo::wire {

/// The text is no JSON at all, or stops early; what JSON says and nobody can use is a plain DataError.
struct MalformedJson : DataError {
  using DataError::DataError;
};

/// How Python's json.dumps separates: ", " and ": " with all but ASCII escaped, or as web servers do, without
/// spaces and in UTF-8.
enum class JsonStyle { python, compact };

/// The text, arrays as {"__numpy__": base64, "dtype": descr, "shape": [...]}, bytes in base64. Text that is
/// no UTF-8 is made printable.
///
/// Errors  DataError for a number outside of arrays that is not finite: JSON has none
std::string to_json(const Value& value, JsonStyle style = JsonStyle::compact);

/// The value of a JSON text, keys in their order; arrays are taken and refused as by from_msgpack.
///
/// Errors   MalformedJson "WHERE: expected JSON, found ...", DataError "WHERE: KEY: expected ..., found ..."
/// Differs  json-numpy takes a negative size in a shape (numpy works it out), letters in base64 that are
/// none,
///          and NaN in the text
Value from_json(std::string_view text, const std::string& where, const Limits& limits = {});

/// Puts the request in place of a message {"encoded": TEXT} that holds its JSON, for clients that cannot hook
/// into their JSON library; their answer has the same form.
///
/// Returns  whether it was one; false leaves the message alone
/// Errors   DataError "WHERE: ...": of the JSON within, and for "encoded" with siblings or without a text
bool unwrap_encoded(Value& message, const std::string& where, const Limits& limits = {});
/// The answer to such a message: a JSON string that holds JSON in Python's style.
std::string to_encoded_json(const Value& answer);

}  // namespace apo::wire
