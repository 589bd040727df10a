#include "config/expectation.h"

#include <charconv>
#include <cmath>

#include "apo/base/error.h"

namespace apo::config {

std::string number_text(double number) {
  if (std::isnan(number)) return ".nan";
  if (std::isinf(number)) return number < 0 ? "-.inf" : ".inf";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), number);
  APO_ASSERT(error == std::errc());
  return {buffer, end};
}

std::string range_text(const Range& range) {
  if (range.min && range.max) {
    return concat("in ", range.open_min ? "(" : "[", number_text(*range.min), ", ", number_text(*range.max),
                  "]");
  }
  if (range.min) return concat(range.open_min ? "> " : ">= ", number_text(*range.min));
  if (range.max) return concat("<= ", number_text(*range.max));
  return "";
}

bool contains(const Range& range, double number) {
  if (range.min && (range.open_min ? !(number > *range.min) : !(number >= *range.min))) return false;
  return !range.max || number <= *range.max;
}

}  // namespace apo::config
