// Statistics of actions that other programs mean otherwise.
#pragma once

#include <string>

namespace apo::tokenizers {

/// DataError naming `where` for openpi's norm_stats.json and for LeRobot's stats.json.
void refuse_foreign_statistics(const std::string& json, const std::string& where);

}  // namespace apo::tokenizers
