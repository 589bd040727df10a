// Which episodes of a next deployment the human stepped into: one rule for the tables and the report.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "apo/loop/comparison.h"

namespace apo::loop {

/// Episode by episode: was there a take-over, for whatever reason?
inline std::vector<bool> corrected(const MethodResult& result) {
  std::vector<bool> out;
  for (const auto& reasons : result.take_overs) out.push_back(!reasons.empty());
  return out;
}

/// Episode by episode: was there a take-over for this reason?
inline std::vector<bool> corrected_for(const MethodResult& result, const std::string& reason) {
  std::vector<bool> out;
  for (const auto& reasons : result.take_overs)
    out.push_back(std::find(reasons.begin(), reasons.end(), reason) != reasons.end());
  return out;
}

}  // namespace apo::loop
