#include "models/json_file.h"

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/json_depth.h"
#include "base/lfs_pointer.h"

namespace apo::models {
namespace {

// Enough to recognise a value in a message. Lists and objects are never printed: they may be nested without
// end.
std::string excerpt(const nlohmann::json& value) {
  if (value.is_structured()) return concat("a JSON ", value.type_name(), " of ", value.size());
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() > 80 ? text.substr(0, 80) + "..." : text;
}

}  // namespace

JsonFile::JsonFile(const std::filesystem::path& path) : path_(path) {
  const std::string text = read_file(path);
  refuse_lfs_pointer(path, text);
  try {
    json_ = nlohmann::json::parse(text, depth_guard(path.string()));
  } catch (const nlohmann::json::exception& error) {
    throw DataError(concat(path.string(), ": not JSON: ", error.what()));
  }
  APO_CHECK(DataError, json_.is_object(), path.string(), ": expected a JSON object, found ", excerpt(json_));
}

std::vector<std::string> JsonFile::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json_.items()) keys.push_back(key);
  return keys;
}

void JsonFile::fail(const std::string& key, const std::string& expected) const {
  throw DataError(concat(path_.string(), ": ", key, ": expected ", expected, ", found ",
                         has(key) ? excerpt(json_.at(key)) : "nothing"));
}

const nlohmann::json& JsonFile::need(const std::string& key, const std::string& expected) const {
  if (!has(key)) fail(key, expected);
  return json_.at(key);
}

const nlohmann::json& JsonFile::raw(const std::string& key) const {
  static const nlohmann::json kNull;
  return has(key) ? json_.at(key) : kNull;
}

int64_t JsonFile::integer(const std::string& key, int64_t min, int64_t max) const {
  const std::string expected = concat("an integer from ", min, " to ", max);
  const nlohmann::json& value = need(key, expected);
  if (!value.is_number_integer()) fail(key, expected);
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    fail(key, expected);
  const int64_t number = value.get<int64_t>();
  if (number < min || number > max) fail(key, expected);
  return number;
}

double JsonFile::number(const std::string& key) const {
  const nlohmann::json& value = need(key, "a number");
  if (!value.is_number()) fail(key, "a number");
  return value.get<double>();
}

bool JsonFile::boolean(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!json_.at(key).is_boolean()) fail(key, "true or false");
  return json_.at(key).get<bool>();
}

std::string JsonFile::text(const std::string& key) const {
  const nlohmann::json& value = need(key, "a text");
  if (!value.is_string()) fail(key, "a text");
  return value.get<std::string>();
}

std::vector<std::string> JsonFile::texts(const std::string& key) const {
  const nlohmann::json& value = need(key, "a list of texts");
  if (!value.is_array()) fail(key, "a list of texts");
  std::vector<std::string> list;
  for (const nlohmann::json& element : value) {
    if (!element.is_string()) fail(key, "a list of texts");
    list.push_back(element.get<std::string>());
  }
  return list;
}

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json) {
  write_file_atomic(path, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace apo::models
