// How well data.labels.window onset finds the step at which a policy went wrong, against the truth of the
// simulation.
//
// Recordings of the tabletop are measured, too: replayed from the seed of their first episode.
//   APO_ONSET_RECORDINGS="FILE SEED ..." build/release/bin/deploy_test --gtest_filter=Onset.OfRecordings
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "apo/data/labels.h"
#include "apo/data/trajectory.h"
#include "apo/simulation/tabletop.h"

namespace apo::deploy {
namespace {

using simulation::Tabletop;
using simulation::TabletopState;

constexpr int64_t kNear = 3;
constexpr int64_t kLongest = 20;

// The horizontal motion points more than 60 degrees away from what an expert would do at that state.
bool points_away(const Action& action, const Action& expert) {
  const double a = std::hypot(action[0], action[1]), e = std::hypot(expert[0], expert[1]);
  return a > 1e-3 && e > 1e-3 && action[0] * expert[0] + action[1] * expert[1] < 0.5 * a * e;
}

struct Played {
  data::EpisodeRecord record;
  std::vector<bool> wrong;           // of each step
  std::optional<int64_t> turn = {};  // where the policy is scripted: its first step for the other block
};

void add(Played& played, const TabletopState& state, const Action& action, ActionSource source,
         const std::optional<Action>& wanted) {
  played.record.actions.push_back(action);
  played.record.sources.push_back(source);
  played.record.recorded.push_back(true);
  played.record.desirable.emplace_back();
  played.record.policy_actions.push_back(wanted);
  played.wrong.push_back(points_away(action, simulation::scripted_expert(state)));
}

// For each length of the window, how far its beginning is from the truth.
struct Tally {
  std::array<int64_t, kLongest + 1> near{};  // [K]; 0: by onset
  std::array<int64_t, kLongest + 1> distance{};
  int64_t take_overs = 0, not_found = 0;

  void see(const Played& played) {
    const data::LabelRules rules{.labels = {.window = data::LabelWindow::onset}};
    const auto steps = label_episode(played.record, rules);
    for (size_t t = 0; t < steps.size(); ++t) {
      if (!steps[t].take_over) continue;
      int64_t available = 0;
      const auto is_policy = [&](size_t i) { return played.record.sources[i] == ActionSource::policy; };
      while (available < static_cast<int64_t>(t) && is_policy(t - 1 - static_cast<size_t>(available)))
        ++available;
      if (available == 0) continue;
      // the first step of the last run that is wrong, a single right step aside
      int64_t truth = 0;
      for (int64_t back = 1, pause = 0; back <= available && pause <= 1; ++back) {
        const bool wrong = played.wrong[t - static_cast<size_t>(back)];
        pause = wrong ? 0 : pause + 1;
        if (wrong) truth = back;
      }
      if (played.turn) truth = static_cast<int64_t>(t) - *played.turn;
      ++take_overs;
      not_found += steps[t].onset_not_found;
      for (int64_t k = 0; k <= kLongest; ++k) {
        const int64_t length = k == 0 ? steps[t].window_steps : std::min(k, available);
        near[static_cast<size_t>(k)] += std::abs(length - truth) <= kNear;
        distance[static_cast<size_t>(k)] += std::abs(length - truth);
      }
    }
  }
  double share(int64_t k) const {
    return static_cast<double>(near[static_cast<size_t>(k)]) / static_cast<double>(take_overs);
  }
  double mean(int64_t k) const {
    return static_cast<double>(distance[static_cast<size_t>(k)]) / static_cast<double>(take_overs);
  }
  double best_share() const {
    double best = 0;
    for (int64_t k = 1; k <= kLongest; ++k) best = std::max(best, share(k));
    return best;
  }
  void print(const std::string& what) const {
    std::cout << what << ": " << take_overs << " take-overs, onset not found " << not_found
              << "; share within 3 steps of the truth, mean distance\n"
              << std::fixed;
    for (int64_t k = 0; k <= kLongest; ++k)
      std::cout << (k == 0 ? "onset " : "K = " + std::to_string(k)) << '\t' << std::setprecision(1)
                << 100 * share(k) << " %\t" << std::setprecision(2) << mean(k) << '\n';
  }
};

// An expert who wants the other block from a random step on, noise on all it does, until someone takes over.
Played play(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> noise(0.0f, 0.1f);
  const auto turn = static_cast<int64_t>(random() % 13);  // the first step for the wrong block
  const auto take_over = turn + 3 + static_cast<int64_t>(random() % 13);
  Tabletop table;
  table.reset(seed);
  Played played{.record = {}, .wrong = {}, .turn = turn};
  for (int64_t t = 0; t < take_over + 3; ++t) {
    const TabletopState state = table.state();
    TabletopState confused = state;
    if (t >= turn) confused.target = 1 - state.target;
    Action wanted = simulation::scripted_expert(confused);
    for (size_t j = 0; j < 3; ++j) wanted[j] = std::clamp(wanted[j] + noise(random), -1.0f, 1.0f);
    const bool human = t >= take_over;
    const Action action = human ? simulation::scripted_expert(state) : wanted;
    add(played, state, action, human ? ActionSource::intervention : ActionSource::policy,
        human ? std::optional<Action>(wanted) : std::nullopt);
    table.step(action);
  }
  return played;
}

TEST(Onset, OfAPolicyThatTurnsToTheWrongBlockIsFoundMoreOftenThanByAnyFixedWindow) {
  if (!Tabletop::available()) GTEST_SKIP() << Tabletop::problem();
  Tally tally;
  for (uint64_t seed = 0; seed < 200; ++seed) tally.see(play(seed));
  tally.print("scripted");
  EXPECT_EQ(tally.take_overs, 200);
  EXPECT_EQ(tally.not_found, 0);
  EXPECT_GE(tally.share(0), 0.8);  // 0.84 as of writing
  EXPECT_GT(tally.share(0), tally.best_share() + 0.1);
}

TEST(Onset, OfRecordings) {
  const char* recordings = std::getenv("APO_ONSET_RECORDINGS");
  if (recordings == nullptr) GTEST_SKIP() << "APO_ONSET_RECORDINGS is not set: FILE SEED ...";
  if (!Tabletop::available()) GTEST_SKIP() << Tabletop::problem();
  std::istringstream in(recordings);
  std::string path;
  uint64_t seed = 0;
  Tally tally;
  while (in >> path >> seed) {
    const auto file = data::TrajectoryFile::open(path);
    Tabletop table;
    for (int64_t e = 0; e < file->num_episodes(); ++e) {
      Played played;
      table.reset(seed + static_cast<uint64_t>(e));
      const data::EpisodeRecord record = file->episode(e);
      for (int64_t t = 0; t < record.num_steps(); ++t) {
        const auto i = static_cast<size_t>(t);
        const TabletopState state = table.state();
        ASSERT_NEAR(file->state(e, t).state.at("eef_height").at(0), state.hand[2], 1e-4)
            << path << ", " << record.name << ", step " << t << ": not the episode of seed " << seed;
        add(played, state, record.actions[i], record.sources[i], record.policy_actions[i]);
        table.step(record.actions[i]);
      }
      played.record.take_overs = record.take_overs;
      tally.see(played);
    }
  }
  ASSERT_GT(tally.take_overs, 0);
  tally.print("recorded");
}

}  // namespace
}  // namespace apo::deploy
