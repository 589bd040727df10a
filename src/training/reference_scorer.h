// What a policy is compared with while it learns: one interface for all of reference.mode.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "apo/data/loader.h"
#include "apo/distributed/group.h"
#include "apo/models/reference.h"
#include "apo/objective/objective.h"
#include "apo/training/options.h"
#include "training/reference_cache.h"

namespace apo::training {

class Learner;
struct TrainingState;

/// Rows [begin, end) of a batch, B = end − begin of them, and what an objective wants to know of them.
struct Question {
  int64_t position = -1;  ///< of the batch among those of the run, from 0; -1: of no run
  int64_t begin = 0, end = 0;
  models::PolicyInput input;
  models::ActionTokens tokens;      ///< [B, T]
  models::ActionTokens mismatched;  ///< the next samples'; undefined where their logits are not read
  objective::Batch batch;
  objective::ObjectiveOptions options;
  bool bfloat16 = false;             ///< networks run under autocast
  std::vector<AnswerKey> keys = {};  ///< [B], for who wants_keys

  /// Some of the rows, in their order, as far as a network is asked of them.
  Question select(const std::vector<int64_t>& rows) const;
};

/// What a policy says.
models::Score answer(models::Policy& policy, const Question& question);

/// What a reference may compute ahead of a run.
struct RunAhead {
  models::Policy& policy;  ///< a new run: before its first update
  Learner& learner;
  std::function<std::unique_ptr<data::Loader>()> loader;  ///< of the run's batches, from the first one on
  int64_t total_steps;
  bool resumed;
  const std::filesystem::path& directory;  ///< run.dir; the first rank writes
  const distributed::Group& group;
  TrainingState& state;
};

class ReferenceScorer {
 public:
  ReferenceScorer() = default;
  ReferenceScorer(ReferenceScorer&&) = default;
  ReferenceScorer& operator=(ReferenceScorer&&) = default;
  virtual ~ReferenceScorer() = default;
  /// Without gradient, [B, T] on the policy's device. Dropout, where it is on, draws from the tensor
  /// library's streams as the policy does.
  virtual objective::ReferenceScores score(const Question& question) = 0;
  /// Called once before the first step of a run, new or resumed, by all ranks in step.
  virtual void look_ahead(const RunAhead&) {}
  /// For checkpoints: resuming must not take a new snapshot.
  virtual models::NamedTensors parameters() const { return {}; }
  /// Whether questions must have keys: answers are found again by them.
  bool wants_keys() const { return cache_ != nullptr; }
  /// Answers are looked up there first, from now on.
  void set_cache(std::unique_ptr<ReferenceCache> cache) { cache_ = std::move(cache); }
  /// Logs how many there were.
  void tell_found() const;

 protected:
  using InPlace = std::function<void(const std::function<void()>&)>;
  /// What `ask` says of all rows, as far as it is not kept. `in_place` runs what needs the weights that
  /// answered.
  models::Score ask(const Question& question, const std::function<models::Score(const Question&)>& ask,
                    const InPlace& in_place);

  std::unique_ptr<ReferenceCache> cache_;
};

/// A second policy (reference.mode auto, adapter, copy).
class LiveReference : public ReferenceScorer {
 public:
  /// Takes the snapshot now; as models::Reference.
  LiveReference(models::Policy& policy, const models::ReferenceOptions& options)
      : reference_(policy, options) {}
  objective::ReferenceScores score(const Question& question) override;
  models::NamedTensors parameters() const override { return reference_.named_parameters(); }
  models::Reference& policy() { return reference_; }

 private:
  models::Reference reference_;
};

/// The policy as it stands, in evaluation mode (dropout off): before the first update it is its own
/// reference.
class PolicyItself : public ReferenceScorer {
 public:
  explicit PolicyItself(models::Policy& policy) : policy_(policy) {}
  objective::ReferenceScores score(const Question& question) override;

 private:
  models::Policy& policy_;
};

/// ConfigError where the objective or the policy asks for what reference.mode cannot give.
void check_reference(const TrainingOptions& options);

/// What reference.mode says; null where the objective needs none. A new run notes in `state` how its
/// reference is found again, a resumed one (`resume_from`: its checkpoint) finds it: DataError where it
/// cannot.
std::unique_ptr<ReferenceScorer> make_reference_scorer(
    const TrainingOptions& options, models::Policy& policy, TrainingState& state,
    const std::optional<std::filesystem::path>& resume_from);

}  // namespace apo::training
