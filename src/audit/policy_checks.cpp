#include "audit/policy_checks.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/data/statistics.h"
#include "audit/number_checks.h"

namespace apo::audit {
namespace {

constexpr int64_t kFewest = 10;           // steps, too few to say anything
constexpr double kMostlyOutside = 0.5;    // of a group's steps, and then
constexpr double kFarOutside = 0.25;      // of q01..q99, what clipping moves a step by in the mean
constexpr double kOftenOutside = 0.1;     // q01..q99 leave 0.02 outside of what they were computed from
constexpr double kOfTheLargest = 0.05;    // spread, in a dimension that the checkpoint knows as constant
constexpr double kNearAnEnd = 0.25;       // of the gripper's range
constexpr double kFarBeyond = 0.5;        // of the gripper's range: coded otherwise, whatever the coding is
constexpr double kFarFromBothEnds = 0.1;  // of the commands, for a gripper that knows two
constexpr double kTwoValued = 0.8;        // variance, as a share of that of two values
constexpr int64_t kFewStarts = 3;         // episodes
constexpr double kEnlarged = 2;           // pictures, by which factor
constexpr double kSqueezed = 1.2;         // ratio of their sides
constexpr size_t kMostWords = 10;         // named

template <class... Pieces>
void tell(std::vector<Finding>& found, Severity severity, const Pieces&... pieces) {
  found.push_back({severity, concat(pieces...)});
}

std::string range_text(double low, double high) { return concat(low, "..", high); }

double largest_spread(const VectorStatistics& s) {
  double largest = 0;
  for (size_t j = 0; j < s.q01.size(); ++j) largest = std::max(largest, s.q99[j] - s.q01[j]);
  return largest;
}

struct Commands {
  double low = 0, high = 0;
  bool two_valued = false;
};

// What the checkpoint's gripper commands are; of no use where they do not vary.
std::optional<Commands> commands_of(const VectorStatistics& s, const GripperOptions& gripper, size_t j) {
  Commands commands{s.q01[j], s.q99[j], false};
  if (gripper.is_coded()) {
    commands = {std::min(*gripper.open, *gripper.closed), std::max(*gripper.open, *gripper.closed), false};
  }
  if (commands.high - commands.low < kSmallestSpread) return std::nullopt;
  const double most = (commands.high - s.mean[j]) * (s.mean[j] - commands.low);
  commands.two_valued = most > 0 && s.std[j] * s.std[j] > kTwoValued * most;
  return commands;
}

}  // namespace

PolicyComparison::PolicyComparison(PolicyInputs inputs)
    : inputs_(std::move(inputs)),
      statistics_(*inputs_.action),
      grippers_(gripper_dimensions(inputs_.gripper, statistics_.size(), "policy")) {}

void PolicyComparison::add(Group& group, const Action& action) const {
  group.sample.add(action);
  group.clipping.resize(action.size());
  for (size_t j = 0; j < action.size(); ++j) {
    const auto a = static_cast<double>(action[j]);
    const double touch = 1e-6 * std::max(1.0, statistics_.q99[j] - statistics_.q01[j]);
    const double beyond = std::max({statistics_.q01[j] - a, a - statistics_.q99[j], 0.0});
    group.clipping[j] += {1, beyond > touch, beyond};
  }
}

void PolicyComparison::see(const EpisodeRecord& record, std::span<const LabelledStep> steps, bool is_expert,
                           const std::string& where) {
  bool kept = false;
  for (size_t t = 0; t < steps.size(); ++t) {
    const Action& action = record.actions[t];
    if (steps[t].label == StepLabel::skipped || !is_finite(action)) continue;
    kept = true;
    if (static_cast<int64_t>(action.size()) != statistics_.size()) {
      if (other_sizes_++ == 0) first_of_other_size_ = concat(action.size(), " (first: ", where, ")");
      continue;
    }
    add(groups_[static_cast<size_t>(is_expert ? ActionSource::expert : record.sources[t])], action);
  }
  if (!kept) return;
  if (inputs_.gripper.is_coded() && static_cast<int64_t>(record.actions[0].size()) == statistics_.size() &&
      !grippers_.empty()) {
    ++episodes_;
    const auto first = static_cast<double>(record.actions[0][static_cast<size_t>(grippers_[0])]);
    starts_closed_ += std::abs(first - *inputs_.gripper.closed) < std::abs(first - *inputs_.gripper.open);
  }
  for (const auto& [camera, size] : record.cameras)
    if (inputs_.cameras.empty() ||
        std::find(inputs_.cameras.begin(), inputs_.cameras.end(), camera) != inputs_.cameras.end())
      pictures_[camera].try_emplace(size, where);
  if (!inputs_.unknown_words) return;
  for (const std::string& word : inputs_.unknown_words(record.instruction))
    if (words_[word].count++ == 0) words_[word].first = where;
}

PolicyComparison::Clipping& PolicyComparison::Clipping::operator+=(const Clipping& other) {
  steps += other.steps;
  outside += other.outside;
  beyond += other.beyond;
  return *this;
}

// Hands that went to one side in a few episodes lie outside often, but not far: no sign of other units.
bool PolicyComparison::Clipping::leaves_little(double range) const {
  const auto n = static_cast<double>(steps);
  return steps >= kFewOfAnActor && static_cast<double>(outside) > kMostlyOutside * n &&
         beyond > kFarOutside * range * n;
}

void PolicyComparison::about_dimension(const std::string& who, const Group& group, size_t j,
                                       std::vector<Finding>& found) const {
  const int64_t n = group.sample.num_seen();
  const double theirs = statistics_.q99[j] - statistics_.q01[j], ours = spread_of(group.sample, j);
  const std::string range = range_text(statistics_.q01[j], statistics_.q99[j]);
  if (theirs < kSmallestSpread) {
    if (ours > kOfTheLargest * largest_spread(statistics_))
      tell(found, Severity::warning, "dimension ", j, ": never changed in what the checkpoint learned from (",
           statistics_.q01[j], "), and spreads over ", ours, " in the ", who, " steps",
           statistics_.mask[j] ? ", which the policy cannot learn: its actions keep that number" : "");
    return;
  }
  const Clipping& clipping = group.clipping[j];
  if (statistics_.mask[j] &&
      static_cast<double>(clipping.outside) > kOftenOutside * static_cast<double>(clipping.steps)) {
    Clipping all;
    for (const auto& [actor, other] : groups_) all += other.clipping[j];
    tell(found,
         clipping.leaves_little(theirs) || all.leaves_little(theirs) ? Severity::error : Severity::warning,
         "dimension ", j, ": ", share(clipping.outside, clipping.steps, concat(who, " steps").c_str()),
         " lie outside the checkpoint's q01..q99 (", range, ") and are clipped to it; theirs go from ",
         group.sample.min(j), " to ", group.sample.max(j));
  }
  if (n < kFewOfAnActor || ours < kSmallestSpread) return;
  const double ratio = ours / theirs;
  if (ratio < kOtherUnits && ratio > 1 / kOtherUnits) return;
  tell(found, Severity::warning, "dimension ", j, ": the ", who, " steps spread over ", ours, ", ", ratio,
       " times the checkpoint's q01..q99 (", range, "): other units?");
}

// A policy that decodes numbers may command anything between the ends; a person does not.
void PolicyComparison::about_gripper(ActionSource actor, const Group& group, size_t j,
                                     std::vector<Finding>& found) const {
  const auto commands = commands_of(statistics_, inputs_.gripper, j);
  if (!commands) return;
  const std::vector<double> x = group.sample.sorted_column(j);
  const double low = quantile(x, 0.01), high = quantile(x, 0.99), range = commands->high - commands->low,
               near = kNearAnEnd * range;
  const auto between = static_cast<double>(std::count_if(x.begin(), x.end(), [&](double command) {
    return std::abs(command - commands->low) > near && std::abs(command - commands->high) > near;
  }));
  const double overshoot = std::max(commands->low - low, high - commands->high);
  const bool beyond = overshoot > near;
  const bool by_hand = actor != ActionSource::policy;
  const bool far_from_both = between > kFarFromBothEnds * static_cast<double>(x.size());
  if (!beyond && !(by_hand && commands->two_valued && far_from_both)) return;
  // a coding that nobody knows and of any opening may be wider here than there
  const bool wrong = commands->two_valued || inputs_.gripper.is_coded() || overshoot > kFarBeyond * range;
  tell(found, wrong ? Severity::error : Severity::warning, "dimension ", j, " (gripper): the ",
       actor_name(static_cast<size_t>(actor)), " steps command ", range_text(low, high), ", the checkpoint ",
       range_text(commands->low, commands->high),
       ": say how each is coded, `gripper: {open: .., closed: ..}` of the source and policy.gripper",
       inputs_.gripper.is_coded() ? concat(" (the policy's: ", to_text(inputs_.gripper), ")") : "");
}

void PolicyComparison::about_starts(std::vector<Finding>& found) const {
  if (episodes_ < kFewStarts || 4 * starts_closed_ <= 3 * episodes_) return;
  tell(found, Severity::warning, "gripper: ", share(starts_closed_, episodes_, "episodes"),
       " begin with it closed, as the policy codes it (", to_text(inputs_.gripper),
       "): is it the other way round in the recordings? `gripper: {open: .., closed: ..}` of the source says "
       "so");
}

void PolicyComparison::about_pictures(std::vector<Finding>& found) const {
  for (const auto& [camera, sizes] : pictures_)
    for (const auto& [size, where] : sizes) {
      const auto smaller = static_cast<double>(std::min(size.height, size.width)),
                 larger = static_cast<double>(std::max(size.height, size.width));
      const std::string what =
          concat("camera ", camera, ": ", size.height, 'x', size.width, " pictures (first: ", where, ")");
      if (smaller * kEnlarged < static_cast<double>(inputs_.image_size))
        tell(found, Severity::warning, what, " are enlarged to the policy's ", inputs_.image_size, 'x',
             inputs_.image_size);
      else if (inputs_.image_size > 0 && larger > kSqueezed * smaller)
        tell(found, Severity::note, what, " are not square; the policy sees ", inputs_.image_size, 'x',
             inputs_.image_size);
    }
}

std::vector<Finding> PolicyComparison::findings() const {
  std::vector<Finding> found;
  if (other_sizes_ > 0)
    tell(found, Severity::error, "actions have ", first_of_other_size_, " numbers, those of the checkpoint ",
         statistics_.size());
  for (const auto& [actor, group] : groups_) {
    if (group.sample.num_seen() < kFewest) continue;
    for (size_t j = 0; j < group.sample.size(); ++j) {
      const bool gripper =
          std::find(grippers_.begin(), grippers_.end(), static_cast<int64_t>(j)) != grippers_.end();
      if (gripper)
        about_gripper(static_cast<ActionSource>(actor), group, j, found);
      else
        about_dimension(actor_name(actor), group, j, found);
    }
  }
  about_starts(found);
  about_pictures(found);
  std::string unknown;
  size_t named = 0;
  for (const auto& [word, seen] : words_)
    if (named++ < kMostWords) append_item(unknown, ", ", word, " (first: ", seen.first, ")");
  if (!unknown.empty())
    tell(found, Severity::warning, "instructions with ", words_.size(),
         " words that the checkpoint never learned: ", unknown, named > kMostWords ? ", ..." : "");
  return found;
}

std::vector<Finding> compare_with_policy(const Dataset& dataset, const PolicyInputs& inputs) {
  if (!inputs.action) return {};
  PolicyComparison comparison(inputs);
  std::vector<LabelledStep> steps;
  for (int32_t f = 0; f < static_cast<int32_t>(dataset.num_files()); ++f)
    for (int32_t e = 0; e < dataset.num_episodes(f); ++e) {
      const EpisodeRecord& record = dataset.record(f, e);
      steps.clear();
      for (int32_t t = 0; t < static_cast<int32_t>(record.num_steps()); ++t)
        steps.push_back(dataset.label({f, e, t}));
      comparison.see(record, steps, dataset.is_expert(f),
                     concat(dataset.file_path(f).filename().string(), ' ', record.name));
    }
  return comparison.findings();
}

}  // namespace apo::audit
