// Whether recordings hold what was recorded, where they have hashes.
#include <map>

#include "audit/checks.h"
#include "data/layouts.h"
#include "data/seal.h"

namespace apo::audit {
namespace {

// What is no picture is compared whenever an episode is read; pictures when they are.
class Hashes : public Check {
 public:
  explicit Hashes(const PolicyInputs& inputs)
      : Check("hashes", "every picture is the one that was recorded, where the file has hashes"),
        inputs_(inputs) {}
  void see_file(const ScannedFile& in) override {
    data_.reset();
    try {
      data_ = open_data_group(in.file);
    } catch (const DataError&) {  // told by `readable`
    }
  }
  void see(const ScannedEpisode& e) override {
    try {
      if (!data_ || !data_->has(e.record.name) || !is_sealed(data_->group(e.record.name))) return;
    } catch (const DataError& error) {
      return tell(Severity::error, error.what());
    }
    for (const auto& [camera, size] : e.record.cameras) {
      try {
        for (int64_t t = 0; t < e.record.num_steps(); ++t) e.in.file.observation(e.index, t, {camera});
      } catch (const DataError& error) {
        tell(is_seen(camera, inputs_) ? Severity::error : Severity::note, error.what());
      }
    }
  }
  void finish() override {
    for (const auto& [severity, n] : damaged_)
      if (n > kMost) find(severity, "and damaged pictures in ", n - kMost, " more cameras of episodes");
  }

 private:
  static constexpr int64_t kMost = 8;
  void tell(Severity severity, const std::string& message) {
    if (++damaged_[severity] <= kMost) find(severity, message);
  }
  const PolicyInputs inputs_;
  std::optional<hdf5::Group> data_;
  std::map<Severity, int64_t> damaged_;
};

}  // namespace

void add_hash_checks(const PolicyInputs& inputs, Checks& checks) {
  checks.push_back(std::make_unique<Hashes>(inputs));
}

}  // namespace apo::audit
