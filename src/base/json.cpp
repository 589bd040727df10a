#include "base/json.h"

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/text.h"
#include "base/lfs_pointer.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

constexpr double kLargestWhole = 9e15;  // of the whole numbers that a double tells apart
constexpr size_t kLongestExcerpt = 60;

template <class Json>
typename Json::parser_callback_t depth_guard(const std::string& where) {
  return [&where](int depth, typename Json::parse_event_t, const Json&) {
    APO_CHECK(DataError, depth <= kDeepestJson, where, ": JSON nested too deeply, beyond ", kDeepestJson,
              " levels");
    return true;
  };
}

}  // namespace

template <class Json>
Json parse_json(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text, depth_guard<Json>(where));
  } catch (const nlohmann::json::parse_error& error) {
    const size_t byte = std::min(error.byte, text.size());
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), '\n');
    const bool cut = error.byte > text.size() || text.empty();
    throw DataError(concat(where, ":", line, ": expected JSON, ",
                           cut ? "found the end of the file (is it cut?)" : "found something else"));
  } catch (const nlohmann::json::exception&) {
    throw DataError(concat(where, ": expected JSON with numbers that fit into a double"));
  }
}

template <class Json>
std::optional<Json> parse_if_json(std::string_view text, const std::string& where) {
  Json json = Json::parse(text, depth_guard<Json>(where), /*allow_exceptions=*/false);
  return json.is_discarded() ? std::nullopt : std::optional(std::move(json));
}

void write_json(const fs::path& path, const nlohmann::ordered_json& json) {
  write_file_atomic(path, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

template <class Json>
std::string json_excerpt(const Json& value) {
  if (std::any_of(value.begin(), value.end(), [](const Json& inner) { return inner.is_structured(); }))
    return concat("a JSON ", value.type_name(), " of ", value.size());
  return shortened(value.dump(-1, ' ', false, Json::error_handler_t::replace), kLongestExcerpt);
}

template <class Json>
const Json& BasicJsonField<Json>::raw() const {
  static const Json kNull;
  return value_ == nullptr ? kNull : *value_;
}

template <class Json>
BasicJsonField<Json> BasicJsonField<Json>::operator[](const std::string& key) const {
  std::string name = key_.empty() ? key : concat(key_, ".", key);
  if (!present()) return {nullptr, where_, std::move(name)};
  expect(value_->is_object(), "an object");
  const auto found = value_->find(key);
  return {found == value_->end() ? nullptr : &*found, where_, std::move(name)};
}

template <class Json>
std::vector<BasicJsonField<Json>> BasicJsonField<Json>::list() const {
  std::vector<BasicJsonField> fields;
  if (!present()) return fields;
  expect(value_->is_array(), "a list");
  for (size_t i = 0; i < value_->size(); ++i)
    fields.emplace_back(&(*value_)[i], where_, concat(key_, "[", i, "]"));
  return fields;
}

template <class Json>
std::vector<std::pair<std::string, BasicJsonField<Json>>> BasicJsonField<Json>::entries() const {
  std::vector<std::pair<std::string, BasicJsonField>> fields;
  if (!present()) return fields;
  expect(value_->is_object(), "an object");
  for (const auto& [key, value] : value_->items())
    fields.emplace_back(key, BasicJsonField(&value, where_, key_.empty() ? key : concat(key_, ".", key)));
  return fields;
}

template <class Json>
std::optional<int64_t> BasicJsonField<Json>::whole() const {
  if (!present() || !value_->is_number()) return std::nullopt;
  if (value_->is_number_unsigned() && value_->template get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return std::nullopt;
  if (value_->is_number_integer()) return value_->template get<int64_t>();
  const auto number = value_->template get<double>();
  if (!(std::abs(number) < kLargestWhole) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

template <class Json>
int64_t BasicJsonField<Json>::integer(int64_t min, int64_t max) const {
  const std::optional<int64_t> number = whole();
  if (!number || *number < min || *number > max) fail(concat("an integer from ", min, " to ", max));
  return *number;
}

template <class Json>
std::optional<int64_t> BasicJsonField<Json>::count() const {
  if (!present()) return std::nullopt;
  const std::optional<int64_t> number = whole();
  expect(number && *number >= 0, "a whole number, at least 0");
  return number;
}

template <class Json>
std::map<std::string, int64_t> BasicJsonField<Json>::counts() const {
  std::map<std::string, int64_t> counts;
  for (const auto& [name, field] : entries()) counts[name] = field.count().value_or(0);
  return counts;
}

template <class Json>
std::string BasicJsonField<Json>::inner_path() const {
  const fs::path path = get_or<std::string>();
  const fs::path normal = path.lexically_normal();
  expect(!path.is_absolute() && (normal.empty() || *normal.begin() != ".."),
         "a relative path that stays in the directory of this file");
  return path.string();
}

template <class Json>
void BasicJsonField<Json>::fail(std::string_view what) const {
  throw DataError(concat(place(), ": expected ", what, ", found ",
                         value_ == nullptr ? "nothing" : json_excerpt(*value_)));
}

template <class Json>
BasicJsonFile<Json>::BasicJsonFile(const fs::path& path) : path_(path) {
  const std::string text = read_file(path);
  refuse_lfs_pointer(path, text);
  value_ = parse_json<Json>(text, path.string());
  root().expect(value_.is_object(), "an object");
}

template nlohmann::json parse_json(std::string_view, const std::string&);
template nlohmann::ordered_json parse_json(std::string_view, const std::string&);
template std::optional<nlohmann::json> parse_if_json(std::string_view, const std::string&);
template std::optional<nlohmann::ordered_json> parse_if_json(std::string_view, const std::string&);
template std::string json_excerpt(const nlohmann::json&);
template std::string json_excerpt(const nlohmann::ordered_json&);
template class BasicJsonField<nlohmann::json>;
template class BasicJsonField<nlohmann::ordered_json>;
template class BasicJsonFile<nlohmann::json>;
template class BasicJsonFile<nlohmann::ordered_json>;

}  // namespace apo
