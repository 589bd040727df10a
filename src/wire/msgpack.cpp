#include "wire/msgpack.h"

#include <bit>
#include <cstdint>
#include <limits>
#include <msgpack/null_visitor.hpp>
#include <msgpack/pack.hpp>
#include <msgpack/unpack.hpp>  // with the parser
#include <type_traits>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "wire/numpy.h"
#include "wire/tree_builder.h"

namespace apo::wire {
namespace {

constexpr std::string_view kArray = "__ndarray__", kScalar = "__npgeneric__";

struct Output {
  std::string bytes;
  void write(const char* data, size_t size) { bytes.append(data, size); }
};
using Packer = msgpack::packer<Output>;

uint32_t announced(size_t size) {
  APO_ASSERT(size <= std::numeric_limits<uint32_t>::max());
  return static_cast<uint32_t>(size);
}

void pack_text(Packer& packer, std::string_view text) {
  if (!is_utf8(text)) return pack_text(packer, printable(text, NewLines::kept));
  packer.pack_str(announced(text.size()));
  packer.pack_str_body(text.data(), announced(text.size()));
}

void pack_bytes(Packer& packer, std::string_view bytes) {
  packer.pack_bin(announced(bytes.size()));
  packer.pack_bin_body(bytes.data(), announced(bytes.size()));
}

// packer.pack_double() makes an integer of 3.0, and Python an int of that.
void pack_double(Output& output, double number) {
  char bytes[9] = {'\xcb'};
  const auto bits = std::bit_cast<uint64_t>(number);
  for (int i = 0; i < 8; ++i) bytes[1 + i] = static_cast<char>(bits >> (56 - 8 * i));
  output.write(bytes, sizeof(bytes));
}

void pack(Output& output, const Value& value);

void pack_array(Packer& packer, const Array& array) {
  packer.pack_map(4);
  pack_bytes(packer, kArray);
  packer.pack_true();
  pack_bytes(packer, "data");
  pack_bytes(packer, array.data);
  pack_bytes(packer, "dtype");
  pack_text(packer, descr(array.dtype));
  pack_bytes(packer, "shape");
  packer.pack_array(announced(array.shape.size()));
  for (const int64_t size : array.shape) packer.pack_int64(size);
}

void pack(Output& output, const Value& value) {
  Packer packer(output);
  std::visit(
      [&](const auto& data) {
        using T = std::decay_t<decltype(data)>;
        if constexpr (std::is_same_v<T, std::monostate>) {
          packer.pack_nil();
        } else if constexpr (std::is_same_v<T, bool>) {
          data ? packer.pack_true() : packer.pack_false();
        } else if constexpr (std::is_same_v<T, int64_t>) {
          packer.pack_int64(data);
        } else if constexpr (std::is_same_v<T, uint64_t>) {
          packer.pack_uint64(data);
        } else if constexpr (std::is_same_v<T, double>) {
          pack_double(output, data);
        } else if constexpr (std::is_same_v<T, std::string>) {
          pack_text(packer, data);
        } else if constexpr (std::is_same_v<T, Bytes>) {
          pack_bytes(packer, data.data);
        } else if constexpr (std::is_same_v<T, List>) {
          packer.pack_array(announced(data.size()));
          for (const Value& element : data) pack(output, element);
        } else if constexpr (std::is_same_v<T, Map>) {
          packer.pack_map(announced(data.size()));
          for (const Member& member : data) {
            pack_text(packer, member.key);
            pack(output, member.value);
          }
        } else {
          pack_array(packer, data);
        }
      },
      value.data());
}

// Takes the member out of a map that is an array.
Value taken(Map& map, std::string_view key, std::string_view marker) {
  for (Member& member : map)
    if (member.key == key) return std::move(member.value);
  throw DataError(concat("expected ", key, " beside ", marker, ", found none"));
}

Value read_map(Map&& map) {
  for (const Member& member : map) {
    const bool single = member.key == kScalar;
    if (!single && member.key != kArray) continue;
    APO_CHECK(DataError, member.value == Value(true), "expected ", member.key, " to be true, found ",
              excerpt(member.value));
    const std::string marker = member.key;
    const Value dtype = taken(map, "dtype", marker);
    Value data = taken(map, "data", marker);
    if (single) return numpy_scalar(dtype, data);
    auto* bytes = data.as<Bytes>();
    APO_CHECK(DataError, bytes != nullptr, "expected the data of an array as bytes, found ", excerpt(data));
    return numpy_array(dtype, taken(map, "shape", marker), std::move(bytes->data));
  }
  return std::move(map);
}

// What the parser calls; false would make it stop, but a mistake is thrown.
class Visitor : public msgpack::null_visitor {
 public:
  explicit Visitor(TreeBuilder& tree) : tree_(tree) {}

  bool visit_nil() { return add(Value()); }
  bool visit_boolean(bool truth) { return add(truth); }
  bool visit_positive_integer(uint64_t number) { return add(number); }
  bool visit_negative_integer(int64_t number) { return add(number); }
  bool visit_float32(float number) { return add(number); }
  bool visit_float64(double number) { return add(number); }
  bool visit_str(const char* data, uint32_t size) {
    const std::string_view text(data, size);
    if (!is_utf8(text)) tree_.fail("expected text in UTF-8, found other bytes");
    if (!at_key_) return add(text);
    tree_.key(std::string(text));
    return true;
  }
  bool visit_bin(const char* data, uint32_t size) {
    if (at_key_) return visit_str(data, size);
    return add(Bytes{std::string(data, size)});
  }
  bool visit_ext(const char* data, uint32_t) {
    tree_.fail(concat("expected no extension types, found number ", static_cast<int>(*data)));
  }
  bool start_array(uint32_t size) {
    expect_value("a list");
    tree_.start_list(size);
    return true;
  }
  bool end_array() { return tree_.end_list(), true; }
  bool start_map(uint32_t size) {
    expect_value("a map");
    tree_.start_map(2 * size_t{size});
    return true;
  }
  bool end_map() { return tree_.end_map(), true; }
  bool start_map_key() { return at_key_ = true; }
  bool end_map_key() { return at_key_ = false, true; }
  void parse_error(size_t, size_t offset) {
    tree_.fail(concat("expected msgpack, found something else at byte ", offset + 1));
  }
  void insufficient_bytes(size_t, size_t offset) {
    tree_.fail(concat("expected more bytes, found the end of the message after ", offset));
  }

 private:
  bool add(Value value) {
    expect_value(at_key_ ? excerpt(value) : "");
    tree_.add(std::move(value));
    return true;
  }
  void expect_value(std::string_view found) const {
    if (at_key_) tree_.fail(concat("expected text as a key, found ", found));
  }

  TreeBuilder& tree_;
  bool at_key_ = false;
};

}  // namespace

std::string to_msgpack(const Value& value) {
  Output output;
  pack(output, value);
  return std::move(output.bytes);
}

Value from_msgpack(std::string_view bytes, const std::string& where, const Limits& limits) {
  TreeBuilder tree(where, limits, read_map);
  Visitor visitor(tree);
  size_t parsed = 0;
  const bool whole = msgpack::parse(bytes.data(), bytes.size(), parsed, visitor);
  APO_ASSERT(whole);  // everything else is thrown
  APO_CHECK(DataError, parsed == bytes.size(), where, ": expected the end of the message after ", parsed,
            " bytes, found ", bytes.size() - parsed, " more");
  return tree.take();
}

}  // namespace apo::wire
