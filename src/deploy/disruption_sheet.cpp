// What the disruptions look like: the same episode under each of them, side by side.
#include <torch/types.h>

#include <algorithm>
#include <iterator>

#include "apo/base/error.h"
#include "apo/deploy/evaluator.h"
#include "apo/pictures/webp.h"
#include "deploy/episode.h"

namespace apo::deploy {
namespace {

constexpr int64_t kColumns = 4;
constexpr int64_t kGap = 2;  // pixels between tiles

std::vector<at::Tensor> film(const environments::EnvironmentOptions& options, uint64_t seed, int64_t size,
                             int64_t steps) {
  const auto environment = environments::make_environment(options);
  std::vector<at::Tensor> frames;
  const auto draw = [&] { frames.push_back(environment->render(size)); };
  const auto actor = [&](Rollout& rollout) {
    return rollout.demonstrate({}, environment->expert().value_or(environment->spec().idle));
  };
  Rollout rollout(environment->spec(), seed, {.max_steps = steps, .where = "sheet of disruptions"});
  const EpisodeHooks hooks{.decided = [&](ActionSource) { draw(); }, .stepped = {}};
  if (steps == 0)
    environment->reset(seed);
  else if (play(*environment, rollout, actor, hooks).interrupted)
    throw Interrupted("interrupted while drawing the sheet of disruptions");
  while (std::ssize(frames) <= steps) draw();  // what comes after the end looks as the end does
  return frames;
}

}  // namespace

void draw_disruptions(const environments::EnvironmentOptions& environment,
                      const std::vector<std::string>& disruptions, uint64_t seed, int64_t size, int64_t steps,
                      const std::filesystem::path& path) {
  APO_CHECK(ConfigError, size >= 16 && size <= 512 && steps >= 0 && steps <= 1000,
            "sheet of disruptions: expected tiles of 16 to 512 pixels and 0 to 1000 steps, found ", size,
            " and ", steps);
  std::vector<std::string> names = {"none"};
  for (const std::string& name : environments::chosen_disruptions(environment, disruptions))
    names.push_back(name);
  const auto count = std::ssize(names), columns = std::min<int64_t>(kColumns, count),
             rows = (count + columns - 1) / columns;
  std::vector<at::Tensor> sheets;
  for (int64_t i = 0; i <= steps; ++i)
    sheets.push_back(
        at::full({rows * (size + kGap) - kGap, columns * (size + kGap) - kGap, 3}, 255, at::kByte));
  for (int64_t k = 0; k < count; ++k) {
    const std::vector<at::Tensor> frames =
        film(environments::disrupted_by(environment, names[static_cast<size_t>(k)]), seed, size, steps);
    const int64_t y = k / columns * (size + kGap), x = k % columns * (size + kGap);
    for (size_t i = 0; i < frames.size(); ++i)
      sheets[i].narrow(0, y, size).narrow(1, x, size).copy_(frames[i]);
  }
  const auto undisrupted = environments::make_environment(environments::disrupted_by(environment, "none"));
  pictures::write_animation(path, sheets, undisrupted->spec().control_hz / 2);
}

}  // namespace apo::deploy
