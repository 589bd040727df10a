// Why a human took over, as the arrays of an episode say it.
#include "apo/base/error.h"
#include "data/demo_parts.h"

namespace apo::data {
namespace {

using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

std::vector<int64_t> read_steps(const Array& array, int64_t n) {
  array.expect(Kind::integer, 1, "a step for each take-over [N]");
  APO_CHECK(DataError, n < 0 || array.shape()[0] == n, array.where(), ": expected ", n,
            " rows, one for each take-over, found ", array.describe());
  return array.integers();
}

}  // namespace

void read_take_overs(const Group& demo, EpisodeRecord& record, ReadNames& read) {
  for (const char* name : {kTakeOverTimestep, kTakeOverReason})
    if (!demo.has(name) || demo.is_group(name) || !demo.array(name).is_written()) return;
  const Array steps = demo.array(kTakeOverTimestep), texts = demo.array(kTakeOverReason);
  read.insert({kTakeOverTimestep, kTakeOverReason});
  const std::vector<int64_t> timesteps = read_steps(steps, -1);
  const auto n = static_cast<int64_t>(timesteps.size());
  texts.expect(Kind::text, 1, "a text for each take-over [N]");
  APO_CHECK(DataError, has_rows(texts, n), texts.where(), ": expected ", n,
            " rows, one for each take-over, found ", texts.describe());
  const std::vector<std::string> reasons = texts.texts();
  std::vector<int64_t> since = timesteps;
  if (demo.has(kTakeOverSince)) {
    read.insert(kTakeOverSince);
    since = read_steps(demo.array(kTakeOverSince), n);
  }
  for (size_t i = 0; i < timesteps.size(); ++i) {
    const int64_t t = timesteps[i], after = i == 0 ? -1 : timesteps[i - 1];
    APO_CHECK(DataError, t > after && t < record.num_steps(), steps.where(), " row ", i,
              ": expected a step from ", after + 1, " to ", record.num_steps() - 1, ", found ", t);
    const auto step = static_cast<size_t>(t);
    APO_CHECK(DataError, !record.recorded[step] || record.sources[step] == ActionSource::intervention,
              steps.where(), " row ", i, ": expected a step of the human, found ", t, ", at which the ",
              to_string(record.sources[step]), " acts");
    APO_CHECK(DataError, since[i] >= 0 && since[i] <= t, demo.where(kTakeOverSince), " row ", i,
              ": expected a step from 0 to ", t, ", found ", since[i]);
    APO_CHECK(DataError, reasons[i].size() <= kLongestReason, texts.where(), " row ", i, ": expected at most",
              " ", kLongestReason, " bytes, found ", reasons[i].size());
    record.take_overs.push_back({t, reasons[i], since[i]});
  }
}

}  // namespace apo::data
