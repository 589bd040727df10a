// The audit speaks of recorded data throughout: the names that it takes from the rooms below.
#pragma once

#include "apo/config/gripper.h"
#include "apo/data/dataset.h"
#include "apo/pictures/transforms.h"
#include "apo/tokenizers/statistics.h"

namespace apo::audit {

using namespace data;
using config::gripper_dimensions;
using config::GripperOptions;
using pictures::ImageSize;
using tokenizers::kSmallestSpread;
using tokenizers::VectorStatistics;

}  // namespace apo::audit
