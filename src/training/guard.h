// Watches a run that learns from preferences for the signs that it forgets what the policy could do.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/models/policy.h"
#include "apo/training/options.h"
#include "training/records.h"

namespace apo::training {

/// The signs are means over the last `kWindow` steps that have the metric, r in nats:
///
///   preferred falls   r_D < −1 without an anchor; or r_D < −0.15 a token, lower in each quarter of a window
///   rejected falls    r_U < −4 a token
///   z0 clamped        z0 at its lower clamp in more than half of the steps, where that is below 0 (apo)
///
/// They are hints. Of the small policy's runs with all weights that ended in ruin one was seen in each within
/// a few hundred steps; with an adapter it was ruined at r_U from −1 to −9 nats of 7 tokens, with r_D at 0,
/// where none of them speaks. Only an evaluation sees that.
class Guard {
 public:
  static constexpr size_t kWindow = 20;

  /// `tokens`: of one action; `can_hold`: whether objective.reference_kl_weight is there to be recommended.
  Guard(const objective::ObjectiveOptions& options, double tokens, bool can_hold = true)
      : options_(options), tokens_(tokens), can_hold_(can_hold) {}

  /// What this step shows that none before it did, each sign once in a run: what is seen and which keys
  /// change it. Reads reward_desirable, reward_undesirable, z0 and z0_clamped; NaN and absent ones are left
  /// out.
  std::vector<std::string> add(const Metrics& metrics);

  /// Takes the steps of a metrics.jsonl as having been told, so that a resumed run goes on as if it had never
  /// stopped. What is no step in it is passed over; nothing happens where there is no such file.
  void replay(const std::filesystem::path& metrics_file);

 private:
  struct Series {
    std::deque<double> last;
    bool told = false;
    void add(double value);
    bool full() const { return last.size() == kWindow; }
    double mean() const;
    bool falls() const;
  };
  std::string preferred() const;
  std::string rejected() const;
  std::string firmer() const;
  std::string clamped() const;

  objective::ObjectiveOptions options_;
  double tokens_;
  bool can_hold_;
  Series desirable_, undesirable_, at_clamp_;
};

/// The guard of a run; none where train.guard is off or the objective has no reference.
std::optional<Guard> make_guard(const TrainingOptions& options, const models::Policy& policy);

/// Lets the guard, if there is one, see a step. What it sees for the first time is told with the last whole
/// checkpoint from before its window: as warnings, or where train.guard is stop as what is returned (else
/// empty).
std::string watch(std::optional<Guard>& guard, const Metrics& metrics, const TrainingOptions& options);

/// How much undesirable samples weigh beside desirable ones, in words; empty where no λ weighs them.
/// `counts`: desirable, intervention and undesirable samples of a batch.
std::string balance_text(const objective::ObjectiveOptions& options, const std::array<int64_t, 3>& counts);
/// Warns of a balance above 2 that no anchor holds, with the keys that change it.
void warn_of_balance(const objective::ObjectiveOptions& options, const std::array<int64_t, 3>& counts);

}  // namespace apo::training
