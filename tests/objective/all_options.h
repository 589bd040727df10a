// Every objective that there is, for laws that hold for all of them.
#pragma once

#include <vector>

#include "apo/objective/options.h"
#include "objective/batch.h"

namespace apo::objective::testing {

// Every type with every estimator and every refinement, alone and all together.
inline std::vector<ObjectiveOptions> all_options() {
  std::vector<ObjectiveOptions> all;
  for (const auto type :
       {ObjectiveType::apo, ObjectiveType::kto, ObjectiveType::sft, ObjectiveType::weighted_bc})
    for (const auto z0 : all_estimators()) {
      const ObjectiveOptions plain{.type = type, .beta = 0.7, .z0 = z0, .preset = Preset::paper};
      const bool preference = !plain.imitates();
      if (!preference && z0 != Z0Estimator::none) continue;
      std::vector<ObjectiveOptions> variants(11, plain);
      variants[1].sft_weight = 0.3;
      variants[2].label_smoothing_bins = 1.2;
      variants[3].credit = Credit::dimension;
      variants[4].weights.type = WeightType::uniform;
      variants[5].weights.normalization = WeightNormalization::mean;
      variants[6].reduction = Reduction::mean;
      variants[7] = {.type = type,
                     .beta = 0.7,
                     .z0 = z0,
                     .weights = {.normalization = WeightNormalization::mean},
                     .reduction = Reduction::mean,
                     .sft_weight = 0.3,
                     .reference_kl_weight = 0.4,
                     .label_smoothing_bins = 1.2,
                     .credit = Credit::dimension};
      variants[8].preset = Preset::robust;
      variants[9].weights.group_size = type == ObjectiveType::apo ? 0 : 3;
      variants[10].reference_kl_weight = 0.6;
      all.insert(all.end(), variants.begin(), variants.end());
      if (type == ObjectiveType::apo)
        all.push_back({.beta = 0.7, .z0 = z0, .compatibility = Compatibility::released_code});
    }
  return all;
}

}  // namespace apo::objective::testing
