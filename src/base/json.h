// JSON of files and datasets: parsed with a bound on its nesting, and read value by value, so that a wrong
// one is named.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apo {

/// More than any file of ours or of others has. Printing or freeing what was read takes stack for each level.
inline constexpr int kDeepestJson = 64;

/// The JSON of a file or dataset, which messages call `where`; nlohmann::ordered_json where the order of the
/// keys counts.
///
/// Errors  DataError "WHERE:LINE: expected JSON, found ...", or that it is nested beyond kDeepestJson levels
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, const std::string& where);
/// The same, but nothing for text that is no JSON.
template <class Json = nlohmann::json>
std::optional<Json> parse_if_json(std::string_view text, const std::string& where);

/// Writes JSON, indented, atomically.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json);

/// A value as a message shows it: the first 60 characters of it; of lists and objects that hold others, only
/// how many.
template <class Json>
std::string json_excerpt(const Json& value);

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsMap = false;
template <class T>
inline constexpr bool kIsMap<std::map<std::string, T>> = true;

/// A value and where it stands: "runs/loop/summary.json: rounds[1].evaluation.trials". It may be absent, as
/// null is. What is of another kind than asked for is a DataError "FILE: KEY: expected WHAT, found ...". The
/// JSON must outlive it.
template <class Json>
class BasicJsonField {
 public:
  BasicJsonField(const Json* value, std::string where, std::string key = "")
      : value_(value), where_(std::move(where)), key_(std::move(key)) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  /// "FILE: KEY".
  std::string place() const { return key_.empty() ? where_ : where_ + ": " + key_; }
  /// Null where absent.
  const Json& raw() const;

  /// The member of an object; absent where the object is, or has none. DataError for what is no object.
  BasicJsonField operator[](const std::string& key) const;
  /// The elements of a list, the members of an object in their order; none where it is absent.
  std::vector<BasicJsonField> list() const;
  std::vector<std::pair<std::string, BasicJsonField>> entries() const;

  /// A bool, a whole number (8.0 is one), a finite number, a text, or a vector, or a map by name, of these.
  /// DataError where it is absent, or beyond the range of T.
  template <class T>
  T get() const;
  /// Nothing where it is absent.
  template <class T>
  std::optional<T> find() const {
    return present() ? std::optional<T>(get<T>()) : std::nullopt;
  }
  template <class T>
  T get_or(T otherwise = T()) const {
    return present() ? get<T>() : std::move(otherwise);
  }
  /// A whole number from `min` to `max`.
  int64_t integer(int64_t min, int64_t max) const;
  /// A whole number >= 0; nothing where absent.
  std::optional<int64_t> count() const;
  /// Such numbers by name; none where absent.
  std::map<std::string, int64_t> counts() const;
  /// A relative path that stays in the file's directory; empty where absent.
  std::string inner_path() const;

  /// DataError "FILE: KEY: expected WHAT, found ..." unless `condition`.
  void expect(bool condition, std::string_view what) const {
    if (!condition) fail(what);
  }
  [[noreturn]] void fail(std::string_view what) const;

 private:
  // within +-9e15
  std::optional<int64_t> whole() const;

  const Json* value_;
  std::string where_, key_;
};

using JsonField = BasicJsonField<nlohmann::json>;
using OrderedJsonField = BasicJsonField<nlohmann::ordered_json>;

/// A file that holds a JSON object.
///
/// Errors  DataError naming the file if it cannot be read or holds something else
template <class Json>
class BasicJsonFile {
 public:
  using Field = BasicJsonField<Json>;
  explicit BasicJsonFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }
  Field root() const { return {&value_, path_.string()}; }
  Field operator[](const std::string& key) const { return root()[key]; }

 private:
  std::filesystem::path path_;
  Json value_;
};

using JsonFile = BasicJsonFile<nlohmann::json>;
using OrderedJsonFile = BasicJsonFile<nlohmann::ordered_json>;

template <class Json>
template <class T>
T BasicJsonField<Json>::get() const {
  if constexpr (std::same_as<T, bool>) {
    expect(present() && value_->is_boolean(), "true or false");
    return value_->template get<bool>();
  } else if constexpr (std::integral<T>) {
    const std::optional<int64_t> number = whole();
    expect(number && std::in_range<T>(*number), "a whole number");
    return static_cast<T>(*number);
  } else if constexpr (std::floating_point<T>) {
    expect(present() && value_->is_number() && std::isfinite(value_->template get<double>()), "a number");
    return value_->template get<T>();
  } else if constexpr (kIsVector<T>) {
    expect(present(), "a list");
    T values;
    for (const BasicJsonField& field : list()) values.push_back(field.get<typename T::value_type>());
    return values;
  } else if constexpr (kIsMap<T>) {
    expect(present(), "an object");
    T values;
    for (const auto& [name, field] : entries()) values[name] = field.template get<typename T::mapped_type>();
    return values;
  } else {
    static_assert(std::same_as<T, std::string>);
    expect(present() && value_->is_string(), "a text");
    return value_->template get<std::string>();
  }
}

}  // namespace apo
