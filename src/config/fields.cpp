#include "config/fields.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "config/expectation.h"
#include "config/value.h"

namespace apo::config {
namespace {

// Words that some YAML reader takes for something else than text.
bool is_plain_word(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_inner = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '/' || c == '.';
  };
  if (text.empty() || !(is_letter(text[0]) || text[0] == '/') || !std::ranges::all_of(text, is_inner))
    return false;
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  static constexpr std::array<std::string_view, 11> kReserved = {"y",    "n",     "yes",  "no",  "on", "off",
                                                                 "true", "false", "null", "nan", "inf"};
  return std::ranges::find(kReserved, lower) == kReserved.end();
}

// The code points beyond ASCII that YAML counts as line ends or as not printable.
std::string escape_of(std::string_view rest, size_t& length) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kSpecial = {
      {{"\u0085", "\\u0085"}, {"\u2028", "\\u2028"}, {"\u2029", "\\u2029"}, {"\ufeff", "\\uFEFF"}}};
  for (const auto& [bytes, escape] : kSpecial) {
    if (rest.starts_with(bytes)) {
      length = bytes.size();
      return std::string(escape);
    }
  }
  const auto byte = static_cast<unsigned char>(rest[0]);
  length = 1;
  switch (rest[0]) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  if (byte >= 0x20 && byte != 0x7f) return std::string(rest.substr(0, 1));
  char hexadecimal[8];
  snprintf(hexadecimal, sizeof(hexadecimal), "\\x%02X", byte);
  return hexadecimal;
}

std::string text_as_yaml(std::string_view text) {
  if (is_plain_word(text)) return std::string(text);
  std::string out = "\"";
  for (size_t i = 0, length = 0; i < text.size(); i += length) out += escape_of(text.substr(i), length);
  return out + "\"";
}

// Appends one Field for every visited field to the innermost open section.
class FieldCollector : public Visitor {
 public:
  FieldCollector(std::vector<Field>& out, bool shape) : out_(&out), shape_(shape) {}

 protected:
  void scalar(std::string_view name, bool& value, std::string_view doc) override {
    add(name, doc, Field::Type::boolean).values = {value ? "true" : "false"};
  }
  void scalar(std::string_view name, int64_t& value, std::string_view doc, Range range) override {
    add(name, doc, Field::Type::integer, range).values = {std::to_string(value)};
  }
  void scalar(std::string_view name, double& value, std::string_view doc, Range range) override {
    add(name, doc, Field::Type::number, range).values = {number_text(value)};
  }
  void scalar(std::string_view name, std::string& value, std::string_view doc) override {
    add(name, doc, Field::Type::text).values = {quoted(name, value)};
  }
  void scalar(std::string_view name, std::optional<int64_t>& value, std::string_view doc,
              Range range) override {
    Field& field = add(name, doc, Field::Type::integer, range);
    field.optional = true;
    field.values = {value ? std::to_string(*value) : "null"};
  }
  void scalar(std::string_view name, std::optional<double>& value, std::string_view doc,
              Range range) override {
    Field& field = add(name, doc, Field::Type::number, range);
    field.optional = true;
    field.values = {value ? number_text(*value) : "null"};
  }
  void scalar(std::string_view name, std::vector<double>& value, std::string_view doc, Range range) override {
    Field& field = add(name, doc, Field::Type::numbers, range);
    for (const double x : value) field.values.push_back(number_text(x));
  }
  void scalar(std::string_view name, std::vector<int64_t>& value, std::string_view doc,
              Range range) override {
    Field& field = add(name, doc, Field::Type::integers, range);
    for (const int64_t x : value) field.values.push_back(std::to_string(x));
  }
  void scalar(std::string_view name, std::vector<std::string>& value, std::string_view doc) override {
    Field& field = add(name, doc, Field::Type::texts);
    for (const std::string& x : value) field.values.push_back(quoted(name, x));
  }
  void one_of(std::string_view name, std::string& value, std::span<const std::string_view> choices,
              std::string_view doc) override {
    Field& field = add(name, doc, Field::Type::choice);
    field.choices.assign(choices.begin(), choices.end());
    field.values = {quoted(name, value)};
  }
  void path_field(std::string_view name, std::string& value, std::string_view doc) override {
    add(name, doc, Field::Type::path).values = {quoted(name, value)};
  }
  void section(std::string_view name, std::string_view doc,
               const std::function<void(Visitor&)>& visit) override {
    Field& field = add(name, doc, Field::Type::section);
    FieldCollector inner(field.children, shape_);
    visit(inner);
  }
  void list(std::string_view name, std::string_view doc, size_t size,
            const std::function<void(size_t)>& resize,
            const std::function<void(size_t, Visitor&)>& visit_element) override {
    Field& field = add(name, doc, Field::Type::list);
    for (size_t i = 0; i < size; ++i) {
      Field& element = field.children.emplace_back();
      element.name = std::to_string(i);
      FieldCollector inner(element.children, shape_);
      visit_element(i, inner);
    }
    if (!shape_) return;
    resize(1);
    FieldCollector inner(field.element, shape_);
    visit_element(0, inner);
  }

 private:
  Field& add(std::string_view name, std::string_view doc, Field::Type type, Range range = {}) {
    APO_ASSERT(!name.empty() && name.find('.') == std::string_view::npos);
    if (std::ranges::find(*out_, name, &Field::name) != out_->end())
      throw Bug(concat("options: the field '", name, "' is visited twice"));
    Field& field = out_->emplace_back();
    field.name = name;
    field.doc = doc;
    field.type = type;
    field.range = range;
    return field;
  }
  static std::string quoted(std::string_view name, const std::string& text) {
    APO_CHECK(ConfigError, is_utf8(text), name, ": expected UTF-8 text, found other bytes");
    return text_as_yaml(text);
  }

  std::vector<Field>* out_;
  bool shape_;
};

}  // namespace

Field fields_of(const VisitFunction& visit, bool shape) {
  Field root;
  FieldCollector collector(root.children, shape);
  visit(collector);
  return root;
}

std::string value_text(const Field& field) {
  if (field.type == Field::Type::section) return "{}";
  if (field.type == Field::Type::list) return "[]";
  const std::vector<std::string_view> values(field.values.begin(), field.values.end());
  return field.is_scalar_list() ? concat("[", join(values), "]") : field.values.at(0);
}

}  // namespace apo::config
