// A message of any bytes, as msgpack or as JSON: every value of it is read, and written and read again it is
// the same, or it is refused with a message that says where.
//
// The first byte says which (even: msgpack), and where it is above 127 how many lists are put around the
// message's end: more deeply than an input is long.
#include <cstdint>
#include <string>
#include <string_view>

#include "apo/base/error.h"
#include "wire/field.h"
#include "wire/json_numpy.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace {

using apo::wire::Field;
using apo::wire::Value;

template <class Call>
void refused_or_done(const Call& call) {
  try {
    call();
  } catch (const apo::DataError& error) {
    if (!std::string_view(error.what()).starts_with("m: ")) __builtin_trap();
  }
}

// At most `left` of the values: each is of another kind than most of what it is asked for, and throwing takes
// time.
void read_all(const Field& field, int& left) {
  if (left-- <= 0) return;
  refused_or_done([&] { field.boolean(); });
  refused_or_done([&] { field.integer(-3, 1000); });
  refused_or_done([&] { field.unsigned_integer(); });
  refused_or_done([&] { field.number(); });
  refused_or_done([&] { field.text(); });
  refused_or_done([&] { field.floats(); });
  refused_or_done([&] {
    const at::Tensor picture = field.picture();
    if (picture.dim() != 3 || picture.size(2) != 3 || picture.numel() == 0) __builtin_trap();
  });
  if (const auto* array = field.raw().as<apo::wire::Array>())
    if (!(apo::wire::array(apo::wire::tensor(*array)) == *array)) __builtin_trap();
  if (field.raw().as<apo::wire::List>() != nullptr)
    for (const Field& inner : field.list()) read_all(inner, left);
  else if (field.raw().as<apo::wire::Map>() != nullptr)
    for (const auto& [key, inner] : field.entries()) read_all(inner, left);
}

void read_msgpack(const std::string& bytes) {
  const Value value = apo::wire::from_msgpack(bytes, "m");
  const std::string again = apo::wire::to_msgpack(value);
  if (apo::wire::to_msgpack(apo::wire::from_msgpack(again, "m")) != again) __builtin_trap();
  int left = 16;
  read_all(Field(&value, "m"), left);
  try {
    apo::wire::to_json(value);
  } catch (const apo::DataError&) {  // a number that JSON has not
  }
}

void read_json(const std::string& text) {
  Value value = apo::wire::from_json(text, "m");
  const std::string again = apo::wire::to_json(value);
  const std::string python = apo::wire::to_json(value, apo::wire::JsonStyle::python);
  if (apo::wire::to_json(apo::wire::from_json(again, "m")) != again) __builtin_trap();
  if (apo::wire::to_json(apo::wire::from_json(python, "m")) != again) __builtin_trap();
  int left = 16;
  read_all(Field(&value, "m"), left);
  apo::wire::to_msgpack(value);
  apo::wire::unwrap_encoded(value, "m");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool json = data[0] % 2 == 1;
  std::string message(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] > 127) {
    const size_t levels = size_t{1} << (data[0] - 128) / 2 % 21;
    if (json)
      message = std::string(levels, '[') + message + std::string(levels, ']');
    else
      message.insert(0, levels, '\x91');
  }
  refused_or_done([&] { json ? read_json(message) : read_msgpack(message); });
  return 0;
}
