// Text of a file may nest JSON without end, and printing or freeing what was read of it takes stack for every level.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "apo/base/error.h"

namespace apo {

/// More than any file of ours or of others has.
inline constexpr int kDeepestJson = 64;

/// For `Json::parse(text, depth_guard<Json>(where), ...)`: DataError naming `where` for JSON nested more deeply.
template <class Json = nlohmann::json>
typename Json::parser_callback_t depth_guard(std::string where) {
  return [where = std::move(where)](int depth, typename Json::parse_event_t, const Json&) {
    APO_CHECK(DataError, depth <= kDeepestJson, where, ": JSON nested too deeply, beyond ", kDeepestJson, " levels");
    return true;
  };
}

}  // namespace apo
