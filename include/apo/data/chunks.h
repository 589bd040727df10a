// What a chunk of actions is in recorded data: the actions of one decision, for its step and those after it.
#pragma once

#include <cstdint>
#include <span>

#include "apo/base/types.h"
#include "apo/data/labels.h"
#include "apo/data/trajectory.h"

namespace apo::data {

/// The actions from step `timestep` on, at most `horizon` of them. A chunk stops where the episode ends,
/// where somebody else acts (what a human did after a take-over is no answer of the policy's), and where the
/// next step's label says otherwise (undesirable instead of desirable, or skipped): all of its steps may be
/// learned from as the first one is.
///
/// Shapes  returns [1 to horizon][A]; `steps` are the episode's labels
ActionChunk chunk_from(const EpisodeRecord& episode, std::span<const LabelledStep> steps, int64_t timestep,
                       int64_t horizon);

/// How the chunk of a step ends.
enum class ChunkRule {
  cut,    ///< chunk_from: shorter where it must be
  whole,  ///< whole_chunk_from: for answers that code all of its actions at once
};

/// The recorded actions from step `timestep` on while the same one acts, `horizon` of them: the last one is
/// repeated where there are fewer. Labels do not matter: it is its first step's.
///
/// Shapes  returns [horizon][A]
/// Source  LeRobot's dataset and openpi's loaders repeat the last action of an episode
ActionChunk whole_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon);

/// Whether that chunk of a step that is not undesirable holds one that is.
bool reaches_undesirable(const EpisodeRecord& episode, std::span<const LabelledStep> steps, int64_t timestep,
                         int64_t horizon);
/// The same for scoring, whatever the labels are: it stops where the episode ends, where somebody else acts,
/// and at a step that is marked as not recorded.
ActionChunk recorded_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon);

/// What the policy wanted from step `timestep` on while a human acted: up to the first step in which nothing
/// of that is recorded, or the policy acts again. Empty if there is nothing of `timestep`.
ActionChunk wanted_chunk_from(const EpisodeRecord& episode, int64_t timestep, int64_t horizon);

}  // namespace apo::data
