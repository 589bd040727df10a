// A JSON file whose every value knows its place, so that a wrong one can be named.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace apo::report {

/// A value and where it stands: "runs/loop/summary.json: rounds[1].evaluation.trials". What is absent or null
/// reads as nothing; DataError naming file and key for a value of another kind.
class Field {
 public:
  Field(const nlohmann::json* value, std::string file, std::string key = "");

  bool present() const;
  Field operator[](const std::string& key) const;
  std::vector<Field> list() const;
  std::map<std::string, Field> entries() const;
  std::string text() const;
  bool boolean(bool otherwise) const;
  std::optional<double> number() const;
  /// A whole number >= 0.
  std::optional<int64_t> count() const;
  /// Within [0, 1].
  std::optional<double> share() const;
  std::map<std::string, int64_t> counts() const;
  /// A relative path that stays in the file's directory; empty where absent.
  std::string inner_path() const;
  /// DataError "FILE: KEY: expected WHAT, found ..." unless `condition`.
  void expect(bool condition, const char* what) const;

 private:
  std::string child(const std::string& key) const;

  const nlohmann::json* value_;
  std::string file_, key_;
};

/// A value as a message shows it: the first 60 characters of it; of lists and objects that hold others, only how many.
/// (They may be nested without end, and printing one recurses.)
std::string json_excerpt(const nlohmann::json& value);

/// A parsed file. DataError "FILE:LINE: ..." if it is not JSON, or naming the file if it cannot be read.
class JsonFile {
 public:
  explicit JsonFile(const std::filesystem::path& path);
  ~JsonFile();
  Field root() const;

 private:
  std::string path_;
  std::unique_ptr<nlohmann::json> value_;
};

}  // namespace apo::report
