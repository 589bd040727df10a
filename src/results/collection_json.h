// CollectionSummary inside another JSON file.
#pragma once

#include "apo/results/collection.h"
#include "base/json.h"

namespace apo::results {

/// DataError naming a key that is missing or of another kind.
CollectionSummary read_collection(const JsonField& object);

}  // namespace apo::results
