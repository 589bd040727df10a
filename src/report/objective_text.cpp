#include "report/objective_text.h"

#include "report/config_text.h"

namespace apo::report {

std::string objective_sentence(std::string_view type) {
  if (type == "apo")
    return "Action Preference Optimization: desirable actions are to become likelier, and undesirable ones "
           "less likely, than before this training.";
  if (type == "kto")
    return "Kahneman-Tversky Optimization: desirable actions are to become likelier, and undesirable ones "
           "less likely, than before this training; all samples weigh the same.";
  if (type == "dpo")
    return "Direct Preference Optimization: the human's action is to become likelier than what the policy "
           "wanted at the same moment.";
  if (type == "tpo")
    return "Trajectory-wise Preference Optimization: a human's correction is to become likelier than the "
           "steps that led to it.";
  if (type == "sft") return "Supervised fine-tuning: the policy learns to imitate the desirable actions.";
  if (type == "weighted-bc")
    return "Weighted behaviour cloning: the policy learns to imitate the desirable actions, human "
           "corrections above all.";
  return "";
}

SampleText sample_text(std::string_view config) {
  const std::string type = config_value(config, "objective.type");
  SampleText text{
      .desirable = "Recorded actions that are to become likelier.",
      .undesirable = "The policy’s own actions before a take-over, which are to become less likely.",
      .tie = "These weigh the same",
      .lambda = "what the sample’s loss was multiplied with",
      .weight = "",
      .frames = "green the expert, blue the policy, orange the human"};
  const bool uniform = type == "kto" || config_value(config, "objective.weights.type") == "uniform";
  if (type == "sft" || type == "weighted-bc") {
    text.desirable = "Recorded actions that are imitated.";
    text.weight = type == "sft" ? "its share of the tokens that the batch imitates"
                                : "its share of the tokens that the batch imitates, each counted λ times";
  } else if (type == "dpo" || type == "tpo") {
    text.tie = "All pairs weigh the same";
    text.lambda = "what its pair’s loss was multiplied with";
    text.weight = "its share of the batch: all pairs have the same, and divide it among their samples";
  } else if (type == "apo" && !uniform) {
    const std::string size = config_value(config, "objective.weights.group_size");
    if (config_value(config, "objective.weights.normalization") == "mean")
      text.weight = "its action error beside the mean of its group in the batch, which λ comes from";
    else if (size.empty() || size == "0" ||
             config_value(config, "objective.compatibility") == "released-code")
      text.weight = "its share of its group’s action error in the batch, which λ comes from";
    else
      text.weight = "its share of its group’s action error in " + size +
                    " samples of the batch’s mix, which λ comes from";
  } else if (type == "apo" || type == "kto") {
    text.tie = "All samples weigh the same";
  }
  if (type == "dpo") {
    text.desirable = "The human’s actions, which are to become likelier than what the policy wanted there.";
    text.undesirable = "What the policy wanted while the human acted, which is to become less likely.";
    text.frames = "orange the human’s action, blue what the policy wanted at the same moment";
    text.wanted = true;
  } else if (type == "tpo") {
    text.desirable =
        "Steps of human corrections, which are to become likelier than the steps that led to them.";
    text.undesirable =
        "The policy’s own steps before a take-over, which are to become less likely than the correction.";
  }
  return text;
}

}  // namespace apo::report
