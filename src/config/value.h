// A YAML text as a plain tree in which every value knows where it was written.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace apo::config {

/// What a value was written in: a file, a text, or one override.
struct Source {
  std::string name;            ///< "configs/x.yaml" or "--set objective.beta=x"
  std::filesystem::path base;  ///< what relative paths are relative to
  bool is_override = false;
};

struct Key;

/// One YAML value. Aliases and merge keys are already resolved.
struct Value {
  enum class Kind { null, text, list, map };
  Kind kind = Kind::null;
  std::string text;          ///< a scalar as written, unescaped
  bool quoted = false;       ///< quoted text never becomes a number or a boolean
  std::vector<Value> items;  ///< of a list
  std::vector<Key> members;  ///< of a map, in the order of writing, each name once
  const Source* source = nullptr;
  int line = 0;  ///< from 1

  Key* find(std::string_view name);
  const Key* find(std::string_view name) const;
};

/// A map's key and its value.
struct Key {
  std::string name;
  const Source* source = nullptr;
  int line = 0;
  Value value;
};

/// "configs/x.yaml:12" or "--set objective.beta=x".
std::string location(const Source& source, int line);

/// The value as an error shows it: "'abc'", "a list", "a section" or "nothing".
std::string shown(const Value& value);

/// The one document in `text`; nothing at all is null. ConfigError with source and line for what is not YAML,
/// not UTF-8, or more than a config can sensibly be (depth, aliases, size).
Value parse_yaml(std::string_view text, const Source& source);

/// Whether the YAML gives `key` ("objective.beta", in a list "methods.0.name") a value, be it null: for files
/// from before there was such a key. ConfigError for what is not YAML.
bool is_written(std::string_view yaml, std::string_view key);

}  // namespace apo::config
