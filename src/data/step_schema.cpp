#include "data/step_schema.h"

#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "data/layouts.h"

namespace apo::data {
namespace {

void expect_name(const std::string& name, const std::string& what) {
  APO_CHECK(DataError, !name.empty() && name != "." && name.find('/') == std::string::npos && is_utf8(name),
            what, ": expected a plain name, found '", name, "'");
}

}  // namespace

StepSchema schema_of(const Observation& observation, size_t action_size) {
  StepSchema schema;
  schema.action_size = static_cast<int64_t>(action_size);
  for (const auto& [name, image] : observation.images) schema.cameras[name] = {image.size(0), image.size(1)};
  for (const auto& [name, values] : observation.state)
    schema.states[name] = static_cast<int64_t>(values.size());
  return schema;
}

std::string to_text(const StepSchema& schema) {
  std::string text = concat("action [", schema.action_size, "]");
  for (const auto& [name, size] : schema.cameras)
    text += concat(", camera ", name, " ", size.first, "x", size.second);
  for (const auto& [name, size] : schema.states) text += concat(", state ", name, " [", size, "]");
  return text;
}

void check_step(const Step& step, const std::string& where) {
  APO_CHECK(DataError, !step.action.empty(), where, ": expected an action, found none");
  for (const float a : step.action)
    APO_CHECK(DataError, std::isfinite(a), where, ": expected a finite action, found ", a);
  if (step.policy_action) {
    APO_CHECK(DataError, step.policy_action->size() == step.action.size(), where,
              ": expected a policy_action of ", step.action.size(), " numbers, found ",
              step.policy_action->size());
    for (const float a : *step.policy_action)
      APO_CHECK(DataError, std::isfinite(a), where, ": expected a finite policy_action, found ", a);
  }
  APO_CHECK(DataError, !step.decision_offset || *step.decision_offset >= 0, where,
            ": expected 0 or more steps since the policy was asked, found ", *step.decision_offset);
  if (step.take_over) {
    const std::string& reason = step.take_over->reason;
    APO_CHECK(DataError, step.source == ActionSource::intervention, where,
              ": expected a take-over at a step of the human, found one of the ", to_string(step.source));
    APO_CHECK(DataError,
              reason.size() <= kLongestReason && reason.find('\0') == reason.npos && is_utf8(reason), where,
              ": expected why the human took over as UTF-8 text without NUL of at most ", kLongestReason,
              " bytes, found ", reason.size() > kLongestReason ? concat(reason.size()) : "other bytes");
    APO_CHECK(DataError, step.take_over->steps_held >= 0, where,
              ": expected 0 or more steps in which the reason had held, found ", step.take_over->steps_held);
  }
  for (const auto& [name, image] : step.observation.images) {
    expect_name(name, where + ", camera");
    APO_CHECK(DataError,
              image.defined() && image.dim() == 3 && image.size(2) == 3 && image.numel() > 0 &&
                  image.scalar_type() == at::kByte && image.device().is_cpu(),
              where, ", camera ", name, ": expected a [Y, X, 3] uint8 picture on the CPU, found ",
              image.defined() ? concat(image.toString(), " ", image.sizes()) : "nothing");
  }
  for (const auto& [name, values] : step.observation.state) {
    expect_name(name, where + ", state");
    APO_CHECK(DataError, !values.empty(), where, ", state ", name, ": expected numbers, found none");
    for (const float x : values)
      APO_CHECK(DataError, std::isfinite(x), where, ", state ", name, ": expected finite numbers, found ", x);
  }
}

}  // namespace apo::data
