// How a range reads in messages and references.
#pragma once

#include <string>

#include "apo/config/options.h"

namespace apo::config {

/// The shortest text that reads back as exactly `number` (".inf", ".nan" for what is not finite).
std::string number_text(double number);

/// "> 0", ">= 1", "in [0, 1]", "in (0, 1]", "<= 5"; empty when nothing is excluded.
std::string range_text(const Range& range);

bool contains(const Range& range, double number);

}  // namespace apo::config
