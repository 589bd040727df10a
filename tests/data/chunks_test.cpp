// Chunks of recorded actions by hand: where they stop.
#include "apo/data/chunks.h"

#include <gtest/gtest.h>

namespace apo::data {
namespace {

// One letter a step: p policy, h human, e expert. Actions count the steps; labels: d desirable, u
// undesirable, s skipped.
EpisodeRecord episode_of(const std::string& who) {
  EpisodeRecord episode;
  for (size_t t = 0; t < who.size(); ++t) {
    episode.actions.push_back({static_cast<float>(t)});
    episode.sources.push_back(who[t] == 'p'   ? ActionSource::policy
                              : who[t] == 'h' ? ActionSource::intervention
                                              : ActionSource::expert);
    episode.policy_actions.emplace_back();
    episode.recorded.push_back(true);
  }
  return episode;
}

std::vector<LabelledStep> labels_of(const std::string& labels) {
  std::vector<LabelledStep> steps;
  for (const char label : labels) {
    LabelledStep& step = steps.emplace_back();
    step.label = label == 'd'   ? StepLabel::desirable
                 : label == 'u' ? StepLabel::undesirable
                                : StepLabel::skipped;
  }
  return steps;
}

ActionChunk steps(float first, float last) {
  ActionChunk chunk;
  for (float t = first; t <= last; ++t) chunk.push_back({t});
  return chunk;
}

TEST(Chunks, EndWithTheEpisode) {
  const EpisodeRecord episode = episode_of("ppppp");
  const auto labels = labels_of("ddddd");
  EXPECT_EQ(chunk_from(episode, labels, 0, 3), steps(0, 2));
  EXPECT_EQ(chunk_from(episode, labels, 3, 3), steps(3, 4));
  EXPECT_EQ(chunk_from(episode, labels, 4, 3), steps(4, 4));
  EXPECT_EQ(chunk_from(episode, labels, 2, 1), steps(2, 2));
}

TEST(WholeChunks, RepeatTheLastActionOfWhoActs) {
  EpisodeRecord episode = episode_of("pppphhh");
  EXPECT_EQ(whole_chunk_from(episode, 0, 3), steps(0, 2));
  EXPECT_EQ(whole_chunk_from(episode, 2, 4),
            (ActionChunk{{2}, {3}, {3}, {3}}));  // the human's are none of its
  EXPECT_EQ(whole_chunk_from(episode, 5, 4), (ActionChunk{{5}, {6}, {6}, {6}}));
  EXPECT_EQ(whole_chunk_from(episode, 6, 1), steps(6, 6));
  episode.recorded[1] = false;  // as if it were not there
  EXPECT_EQ(whole_chunk_from(episode, 0, 3), (ActionChunk{{0}, {2}, {3}}));
}

TEST(WholeChunks, OfADesirableStepMayReachIntoAWindow) {
  const EpisodeRecord episode = episode_of("ppppphh");
  const auto labels = labels_of("dsduudd");
  EXPECT_FALSE(reaches_undesirable(episode, labels, 0, 3));
  EXPECT_TRUE(reaches_undesirable(episode, labels, 0, 4));
  EXPECT_TRUE(reaches_undesirable(episode, labels, 2, 2));
  EXPECT_FALSE(reaches_undesirable(episode, labels, 2, 1));
  EXPECT_FALSE(reaches_undesirable(episode, labels, 3, 2));  // undesirable itself
  EXPECT_FALSE(reaches_undesirable(episode, labels, 5, 9));
}

// What the human did is no answer of the policy's, and the other way round.
TEST(Chunks, StopWhereAnotherActs) {
  const EpisodeRecord episode = episode_of("pphhp");
  const auto labels = labels_of("ddddd");
  EXPECT_EQ(chunk_from(episode, labels, 0, 4), steps(0, 1));
  EXPECT_EQ(chunk_from(episode, labels, 2, 4), steps(2, 3));
  EXPECT_EQ(chunk_from(episode, labels, 4, 4), steps(4, 4));
}

TEST(Chunks, StopWhereTheLabelSaysOtherwise) {
  const EpisodeRecord episode = episode_of("pppppp");
  const auto labels = labels_of("dduusd");
  EXPECT_EQ(chunk_from(episode, labels, 0, 6), steps(0, 1));
  EXPECT_EQ(chunk_from(episode, labels, 2, 6), steps(2, 3));
  EXPECT_EQ(chunk_from(episode, labels, 5, 6), steps(5, 5));
}

// For scoring, labels do not matter; a step that is marked as not recorded does.
TEST(Chunks, StopForScoringWhereAnotherActsAlone) {
  EpisodeRecord episode = episode_of("pppphp");
  EXPECT_EQ(recorded_chunk_from(episode, 0, 6), steps(0, 3));
  EXPECT_EQ(recorded_chunk_from(episode, 4, 6), steps(4, 4));
  episode.recorded[2] = false;
  EXPECT_EQ(recorded_chunk_from(episode, 0, 6), steps(0, 1));
}

TEST(Chunks, OfWhatThePolicyWanted) {
  EpisodeRecord episode = episode_of("phhhhp");
  for (const size_t t : {1u, 2u, 4u}) episode.policy_actions[t] = Action{static_cast<float>(10 * t)};
  EXPECT_EQ(wanted_chunk_from(episode, 1, 4), (ActionChunk{{10}, {20}}));
  EXPECT_EQ(wanted_chunk_from(episode, 4, 4), (ActionChunk{{40}}));
  EXPECT_TRUE(wanted_chunk_from(episode, 3, 4).empty());
}

}  // namespace
}  // namespace apo::data
