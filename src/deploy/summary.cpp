// CollectionSummary as JSON and as text.
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/deploy/collector.h"
#include "base/json_depth.h"

namespace apo::deploy {
namespace {

// absent from older files
constexpr const char* kByEpisode = "take_overs_by_episode";
constexpr const char* kClampedTokens = "num_clamped_tokens";

// Each member with its name, once for both directions.
template <class Summary, class Field>
void for_each_field(Summary& summary, Field&& field) {
  field("episodes", summary.episodes);
  field("recorded", summary.recorded);
  field("take_overs", summary.take_overs);
  field("take_overs_by_reason", summary.take_overs_by_reason);
  field("hand_backs", summary.hand_backs);
  field("corrected", summary.corrected);
  field("alone", summary.alone);
  field("lost", summary.lost);
  field("outcomes", summary.outcomes);
  field("steps", summary.steps);
  field("seconds", summary.seconds);
}

std::string list(const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) text += concat(text.empty() ? "" : ", ", name, " ", count);
  return text;
}

}  // namespace

std::string CollectionSummary::json() const {
  nlohmann::ordered_json object;
  for_each_field(*this, [&](const char* name, const auto& value) { object[name] = value; });
  object[kClampedTokens] = num_clamped_tokens;
  object[kByEpisode] = take_overs_by_episode;
  return object.dump(2) + "\n";
}

CollectionSummary CollectionSummary::from_json(const std::string& json, const std::string& where) {
  const auto object = nlohmann::json::parse(json, depth_guard(where), false);
  APO_CHECK(DataError, object.is_object(), where, ": expected a JSON object, found something else");
  CollectionSummary summary;
  for_each_field(summary, [&](const char* name, auto& value) {
    APO_CHECK(DataError, object.contains(name), where, ": expected the key ", name);
    try {
      object.at(name).get_to(value);
    } catch (const nlohmann::json::exception&) {
      throw DataError(
          concat(where, ": ", name, ": expected a count or counts by name, found ", object[name].dump()));
    }
  });
  try {
    summary.num_clamped_tokens = object.value(kClampedTokens, int64_t{0});
    if (object.contains(kByEpisode)) object[kByEpisode].get_to(summary.take_overs_by_episode);
  } catch (const nlohmann::json::exception&) {
    throw DataError(concat(where, ": expected a number as ", kClampedTokens, " and lists of reasons, one an episode, as ",
                           kByEpisode));
  }
  return summary;
}

std::string CollectionSummary::text() const {
  std::ostringstream out;
  out << "episodes    " << episodes << " played, " << recorded << " recorded\n";
  out << "take-overs  " << take_overs;
  if (take_overs > 0) out << " (" << list(take_overs_by_reason) << "), " << hand_backs << " handed back";
  out << "\nsuccesses   " << alone << " alone, " << corrected << " corrected; " << lost << " lost\n";
  out << "outcomes    " << list(outcomes) << "\n";
  out << "steps       " << list(steps) << "\n";
  if (num_clamped_tokens > 0)
    out << "clamped     " << num_clamped_tokens << " decoded tokens were no action tokens; the nearest was taken\n";
  out << "time        " << std::fixed << std::setprecision(1) << seconds << " s\n";
  return out.str();
}

}  // namespace apo::deploy
