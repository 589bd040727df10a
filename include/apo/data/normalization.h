// How actions become numbers in [-1, 1].
#pragma once

#include <span>
#include <string_view>
#include <utility>

namespace apo::data {

/// `automatic`     as the checkpoint says, else quantiles
/// `quantiles`     q01 and q99 become -1 and 1 where the statistics' mask is true, other dimensions stay
/// `released_apo`  the same in every dimension, mask or not, in float64 with 1e-8 added to q99 - q01, as the
///                 authors' program: a gripper of +1 between -1 and 1 becomes 1 - 1e-8, which is the last bin
///                 but one
enum class ActionNormalization { automatic, quantiles, released_apo };
std::span<const std::pair<ActionNormalization, std::string_view>> enum_names(ActionNormalization);

}  // namespace apo::data
