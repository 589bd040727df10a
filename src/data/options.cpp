// The options of the data room, each with its one-line meaning.
#include "apo/config/options.h"

#include <array>

#include "apo/data/dataset.h"

namespace apo::data {

std::span<const std::pair<FailedEpisodes, std::string_view>> enum_names(FailedEpisodes) {
  static constexpr std::array<std::pair<FailedEpisodes, std::string_view>, 3> names{
      {{FailedEpisodes::keep, "keep"},
       {FailedEpisodes::drop, "drop"},
       {FailedEpisodes::undesirable_tail, "undesirable-tail"}}};
  return names;
}

std::span<const std::pair<DataChecks, std::string_view>> enum_names(DataChecks) {
  static constexpr std::array<std::pair<DataChecks, std::string_view>, 2> names{
      {{DataChecks::error, "error"}, {DataChecks::warn, "warn"}}};
  return names;
}

std::span<const std::pair<ChunkOverlap, std::string_view>> enum_names(ChunkOverlap) {
  static constexpr std::array<std::pair<ChunkOverlap, std::string_view>, 2> names{
      {{ChunkOverlap::leave_out, "leave-out"}, {ChunkOverlap::keep, "keep"}}};
  return names;
}

std::span<const std::pair<FailedDemonstrations, std::string_view>> enum_names(FailedDemonstrations) {
  static constexpr std::array<std::pair<FailedDemonstrations, std::string_view>, 2> names{
      {{FailedDemonstrations::drop, "drop"}, {FailedDemonstrations::keep, "keep"}}};
  return names;
}

std::span<const std::pair<LabelWindow, std::string_view>> enum_names(LabelWindow) {
  static constexpr std::array<std::pair<LabelWindow, std::string_view>, 2> names{
      {{LabelWindow::steps, "steps"}, {LabelWindow::onset, "onset"}}};
  return names;
}

void LabelOptions::visit(config::Visitor& v) {
  v("steps_before_intervention", steps_before_intervention,
    "K: so many of the policy's own steps before each take-over become undesirable; 0 = none",
    config::at_least(0));
  v("window", window,
    "which steps those are: the last K, or (onset) those since the mistake began, estimated from the "
    "direction of the human's first actions; K where they have none");
  v("max_window", max_window, "of window onset: no window is longer than so many steps", config::at_least(1));
  v("undesirable_reasons", undesirable_reasons,
    "take-overs that were recorded with another reason than these make no negatives: the K steps before them "
    "are in no pool; empty = every reason but \"out of patience\" and \"stuck\"");
  v("failed_episodes", failed_episodes,
    "the policy's steps after the last intervention of a failed episode: keep them desirable, drop them, or "
    "make the last K undesirable and drop the others");
  v("failed_demonstrations", failed_demonstrations,
    "episodes of an expert source that the file marks as failed (success 0): leave all their steps out, or "
    "imitate them");
  v("credit_actions", credit_actions,
    "dimension credit compares with the mean of the human's first so many actions of a take-over; more = "
    "smoother",
    config::at_least(1));
  v("chunk_overlap", chunk_overlap,
    "of policies whose answers code a whole chunk (pi0-FAST): a desirable step whose chunk reaches into an "
    "undesirable window is left out of training, or kept");
}

void FilterOptions::visit(config::Visitor& v) {
  v("max_abs_action", max_abs_action, "a step with a larger |a| in any dimension is not imitated",
    config::positive());
  v("min_motion", min_motion,
    "an idle step is not imitated: the sum of |a| without the gripper is smaller, and the gripper's command "
    "is the one before; 0 = none is idle",
    config::at_least(0));
  v("look_ahead", look_ahead,
    "a human's step is imitated as what the hand did in so many steps together, until the gripper's command "
    "changes or control is handed back; more = a slow hand is learned from at full speed; 1 = as it was",
    config::at_least(1));
  v("max_share", max_share,
    "training and statistics refuse a source of which filters leave out more than this share; 1 = never",
    config::Range{.min = 0.0, .max = 1.0, .open_min = true});
}

void SourceOptions::visit(config::Visitor& v) {
  v.path("path", path, "file, directory (its *.hdf5 and *.h5) or glob of trajectory files");
  v("format", format, "how the files are laid out; auto looks inside");
  v("instruction", instruction, "what the robot was asked to do; empty = as the file says");
  v("limit", limit, "first so many episodes of each file; 0 = all", config::at_least(0));
  v("image_orientation", image_orientation,
    "how stored pictures are turned: auto makes LIBERO's upright and leaves others; rotate is what OpenVLA's "
    "LIBERO checkpoints were trained on");
  v("gripper", gripper, "where the gripper is in an action, and how its command is coded");
}

void PoolOptions::visit(config::Visitor& v) {
  v("desirable", desirable, "share of a batch: demonstrations and the policy's good steps",
    config::at_least(0));
  v("intervention", intervention, "share of a batch: human corrections", config::at_least(0));
  v("undesirable", undesirable, "share of a batch: the policy's steps before a take-over",
    config::at_least(0));
}

void LoaderOptions::visit(config::Visitor& v) {
  v("workers", workers, "threads that read and augment ahead; 0 = in the training loop",
    config::between(0, 256));
  v("prefetch", prefetch, "batches prepared ahead; more = smoother and more memory",
    config::between(1, 4096));
  v("cache", cache, "keep decoded pictures in memory: fast for small data sets, too much for large ones");
}

void DataOptions::visit(config::Visitor& v) {
  v("expert", expert, "sources of demonstrations");
  v("interactions", interactions, "sources of deployments with human interventions");
  v("compatibility", compatibility,
    "released-code filters first, as the authors' program does: a step that is left out takes no part in "
    "take-overs and windows, undesirable steps are filtered, too, and a change of the gripper is no motion");
  v("labels", labels, "who is desirable");
  v("filter", filter, "steps that training leaves out");
  v("pools", pools, "shares of a batch; they are normalised");
  v("augmentation", augmentation, "random changes of the pictures");
  v("loader", loader, "reading ahead");
  v("checks", checks,
    "recordings that do not suit policy.checkpoint (`apo-data validate`, check policy): error stops, warn "
    "says so and goes on");
}

}  // namespace apo::data
