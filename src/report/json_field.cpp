#include "report/json_field.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/json_depth.h"

namespace apo::report {
namespace {

using nlohmann::json;

json parse(const std::string& text, const std::filesystem::path& path) {
  try {
    return json::parse(text, depth_guard(path.string()));
  } catch (const json::parse_error& error) {
    const size_t byte = std::min(error.byte, text.size());
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), '\n');
    const bool cut = error.byte > text.size() || text.empty();
    throw DataError(concat(path.string(), ":", line, ": expected JSON, ",
                           cut ? "found the end of the file (is it cut?)" : "found something else"));
  } catch (const json::exception&) {
    throw DataError(concat(path.string(), ": expected JSON with numbers that fit into a double"));
  }
}

}  // namespace

std::string json_excerpt(const json& value) {
  if (std::any_of(value.begin(), value.end(), [](const json& inner) { return inner.is_structured(); }))
    return concat("a JSON ", value.type_name(), " of ", value.size());
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

Field::Field(const json* value, std::string file, std::string key)
    : value_(value), file_(std::move(file)), key_(std::move(key)) {}

bool Field::present() const { return value_ != nullptr && !value_->is_null(); }

Field Field::operator[](const std::string& key) const {
  if (!present()) return {nullptr, file_, child(key)};
  expect(value_->is_object(), "an object");
  const auto found = value_->find(key);
  return {found == value_->end() ? nullptr : &*found, file_, child(key)};
}

std::vector<Field> Field::list() const {
  std::vector<Field> fields;
  if (!present()) return fields;
  expect(value_->is_array(), "a list");
  for (size_t i = 0; i < value_->size(); ++i)
    fields.emplace_back(&(*value_)[i], file_, concat(key_, "[", i, "]"));
  return fields;
}

std::string Field::text() const {
  if (!present()) return "";
  expect(value_->is_string(), "a text");
  return value_->get<std::string>();
}

bool Field::boolean(bool otherwise) const {
  if (!present()) return otherwise;
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}

std::optional<double> Field::number() const {
  if (!present()) return std::nullopt;
  expect(value_->is_number() && std::isfinite(value_->get<double>()), "a number");
  return value_->get<double>();
}

std::optional<int64_t> Field::count() const {
  const std::optional<double> value = number();
  if (!value) return std::nullopt;
  expect(*value >= 0 && *value < 9e15 && *value == std::floor(*value), "a whole number, at least 0");
  return static_cast<int64_t>(*value);
}

std::optional<double> Field::share() const {
  const std::optional<double> value = number();
  if (value) expect(*value >= 0 && *value <= 1, "a number between 0 and 1");
  return value;
}

std::map<std::string, Field> Field::entries() const {
  std::map<std::string, Field> fields;
  if (!present()) return fields;
  expect(value_->is_object(), "an object");
  for (const auto& [key, value] : value_->items()) fields.emplace(key, Field(&value, file_, child(key)));
  return fields;
}

std::map<std::string, int64_t> Field::counts() const {
  std::map<std::string, int64_t> out;
  for (const auto& [key, field] : entries()) out[key] = field.count().value_or(0);
  return out;
}

void Field::expect(bool condition, const char* what) const {
  if (condition) return;
  throw DataError(concat(file_, key_.empty() ? "" : ": ", key_, ": expected ", what, ", found ",
                         value_ == nullptr ? "nothing" : json_excerpt(*value_)));
}

std::string Field::inner_path() const {
  const std::filesystem::path path = text();
  const std::filesystem::path normal = path.lexically_normal();
  expect(!path.is_absolute() && (normal.empty() || *normal.begin() != ".."),
         "a relative path that stays in the directory of this file");
  return path.string();
}

std::string Field::child(const std::string& key) const { return key_.empty() ? key : concat(key_, ".", key); }

JsonFile::JsonFile(const std::filesystem::path& path)
    : path_(path.string()), value_(std::make_unique<json>(parse(read_file(path), path))) {}
JsonFile::~JsonFile() = default;
Field JsonFile::root() const { return {value_.get(), path_}; }

}  // namespace apo::report
