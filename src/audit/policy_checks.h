// Recorded actions, pictures and instructions beside what a checkpoint learned from.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "apo/audit/validate.h"
#include "audit/scan.h"

namespace apo::audit {

class PolicyComparison {
 public:
  /// `inputs.action` is given.
  explicit PolicyComparison(PolicyInputs inputs);
  /// Grippers recoded (recode_gripper). `where` as "recorded.hdf5 demo_3".
  void see(const EpisodeRecord& record, std::span<const LabelledStep> steps, bool is_expert,
           const std::string& where);
  std::vector<Finding> findings() const;

 private:
  struct Seen {
    int64_t count = 0;
    std::string first;
  };
  // How much of a dimension clipping to q01..q99 takes away.
  struct Clipping {
    int64_t steps = 0, outside = 0;
    double beyond = 0;  // in sum
    bool leaves_little(double range) const;
    Clipping& operator+=(const Clipping& other);
  };
  struct Group {
    ActionSample sample{size_t{1} << 16};
    std::vector<Clipping> clipping;  // by dimension
  };
  void add(Group& group, const Action& action) const;
  void about_dimension(const std::string& who, const Group& group, size_t j,
                       std::vector<Finding>& found) const;
  void about_gripper(ActionSource actor, const Group& group, size_t j, std::vector<Finding>& found) const;
  void about_starts(std::vector<Finding>& found) const;
  void about_pictures(std::vector<Finding>& found) const;

  const PolicyInputs inputs_;
  const VectorStatistics& statistics_;
  std::vector<int64_t> grippers_;
  std::map<size_t, Group> groups_;  // by who acts
  int64_t other_sizes_ = 0, episodes_ = 0, starts_closed_ = 0;
  std::string first_of_other_size_;
  std::map<std::string, std::map<ImageSize, std::string>> pictures_;  // by camera: sizes, where first
  std::map<std::string, Seen> words_;
};

}  // namespace apo::audit
