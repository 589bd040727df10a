// Small JSON files of a checkpoint: every complaint names the file and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace apo::models {

/// A JSON object in a file, read field by field. DataError naming file, key, what was expected and what was
/// found.
class JsonFile {
 public:
  explicit JsonFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  bool has(const std::string& key) const { return json_.contains(key); }
  std::vector<std::string> keys() const;
  int64_t integer(const std::string& key, int64_t min, int64_t max) const;
  double number(const std::string& key) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string text(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  /// The raw value, null if absent.
  const nlohmann::json& raw(const std::string& key) const;
  [[noreturn]] void fail(const std::string& key, const std::string& expected) const;

 private:
  const nlohmann::json& need(const std::string& key, const std::string& expected) const;
  std::filesystem::path path_;
  nlohmann::json json_;
};

/// Writes JSON, indented, atomically.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json);

}  // namespace apo::models
