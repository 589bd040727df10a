// What several result files have: counts that must be there, shares with their interval.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "apo/base/proportions.h"
#include "base/json.h"

namespace apo::results {

/// A whole number, at least 0. DataError naming the key where it is absent or something else.
template <class Json>
int64_t needed_count(const BasicJsonField<Json>& field) {
  field.expect(field.present(), "a whole number, at least 0");
  return *field.count();
}

/// The members of a rate with their names, once for both directions.
template <class R, class Field>
requires std::same_as<std::remove_const_t<R>, Rate>
void for_each_field(R& rate, Field&& field) {
  field("count", rate.count);
  field("total", rate.total);
  field("rate", rate.rate);
  field("low", rate.low);
  field("high", rate.high);
}

}  // namespace apo::results
