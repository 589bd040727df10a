// A paired test as the JSON files tell it: {difference, only_FIRST, only_SECOND, pairs, p}.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apo/base/proportions.h"
#include "base/json.h"
#include "results/json_parts.h"

namespace apo::results {

template <class Json>
Json paired_json(const PairedTest& test, const std::string& first, const std::string& second) {
  return {{"difference", test.difference},
          {"only_" + first, test.only_first},
          {"only_" + second, test.only_second},
          {"pairs", test.pairs},
          {"p", test.p}};
}

/// DataError naming a key that is missing or of another kind.
template <class Json>
PairedTest read_paired(const BasicJsonField<Json>& field, const std::string& first,
                       const std::string& second) {
  PairedTest test;
  test.difference = field["difference"].template get<double>();
  test.only_first = needed_count(field["only_" + first]);
  test.only_second = needed_count(field["only_" + second]);
  test.pairs = needed_count(field["pairs"]);
  test.p = field["p"].template get<double>();
  field["p"].expect(test.p >= 0 && test.p <= 1, "a number between 0 and 1");
  return test;
}

}  // namespace apo::results
