// Where the numbers of a page come from.
#pragma once

#include <string>
#include <vector>

#include "apo/base/provenance.h"

namespace apo::report {

/// Commands and a table of versions, dates and machines: one column for the program that began the work and
/// for each that went on with it. Nothing if nothing is known.
std::string origin_block(const std::vector<Provenance>& origins);

}  // namespace apo::report
