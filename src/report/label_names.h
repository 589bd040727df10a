// Labels as training names them, and how a page shows them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "report/chart.h"

namespace apo::report {

/// "interactions/undesirable: before take-over" -> source "interactions", label "undesirable", reason "before
/// take-over"; parts that are not there are empty.
struct LabelName {
  explicit LabelName(const std::string& name);
  std::string source, label, reason;
};

/// The steps; what else is counted beside them (whole take-overs) is left out.
std::map<std::string, int64_t> labelled_steps(const std::map<std::string, int64_t>& labels);

/// Expert violet, desirable blue, interventions green, undesirable orange, skipped grey.
int label_hue(const LabelName& name);
/// Where a hue stands among the others: what is learned from first, what is skipped last.
int label_place(int hue);

/// One bar for each label and reason, with counts; nothing without steps.
std::string label_bars(const std::map<std::string, int64_t>& labels);

}  // namespace apo::report
