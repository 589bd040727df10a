#include "wire/json_numpy.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "apo/base/text.h"
#include "base/base64.h"
#include "wire/numpy.h"
#include "wire/tree_builder.h"

namespace apo::wire {
namespace {

using nlohmann::json;

constexpr std::string_view kArray = "__numpy__", kEncoded = "encoded";

class Writer {
 public:
  explicit Writer(JsonStyle style)
      : ascii_(style == JsonStyle::python), comma_(ascii_ ? ", " : ","), colon_(ascii_ ? ": " : ":") {}

  void write(const Value& value) {
    std::visit([this](const auto& data) { write_data(data); }, value.data());
  }
  std::string take() { return std::move(out_); }

 private:
  void write_data(std::monostate) { out_ += "null"; }
  void write_data(bool truth) { out_ += truth ? "true" : "false"; }
  void write_data(int64_t number) { out_ += std::to_string(number); }
  void write_data(uint64_t number) { out_ += std::to_string(number); }
  void write_data(double number) {
    APO_CHECK(DataError, std::isfinite(number), "expected a number that JSON has, found ", number);
    out_ += json(number).dump();
  }
  void write_data(const std::string& text) { write_text(text); }
  void write_data(const Bytes& bytes) { write_plain(base64(bytes.data)); }
  void write_data(const List& list) {
    bracketed('[', ']', list, [this](const Value& value) { write(value); });
  }
  void write_data(const Map& map) {
    bracketed('{', '}', map, [this](const Member& member) {
      write_text(member.key);
      out_ += colon_;
      write(member.value);
    });
  }
  void write_data(const Array& array) {
    out_ += '{';
    write_plain(kArray);
    out_ += colon_;
    write_plain(base64(array.data));
    out_ += comma_;
    write_plain("dtype");
    out_ += colon_;
    write_plain(descr(array.dtype));
    out_ += comma_;
    write_plain("shape");
    out_ += colon_;
    bracketed('[', ']', array.shape, [this](int64_t size) { write_data(size); });
    out_ += '}';
  }

  template <class Items, class Write>
  void bracketed(char begin, char end, const Items& items, const Write& write_item) {
    out_ += begin;
    bool first = true;
    for (const auto& item : items) {
      if (!std::exchange(first, false)) out_ += comma_;
      write_item(item);
    }
    out_ += end;
  }
  // of nothing that JSON escapes
  void write_plain(std::string_view text) { out_.append("\"").append(text).append("\""); }
  void write_text(const std::string& text) {
    out_ += json(is_utf8(text) ? text : printable(text, NewLines::kept)).dump(-1, ' ', ascii_);
  }

  const bool ascii_;
  const std::string_view comma_, colon_;
  std::string out_;
};

const Value& part(const Map& map, std::string_view key) {
  for (const Member& member : map)
    if (member.key == key) return member.value;
  throw DataError(concat("expected ", key, " beside ", kArray, ", found none"));
}

Value read_map(Map&& map) {
  for (const Member& member : map) {
    if (member.key != kArray) continue;
    const auto* text = member.value.as<std::string>();
    APO_CHECK(DataError, text != nullptr, "expected the data of an array in base64, found ",
              excerpt(member.value));
    std::optional<std::string> data = from_base64(*text);
    APO_CHECK(DataError, data.has_value(), "expected the data of an array in base64, found another text");
    return numpy_array(part(map, "dtype"), part(map, "shape"), std::move(*data));
  }
  return std::move(map);
}

// What the parser calls; false would make it stop, but a mistake is thrown.
class Handler : public nlohmann::json_sax<json> {
 public:
  Handler(TreeBuilder& tree, std::string_view text, const std::string& where)
      : tree_(tree), text_(text), where_(where) {}

  bool null() override { return add(Value()); }
  bool boolean(bool truth) override { return add(truth); }
  bool number_integer(number_integer_t number) override { return add(number); }
  bool number_unsigned(number_unsigned_t number) override { return add(number); }
  bool number_float(number_float_t number, const string_t&) override { return add(number); }
  bool string(string_t& text) override { return add(std::move(text)); }
  bool binary(binary_t&) override { return false; }  // JSON has none
  bool start_object(size_t) override { return tree_.start_map(), true; }
  bool key(string_t& key) override { return tree_.key(std::move(key)), true; }
  bool end_object() override { return tree_.end_map(), true; }
  bool start_array(size_t) override { return tree_.start_list(), true; }
  bool end_array() override { return tree_.end_list(), true; }
  bool parse_error(size_t byte, const std::string&, const json::exception& error) override {
    if (dynamic_cast<const json::parse_error*>(&error) == nullptr)
      tree_.fail("expected numbers that fit into a double, found a larger one");
    const size_t good = utf8_size(text_);
    APO_CHECK(DataError, good == text_.size(), where_, ": expected text in UTF-8, found other bytes after ",
              good);
    if (byte > text_.size() || text_.empty())
      throw MalformedJson(concat(where_, ": expected JSON, found the end of the text"));
    throw MalformedJson(concat(where_, ": expected JSON, found something else at byte ", byte));
  }

 private:
  bool add(Value value) { return tree_.add(std::move(value)), true; }

  TreeBuilder& tree_;
  std::string_view text_;
  const std::string& where_;
};

}  // namespace

std::string to_json(const Value& value, JsonStyle style) {
  Writer writer(style);
  writer.write(value);
  return writer.take();
}

Value from_json(std::string_view text, const std::string& where, const Limits& limits) {
  TreeBuilder tree(where, limits, read_map);
  Handler handler(tree, text, where);
  APO_ASSERT(json::sax_parse(text, &handler));  // everything else is thrown
  return tree.take();
}

bool unwrap_encoded(Value& message, const std::string& where, const Limits& limits) {
  const Value* encoded = message.find(kEncoded);
  if (encoded == nullptr) return false;
  const auto* text = encoded->as<std::string>();
  APO_CHECK(DataError, text != nullptr, where, ": ", kEncoded, ": expected a text that holds JSON, found ",
            excerpt(*encoded));
  APO_CHECK(DataError, message.as<Map>()->size() == 1, where, ": expected ", kEncoded,
            " alone, found other keys beside it");
  message = from_json(*text, concat(where, ": ", kEncoded), limits);
  return true;
}

std::string to_encoded_json(const Value& answer) { return to_json(to_json(answer, JsonStyle::python)); }

}  // namespace apo::wire
