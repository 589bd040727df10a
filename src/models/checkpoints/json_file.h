// A checkpoint's JSON file, asked key by key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json.h"

namespace apo::models {

/// apo::JsonFile with the questions of config.json. DataError naming file, key, what was expected and what
/// was found.
class JsonFile : public apo::JsonFile {
 public:
  using apo::JsonFile::BasicJsonFile;
  bool has(const std::string& key) const { return (*this)[key].present(); }
  std::vector<std::string> keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : root().entries()) keys.push_back(key);
    return keys;
  }
  int64_t integer(const std::string& key, int64_t min, int64_t max) const {
    return (*this)[key].integer(min, max);
  }
  bool boolean(const std::string& key, bool fallback) const { return (*this)[key].get_or(fallback); }
  std::string text(const std::string& key) const { return (*this)[key].get<std::string>(); }
  std::vector<std::string> texts(const std::string& key) const {
    return (*this)[key].get<std::vector<std::string>>();
  }
  const nlohmann::json& raw(const std::string& key) const { return (*this)[key].raw(); }
  [[noreturn]] void fail(const std::string& key, const std::string& expected) const {
    (*this)[key].fail(expected);
  }
};

}  // namespace apo::models
