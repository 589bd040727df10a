// The visited struct as a tree of its fields with their values: what printing, comparing and describing work
// from.
#pragma once

#include <string>
#include <vector>

#include "apo/config/options.h"

namespace apo::config {

struct Field {
  enum class Type { boolean, integer, number, text, path, choice, integers, numbers, texts, section, list };
  std::string name;
  std::string doc;
  Type type = Type::section;
  bool optional = false;             ///< null is a value
  Range range;                       ///< of numbers
  std::vector<std::string> choices;  ///< of a choice
  /// Of a scalar: its value as YAML, one entry; of a list of scalars: one entry an element.
  std::vector<std::string> values;
  /// Of a section: its fields. Of a list of sections: its elements, each a section named by its index.
  std::vector<Field> children;
  /// Of a list of sections: the fields of one element with their defaults; only if `shape` was asked for.
  std::vector<Field> element;

  bool is_scalar_list() const {
    return type == Type::integers || type == Type::numbers || type == Type::texts;
  }
};

/// The root section. With `shape`, lists of sections are also visited with one fresh element, which leaves
/// them holding that one element.
Field fields_of(const VisitFunction& visit, bool shape = false);

/// The value on one line of YAML: "0.1", "[1, 2]", "null".
std::string value_text(const Field& field);

}  // namespace apo::config
