#include "loop/examples.h"

#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/pictures/webp.h"
#include "base/paths.h"

namespace apo::loop {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSize = 192;
constexpr double kFramesPerSecond = 10;

class Examples {
 public:
  Examples(const Stages& stages, const RoundResult& base, const RoundResult& current)
      : stages_(stages),
        refined_(current.policy != base.policy),
        before_(base.evaluation.trials),
        after_(current.evaluation.trials),
        base_(stages.load(base.policy)),
        current_(stages.load(current.policy)),
        human_(deploy::make_intervention_source(stages.setup().deploy.intervention)),
        environment_(environments::make_environment(stages.setup().environment)) {}

  std::vector<results::Animation> draw() {
    if (refined_) draw_solved();
    draw_failed();
    return drawn_;
  }

 private:
  void draw_solved() {
    const bool with_human = stages_.setup().deploy.intervention.type != "none";
    chosen_ = concat("the first ", most(), " in the order of their seeds",
                     with_human ? ", but for those in which the watching person did not take over" : "");
    int64_t count = 0;
    for (size_t i = 0; i < pairs() && count < most(); ++i) {
      if (before_[i].success || !after_[i].success) continue;
      const uint64_t seed = before_[i].seed;
      const deploy::RecordedTrial corrected =
          deploy::record_trial(*base_, *environment_, seed, kSize, human_.get());
      if (corrected.take_overs == 0 && with_human) continue;
      ++count;
      add("solved", "failure", play(*base_, seed), "the base policy", before_[i].success);
      add("solved", "correction", corrected, "", std::nullopt);
      add("solved", "refined", play(*current_, seed), "the refined policy", after_[i].success);
    }
  }

  void draw_failed() {
    chosen_ = concat("the first ", most(), " in the order of their seeds");
    int64_t count = 0;
    for (size_t i = 0; i < pairs() && count < most(); ++i) {
      if (after_[i].success) continue;
      const uint64_t seed = after_[i].seed;
      ++count;
      add("failed", "base", play(*base_, seed), "the base policy", before_[i].success);
      if (refined_) add("failed", "still", play(*current_, seed), "the refined policy", after_[i].success);
    }
  }

  int64_t most() const { return stages_.setup().refine.animations; }
  size_t pairs() const { return std::min(before_.size(), after_.size()); }
  deploy::RecordedTrial play(models::Policy& policy, uint64_t seed) {
    return deploy::record_trial(policy, *environment_, seed, kSize);
  }

  // `who` acted alone, and how this ended in the evaluation; nobody alone: a person took over.
  void add(const char* kind, const char* name, const deploy::RecordedTrial& trial, const std::string& who,
           std::optional<bool> evaluated) {
    const uint64_t seed = trial.trial.seed;
    const fs::path path = stages_.dir() / "animations" / concat(name, "-", seed, ".webp");
    make_directory(path.parent_path());
    pictures::write_animation(path, trial.frames, kFramesPerSecond);
    environment_->reset(seed);
    const bool success = trial.trial.success;
    std::string caption =
        concat("seed ", seed, ": ", trial.trial.outcome, " after ", trial.trial.steps, " steps");
    if (evaluated && *evaluated != success)
      caption += concat("; in the evaluation it ", *evaluated ? "succeeded" : "failed", " (rounding)");
    drawn_.push_back({.kind = kind,
                      .chosen = chosen_,
                      .title = evaluated ? concat(who, success ? " succeeds" : " fails")
                                         : "a person takes over (orange frame)",
                      .instruction = environment_->observe().instruction,
                      .caption = caption,
                      .path = stages_.relative(path),
                      .seed = static_cast<int64_t>(seed)});
  }

  const Stages& stages_;
  const bool refined_;  // the policy in use is not the base
  const std::vector<Trial>&before_, &after_;
  std::unique_ptr<models::Policy> base_, current_;
  std::unique_ptr<deploy::InterventionSource> human_;
  std::unique_ptr<environments::Environment> environment_;
  std::string chosen_;
  std::vector<results::Animation> drawn_;
};

}  // namespace

std::vector<results::Animation> draw_examples(const Stages& stages, const RoundResult& base,
                                              const RoundResult& current) {
  return Examples(stages, base, current).draw();
}

}  // namespace apo::loop
