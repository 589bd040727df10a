// Every objective with the refinements that change what a learning step does: what learners are tested with.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apo/objective/objective.h"

namespace apo::training {

inline std::vector<std::pair<std::string, objective::ObjectiveOptions>> objectives() {
  using namespace objective;
  return {{"paper", {.preset = Preset::paper}},
          {"robust", {}},
          {"mismatched", {.z0 = Z0Estimator::mismatched}},
          {"exact", {.z0 = Z0Estimator::exact, .reduction = Reduction::mean}},
          {"no z0, uniform", {.z0 = Z0Estimator::none, .weights = {.type = WeightType::uniform}}},
          {"released code", {.compatibility = Compatibility::released_code}},
          {"anchored, by dimension, smoothed",
           {.z0 = Z0Estimator::exact,
            .reduction = Reduction::sum,
            .sft_weight = 0.2,
            .label_smoothing_bins = 1.5,
            .credit = Credit::dimension}},
          {"kto", {.type = ObjectiveType::kto, .z0 = Z0Estimator::mismatched}},
          {"sft", {.type = ObjectiveType::sft}},
          {"weighted-bc", {.type = ObjectiveType::weighted_bc}},
          {"dpo", {.type = ObjectiveType::dpo, .beta = 0.7, .reduction = Reduction::mean}},
          {"tpo, anchored and held",
           {.type = ObjectiveType::tpo, .beta = 0.7, .sft_weight = 0.2, .reference_kl_weight = 0.4}},
          {"sft, held", {.type = ObjectiveType::sft, .reference_kl_weight = 0.4}}};
}

}  // namespace apo::training
