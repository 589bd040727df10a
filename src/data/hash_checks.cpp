// Whether recordings hold what was recorded, where they have hashes.
#include "data/checks.h"
#include "data/layouts.h"
#include "data/seal.h"

namespace apo::data {
namespace {

// What is no picture is compared whenever an episode is read; pictures when they are.
class Hashes : public Check {
 public:
  Hashes() : Check("hashes", "every picture is the one that was recorded, where the file has hashes") {}
  void see_file(const ScannedFile& in) override {
    data_.reset();
    try {
      data_ = open_data_group(in.file);
    } catch (const DataError&) {   // told by `readable`
    }
  }
  void see(const ScannedEpisode& e) override {
    try {
      if (!data_ || !data_->has(e.record.name) || !is_sealed(data_->group(e.record.name))) return;
      for (int64_t t = 0; t < e.record.num_steps(); ++t) e.in.file.observation(e.index, t);
    } catch (const DataError& error) {
      if (++damaged_ <= kMost) find(Severity::error, error.what());
    }
  }
  void finish() override {
    if (damaged_ > kMost) find(Severity::error, "and ", damaged_ - kMost, " more episodes with damaged pictures");
  }

 private:
  static constexpr int64_t kMost = 8;
  std::optional<hdf5::Group> data_;
  int64_t damaged_ = 0;
};

}  // namespace

void add_hash_checks(Checks& checks) { checks.push_back(std::make_unique<Hashes>()); }

}  // namespace apo::data
