// MessagePack as openpi's clients and servers speak it: arrays of numpy are maps with marker keys.
//
// Source  openpi-client 0.1.2, openpi_client/msgpack_numpy.py, and msgpack 1.x for Python
#pragma once

#include <string>
#include <string_view>

#include "wire/limits.h"
#include "wire/value.h"

namespace apo::wire {

/// The bytes, exactly as openpi's packer writes them: arrays with keys of type bin, numbers in their smallest
/// form, double for floating point. Text that is no UTF-8 is made printable.
std::string to_msgpack(const Value& value);

/// The value that the bytes hold, all of them; messages call it `where`.
///
/// Taken: maps with keys of type str or bin, in any order; numbers of every width; arrays (`__ndarray__`) in
/// either byte order; numpy's single numbers (`__npgeneric__`) as plain ones; arrays of text that hold one,
/// as text or bytes. Refused: other keys, a key twice, extension types, text that is no UTF-8, arrays whose
/// bytes do not fit their shape or whose dtype has no plain numbers.
///
/// Errors   DataError "WHERE: KEY: expected ..., found ...", also beyond `limits` and for bytes that are
/// missing
///          or left over
/// Differs  openpi's decoder takes more bytes than a shape needs, and a shape of nil
Value from_msgpack(std::string_view bytes, const std::string& where, const Limits& limits = {});

}  // namespace apo::wire
