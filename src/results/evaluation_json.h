// EvalResult inside another JSON file.
#pragma once

#include <nlohmann/json.hpp>

#include "apo/results/evaluation.h"

namespace apo::results {

/// As EvalResult::json says it.
nlohmann::ordered_json to_json(const EvalResult& result);

}  // namespace apo::results
