#include "apo/results/evaluation.h"

#include <algorithm>
#include <concepts>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "apo/base/error.h"
#include "base/json.h"
#include "results/evaluation_json.h"
#include "results/json_parts.h"
#include "results/paired_json.h"
#include "results/table.h"

namespace apo::results {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kClampedTokens = "num_clamped_tokens";  // absent from older files

using results::for_each_field;  // of a rate

// The members of each struct with their names, once for both directions.
template <class T, class Field>
requires std::same_as<std::remove_const_t<T>, Trial>
void for_each_field(T& trial, Field&& field) {
  field("trial", trial.trial);
  field("seed", trial.seed);
  field("success", trial.success);
  field("unaided", trial.unaided);
  field("outcome", trial.outcome);
  field("steps", trial.steps);
  field("facts", trial.facts);
}
template <class E, class Field>
requires std::same_as<std::remove_const_t<E>, EvalResult>
void for_each_field(E& result, Field&& field) {
  field("success", result.success);
  field("unaided", result.unaided);
  field("outcomes", result.outcomes);
  field("success_by_fact", result.success_by_fact);
  field("mean_steps", result.mean_steps);
  field("steps", result.steps);
  field("seconds", result.seconds);
  field("steps_per_second", result.steps_per_second);
  field("policy_hash", result.policy_hash);
  field("trials", result.trials);
}

template <class T>
concept Listed = std::same_as<T, Rate> || std::same_as<T, Trial> || std::same_as<T, EvalResult>;

template <class T>
json write(const T& value) {
  if constexpr (Listed<T>) {
    json object = json::object();
    for_each_field(value, [&](const char* name, const auto& member) { object[name] = write(member); });
    return object;
  } else if constexpr (std::same_as<T, std::vector<Trial>>) {
    json list = json::array();
    for (const Trial& trial : value) list.push_back(write(trial));
    return list;
  } else if constexpr (std::same_as<T, std::map<std::string, Rate>>) {
    json object = json::object();
    for (const auto& [name, rate] : value) object[name] = write(rate);
    return object;
  } else {
    return value;
  }
}

template <class T>
T read(const OrderedJsonField& field) {
  if constexpr (Listed<T>) {
    field.expect(field.present(), "an object");
    T value;
    for_each_field(value, [&]<class Member>(const char* name, Member& m) { m = read<Member>(field[name]); });
    return value;
  } else if constexpr (std::same_as<T, std::vector<Trial>>) {
    field.expect(field.present(), "a list");
    T trials;
    for (const OrderedJsonField& trial : field.list()) trials.push_back(read<Trial>(trial));
    return trials;
  } else if constexpr (std::same_as<T, std::map<std::string, Rate>>) {
    field.expect(field.present(), "an object");
    T rates;
    for (const auto& [name, rate] : field.entries()) rates[name] = read<Rate>(rate);
    return rates;
  } else {
    return field.get<T>();
  }
}

// "0.53 [0.46, 0.59]"
std::string with_interval(const Rate& rate) {
  return concat(fixed(rate.rate, 2), " [", fixed(rate.low, 2), ", ", fixed(rate.high, 2), "]");
}

std::string interval(const Rate& rate) {
  return concat(with_interval(rate), "  ", rate.count, " of ", rate.total);
}

}  // namespace

EvalResult summarize_trials(std::vector<Trial> trials) {
  EvalResult result;
  const auto total = std::ssize(trials);
  int64_t successes = 0, unaided = 0, steps_of_successes = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> by_fact;  // successes, trials
  for (const Trial& trial : trials) {
    successes += trial.success;
    unaided += trial.unaided;
    steps_of_successes += trial.success ? trial.steps : 0;
    result.steps += trial.steps;
    ++result.outcomes[trial.outcome];
    for (const auto& [name, value] : trial.facts) {
      auto& [good, all] = by_fact[name + "=" + value];
      good += trial.success;
      ++all;
    }
  }
  result.success = wilson(successes, total);
  result.unaided = wilson(unaided, total);
  for (const auto& [fact, counts] : by_fact)
    result.success_by_fact[fact] = wilson(counts.first, counts.second);
  if (successes > 0)
    result.mean_steps = static_cast<double>(steps_of_successes) / static_cast<double>(successes);
  result.trials = std::move(trials);
  return result;
}

