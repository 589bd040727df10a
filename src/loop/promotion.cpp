#include "loop/promotion.h"

#include <cmath>

#include "apo/base/error.h"
#include "apo/base/proportions.h"
#include "results/table.h"

namespace apo::loop {
Promotion judge_promotion(const EvalResult& refined, const EvalResult& in_use, double tolerance) {
  Promotion promotion;
  promotion.test = paired_test(refined.successes(), in_use.successes());
  promotion.tolerance = tolerance;
  promotion.promoted = promotion.test.difference >= -tolerance;
  return promotion;
}

std::string promotion_text(const Promotion& promotion) {
  const PairedTest& test = promotion.test;
  return concat(test.difference < 0 ? "−" : "+", results::fixed(100 * std::abs(test.difference), 1),
                " points against the policy in use (", test.only_first, " trials won, ", test.only_second,
                " lost of ", test.pairs, ", ", p_text(test.p), ")");
}

}  // namespace apo::loop
