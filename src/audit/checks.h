// The questions of `apo-data validate`, each a class that sees every episode once.
#pragma once

#include <memory>
#include <vector>

#include "apo/audit/validate.h"
#include "apo/base/error.h"
#include "audit/scan.h"

namespace apo::audit {

class Check {
 public:
  Check(std::string name, std::string question) : result_{std::move(name), std::move(question), {}} {}
  virtual ~Check() = default;
  virtual void see_file(const ScannedFile&) {}
  virtual void see(const ScannedEpisode&) {}
  /// After the last episode.
  virtual void finish() {}
  const CheckResult& result() const { return result_; }

 protected:
  template <class... Pieces>
  void find(Severity severity, const Pieces&... pieces) {
    result_.findings.push_back({severity, concat(pieces...)});
  }

 private:
  CheckResult result_;
};

using Checks = std::vector<std::unique_ptr<Check>>;
/// finite, range, spread, units, signs, constant
void add_action_checks(const DataOptions& options, Checks& checks);
/// pools, windows, filters, labels, instructions
void add_label_checks(const DataOptions& options, bool pools_needed, Checks& checks);
/// shapes, pictures, lengths, duplicates, totals
void add_file_checks(const DataOptions& options, const PolicyInputs& inputs, Checks& checks);
/// hashes
void add_hash_checks(const PolicyInputs& inputs, Checks& checks);

/// Whether the policy sees this camera, as far as that is known: what is wrong with the others is a note.
bool is_seen(const std::string& camera, const PolicyInputs& inputs);

/// "recorded.hdf5 demo_3"; the path as the source named it.
std::string place(const ScannedEpisode& episode);
/// "recorded.hdf5 demo_3 timestep 17"
std::string place(const ScannedEpisode& episode, size_t timestep);
/// "12 of 480 steps (2.5 %)"
std::string share(int64_t part, int64_t whole, const char* what);

}  // namespace apo::audit
