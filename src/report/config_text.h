// What a page shows of a config: single values, and the whole text.
#pragma once

#include <string>
#include <string_view>

namespace apo::report {

/// The scalar at a dotted key ("objective.type") of YAML in block style, as `config::print` writes it: quotes
/// and trailing comments removed. Empty if it is not there.
std::string config_value(std::string_view yaml, std::string_view key);

/// "learning_rate 5e-05 · batch size 8 ...": the options that a reader asks for first, those that are there.
std::string config_digest(std::string_view yaml);

/// A folded block with the text, escaped; nothing if it is empty. What lies beyond 256 KiB is cut, and it
/// says so.
std::string config_block(std::string_view title, std::string_view yaml);

}  // namespace apo::report