json to_json(const EvalResult& result) {
  json object = write(result);
  object[kClampedTokens] = result.num_clamped_tokens;
  for (const DisruptedResult& disrupted : result.disruptions) {
    json entry = write(disrupted.result);
    entry[kClampedTokens] = disrupted.result.num_clamped_tokens;
    entry["against_none"] = paired_json<results::json>(disrupted.against_none, "disrupted", "none");
    object["disruptions"][disrupted.disruption] = std::move(entry);
  }
  return object;
}

namespace {

EvalResult read_result(const OrderedJsonField& object) {
  auto result = read<EvalResult>(object);
  result.num_clamped_tokens = object[kClampedTokens].get_or(result.num_clamped_tokens);
  return result;
}

// The rows of the table of disruptions, the head first.
TableRows disruption_rows(const EvalResult& result) {
  TableRows rows = {
      {"disruption", "success [95 %]", "unaided", "against none", "only with / only without", "outcomes"}};
  const auto row = [](const std::string& name, const EvalResult& r, const std::string& difference,
                      const std::string& pairs) {
    std::string outcomes;
    for (const auto& [outcome, count] : r.outcomes) append_item(outcomes, ", ", outcome, " ", count);
    return std::vector<std::string>{
        name, with_interval(r.success), fixed(r.unaided.rate, 2), difference, pairs, outcomes};
  };
  rows.push_back(row("none", result, "-", "-"));
  for (const DisruptedResult& disrupted : result.disruptions) {
    const PairedTest& test = disrupted.against_none;
    const std::string difference =
        concat(test.difference >= 0 ? "+" : "", fixed(100 * test.difference, 1), " points, p ",
               test.p < 0.001 ? "< 0.001" : "= " + fixed(test.p, 3));
    rows.push_back(row(disrupted.disruption, disrupted.result, difference,
                       concat(test.only_first, " / ", test.only_second)));
  }
  return rows;
}

}  // namespace

std::string EvalResult::json() const { return to_json(*this).dump(2) + "\n"; }

std::string EvalResult::disruption_markdown() const {
  if (disruptions.empty()) return "";
  return concat(markdown_table(disruption_rows(*this)), "\n", success.total,
                " trials a row, the same seeds in all of them; intervals are Wilson's, tests McNemar's "
                "(exact, two-sided) over "
                "the pairs of trials.\n");
}

std::vector<bool> EvalResult::successes() const {
  std::vector<bool> out;
  for (const Trial& trial : trials) out.push_back(trial.success);
  return out;
}

EvalResult EvalResult::from_json(const std::string& json, const std::string& where) {
  const auto parsed = parse_json<results::json>(json, where);
  const OrderedJsonField root(&parsed, where);
  EvalResult result = read_result(root);
  for (const auto& [name, entry] : root["disruptions"].entries())
    result.disruptions.push_back({.disruption = name,
                                  .result = read_result(entry),
                                  .against_none = read_paired(entry["against_none"], "disrupted", "none")});
  const OrderedJsonField environment = root["config"]["environment"];
  if (environment.present()) result.environment = environment.get<std::string>();
  return result;
}

std::string EvalResult::text() const {
  std::ostringstream out;
  out << "success   " << interval(success) << "\nunaided   " << interval(unaided) << "\n";
  for (const auto& [fact, rate] : success_by_fact)
    out << "  " << std::left << std::setw(18) << fact << interval(rate) << "\n";
  out << "outcomes  ";
  std::string separator;
  for (const auto& [outcome, count] : outcomes) {
    out << separator << outcome << " " << count;
    separator = ", ";
  }
  out << std::fixed << std::setprecision(1) << "\nsteps     " << mean_steps << " of a success on average; "
      << steps << " in " << seconds << " s (" << std::setprecision(0) << steps_per_second << "/s)\n";
  if (num_clamped_tokens > 0)
    out << "clamped   " << num_clamped_tokens
        << " decoded tokens were no action tokens (the nearest was taken), or answers no whole code\n";
  if (!disruptions.empty()) out << "\n" << aligned_table(disruption_rows(*this));
  return out.str();
}

}  // namespace apo::results
