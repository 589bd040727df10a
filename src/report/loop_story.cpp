#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "report/html.h"
#include "report/intervals.h"
#include "report/loop_summary.h"

namespace apo::report {
namespace {

// "106 of 200 trials (53%, 95% interval 46–60%)"
std::string in_words(const Rate& share) {
  return concat(format_count(share.count), " of ", format_count(share.total), " trials (",
                format_number(100 * share.rate), "%, 95% interval ", format_fixed(100 * share.low, 0), "–",
                format_percent(share.high), ")");
}

std::string points(double share) { return format_fixed(100 * share, 0); }

std::string base_sentence(const LoopSummary& summary) {
  const Round& first = summary.rounds.front();
  const std::string who = first.round == 0 ? "The base policy" : concat("The policy of ", first.name());
  const std::string where = summary.environment.empty() ? "" : concat(" in ", summary.environment);
  if (!first.evaluation || !first.evaluation->success) return concat(who, " was not evaluated", where, ".");
  return concat(who, " succeeded", where, " in ", in_words(*first.evaluation->success), ".");
}

// "wrong object 27, off course 3", most frequent first
std::string reasons(const std::map<std::string, int64_t>& by_reason) {
  std::vector<std::pair<std::string, int64_t>> sorted(by_reason.begin(), by_reason.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string out;
  for (const auto& [reason, count] : sorted) append_item(out, ", ", reason, " ", format_count(count));
  return out;
}

std::string people_sentence(const LoopSummary& summary) {
  int64_t rounds = 0, episodes = 0, take_overs = 0, human_steps = 0;
  std::map<std::string, int64_t> by_reason;
  for (const Round& round : summary.rounds) {
    if (!round.deployment) continue;
    ++rounds;
    episodes += round.deployment->episodes;
    take_overs += round.deployment->take_overs;
    for (const auto& [reason, count] : round.deployment->take_overs_by_reason) by_reason[reason] += count;
    const auto steps = round.deployment->steps.find("intervention");
    if (steps != round.deployment->steps.end()) human_steps += steps->second;
  }
  if (rounds == 0) return "It was not yet deployed under a person's eyes.";
  std::string out = rounds == 1   ? "Deployed once"
                    : rounds == 2 ? "Deployed twice"
                                  : concat("Deployed ", rounds, " times");
  if (episodes > 0) out += concat(" for ", count_of(episodes, "episode"), rounds > 1 ? " in all" : "");
  out += concat(" under a person's eyes, it was taken over ", count_of(take_overs, "time"));
  const std::string why = reasons(by_reason);
  if (!why.empty()) out += concat(" (", why, ")");
  if (human_steps > 0) out += concat("; the corrections are ", count_of(human_steps, "step"));
  return out + ".";
}

// Rounds that were tried and not kept: "round 2", "rounds 2 and 3".
std::string not_promoted(const LoopSummary& summary) {
  std::vector<std::string> numbers;
  for (const Round& round : summary.rounds)
    if (!round.promoted) numbers.push_back(concat(round.round));
  std::string list;
  for (size_t i = 0; i < numbers.size(); ++i)
    list += concat(i == 0 ? "" : i + 1 == numbers.size() ? " and " : ", ", numbers[i]);
  return numbers.empty() ? "" : concat(numbers.size() == 1 ? "Round " : "Rounds ", list);
}

std::string result_sentence(const LoopSummary& summary) {
  const Round& first = summary.rounds.front();
  const Round& last = summary.current();
  if (summary.rounds.size() == 1) return "It was not refined yet.";
  const std::string kept_out = not_promoted(summary);
  if (&last == &first || !last.evaluation || !last.evaluation->success) {
    if (kept_out.empty()) return "No refined policy was evaluated yet.";
    return concat(kept_out, " brought no better policy: the base stays in use.");
  }
  const Rate& after = *last.evaluation->success;
  std::string out = concat("Refined", last.objective.empty() ? "" : concat(" with ", last.objective),
                           " on what was recorded (", last.name(), "), it succeeds in ", in_words(after));
  if (const std::optional<Gain> gain = summary.gain()) {
    out += concat(": ", points(std::abs(gain->points.value)), " points ",
                  gain->points.value < 0 ? "fewer" : "more", " than the base [", points(gain->points.low),
                  ", ", points(gain->points.high), "]", gain->clear() ? "" : ", which may be chance");
    if (gain->pairs)
      out += concat(". Of the same ", count_of(gain->pairs->total(), "trial"), " it alone solves ",
                    format_count(gain->pairs->only_after), ", the base alone ",
                    format_count(gain->pairs->only_before), " (McNemar's exact ", p_text(*gain->p()), ")");
  }
  out += ".";
  if (!kept_out.empty()) out += concat(" ", kept_out, " brought no better policy and was not kept.");
  return out;
}

// Where success changed most; nothing where that may be chance.
std::string change_sentence(const LoopSummary& summary) {
  const std::optional<FactChange> change = summary.largest_change();
  if (!change || !change->clear()) return "";
  return concat("The largest change: where ", change->fact, " is ", change->value, ", success went from ",
                format_percent(change->before.value), " to ", format_percent(change->after.value), ".");
}

// What the methods learned from in their first round.
std::string corrections_sentence(const CollectionSummary& deployment) {
  std::string out =
      concat("Deployed for ", count_of(deployment.episodes, "episode"),
             " under a person's eyes, it was taken over ", count_of(deployment.take_overs, "time"));
  const std::string why = reasons(deployment.take_overs_by_reason);
  return out + (why.empty() ? "" : concat(" (", why, ")")) + ".";
}

// "“a”, “b” and 3 others"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMost = 2;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i)
    out += concat(i == 0 ? "" : names.size() == kMost ? " and " : ", ", "\u201c", names[i], "\u201d");
  return names.size() <= kMost
             ? out
             : concat(out, " and ", count_of(static_cast<int64_t>(names.size() - kMost), "other"));
}

// Did `best` succeed more often than chance explains? By the paired test where there is one.
bool beats(const Method& best, const Method& other) {
  for (const PairedDifference& test : best.against)
    if (test.of == "success" && test.method == other.name) return test.test.p < 0.05;
  return difference_interval(interval_of(*other.evaluation->success), interval_of(*best.evaluation->success))
             .low > 0;
}

// What the methods saw: the same corrections in the first round only.
std::string seen_sentence(const LoopSummary& summary) {
  const std::vector<std::string> learners = summary.methods_that_see_corrections(true),
                                 controls = summary.methods_that_see_corrections(false);
  std::string out = count_of(static_cast<int64_t>(learners.size()), "method");
  if (learners.size() < 2)
    out += " learned from corrections";
  else if (summary.methods.back().round <= 1)
    out += " learned from the same corrections";
  else
    out +=
        " learned from corrections: in round 1 from the same, then each also from those of its own "
        "deployments";
  if (!controls.empty())
    out += concat("; ", some_of(controls), " saw none, as ", controls.size() == 1 ? "a control" : "controls");
  return out + ".";
}

// Which of the methods succeeded most often after the last round, and which are too close to tell.
std::string best_sentence(const LoopSummary& summary) {
  const Method* best = summary.best_method();
  if (!best) return "";
  std::string out = concat("After ", count_of(best->round, "round"), ", \u201c", best->name,
                           "\u201d succeeded most often: in ", in_words(*best->evaluation->success));
  std::vector<std::string> close;
  for (const Method& other : summary.methods)
    if (other.name != "base" && &other != best && other.round == best->round && other.evaluation &&
        other.evaluation->success && !beats(*best, other))
      close.push_back(other.name);
  if (!close.empty()) out += concat("; its lead over ", some_of(close), " may be chance");
  return out + ".";
}

}  // namespace

std::vector<std::string> story(const LoopSummary& summary) {
  if (!summary.methods.empty()) {
    std::vector<std::string> told = {base_sentence(summary)};
    if (summary.corrections) told.push_back(corrections_sentence(*summary.corrections));
    told.push_back(seen_sentence(summary));
    if (const std::string best = best_sentence(summary); !best.empty()) told.push_back(best);
    return told;
  }
  std::vector<std::string> told = {base_sentence(summary), people_sentence(summary),
                                   result_sentence(summary)};
  if (const std::string change = change_sentence(summary); !change.empty()) told.push_back(change);
  return told;
}

}  // namespace apo::report
