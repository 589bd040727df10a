// CollectionSummary as JSON and as text.
#include "apo/results/collection.h"

#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <type_traits>

#include "apo/base/error.h"
#include "base/json.h"
#include "results/collection_json.h"
#include "results/json_parts.h"

namespace apo::results {
namespace {

// absent from older files
constexpr const char* kByEpisode = "take_overs_by_episode";
constexpr const char* kClampedTokens = "num_clamped_tokens";
constexpr const char* kInterrupted = "interrupted";

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
  for (const auto& [name, count] : counts) append_item(text, ", ", name, " ", count);
  return text;
}

}  // namespace

template <class Json>
Json to_json(const CollectionSummary& summary) {
  Json object;
  for_each_field(summary, [&](const char* name, const auto& value) { object[name] = value; });
  object[kClampedTokens] = summary.num_clamped_tokens;
  object[kByEpisode] = summary.take_overs_by_episode;
  if (summary.interrupted > 0) object[kInterrupted] = summary.interrupted;
  return object;
}

template nlohmann::json to_json(const CollectionSummary&);
template nlohmann::ordered_json to_json(const CollectionSummary&);

std::string CollectionSummary::json() const { return to_json<nlohmann::ordered_json>(*this).dump(2) + "\n"; }

CollectionSummary CollectionSummary::from_json(const std::string& json, const std::string& where) {
  const auto parsed = parse_json(json, where);
  return read_collection(JsonField(&parsed, where));
}

CollectionSummary read_collection(const JsonField& object) {
  CollectionSummary summary;
  for_each_field(summary, [&]<class T>(const char* name, T& value) {
    const JsonField field = object[name];
    if constexpr (std::is_same_v<T, double>) {
      value = field.get<T>();
    } else if constexpr (std::is_same_v<T, int64_t>) {
      value = needed_count(field);
    } else {
      field.expect(field.present(), "an object");
      value = field.counts();
    }
  });
  summary.num_clamped_tokens = object[kClampedTokens].get_or(summary.num_clamped_tokens);
  summary.interrupted = object[kInterrupted].get_or(summary.interrupted);
  summary.take_overs_by_episode = object[kByEpisode].get_or(summary.take_overs_by_episode);
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
  if (interrupted > 0) out << "interrupted " << interrupted << " episodes, played again from their seeds\n";
  if (num_clamped_tokens > 0)
    out << "clamped     " << num_clamped_tokens
        << " decoded tokens were no action tokens (the nearest was taken), or answers no whole code\n";
  out << "time        " << std::fixed << std::setprecision(1) << seconds << " s\n";
  return out.str();
}

}  // namespace apo::results
