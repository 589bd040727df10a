// CollectionSummary inside another JSON file.
#pragma once

#include <nlohmann/json.hpp>

#include "apo/results/collection.h"
#include "base/json.h"

namespace apo::results {

/// `Json`: nlohmann's json or ordered_json.
template <class Json>
Json to_json(const CollectionSummary& summary);
/// DataError naming a key that is missing or of another kind.
CollectionSummary read_collection(const JsonField& object);

}  // namespace apo::results
