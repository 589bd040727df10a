#include "apo/config/key_reference.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "base/json.h"
#include "config/expectation.h"
#include "config/fields.h"
#include "config/value.h"

namespace apo::config {
namespace {

using Json = nlohmann::ordered_json;
using Type = Field::Type;

std::string_view type_name(Type type) {
  switch (type) {
    case Type::boolean:
      return "boolean";
    case Type::integer:
      return "integer";
    case Type::number:
      return "number";
    case Type::text:
      return "text";
    case Type::path:
      return "path";
    case Type::choice:
      return "choice";
    case Type::integers:
      return "list of integers";
    case Type::numbers:
      return "list of numbers";
    case Type::texts:
      return "list of texts";
    case Type::section:
      return "section";
    case Type::list:
      return "list of sections";
  }
  throw Bug("options: a field without a type");
}

// The types of JSON schema; a path and a choice are strings there.
std::string_view json_type(Type type) {
  switch (type) {
    case Type::boolean:
      return "boolean";
    case Type::integer:
    case Type::integers:
      return "integer";
    case Type::number:
    case Type::numbers:
      return "number";
    case Type::section:
      return "object";
    case Type::list:
      return "array";
    default:
      return "string";
  }
}

// One value of `field`, null where JSON has no such number.
Json json_value(const Field& field, const std::string& text) {
  if (json_type(field.type) != "string") return parse_if_json<Json>(text, field.name).value_or(nullptr);
  static const Source kPrinted = {.name = "<printed>", .base = {}};
  return parse_yaml(text, kPrinted).text;
}

Json object_schema(const std::vector<Field>& fields);

Json defaults(const std::vector<Field>& fields) {
  Json out = Json::object();
  for (const Field& field : fields) {
    Json& value = out[field.name];
    if (field.type == Type::section) {
      value = defaults(field.children);
    } else if (field.type == Type::list) {
      value = Json::array();
      for (const Field& element : field.children) value.push_back(defaults(element.children));
    } else if (field.is_scalar_list()) {
      value = Json::array();
      for (const std::string& text : field.values) value.push_back(json_value(field, text));
    } else {
      value = json_value(field, field.values.at(0));
    }
  }
  return out;
}

// Type, range and choices of one value.
Json value_schema(const Field& field) {
  Json out;
  out["type"] = json_type(field.type);
  if (field.optional) out["type"] = {json_type(field.type), "null"};
  if (field.range.min) out[field.range.open_min ? "exclusiveMinimum" : "minimum"] = *field.range.min;
  if (field.range.max) out["maximum"] = *field.range.max;
  if (field.type == Type::choice) out["enum"] = field.choices;
  return out;
}

Json field_schema(const Field& field) {
  Json out;
  if (field.type == Type::section) {
    out = object_schema(field.children);
  } else if (field.type == Type::list) {
    out = {{"type", "array"}, {"items", object_schema(field.element)}};
  } else if (field.is_scalar_list()) {
    out = {{"type", "array"}, {"items", value_schema(field)}};
  } else {
    out = value_schema(field);
  }
  if (!field.doc.empty()) out["description"] = field.doc;
  if (field.type != Type::section) out["default"] = defaults({field}).at(field.name);
  return out;
}

Json object_schema(const std::vector<Field>& fields) {
  Json properties = Json::object();
  for (const Field& field : fields) properties[field.name] = field_schema(field);
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
}

// Text that neither ends a cell nor a row.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string code(std::string_view text) { return text.empty() ? "" : concat("`", text, "`"); }

std::string default_text(const Field& field) {
  if (field.type == Type::section) return "";
  if (field.type == Type::list && !field.children.empty()) return defaults({field}).at(field.name).dump();
  return value_text(field);
}

void add_rows(const Field& field, const std::string& prefix, std::string& out) {
  const std::string key = prefix + field.name;
  const std::vector<std::string_view> choices(field.choices.begin(), field.choices.end());
  const std::string accepted = choices.empty() ? range_text(field.range) : join(choices);
  out += concat("| ", code(key), " | ", type_name(field.type), field.optional ? " or null" : "", " | ",
                cell(code(default_text(field))), " | ", cell(accepted), " | ", cell(field.doc), " |\n");
  for (const Field& child : field.type == Type::list ? field.element : field.children)
    add_rows(child, concat(key, field.type == Type::list ? ".N." : "."), out);
}

constexpr std::string_view kTableHead =
    "| key | type | default | accepted | meaning |\n| --- | --- | --- | --- | --- |\n";

}  // namespace

std::string json_schema(const VisitFunction& visit) {
  Json out = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}};
  out.update(object_schema(fields_of(visit, true).children));
  out["properties"]["extends"] = {
      {"type", "string"}, {"description", "a config whose keys hold where this one says nothing else"}};
  return out.dump(2) + "\n";
}

std::string markdown_reference(const VisitFunction& visit) {
  const Field root = fields_of(visit, true);
  std::string top, sections;
  for (const Field& field : root.children) {
    if (field.type != Type::section) {
      add_rows(field, "", top);
      continue;
    }
    sections +=
        concat("## ", code(field.name), "\n\n", field.doc, field.doc.empty() ? "" : "\n\n", kTableHead);
    for (const Field& child : field.children) add_rows(child, concat(field.name, "."), sections);
    sections += "\n";
  }
  return concat(top.empty() ? "" : concat(kTableHead, top, "\n"), sections);
}

}  // namespace apo::config
