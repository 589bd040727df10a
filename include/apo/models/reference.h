// The reference policy: the policy as it was when training began, kept as cheaply as possible.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "apo/models/policy.h"

namespace apo::models {

enum class ReferenceMode {
  automatic,  ///< adapter if the policy trains one, else copy
  adapter,    ///< the base is shared, the starting adapter is frozen in a second slot
  copy,       ///< a second full set of weights
  cached      ///< no second policy: its log-probabilities of all batches are computed ahead (by training)
};
std::span<const std::pair<ReferenceMode, std::string_view>> enum_names(ReferenceMode);

struct ReferenceOptions {
  ReferenceMode mode = ReferenceMode::automatic;
  std::string cache = {};  ///< directory of what it says of samples, from run to run; empty: none
  void visit(config::Visitor& v);
  /// True where there is a second policy, which has whole distributions and drops what the first one drops.
  bool keeps_policy() const { return mode != ReferenceMode::cached; }
};

/// A frozen snapshot of a policy. Its parameters never require a gradient, are in no optimizer, and do not
/// follow the policy.
class Reference {
 public:
  /// Takes the snapshot now. ConfigError for mode adapter on a policy that trains no adapter. Bug for mode
  /// cached, which keeps no policy.
  /// The policy must outlive the reference.
  Reference(Policy& policy, const ReferenceOptions& options);
  /// Frees the snapshot; in mode adapter the policy's slot "reference".
  ~Reference();
  Reference(Reference&& other) noexcept;
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;

  /// As Policy::score, without gradient, in the mode that the policy is in: dropout that is on in one alone
  /// would be taken for a difference between the two. With the same random streams both drop the same.
  Score score(const PolicyInput& input, const ActionTokens& tokens, const ActionTokens* mismatched = nullptr);
  /// Runs what needs the snapshot's weights in place: a head that reads hidden states once more.
  void in_place(const std::function<void()>& work);
  ReferenceMode mode() const { return mode_; }
  /// The snapshot's parameters (adapter slot or full copy), for checkpoints: resuming must not take a new
  /// snapshot.
  NamedTensors named_parameters() const;

 private:
  ReferenceMode mode_;
  Policy* policy_;
  std::unique_ptr<Policy> copy_;
};

}  // namespace apo::models
