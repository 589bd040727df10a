// Keys of a config, as refine.later names them.
#pragma once

#include <string_view>

namespace apo::loop {

/// Whether `key` is `section` or lies in it: "objective.beta" in "objective".
bool is_within(std::string_view key, std::string_view section);

}  // namespace apo::loop
