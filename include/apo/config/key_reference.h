// What options exist, for people (a Markdown table) and for editors (a JSON schema); both come from `visit`
// alone.
#pragma once

#include <string>

#include "apo/config/options.h"

namespace apo::config {

/// A JSON schema (draft 2020-12) of the config: types, ranges, choices, defaults and meanings; unknown keys
/// are invalid. Editors check and complete YAML with it. The visited struct is scratch: its lists of sections
/// are changed.
std::string json_schema(const VisitFunction& visit);
template <Visitable T>
std::string json_schema(T value = {}) {
  return json_schema(VisitFunction([&value](Visitor& v) { value.visit(v); }));
}

/// A table with one row a key: dotted key, type, default, range or choices, meaning; one table a top-level
/// section. "N" in a key stands for a list's index. The visited struct is scratch: its lists of sections are
/// changed.
std::string markdown_reference(const VisitFunction& visit);
template <Visitable T>
std::string markdown_reference(T value = {}) {
  return markdown_reference(VisitFunction([&value](Visitor& v) { value.visit(v); }));
}

}  // namespace apo::config
