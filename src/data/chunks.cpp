#include "apo/data/chunks.h"

#include <algorithm>

#include "apo/base/error.h"

namespace apo::data {
namespace {

// One past the last step that a chunk from `begin` could hold.
size_t end_of(const EpisodeRecord& episode, size_t begin, int64_t horizon) {
  return std::min(episode.actions.size(), begin + static_cast<size_t>(horizon));
}

// The steps of a whole chunk: recorded ones of who acts in the first.
template <class Visit>
void visit_whole_chunk(const EpisodeRecord& episode, int64_t timestep, int64_t horizon, Visit visit) {
  const auto begin = static_cast<size_t>(timestep);
  APO_ASSERT(horizon >= 1 && begin < episode.actions.size());
  for (size_t t = begin; t < episode.actions.size() && horizon > 0; ++t) {
    if (t > begin && !episode.recorded[t]) continue;
    if (episode.sources[t] != episode.sources[begin]) break;
    visit(t);
    --horizon;
  }
}

}  // namespace

ActionChunk whole_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon) {
  ActionChunk chunk;
  visit_whole_chunk(episode, timestep, horizon, [&](size_t t) { chunk.push_back(episode.actions[t]); });
  chunk.resize(static_cast<size_t>(horizon), Action(chunk.back()));
  return chunk;
}

bool reaches_undesirable(const EpisodeRecord& episode, std::span<const LabelledStep> steps, int64_t timestep,
                         int64_t horizon) {
  bool reaches = false;
  visit_whole_chunk(episode, timestep, horizon,
                    [&](size_t t) { reaches = reaches || steps[t].label == StepLabel::undesirable; });
  return reaches && steps[static_cast<size_t>(timestep)].label != StepLabel::undesirable;
}

ActionChunk chunk_from(const EpisodeRecord& episode, std::span<const LabelledStep> steps, int64_t timestep,
                       int64_t horizon) {
  const auto begin = static_cast<size_t>(timestep);
  APO_ASSERT(horizon >= 1 && begin < episode.actions.size() && steps.size() == episode.actions.size());
  const auto is_undesirable = [](const LabelledStep& step) { return step.label == StepLabel::undesirable; };
  ActionChunk chunk;
  for (size_t t = begin; t < end_of(episode, begin, horizon); ++t) {
    const bool goes_on = episode.sources[t] == episode.sources[begin] &&
                         steps[t].label != StepLabel::skipped &&
                         is_undesirable(steps[t]) == is_undesirable(steps[begin]);
    if (t > begin && !goes_on) break;
    chunk.push_back(episode.actions[t]);
  }
  return chunk;
}

ActionChunk recorded_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon) {
  const auto begin = static_cast<size_t>(timestep);
  APO_ASSERT(horizon >= 1 && begin < episode.actions.size());
  ActionChunk chunk{episode.actions[begin]};
  for (size_t t = begin + 1; t < end_of(episode, begin, horizon); ++t) {
    if (episode.sources[t] != episode.sources[begin] || !episode.recorded[t]) break;
    chunk.push_back(episode.actions[t]);
  }
  return chunk;
}

ActionChunk wanted_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon) {
  const auto begin = static_cast<size_t>(timestep);
  APO_ASSERT(horizon >= 1 && begin < episode.actions.size());
  ActionChunk chunk;
  for (size_t t = begin; t < end_of(episode, begin, horizon); ++t) {
    if (!episode.policy_actions[t] || episode.sources[t] != episode.sources[begin]) break;
    chunk.push_back(*episode.policy_actions[t]);
  }
  return chunk;
}

}  // namespace apo::data
