// Configs that an earlier release wrote into runs and checkpoints: their keys where they are now.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace apo::config {

/// `key` of the section `section` is now in the section `below` of it.
struct MovedKey {
  std::string_view section, key, below;
};

/// The text of a config that `config::print` wrote, each such key where it belongs now. Texts without them
/// come back as they are. For files that programs wrote: people are told the new key.
std::string with_moved_keys(std::string_view printed, std::span<const MovedKey> moved);

}  // namespace apo::config
