#include "apo/config/gripper.h"

#include <algorithm>
#include <sstream>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::config {

void GripperOptions::visit(Visitor& v) {
  v("dimension", dimension,
    "which number of an action is the gripper, from 0 or, negative, from the end; several for several arms; "
    "[] = the last");
  v("open", open, "the command that opens it; null = not known");
  v("closed", closed, "the command that closes it; null = not known");
}

std::string to_text(const GripperOptions& gripper) {
  std::ostringstream out;
  if (gripper.dimension.empty()) out << "the last dimension";
  for (size_t i = 0; i < gripper.dimension.size(); ++i)
    out << (i > 0                          ? ", "
            : gripper.dimension.size() > 1 ? "dimensions "
                                           : "dimension ")
        << gripper.dimension[i];
  if (gripper.is_coded()) out << ", " << *gripper.open << " open, " << *gripper.closed << " closed";
  return out.str();
}

GripperOptions or_else(GripperOptions gripper, const GripperOptions& other) {
  if (gripper.dimension.empty()) gripper.dimension = other.dimension;
  if (!gripper.open && !gripper.closed && other.is_coded()) {  // half a coding stays, to be refused
    gripper.open = other.open;
    gripper.closed = other.closed;
  }
  return gripper;
}

std::vector<int64_t> gripper_dimensions(const GripperOptions& gripper, int64_t action_size,
                                        const std::string& where) {
  APO_CHECK(ConfigError, gripper.open.has_value() == gripper.closed.has_value(), where,
            ": gripper: expected both open "
            "and closed or neither, found ",
            gripper.open ? "open" : "closed", " alone");
  APO_CHECK(ConfigError, !gripper.open || *gripper.open != *gripper.closed, where,
            ": gripper: expected open and closed to differ, found ", *gripper.open, " for both");
  if (gripper.dimension.empty())
    return action_size > 1 ? std::vector<int64_t>{action_size - 1} : std::vector<int64_t>{};
  std::vector<int64_t> dimensions;
  for (const int64_t d : gripper.dimension) {
    APO_CHECK(ConfigError, d >= -action_size && d < action_size, where, ": gripper.dimension: expected from ",
              -action_size, " to ", action_size - 1, " (actions have ", action_size, " numbers), found ", d);
    dimensions.push_back(d < 0 ? action_size + d : d);
  }
  std::sort(dimensions.begin(), dimensions.end());
  const auto twice = std::adjacent_find(dimensions.begin(), dimensions.end());
  APO_CHECK(ConfigError, twice == dimensions.end(), where, ": gripper.dimension: names dimension ", *twice,
            " twice");
  return dimensions;
}

void recode_gripper(Action& action, std::span<const int64_t> dimensions, const GripperOptions& from,
                    const GripperOptions& to) {
  if (!from.is_coded() || !to.is_coded() || (from.open == to.open && from.closed == to.closed)) return;
  for (const int64_t d : dimensions) {
    float& command = action.at(static_cast<size_t>(d));
    const double opening = (static_cast<double>(command) - *from.closed) / (*from.open - *from.closed);
    command = static_cast<float>(*to.closed + opening * (*to.open - *to.closed));
  }
}

}  // namespace apo::config
